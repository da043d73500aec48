"""The ranking and the comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diffex_dagster.report.wording import (
    HAD_IT,
    TURNS,
    compared_flips,
    confounder,
    digits_for,
    flips,
    glyph,
    marked,
    plain,
    reliances,
    share,
    signed,
    titled,
)
from diffex_dagster.results import Comparison, EditorComparison, RankedFeature

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLES = {"raises": "red", "lowers": "blue", "mixed": "magenta", "more reliant": "red", "less reliant": "green",
           "direction changed": "magenta"}  # fmt: skip
ROOMY = 110  # columns of a terminal that has room for one column more


def editors_rich_table(found: EditorComparison, limit: int | None = None) -> Table:
    """Two editors' reports for a terminal, what holds first."""
    from rich.table import Table
    from rich.text import Text

    digits = digits_for(under.effect for row in found.features for under in row.editors if under)
    table = Table(header_style="bold")
    for heading in ("feature", "group"):
        table.add_column(heading)
    for editor in found.editors:
        table.add_column(Text(plain(editor, 30)), justify="right", no_wrap=True)
        table.add_column("decision")
    table.add_column("verdict")
    for row in found.features[:limit]:
        cells: list[Any] = []
        for under in row.editors:
            if under is None:
                cells += ["–", "not reached"]
                continue
            mark = marked(under.relation, under.confounded_with)
            cells += [signed(under.effect, digits), _decision(under.decision, mark)]
        table.add_row(Text(titled(row)), Text(plain(row.group, 40)), *cells, row.verdict)
    return table


def rich_table(
    features: Sequence[RankedFeature], limit: int | None = None, title: str | None = None, width: int | None = None
) -> Table:
    """The ranking for a terminal. Names are printed as they are: markup and terminal escapes in them do nothing.

    Args:
        limit: features, at most.
        width: columns of the terminal: in fewer than `ROOMY` there is no room for how many images had the attribute.
    """
    from rich.table import Table
    from rich.text import Text

    digits = digits_for(f.effect for f in features)
    table = Table(title=Text(plain(title)) if title else None, header_style="bold", title_justify="left")
    had = any(f.prevalence is not None for f in features[:limit]) and (width is None or width >= ROOMY)
    for heading, right in (
        ("#", True), ("feature", False), ("group", False), ("effect", True), ("95% interval", True), ("flips", True),
        *([(HAD_IT, True)] if had else []), ("images", True), ("decision", False),
    ):  # fmt: skip
        table.add_column(heading, justify="right" if right else "left", no_wrap=right)
    for f in features[:limit]:
        table.add_row(
            str(f.rank),
            Text(titled(f)),
            Text(plain(f.group, 40)),
            signed(f.effect, digits),
            f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
            flips(f),
            *([share(f.prevalence)] if had else []),
            str(f.images),
            _decision(f.decision, confounder(f)),
        )
    notes = [TURNS] if any(f.becomes is not None for f in features[:limit]) else []
    if limit is not None and len(features) > limit:
        notes.insert(0, f"{len(features) - limit} more features below these")
    if notes:
        table.caption = Text(". ".join(notes))
    return table


def comparison_rich_table(comparison: Comparison, limit: int | None = None) -> Table:
    """The comparison for a terminal, by descending |difference|."""
    from rich.table import Table
    from rich.text import Text

    digits = digits_for(effect for f in comparison.features for effect in f.effects)
    table = Table(header_style="bold")
    table.add_column("feature")
    table.add_column("group")
    for name in comparison.classifiers:
        table.add_column(Text(plain(name, 30)), justify="right", no_wrap=True)
    for heading in ("difference", "95% interval", "reliance", "rank", "flips"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("decision")
    for f in comparison.features[:limit]:
        table.add_row(
            Text(titled(f)),
            Text(plain(f.group, 40)),
            *(signed(effect, digits) for effect in f.effects),
            signed(f.difference, digits),
            f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
            reliances(f, digits),
            " → ".join(str(rank) for rank in f.ranks),
            compared_flips(f),
            _decision(f.decision),
        )
    return table


def with_mark(text: str, mark: str, style: str = "") -> Text:
    """A cell of a table, with the mark of a claim on a line of its own (`wording.marked`); "" is none."""
    from rich.text import Text

    shown = Text(text, style=style)
    return shown.append(f"\n{mark}", style="yellow") if mark else shown


def _decision(decision: str, mark: str = "") -> Text:
    return with_mark(f"{glyph(decision)} {plain(decision)}", mark, _STYLES.get(decision, "dim"))
