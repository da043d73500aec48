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
            grades = graded(arm, name, ranking)
            decided = [row for row in ranking if row.decision in SHOWN][:TOP]
            found[editor][name] = {
                "top": [
                    {"name": row.name, "effect": round(row.effect, 4), "ci_low": round(row.ci_low, 4),
                     "ci_high": round(row.ci_high, 4), "decision": row.decision, "images": row.images}
                    for row in decided
                ],
                "exact": grades.exact,
                "spearman_relevant": round(grades.reported.spearman_relevant, 4),
                "relevant": grades.reported.relevant,
                "reported": grades.reported.features,
                "spearman_whole": round(grades.whole.spearman, 4),
                "features": grades.whole.features,
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
    said += [
        f"With edits of the editor `{name}`{_checked(figures[name])}: {_grades(figures[name])}." for name in others
    ]
    return "\n".join(lines) + "\n\n" + textwrap.fill(" ".join(said), 120, break_long_words=False) + "\n"


def _checked(of: Mapping[str, Any]) -> str:
    return " (a plumbing check)" if any(each["exact"] for each in of.values()) else ""


def _grades(of: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{name}` {each['spearman_relevant']:.2f} over the {each['relevant']} reported features with a true effect "
        f"above 0.02{_everywhere(each)}"
        for name, each in of.items()
    )


def _everywhere(each: Mapping[str, Any]) -> str:
    """The same over every feature of the corpus; nothing of figures from before it was kept."""
    if "spearman_whole" not in each:
        return ""
    return f", {each['spearman_whole']:.2f} over all {each['features']} (0 where none is reported)"


def main() -> None:
    """Measure and write."""
    figures = figures_of(load_study(ROOT / "studies" / "avatars"))
    publish(FILE, figures, ROOT / "README.md", MARK, as_markdown(figures))


if __name__ == "__main__":
    main()
