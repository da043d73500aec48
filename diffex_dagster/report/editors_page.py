"""One classifier's reports under two editors as one HTML page: which effects do not depend on the editor."""

from __future__ import annotations

from diffex_dagster.report.html import render
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.report.verdict import agreement_sentences
from diffex_dagster.report.wording import AGREED, digits_for
from diffex_dagster.results import EditorComparison


def render_editors(found: EditorComparison, budget: int = BUDGET) -> str:
    """One self-contained page without a script; it loads nothing from anywhere."""

    def numbered(book: Book) -> dict[str, list[list[int | None]]]:
        def added(pictures: object) -> list[int | None]:
            return [book.add(picture) if picture else None for picture in pictures]  # type: ignore[attr-defined]

        return {
            "nulls": [added(found.nulls)],
            "rows": [added([under and under.picture for under in row.editors]) for row in found.features],
        }

    book, numbers = fitted(numbered, budget)
    digits = digits_for(under.effect for row in found.features for under in row.editors if under)
    return render(
        "editors.html.j2", book, [], script=None, c=found, numbers=numbers, digits=digits,
        verdict=agreement_sentences(found), agreed=AGREED,
    )  # fmt: skip
