"""Side effects as a matrix: what the edit of each feature (row) does to each other one (column)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diffex_dagster.effects.confounding import STRONG, SideEffect
from diffex_dagster.report.wording import MINUS, share, titled
from diffex_dagster.results import RankedFeature

SHADES = 4  # steps of colour to each side of none


@dataclass(frozen=True)
class Cell:
    """One cell: its text, its CSS classes, the same in words, and what an outline of it says."""

    text: str
    kind: str
    says: str
    marks: str = ""


@dataclass(frozen=True)
class MatrixRow:
    """One edited feature."""

    feature: RankedFeature
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """Edited features (rows) and what was looked for in their edits (columns), both by rank."""

    columns: tuple[RankedFeature, ...]
    rows: tuple[MatrixRow, ...]


def matrix(features: Sequence[RankedFeature], found: Sequence[SideEffect]) -> Matrix | None:
    """The side effects of the ranked features; None where none was measured.

    Columns are the edited features, and what else an edit of them changes: a real leak of `STRONG` or more.

    Args:
        features: every ranked feature.
        found: the side effects between some of them.
    """
    of = {(each.edited, each.looked_for): each for each in found if math.isfinite(each.leak)}
    edited = {edited for edited, _ in of}
    changed = {x for (_, x), each in of.items() if each.confounded or (each.real and abs(each.leak) >= STRONG)}
    rows = [feature for feature in features if feature.feature in edited]
    columns = tuple(feature for feature in features if feature.feature in edited | changed)
    if not rows:
        return None
    return Matrix(
        columns,
        tuple(MatrixRow(r, tuple(_cell(r, c, of.get((r.feature, c.feature))) for c in columns)) for r in rows),
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
        marks = "accounts for the effect" if effect.told_apart else "cannot be told from it"
        return Cell(signed_share(effect.leak), f"{kind} confounds", f"{says}; {marks}", marks)
    return Cell(signed_share(effect.leak), kind, says)
