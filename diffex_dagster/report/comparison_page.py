"""The comparison of classifier versions as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffex_dagster.report.axis import axis_over
from diffex_dagster.report.examples import Failures, compared_entry
from diffex_dagster.report.html import render
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.report.verdict import comparison_verdict
from diffex_dagster.report.wording import CHANGED, digits_for, titled, unjudged
from diffex_dagster.results import ComparedFeature, Comparison

HIGHLIGHTS = 3  # changes shown large beside the verdict


@dataclass(frozen=True)
class ComparedRow:
    """One feature on the page."""

    number: int
    feature: ComparedFeature
    typical: dict[str, Any] | None


def render_comparison(comparison: Comparison, budget: int = BUDGET) -> str:
    """One self-contained page that says what changed between versions: no network, every picture embedded once."""
    features = comparison.features
    digits = digits_for(effect for feature in features for effect in feature.effects)
    failures = Failures()
    book, (rows, data) = fitted(lambda book: _pictures(comparison, book, digits, failures), budget)
    changed = [row for row in rows if row.feature.decision in CHANGED and row.typical]
    changed.sort(key=lambda row: -abs(row.feature.difference))
    first: dict[str, ComparedRow] = {}
    for row in changed:  # one of each group before a second of any
        first.setdefault(row.feature.group, row)
    changed = [*first.values(), *(row for row in changed if row is not first[row.feature.group])]
    tally: dict[str, int] = {}
    for feature in features:
        tally[feature.decision] = tally.get(feature.decision, 0) + 1
    return render(
        "comparison.html.j2",
        book,
        data,
        c=comparison,
        verdict=comparison_verdict(comparison),
        unjudged=unjudged(comparison.caveats),
        rows=rows,
        highlights=changed[:HIGHLIGHTS],
        axis=axis_over(effect for feature in features for effect in feature.effects),
        change_axis=axis_over(x for f in features for x in (f.ci_low, f.ci_high, f.difference)),
        digits=digits,
        decisions=list(tally.items()),
        group_names=sorted({feature.group for feature in features}, key=str.lower),
    )


def _pictures(
    comparison: Comparison, book: Book, digits: int, failures: Failures
) -> tuple[list[ComparedRow], list[dict[str, Any]]]:
    rows, data = [], []
    for number, feature in enumerate(comparison.features):
        pairs = feature.examples[: book.fit.examples]
        items = [
            compared_entry(pair, comparison.classifiers, book, digits, failures, comparison.turn) for pair in pairs
        ]
        first = list(range(min(6, len(items))))
        data.append({"name": titled(feature, None), "items": items, "total": len(feature.examples),
                     "parts": [["Images that explain the change", first]] if items else []})  # fmt: skip
        # The caller puts the images that explain the change most first.
        rows.append(ComparedRow(number, feature, items[0] if items else None))
    return rows, data
