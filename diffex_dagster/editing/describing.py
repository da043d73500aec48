"""What a picture shows, in words: the source prompt that its edits leave alone.

LEDITS++ guides an edit by e(concept) − e(""): how the model changes its mind when it hears the concept and nothing
else. What else the picture shows it has to guess from the noise, and guesses differently with the concept than without:
an edit towards a hair style also changes the hair's colour. With a description of the picture, guidance becomes
e(description with the concept) − e(description): both sides know what else is there, and it cancels. The inversion
follows the same description, as in edit-friendly DDPM inversion (Huberman-Spiegelglas et al., CVPR 2024,
arXiv 2304.06140), which LEDITS++ extends; diffusers' pipeline calls it the source prompt. Null edits stay exact.

The description is the model's own: in each group of a vocabulary, the words that explain most of the picture, the model
being its own zero-shot classifier (`likelihood`). A wrong word does little harm, since both sides have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch

    from diffex_dagster.editing.engine import Engine

LEVELS = (0.8, 0.7, 0.9, 0.6, 0.5, 0.4)  # noise levels of the draws: composition first, then details
SURE = 1.0  # an optional group is named when its evidence exceeds so many of its standard errors over the draws

Description = tuple[tuple[str, str], ...]  # (group, words), in the order of the vocabulary


class WordGroup(BaseModel):
    """Words of which a picture shows one, such as the colours of hair."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: tuple[str, ...] = Field(min_length=1)
    none: str | None = None  # the words for a picture that shows none of them, such as "a clean shaven face"
    optional: bool = False  # a picture may show none of them, and nothing is said then
    also: tuple[str, ...] = ()  # further edit prompts that replace what the picture shows of the group

    @property
    def candidates(self) -> tuple[str, ...]:
        """Everything that may be said of a picture."""
        return self.words if self.none is None else (self.none, *self.words)

    def holds(self, prompt: str) -> bool:
        """Whether an edit with this prompt replaces what a picture shows of the group."""
        return prompt in self.candidates or prompt in self.also


Vocabulary = Mapping[str, WordGroup]


def describe(engine: Engine, latents: torch.Tensor, vocabulary: Vocabulary, rows: int) -> Description:
    """The words of a vocabulary that describe one picture.

    Args:
        latents: clean, (C, H, W), on the engine's device.
        rows: the largest UNet batch. It takes (1 + all words) × 6 UNet rows.
    """
    from diffex_dagster.editing.likelihood import evidence

    words = [word for group in vocabulary.values() for word in group.candidates]
    if not words:
        return ()
    draws = evidence(engine, latents[None], [words], LEVELS, rows)[0]
    found, start = [], 0
    for name, group in vocabulary.items():
        of_group = draws[start : start + len(group.candidates)]
        start += len(group.candidates)
        best = int(of_group.mean(dim=1).argmax())
        mean, error = of_group[best].mean(), of_group[best].std() / len(LEVELS) ** 0.5
        if not group.optional or mean > SURE * error:
            found.append((name, group.candidates[best]))
    return tuple(found)


def prompt_of(description: Description) -> str:
    """The description as one prompt; empty for nothing."""
    return ", ".join(words for _, words in description)


def around(concept: str, description: Description, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """The words of the description before and after a concept that takes the place of what it replaces.

    In its place, since a text encoder reads a prompt in order: every word before it means the same with and without the
    edit, and an edit towards what the picture shows already is no edit. What replaces nothing comes first.
    """
    replaced = [i for i, (group, _) in enumerate(description) if vocabulary[group].holds(concept)]
    words = [words for _, words in description]
    if not replaced:
        return [], words
    return words[: replaced[0]], [word for i, word in enumerate(words) if i > replaced[0] and i not in replaced]


def prompt_without(concept: str, description: Description, vocabulary: Vocabulary) -> str | None:
    """The description without what a concept names; None where the vocabulary does not say how that looks."""
    nothing = [group.none for group in vocabulary.values() if group.none and group.holds(concept)]
    shown = [vocabulary[name] for name, _ in description if vocabulary[name].holds(concept)]
    if nothing or any(group.optional for group in shown):
        before, after = around(concept, description, vocabulary)
        return ", ".join([*before, *nothing, *after])
    return None
