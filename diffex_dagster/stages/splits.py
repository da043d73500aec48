"""Which of the sample images the search sees, and which the report speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffex_dagster.effects.splitting import split
from diffex_dagster.study import Study


@dataclass(frozen=True)
class Split:
    """Keys of the images that the search chooses features on, and of those that the report speaks of."""

    discovery: list[str]
    reported: list[str]

    @property
    def held_out(self) -> bool:
        """Whether the report speaks of images that the search has not seen."""
        return self.discovery != self.reported

    @property
    def one_image(self) -> bool:
        """Whether the report speaks of one image, which its control edits decide (`effects.one_picture`)."""
        return len(self.reported) == 1


def image_split(study: Study, images: Sequence[str]) -> Split:
    """Split the study's sample images (keys) into discovery and confirmation; a small study uses all of them for both.

    Half of few images would find little, and an estimate that is somewhat too large says more than none.
    """
    images = list(images)
    if not study.effects.confirmation or len(images) < study.effects.confirmation_from:
        return Split(images, images)
    return Split(*split(images, study.effects.confirmation, study.seed))
