"""The demo's figures in the README come from its reports."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_demo_figures.py"))


def row(name: str, effect: float) -> dict[str, Any]:
    return {"name": name, "effect": effect, "ci_low": effect - 0.1, "ci_high": effect + 0.1, "decision": "raises"}


def of(top: list[dict[str, Any]], whole: float, exact: bool = False) -> dict[str, Any]:
    marks = {"spearman_whole": whole, "spearman_relevant": 0.987, "features": 68, "reported": 58, "relevant": 20}
    return {"top": top, "exact": exact} | marks


def test_the_table_has_a_column_for_each_classifier_and_a_sentence_for_each_editor() -> None:
    first = {"v1": of([row("Glasses", 0.594), row("Hat", -0.2)], 0.94), "v2": of([row("Beard", 0.67)], 0.931)}
    text = SCRIPT["as_markdown"]({"sd": first, "exact": {"v1": of([], 0.83, exact=True)}})
    assert text.splitlines()[:4] == [
        "| `v1` | effect | `v2` | effect |",
        "|---|---:|---|---:|",
        "| Glasses | +0.59 | Beard | +0.67 |",
        "| Hat | −0.20 | | |",
    ]
    text = " ".join(text.split())
    of_v1 = "`v1` 0.99 over the 20 reported features with a true effect above 0.02, 0.94 over all 68"
    assert f"on the same images: {of_v1} (0 where none is reported); `v2` 0.99 over" in text
    assert "With edits of the editor `exact` (a plumbing check): `v1` 0.99 over the 20" in text
    assert "0.83 over all 68 (0 where none is reported)." in text
    early = {key: value for key, value in of([], 0.9).items() if key not in ("spearman_whole", "features")}
    assert SCRIPT["as_markdown"]({"sd": {"v1": early}}).endswith("reported features with a true effect\nabove 0.02.\n")


def test_the_readme_says_what_was_measured() -> None:
    kept: Path = SCRIPT["FILE"]
    page = (ROOT / "README.md").read_text("utf-8")
    said = page.partition("<!-- demo begins -->\n\n")[2].partition("\n<!-- demo ends -->")[0]
    assert said == SCRIPT["as_markdown"](json.loads(kept.read_text("utf-8")))
