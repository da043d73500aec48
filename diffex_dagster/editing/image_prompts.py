"""The source prompt of each image, kept for later: to find it takes as long as a dozen edits of the image.

An editor that finds what images show (`source_prompts.source_prompt_of`) has `ImagePrompts`, and says in `describer`
what they depend on. The code that keeps them tells it what is known and takes what it has found since. In the store
they are the table `descriptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from diffex_dagster.editing.vocabulary import SourcePrompt


@dataclass(frozen=True)
class ImagePrompt:
    """The source prompt of one image.

    Attributes:
        shows: (group, words), in the order of the vocabulary.
        cut: whether the picture seemed to show more, and the text encoder had no room for it.
    """

    shows: SourcePrompt
    cut: bool = False


@dataclass
class ImagePrompts:
    """Source prompts by the key of an image, which has to name its content.

    Attributes:
        told: known from before.
        found: found here, and not taken yet.
    """

    told: dict[str, ImagePrompt] = field(default_factory=dict)
    found: dict[str, ImagePrompt] = field(default_factory=dict)

    def tell(self, known: Mapping[str, ImagePrompt]) -> None:
        """Say what images show; what is known already stays."""
        self.told = {**known, **self.told}

    def take(self) -> dict[str, ImagePrompt]:
        """What was found since the last time; it is known from now on."""
        taken, self.found = self.found, {}
        self.tell(taken)
        return taken


class PromptsImages(Protocol):
    """An editor that finds the source prompt of an image before it edits it."""

    image_prompts: ImagePrompts

    @property
    def describer(self) -> str:
        """Hash of all that decides the source prompt of an image; empty where it finds none."""
        ...


def prompter_of(editor: object) -> str:
    """`PromptsImages.describer` of an editor; empty for one that finds no source prompts."""
    return str(getattr(editor, "describer", ""))


def image_prompts_of(editor: object) -> ImagePrompts | None:
    """`PromptsImages.image_prompts` of an editor; None for one that finds none."""
    found = getattr(editor, "image_prompts", None)
    return found if isinstance(found, ImagePrompts) else None
