"""What the rows of a report and of a comparison share: pictures, words, one image under one feature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from PIL import Image
from pydantic import ConfigDict, computed_field

from diffex_dagster.utils.columns import Column, Inner, Maybe, Number, Says

Picture = Image.Image | Callable[[], Image.Image]
"""A picture, or what reads it when it is needed: a report of many features has more pictures than fit into memory."""
WITH_PICTURES = ConfigDict(arbitrary_types_allowed=True)
SHARE = {"minimum": 0, "maximum": 1}
LEAK = {"minimum": -1, "maximum": 1}

Direction = Annotated[str, Says("whether the edit adds or removes the attribute", enum=["add", "remove"])]
Among = Annotated[
    str,
    Says(
        "the images that the row is about: those that the edit can change, by the judge; absent in reports from before "
        "it",
        enum=["all", "without it", "with it"],
    ),
]


def opened(picture: Picture) -> Image.Image:
    """The pixels of a picture."""
    return picture if isinstance(picture, Image.Image) else picture()


@dataclass(frozen=True)
class Turn:
    """How it is said that an edit changes what a picture is taken for."""

    subject: str  # e.g. 'the prediction', or 'age'
    becomes: str  # e.g. 'becomes “zebra”', or 'rises above 60 years'
    leaves: str  # e.g. 'stops being “zebra”', or 'falls below 60 years'
    rule: Annotated[str, Says("when an image is of the explained class, in a sentence")]
    among: Annotated[int, Says("classes that the prediction is one of; 2 where a threshold decides")] = 2


@dataclass(frozen=True)
class Example:
    """One image under one feature: original, null edit, edit, and what the classifier says of the last two."""

    __pydantic_config__ = WITH_PICTURES

    image: Annotated[str, Says("key of the sample image")]
    original: Annotated[Picture, Inner]
    null: Annotated[Picture, Inner]
    edit: Annotated[Picture, Inner]
    score_null: Annotated[Number, Says("target measure f of the null edit")]
    score_edit: Annotated[Number, Says("target measure f of the edit")]
    flipped: Annotated[bool, Says("the predicted class differs between null edit and edit")]
    score_original: Annotated[Maybe, Says("target measure of the untouched image, where it was scored")] = None
    succeeded: Annotated[bool | None, Says("whether the edit shows the attribute, where a judge is configured")] = None
    score_placebo: Annotated[
        Maybe, Says("mean of the target measure over the control edits; null where the study has no control prompts")
    ] = None
    becomes: Annotated[bool | None, Says("the edit makes it the explained class; null where none is explained")] = None
    leaves: Annotated[bool | None, Says("the edit makes it another one")] = None
    file: Annotated[str, Says("name of the file that the image was read from")] = ""
    counted: Annotated[
        bool,
        Says("whether the effect of the feature is over this image too: not where it shows the attribute already"),
    ] = True

    @computed_field(  # type: ignore[prop-decorator]
        description="score_edit - score_null"
    )
    @property
    def effect(self) -> Number:
        """f(edit) less f(null)."""
        return self.score_edit - self.score_null


@dataclass(frozen=True)
class ImageRow:
    """One feature on one image, as a row of a table: the numbers of an `Example`, of every image."""

    feature: str
    name: str
    image: str
    file: str
    score_original: Number
    score_null: Number
    score_placebo: Maybe
    score_edit: Number
    effect: Number
    flipped: bool
    becomes: bool | None
    leaves: bool | None
    succeeded: bool | None
    counted: bool


def relation(told_apart: bool) -> str:
    """What a feature is said to be to its confounder, before that one's name."""
    return "confounded with" if told_apart else "cannot be told from"


@dataclass(frozen=True)
class Confounder:
    """Another feature that accounts, or may account, for what a feature was found to do; see `effects.confounding`."""

    feature: Annotated[str, Says("id of the other feature"), Column(names=True)]
    name: Annotated[str, Says("its name"), Column(heading="")]
    leak: Annotated[
        Number,
        Says(
            "share of a whole edit of it that the feature's edits contain; below zero: undo; null where its edits are "
            "no yardstick",
            **LEAK,
        ),
    ]
    direct: Annotated[
        Number, Says("what is left of the effect, in the unit of the target; null where nothing tells the two apart")
    ]
    direct_low: Annotated[Number, Says("lower end of its interval")]
    direct_high: Annotated[Number, Says("upper end")]

    @property
    def told_apart(self) -> bool:
        """Whether what is left of the effect was measured: not where edits towards either contain most of the other."""
        return not math.isnan(self.direct)

    @property
    def relation(self) -> str:
        """What stands before the other's name."""
        return relation(self.told_apart)
