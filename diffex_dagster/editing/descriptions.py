"""What pictures show, in words, kept for later: to describe a picture takes as long as a dozen edits of it.

An editor that describes pictures (`source_prompts.source_prompt_of`) has a `Descriptions`, and says in `describer` what
its descriptions depend on. The code that keeps them tells it what is known and takes what it has found since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from diffex_dagster.editing.vocabulary import SourcePrompt


@dataclass(frozen=True)
class Description:
    """What one picture shows.

    Attributes:
        shows: (group, words), in the order of the vocabulary.
        cut: whether the picture seemed to show more, and the text encoder had no room for it.
    """

    shows: SourcePrompt
    cut: bool = False


@dataclass
class Descriptions:
    """Descriptions by the key of an image, which has to name its content.

    Attributes:
        told: known from before.
        found: found here, and not taken yet.
    """

    told: dict[str, Description] = field(default_factory=dict)
    found: dict[str, Description] = field(default_factory=dict)

    def tell(self, known: Mapping[str, Description]) -> None:
        """Say what pictures show; what is known already stays."""
        self.told = {**known, **self.told}

    def take(self) -> dict[str, Description]:
        """What was found since the last time; it is known from now on."""
        taken, self.found = self.found, {}
        self.tell(taken)
        return taken


class Describes(Protocol):
    """An editor that describes pictures before it edits them."""

    descriptions: Descriptions

    @property
    def describer(self) -> str:
        """Hash of all that decides what it says of a picture; empty where it describes none."""
        ...


def describer_of(editor: object) -> str:
    """`Describes.describer` of an editor; empty for one that describes no pictures."""
    return str(getattr(editor, "describer", ""))


def descriptions_of(editor: object) -> Descriptions | None:
    """`Describes.descriptions` of an editor; None for one that describes no pictures."""
    found = getattr(editor, "descriptions", None)
    return found if isinstance(found, Descriptions) else None
