"""The section `images`: where the sample images are, which of them are used, and how they are prepared."""

from __future__ import annotations

from typing import Literal

from PIL import ImageColor
from pydantic import Field, model_validator

from diffex_dagster.images.sources.kinds import KINDS, AnyImageSource, FolderSource
from diffex_dagster.images.sources.parts import ImageSource
from diffex_dagster.utils.config import Part
from diffex_dagster.utils.names import Text


class Predicted(Part):
    """A filter by what a classifier says of the sample images themselves."""

    classifier: str = Field(description="one of the study's classifiers")
    label: Text | None = Field(None, description="keep images whose predicted class is this")
    min_confidence: float = Field(0.0, ge=0.0, le=1.0, description="of the predicted class")
    max_confidence: float = Field(1.0, ge=0.0, le=1.0, description="below 1: images that are not a clear case")


class Images(AnyImageSource):
    """Where the sample images are, which of them are used, and how they are prepared.

    One field says where they are: that of a kind of source (`images.sources.kinds`); a folder named "images" where none
    does.
    """

    labels: tuple[Text, ...] = Field((), description="use only images with one of these labels")
    predicted: Predicted | None = Field(None, description="use only images that a classifier of the study calls so")
    sample: int | None = Field(None, ge=1, description="draw so many at random, by the study's seed")
    stratify: bool = Field(False, description="draw the sample in equal parts from every label")
    limit: int | None = Field(None, ge=1, description="use the first N files in name order")

    size: int = Field(512, ge=16, le=4096, description="side in pixels of the square that the editor works on")
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how other shapes become square: the centre, bars at the sides, or stretched"
    )
    background: str = Field("white", description="colour under transparency and of the bars of pad: a name or #rrggbb")
    unreadable: float = Field(
        0.1, ge=0.0, lt=1.0, description="the share of files that may be unreadable; they are listed and left out"
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Images:
        named = [kind.source for kind in KINDS if getattr(self, kind.source) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} both say where the images are; keep one of them")
        if self.stratify and self.sample is None:
            raise ValueError("stratify needs 'sample', the number of images to draw; add it")
        for name, field in AnyImageSource.model_fields.items():
            if name not in self.kind.model_fields and getattr(self, name) != field.default:
                owners = [f"a {kind.source!r}" for kind in KINDS if name in kind.model_fields]
                raise ValueError(f"{name} belongs to {' or '.join(owners)}; name one or remove it")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise ValueError(f"background: {self.background!r} is no colour; write a name or #rrggbb") from error
        return self

    @property
    def kind(self) -> type[ImageSource]:
        """The kind of source that it names."""
        return next((kind for kind in KINDS if getattr(self, kind.source) is not None), FolderSource)
