"""The ranking, the comparison and what belongs to them as plain rows: for JSON, CSV and data frames.

What a row holds is said once, at the fields of its class (`results`); see `utils.columns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect
from diffex_dagster.results import (
    AgreedFeature,
    ComparedFeature,
    Comparison,
    EditorComparison,
    ImageRow,
    RankedFeature,
    Report,
)
from diffex_dagster.utils.columns import Column, Says, as_flat_row, as_row, columns

COLUMNS = tuple(columns(RankedFeature))
"""The columns of the effects, where they are a table; leak and direct belong to `confounded_with`."""
PER_IMAGE = tuple(columns(ImageRow))
"""The columns of a report's table of images: one row a feature and image."""
SUBGROUPS = tuple(columns(SubgroupEffect))
"""The columns of the table of subgroups: one row a feature and subgroup of its images."""


@dataclass(frozen=True)
class PairRow(Interaction):
    """An interaction with the names of both features, as reports show it."""

    names: Annotated[tuple[str, str], Says("of both features"), Column(spread=("name_one", "name_other"))] = ("", "")
    of_the_curve: Annotated[bool, Says("log-odds that add up account for the effect")] = False


PAIRS = tuple(columns(PairRow))
"""The columns of the interactions, where they are a table; one row a pair of features."""


def rows(features: Sequence[RankedFeature]) -> list[dict[str, Any]]:
    """One plain dictionary for each feature, in rank order: what `diffex show --format json` prints.

    An interval that has no end (one image moved) is None there, as JSON has no infinity. `confounded_with` is None or a
    dictionary of its own.
    """
    return [as_row(feature) for feature in features]


def flat_rows(features: Sequence[RankedFeature]) -> list[dict[str, Any]]:
    """As `rows`, but with `COLUMNS`: `confounded_with` is the id of the other feature, its numbers stand beside it."""
    return [as_flat_row(feature) for feature in features]


def image_flat_rows(explanation: Report) -> list[dict[str, Any]]:
    """One plain dictionary with `PER_IMAGE` for each feature and image."""
    return [as_flat_row(each) for each in explanation.per_image]


def subgroup_rows(explanation: Report) -> list[dict[str, Any]]:
    """One plain dictionary with `SUBGROUPS` for each feature and subgroup."""
    return [as_row(each) for each in explanation.subgroups]


def pair_rows(explanation: Report) -> list[PairRow]:
    """The pairs of features with their names, found ones first."""
    names = {f.feature: f.name for f in explanation.features}

    def row(pair: Interaction) -> PairRow:
        both = (names.get(pair.one, pair.one), names.get(pair.other, pair.other))
        return PairRow(**vars(pair), names=both, of_the_curve=pair.of_the_curve)

    return [row(pair) for pair in explanation.interactions]


def interaction_rows(explanation: Report) -> list[dict[str, Any]]:
    """One plain dictionary for each pair of features."""
    return [as_row(pair) for pair in pair_rows(explanation)]


def interaction_flat_rows(explanation: Report) -> list[dict[str, Any]]:
    """The same with `PAIRS`."""
    return [as_flat_row(pair) for pair in pair_rows(explanation)]


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One plain dictionary for each compared feature; per-version values are keyed by the version's name."""
    return [as_row(feature, comparison.classifiers) for feature in comparison.features]


def comparison_columns(comparison: Comparison) -> list[str]:
    """The columns of a comparison as a table: what a version has of its own, under the version's name."""
    return list(columns(ComparedFeature, comparison.classifiers))


def comparison_flat_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One flat dictionary for each compared feature ("effect persona_v1", ...), with `comparison_columns`."""
    return [as_flat_row(feature, comparison.classifiers) for feature in comparison.features]


def editor_columns(found: EditorComparison) -> list[str]:
    """The columns of an editor comparison as a table: what each editor's report says, under the editor's name."""
    return list(columns(AgreedFeature, found.editors))


def editor_rows(found: EditorComparison) -> list[dict[str, Any]]:
    """One flat dictionary for each feature under two editors ("effect NAME", ...), with `editor_columns`."""
    return [as_flat_row(feature, found.editors) for feature in found.features]
