"""Write the demo's figures into the README: what its reports rank first, and how they grade against the truth.

    .venv/bin/python docs/make_demo_figures.py      # after `make demo` (and `diffex run avatars --editor exact`)

The numbers go to docs/figures/demo.json, and from there between the marks of README.md. A test holds the README to that
file.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffex_dagster.bench.pages import publish
from diffex_dagster.cli.showing import graded, latest_ranking
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.wording import SHOWN, signed
from diffex_dagster.study import Study, load_study

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "figures" / "demo.json"
MARK = "demo"
TOP = 3  # features of each classifier


def figures_of(study: Study) -> dict[str, Any]:
    """Editor -> classifier -> its first decided features and its grades; of the editors whose reports are there.

    Raises:
        DiffExError: there is no report under the study's first editor.
    """
    found: dict[str, Any] = {}
    for editor in study.editors:
        arm = study.with_editor(editor)
        try:
            rankings = {name: latest_ranking(arm, name) for name in arm.classifiers}
        except DiffExError:
            if editor == next(iter(study.editors)):
                raise
            continue
        found[editor] = {}
        for name, ranking in rankings.items():
            grade = graded(arm, name, ranking)
            decided = [row for row in ranking if row.decision in SHOWN][:TOP]
            found[editor][name] = {
                "top": [
                    {"name": row.name, "effect": round(row.effect, 4), "ci_low": round(row.ci_low, 4),
                     "ci_high": round(row.ci_high, 4), "decision": row.decision, "images": row.images}
                    for row in decided
                ],
                "spearman": round(grade.spearman, 4),
                "spearman_relevant": round(grade.spearman_relevant, 4),
                "features": grade.features,
                "relevant": grade.relevant,
            }  # fmt: skip
    return found


def as_markdown(figures: Mapping[str, Any]) -> str:
    """The demo's table, and a sentence for each editor about how its estimates grade."""
    editor, *others = figures
    first = figures[editor]
    head = "".join(f"| `{name}` | effect " for name in first) + "|"
    lines = [head, "|---|---:" * len(first) + "|"]
    for place in range(max(len(of["top"]) for of in first.values())):
        rows = [of["top"][place : place + 1] for of in first.values()]
        cells = [f"| {row[0]['name']} | {signed(row[0]['effect'], 2)} " if row else "| | " for row in rows]
        lines.append("".join(cells) + "|")
    said = [f"Rank correlation with the true effects on the same images: {_grades(first)}."]
    said += [f"With edits of the editor `{other}`: {_grades(figures[other])}." for other in others]
    return "\n".join(lines) + "\n\n" + textwrap.fill(" ".join(said), 120, break_long_words=False) + "\n"


def _grades(of: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{name}` {each['spearman_relevant']:.2f} over the {each['relevant']} features with a true effect above 0.02, "
        f"{each['spearman']:.2f} over all {each['features']}"
        for name, each in of.items()
    )


def main() -> None:
    """Measure and write."""
    figures = figures_of(load_study(ROOT / "studies" / "avatars"))
    publish(FILE, figures, ROOT / "README.md", MARK, as_markdown(figures))


if __name__ == "__main__":
    main()
