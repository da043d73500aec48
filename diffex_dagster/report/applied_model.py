"""What a study says about other pictures, as plain data: the stage fills it in; page, tables and notebook read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict

from diffex_dagster.results import Picture
from diffex_dagster.utils.columns import Inner, Maybe, Number, Says, as_flat_row, as_row, finite

_SHARE = {"minimum": 0, "maximum": 1}


@dataclass(frozen=True)
class AppliedFeature:
    """One attribute: what the study says of it, and how many of the pictures show it."""

    feature: Annotated[str, Says("feature id: path of slugs in the corpus")]
    name: str
    prompt: Annotated[str, Says("what the judge looks for")]
    direction: str
    group: str
    effect: Annotated[Number, Says("of its edit, over the study's images")]
    ci_low: Number
    ci_high: Number
    decision: Annotated[str, Says("as in the study's report")]
    named: Annotated[bool, Says("it was asked for by name")]
    confounded_with: Annotated[str | None, Says("another feature that accounts, or may account, for its effect")]
    relation: Annotated[
        str | None,
        Says("what it is to that feature", enum=["confounded with", "cannot be told from", None]),
    ]
    shift: Annotated[Number, Says("what taking the attribute away adds to the measure, on average over the study")]
    shift_low: Maybe
    shift_high: Maybe
    removed: Annotated[bool, Says("shift was measured by edits that take it away; else it is minus the effect")]
    level: Annotated[Maybe, Says("evidence above which the judge sees it; null where that is not known")]
    seen_in_edits: Annotated[
        Maybe,
        Says(
            "share of the study's edits that were to put it into an image that lacked it, failed ones too, in which "
            "the judge sees it; null where not known, and of a judge that only says yes or no",
            **_SHARE,
        ),
    ]
    edits_judged: Annotated[int, Says("how many edits that is a share of")]
    carriers: Annotated[int | None, Says("different pictures that show it, by the judge; null where that is not known")]
    prevalence: Annotated[Maybe, Says("the share of the different pictures that is", **_SHARE)]
    prevalence_low: Annotated[Maybe, Says("lower end of its interval (Clopper and Pearson)", **_SHARE)]
    prevalence_high: Annotated[Maybe, Says("upper end", **_SHARE)]
    study_prevalence: Annotated[Maybe, Says("the share of the study's images that show it", **_SHARE)]
    score_with: Annotated[Maybe, Says("mean score of the different pictures that show it")]
    score_without: Annotated[Maybe, Says("mean score of the others")]
    at_risk: Annotated[int | None, Says("of those that show it, how many would be decided otherwise without it")]


@dataclass(frozen=True)
class AppliedRow:
    """One picture under one attribute."""

    feature: str
    name: str
    place: Annotated[
        int | None, Says("among the pictures that show it, the most at risk first; null where it does not")
    ]
    image: Annotated[str, Says("key of the prepared picture")]
    file: Annotated[str, Says("relative to the folder")]
    carries: Annotated[bool | None, Says("whether it shows the attribute, by the judge; null where not known")]
    evidence: Annotated[Maybe, Says("of the attribute, in the judge's unit")]
    score: Annotated[Number, Says("target measure")]
    decision: Annotated[
        str,
        Says(
            "what it is taken for; “differs by seed” where its null edits are not all taken for the same; empty where "
            "nothing is decided"
        ),
    ]
    boundary: Annotated[Maybe, Says("the value of the measure at which that changes; null where there is none")]
    after: Annotated[Maybe, Says("score + shift: what would be left without the attribute; null where it is not there")]
    changes: Annotated[bool | None, Says("whether the decision would be another one then")]
    surely: Annotated[bool | None, Says("also at the end of the effect's interval that is nearest to no effect")]
    beyond: Annotated[Maybe, Says("how far beyond the boundary that is; below 0 where the decision stays")]


@dataclass(frozen=True)
class Applied:
    """Which pictures carry what a classifier leans on, and which of them depend on it."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    study: str
    title: str
    classifier: str
    editor: str
    target: Annotated[str, Says("what a score is measured in")]
    unit: str
    bounded: bool
    created: datetime
    command: str
    folder: Annotated[str, Says("where the pictures are")]
    null_edits: Annotated[bool, Says("null edits were judged and scored, not the pictures as they are")]
    images: Annotated[int, Says("files that could be read")]
    different: Annotated[int, Says("of these, different pictures")]
    judge: Annotated[str, Says("the judge of which pictures show an attribute")]
    control_words: Annotated[
        Maybe, Says("share of words that mean nothing that the judge sees in these pictures", **_SHARE)
    ]
    control_low: Annotated[Maybe, Says("lower end of its interval", **_SHARE)]
    control_high: Annotated[Maybe, Says("upper end", **_SHARE)]
    level_by: Annotated[
        Literal["study", "images", ""],
        Says(
            "where words that mean nothing set the judge's level: in the study's images, or in these, and the share "
            "says nothing of it then; empty where they did not"
        ),
    ]
    features: Annotated[tuple[AppliedFeature, ...], Says("those named first, then by the size of their effect")]
    rows: Annotated[tuple[AppliedRow, ...], Says("by feature, the pictures most at risk first")]
    unread: Annotated[tuple[tuple[str, str], ...], Says("(file, why) of those that could not be read")]
    left_out: Annotated[tuple[str, ...], Says("what else the folder holds, as phrases with numbers")]
    warnings: tuple[str, ...]
    pictures: Annotated[Mapping[str, Picture], Inner]

    def at_risk(self, feature: str) -> tuple[AppliedRow, ...]:
        """The pictures that show a feature, by id, the most at risk first."""
        return tuple(row for row in self.rows if row.feature == feature and row.place is not None)


def applied_data(found: Applied) -> dict[str, Any]:
    """Everything but the pictures, as plain data (JSON)."""
    data: dict[str, Any] = finite(as_row(found)) | {"created": found.created.isoformat()}
    return data


def applied_rows(found: Applied) -> list[dict[str, Any]]:
    """A row a feature and picture, for a table."""
    return [as_flat_row(row) for row in found.rows]
