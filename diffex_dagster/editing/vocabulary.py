"""Words that a picture may show, in groups of which it shows one, and prompts made of those that it does show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from diffex_dagster.corpus.tree import Corpus, Feature

DESCRIBING = 1  # raised when a change of the code says something else of a picture

SourcePrompt = tuple[tuple[str, str], ...]  # (group, words), in the order of the vocabulary


def describing() -> int | None:
    """`DESCRIBING` as it is hashed: None, which is left out, for the first rules; what they made stays."""
    return DESCRIBING if DESCRIBING > 1 else None


class VocabularyGroup(BaseModel):
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


Vocabulary = Mapping[str, VocabularyGroup]


def room_of(vocabulary: Vocabulary, tokens: Callable[[str], int], most: int) -> int:
    """How many tokens a description may take, so that a concept has room beside it: those of the longest words.

    Args:
        tokens: how many tokens a prompt takes.
        most: how many the text encoder reads; a concept has a quarter of them at most.
    """
    longest = max((tokens(word) for group in vocabulary.values() for word in group.candidates), default=0)
    return most - min(1 + longest, most // 4)


def may_not_fit(vocabulary: Vocabulary, tokens: Callable[[str], int], most: int) -> bool:
    """Whether a picture could show more words of a vocabulary than a description has room for."""
    longest = [1 + max(map(tokens, group.candidates)) for group in vocabulary.values()]  # with a comma
    return sum(longest) - 1 > room_of(vocabulary, tokens, most)


@dataclass(frozen=True)
class FrozenVocabulary:
    """The attribute vocabulary of a study's source prompts, as it was found at its first run.

    Attributes:
        words: of the corpus as it was then.
        used: whether edits are made with them; None while that is being found out.
        why: in a few words.
        left_out: group of the corpus -> why its words are not among them.
        corpus: version of the corpus that they come from.
    """

    words: Vocabulary
    used: bool | None
    why: str
    left_out: Mapping[str, str]
    corpus: str

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that edits are made with; none where they are not used."""
        return self.words if self.used else {}


def words_of(
    corpus: Corpus, tokens: Callable[[str], int], most: int, controls: Collection[str] = ()
) -> tuple[Vocabulary, dict[str, str]]:
    """The words of a corpus that a picture can be described in: its groups whose children exclude each other.

    A picture may show none of a group's words, and nothing is said of it then. Words count with their mean length, and
    by half: a description names about half of many groups, and of a picture that shows more, what explains least of it
    is left out (`source_prompts.describe`). To leave out a group of every picture would be worse: a classifier of words
    takes whatever it is asked for to explain what nobody named. Where a model reads too few tokens even so, the groups
    that most answers of the vision-language model named stay, and of these the first.

    Args:
        tokens: how many tokens a prompt takes.
        most: how many a prompt may take.
        controls: further prompts that are edited towards.

    Returns:
        The vocabulary in the order of the groups' ids, whatever their order in the tree: pixels depend on it. And the
        groups that have no part in it, with the reason.
    """
    found: dict[str, tuple[Feature, VocabularyGroup]] = {}
    left_out: dict[str, str] = {}
    known: set[str] = set()
    for feature in _with_children(corpus):
        group = _vocabulary_group(feature, known) if feature.one_of else None
        if group is None:
            few = feature.one_of or len(feature.children) < 2
            left_out[feature.id] = "too few words" if few else "a picture may show several of its children"
            continue
        known.update(group.words)
        found[feature.id] = feature, group
    prompts = [f.prompt for f in corpus.walk() if f.editable]
    room: float = most - max(map(tokens, [*prompts, *controls]), default=0)
    kept: set[str] = set()
    for feature, group in sorted(found.values(), key=lambda each: -(each[0].support or 0)):
        needs = (1 + sum(map(tokens, group.words)) / len(group.words)) / 2  # with a comma
        if needs > room:
            left_out[feature.id] = f"a prompt of the model has {most} tokens, and other groups take them"
            continue
        room -= needs
        kept.add(feature.id)
    return {id_: found[id_][1] for id_ in sorted(kept)}, left_out


def _with_children(corpus: Corpus) -> Iterator[Feature]:
    """Every feature that is divided further, but those whose words are part of what is above them."""

    def visit(feature: Feature) -> Iterator[Feature]:
        if feature.children:
            yield feature
        if not feature.one_of:
            for child in feature.children:
                yield from visit(child)

    for group in corpus.groups:
        yield from visit(group)


def _vocabulary_group(feature: Feature, known: Collection[str]) -> VocabularyGroup | None:
    """The words below a feature, the finest that exclude each other; None for fewer than two.

    Args:
        known: words that another group has.
    """
    kinds: dict[str, tuple[str, ...]] = {}

    def below(node: Feature) -> list[str]:
        """The words of a node: its own, or its children's where these exclude each other."""
        words: list[str] = []
        for child in node.children:
            own = child.editable and child.direction == "add" and child.prompt not in known
            if len(child.children) > 1 and child.one_of:
                found = below(child)
                words += found
                if own:
                    kinds[child.prompt] = tuple(found)
            elif own:
                words.append(child.prompt)
        return words

    words = tuple(dict.fromkeys(below(feature)))
    if len(words) < 2:
        return None
    taken = [child.prompt for child in feature.children if child.editable and child.direction == "remove"]
    kinds.update({prompt: words for prompt in taken if prompt not in words})  # a clean shaven face shows none of them
    if feature.editable and feature.prompt not in words:
        kinds[feature.prompt] = words
    return VocabularyGroup(words=words, optional=True, kinds=kinds)


def prompt_of(source_prompt: SourcePrompt) -> str:
    """The source prompt as one prompt; empty for nothing."""
    return ", ".join(words for _, words in source_prompt)


def among(
    concept: str, source_prompt: SourcePrompt, vocabulary: Vocabulary, fits: Callable[[str], bool] = lambda _: True
) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """The source prompt with a concept in it: the words before it, its own, and those after it.

    It takes the place of what it replaces, since a text encoder reads a prompt in order: every word before it means the
    same with and without the edit. What replaces nothing comes first. What the picture shows already stays as it is,
    under the finer word: an edit of a person with sunglasses towards "eyewear" is no edit.

    Args:
        fits: whether a text encoder reads all of a prompt. The last words before the concept are left out until it
            does up to the concept's end: of those after it, it may read a part.
    """
    words = tuple(words for _, words in source_prompt)
    replaced = [i for i, (group, _) in enumerate(source_prompt) if vocabulary[group].holds(concept)]
    if not replaced:
        return (), concept, words
    group, shown = source_prompt[replaced[0]]
    named = shown if vocabulary[group].covers(concept, shown) else concept
    after = tuple(word for i, word in enumerate(words) if i > replaced[0] and i not in replaced)
    return _fitting(words[: replaced[0]], named, fits), named, after


def _fitting(before: Sequence[str], words: str, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """The first of the words before others, as many as leave room for these."""
    count = len(before)
    while count and not fits(", ".join([*before[:count], words])):
        count -= 1
    return tuple(before[:count])


def prompt_without(
    concept: str, source_prompt: SourcePrompt, vocabulary: Vocabulary, fits: Callable[[str], bool] = lambda _: True
) -> str | None:
    """The source prompt without what a concept names; None where the vocabulary does not say how that looks.

    Args:
        fits: whether a text encoder reads all of a prompt, as of `among`. A source prompt that is not read as far as
            what the concept names says nothing of it.
    """
    nothing = [group.none for group in vocabulary.values() if group.none and group.holds(concept)]
    shown = [(vocabulary[name], words) for name, words in source_prompt if vocabulary[name].holds(concept)]
    before, _, after = among(concept, source_prompt, vocabulary)
    if nothing:
        return ", ".join([*_fitting(before, nothing[0], fits), *nothing, *after])
    if any(group.optional for group, _ in shown) and fits(", ".join([*before, shown[0][1]])):
        return ", ".join([*before, *after])
    return None
