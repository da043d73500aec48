"""The section `images`: where the sample images are, which of them are used, and how they are prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from PIL import ImageColor
from pydantic import Field, model_validator

from diffex_dagster.study.names import Text
from diffex_dagster.utils.config import Part


class Predicted(Part):
    """A filter by what a classifier says of the sample images themselves."""

    classifier: str = Field(description="one of the study's classifiers")
    label: Text | None = Field(None, description="keep images whose predicted class is this")
    min_confidence: float = Field(0.0, ge=0.0, le=1.0, description="of the predicted class")
    max_confidence: float = Field(1.0, ge=0.0, le=1.0, description="below 1: images that are not a clear case")


IMAGE_SOURCES = ("folder", "glob", "files", "table", "dataset")


class Images(Part):
    """Where the sample images are, which of them are used, and how they are prepared.

    One of `folder`, `glob`, `files`, `table` and `dataset` says where they are; a folder named "images" when none does.
    """

    folder: Path | None = Field(None, description="a folder of pictures, not its subfolders")
    glob: str | None = Field(None, description='a pattern of paths, e.g. "photos/**/*.jpg"')
    files: Path | None = Field(None, description="a text file with one path a line, relative to it")
    table: Path | None = Field(None, description="a CSV, TSV or Parquet file with a column of paths, relative to it")
    dataset: Path | None = Field(
        None, description="a Hugging Face dataset in a folder: pictures in class folders, a metadata file, or Parquet"
    )
    path_column: Text | None = Field(
        None, description="of the table or dataset: path, file_name, file or image when left out"
    )
    label_column: Text | None = Field(None, description="of the table or dataset; label when left out")

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
        named = [name for name in IMAGE_SOURCES if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} both say where the images are; keep one of them")
        if self.stratify and self.sample is None:
            raise ValueError("stratify needs 'sample', the number of images to draw; add it")
        if self.path_column and self.table is None and self.dataset is None:
            raise ValueError("path_column belongs to a 'table' or a 'dataset'; name one or remove it")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise ValueError(f"background: {self.background!r} is no colour; write a name or #rrggbb") from error
        return self

    @property
    def source(self) -> str:
        """Which field says where the images are."""
        return next((name for name in IMAGE_SOURCES if getattr(self, name) is not None), "folder")
