"""Side effects as a matrix: what the edit of each feature (row) does to each other one (column)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.report.wording import MINUS, share, titled
from diffex_dagster.results import RankedFeature

SHADES = 4  # steps of colour to each side of none


@dataclass(frozen=True)
class Cell:
    """One cell: its text, its CSS classes, and the same in words."""

    text: str
    kind: str
    says: str


@dataclass(frozen=True)
class MatrixRow:
    """One edited feature."""

    feature: RankedFeature
    cells: tuple[Cell, ...]


def matrix(features: Sequence[RankedFeature], found: Sequence[SideEffect]) -> tuple[MatrixRow, ...]:
    """The features that side effects were measured of, by rank, against each other; empty where none was measured.

    Args:
        features: every ranked feature.
        found: the side effects between some of them.
    """
    of = {(each.edited, each.looked_for): each for each in found}
    measured = {feature for pair in of for feature in pair}
    shown = [feature for feature in features if feature.feature in measured]
    return tuple(
        MatrixRow(row, tuple(_cell(row, column, of.get((row.feature, column.feature))) for column in shown))
        for row in shown
    )


def signed_share(value: float) -> str:
    """A share in [−1, 1] as whole percent with its sign: `45%`, `−20%`; `–` where there is none."""
    return (MINUS if value < 0 else "") + share(abs(value))


def _cell(row: RankedFeature, column: RankedFeature, effect: SideEffect | None) -> Cell:
    if row.feature == column.feature:
        return Cell("", "itself", "the feature itself")
    if effect is None or not math.isfinite(effect.leak):
        return Cell("–", "unmeasured", "not measured")
    shade = math.ceil(abs(effect.leak) * SHADES)
    kind = f"{'more' if effect.leak > 0 else 'less'}-{shade}" if effect.real and shade else "plain"
    says = f"{titled(row)} edited, {column.name} looked for: {signed_share(effect.leak)}"
    says += "" if effect.real else ", cannot be told from none"
    if effect.confounded:
        return Cell(signed_share(effect.leak), f"{kind} confounds", f"{says}; accounts for the effect")
    return Cell(signed_share(effect.leak), kind, says)
