"""A comparison: the versions of a classifier, side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from diffex_dagster.results.common import (
    SHARE,
    Among,
    Direction,
    Example,
    Turn,
)
from diffex_dagster.utils.columns import Column, Inner, Maybe, Number, Says


@dataclass(frozen=True)
class ComparedFeature:
    """One feature under two classifier versions: paired difference of its effects on the same edits."""

    feature: str
    name: Annotated[str, Column(listed=True)]
    group: Annotated[str, Column(listed=True)]
    level: int
    effects: Annotated[tuple[Number, ...], Says("effect under each version"), Column("effect", each=True)]
    ranks: Annotated[tuple[int, ...], Says("rank under each version"), Column("rank", each=True)]
    flip_rates: Annotated[tuple[Number, ...], Says("flip rate under each version"), Column("flip_rate", each=True)]
    difference: Annotated[Number, Says("mean over images of d_last - d_first"), Column(listed=True)]
    ci_low: Annotated[Number, Column(listed=True)]
    ci_high: Annotated[Number, Column(listed=True)]
    images: Annotated[int, Column(listed=True)]
    decision: Annotated[
        str,
        Says(
            "more reliant, less reliant, direction changed, no change shown, inconclusive, already there or edit failed"
        ),
        Column(listed=True),
    ]
    examples: Annotated[tuple[tuple[Example, Example], ...], Inner] = ()
    """The images that explain it, under the first and last version."""
    flips_gained: Annotated[
        int | None, Says("images that become the explained class, or stop being it, under the last version only")
    ] = None
    flips_lost: Annotated[int | None, Says("the same under the first version only")] = None
    reliance: Annotated[
        tuple[Number, ...],
        Says("mean |d| under each version: what more and less reliant speak of"),
        Column(each=True),
    ] = ()
    reliance_change: Annotated[Number, Says("mean over images of |d_last| - |d_first|"), Column(listed=True)] = math.nan
    reliance_low: Number = math.nan
    reliance_high: Number = math.nan
    p_value: Annotated[
        Maybe, Says("adjusted, of the change that the decision speaks of; null where it was not tested")
    ] = None
    edit_success: Annotated[Maybe, Says("share of edits that show the attribute, where a judge is configured")] = None
    direction: Direction = "add"
    prompt: Annotated[str, Says("the edit prompt")] = ""
    becomes: Annotated[
        tuple[int, ...],
        Says("images that become the explained class under each version; empty where none is explained"),
        Column(each=True),
    ] = ()
    leaves: Annotated[tuple[int, ...], Says("images that stop being it under each version"), Column(each=True)] = ()
    among: Among = "all"
    prevalence: Annotated[
        Maybe, Says("share of images that show the attribute before any edit, by the judge", **SHARE)
    ] = None


@dataclass(frozen=True)
class RuleOutcome:
    """Whether one classifier keeps one rule of the study. What could not be measured is not kept: nothing was shown."""

    classifier: str
    text: Annotated[str, Says("the rule in words, with what was measured", alias="rule")]
    holds: bool
    severity: Annotated[str, Says("whether it fails the run or warns", enum=["fail", "warn"])] = "fail"
    feature: Annotated[str, Says("as the rule names it")] = ""
    measured: Annotated[Maybe, Says("mean |d|; null where nothing was measured")] = None


@dataclass(frozen=True)
class Comparison:
    """Everything on the comparison page of a study: versions in the order of the study file."""

    study: str
    title: str
    classifiers: Annotated[tuple[str, ...], Says("versions, oldest first")]
    target: Annotated[str, Says("what an effect is measured in")]
    created: datetime
    command: str
    features: Annotated[tuple[ComparedFeature, ...], Says("by descending |difference|")]
    caveats: tuple[str, ...] = ()
    warnings: Annotated[
        tuple[str, ...],
        Says(
            "what to mend before the numbers are believed, e.g. a judge that cannot be used; absent or empty where "
            "nothing is wrong"
        ),
    ] = ()
    noise_floor: Maybe = None
    editor: str | None = None
    corpus_version: str | None = None
    images: int | None = None
    rules: Annotated[tuple[RuleOutcome, ...], Says("sensitivity rules of the study")] = ()
    links: Annotated[tuple[tuple[str, str], ...], Inner] = ()  # other pages of the study: (what, relative address)
    turn: Annotated[
        Turn | None,
        Says("how it is said that an image becomes the explained class; null where the target explains none"),
    ] = None
    unit: Annotated[str, Says("of an effect, e.g. years; empty where the measure has none")] = ""
    bounded: Annotated[bool, Says("the measure is a probability: an effect of 0.1 is 10 percentage points")] = False
