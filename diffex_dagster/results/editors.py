"""A comparison of the reports under two editors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from diffex_dagster.results.common import (
    WITH_PICTURES,
    Direction,
    Picture,
    relation,
)
from diffex_dagster.utils.columns import Column, Inner, Maybe, Number, Says


@dataclass(frozen=True)
class UnderEditor:
    """What the report under one editor says of a feature, with its edit of one image."""

    __pydantic_config__ = WITH_PICTURES

    effect: Number
    ci_low: Number
    ci_high: Number
    decision: Annotated[str, Says("as in the report under that editor")]
    edit_success: Maybe = None
    confounded_with: Annotated[str | None, Says("the name of the other feature")] = None
    told_apart: Annotated[bool, Says("false where nothing tells the feature from the other one")] = True
    picture: Annotated[Picture | None, Inner] = None

    @property
    def relation(self) -> str:
        """What stands before the other's name."""
        return relation(self.told_apart)


@dataclass(frozen=True)
class AgreedFeature:
    """One feature under two editors; None where the search of one did not reach it."""

    feature: str
    name: Annotated[str, Column(listed=True)]
    prompt: str
    direction: Direction
    group: Annotated[str, Column(listed=True)]
    level: int
    verdict: Annotated[str, Says("what both reports together say of it"), Column(listed=True)]
    editors: Annotated[
        tuple[UnderEditor | None, UnderEditor | None],
        Says("by editor; null where the search under it did not reach the feature"),
        Column(each=True),
    ]


@dataclass(frozen=True)
class EditorComparison:
    """What of a classifier's explanation does not depend on the editor."""

    __pydantic_config__ = WITH_PICTURES

    study: str
    title: str
    classifier: str
    target: Annotated[str, Says("what an effect is measured in")]
    editors: tuple[str, str]
    created: datetime
    command: str
    images: int
    features: Annotated[tuple[AgreedFeature, ...], Says("those that hold first")]
    judged: Annotated[int, Says("features that both editors' reports judged", alias="judged_by_both")]
    spearman: Annotated[
        Number,
        Says("rank correlation of both editors' effects over these; null with fewer than three"),
    ]
    same_sign: Annotated[
        Number,
        Says("share of these, of what either claims to raise or lower, whose effects have one sign; null without any"),
    ]
    nulls: Annotated[tuple[Picture | None, Picture | None], Inner] = (None, None)  # of the image that pictures show
    error_rate: Annotated[str, Says("that each report's decisions hold")] = "fwer"
    unit: Annotated[str, Says("of an effect, e.g. years; empty where the measure has none")] = ""
    bounded: Annotated[bool, Says("the measure is a probability: an effect of 0.1 is 10 percentage points")] = False
