"""Words that a picture may show, in groups of which it shows one, and prompts made of those that it does show."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

Description = tuple[tuple[str, str], ...]  # (group, words), in the order of the vocabulary


class WordGroup(BaseModel):
    """Words of which a picture shows one, such as the colours of hair."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    words: tuple[str, ...] = Field(min_length=1)
    none: str | None = None  # the words for a picture that shows none of them, such as "a clean shaven face"
    optional: bool = False  # a picture may show none of them, and nothing is said then
    also: tuple[str, ...] = ()  # further edit prompts that replace what the picture shows of the group
    kinds: Mapping[str, tuple[str, ...]] = {}  # the same for coarser words, with those of the words that they cover

    @property
    def candidates(self) -> tuple[str, ...]:
        """Everything that may be said of a picture."""
        return self.words if self.none is None else (self.none, *self.words)

    def holds(self, prompt: str) -> bool:
        """Whether an edit with this prompt replaces what a picture shows of the group."""
        return prompt in self.candidates or prompt in self.also or prompt in self.kinds

    def covers(self, prompt: str, shown: str) -> bool:
        """Whether a picture that shows a word of the group shows what an edit prompt names: glasses are eyewear."""
        return prompt == shown or shown in self.kinds.get(prompt, ())


Vocabulary = Mapping[str, WordGroup]


def prompt_of(description: Description) -> str:
    """The description as one prompt; empty for nothing."""
    return ", ".join(words for _, words in description)


def among(
    concept: str, description: Description, vocabulary: Vocabulary
) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """The description with a concept in it: the words before it, its own, and those after it.

    It takes the place of what it replaces, since a text encoder reads a prompt in order: every word before it means the
    same with and without the edit. What replaces nothing comes first. What the picture shows already stays as it is,
    under the finer word: an edit of a person with sunglasses towards "eyewear" is no edit.
    """
    words = tuple(words for _, words in description)
    replaced = [i for i, (group, _) in enumerate(description) if vocabulary[group].holds(concept)]
    if not replaced:
        return (), concept, words
    group, shown = description[replaced[0]]
    named = shown if vocabulary[group].covers(concept, shown) else concept
    after = tuple(word for i, word in enumerate(words) if i > replaced[0] and i not in replaced)
    return words[: replaced[0]], named, after


def prompt_without(concept: str, description: Description, vocabulary: Vocabulary) -> str | None:
    """The description without what a concept names; None where the vocabulary does not say how that looks."""
    nothing = [group.none for group in vocabulary.values() if group.none and group.holds(concept)]
    shown = [vocabulary[name] for name, _ in description if vocabulary[name].holds(concept)]
    if nothing or any(group.optional for group in shown):
        before, _, after = among(concept, description, vocabulary)
        return ", ".join([*before, *nothing, *after])
    return None
