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


def of(top: list[dict[str, Any]], spearman: float) -> dict[str, Any]:
    return {"top": top, "spearman": spearman, "spearman_relevant": 0.987, "features": 58, "relevant": 20}


def test_the_table_has_a_column_for_each_classifier_and_a_sentence_for_each_editor() -> None:
    first = {"v1": of([row("Glasses", 0.594), row("Hat", -0.2)], 0.94), "v2": of([row("Beard", 0.67)], 0.931)}
    text = SCRIPT["as_markdown"]({"sd": first, "exact": {"v1": of([], 1.0)}})
    assert text.splitlines()[:4] == [
        "| `v1` | effect | `v2` | effect |",
        "|---|---:|---|---:|",
        "| Glasses | +0.59 | Beard | +0.67 |",
        "| Hat | −0.20 | | |",
    ]
    text = " ".join(text.split())
    assert "`v1` 0.99 over the 20 features with a true effect above 0.02, 0.94 over all 58; `v2` 0.99" in text
    assert "With edits of the editor `exact`: `v1` 0.99 over the 20" in text


def test_the_readme_says_what_was_measured() -> None:
    kept: Path = SCRIPT["FILE"]
    page = (ROOT / "README.md").read_text("utf-8")
    said = page.partition("<!-- demo begins -->\n\n")[2].partition("\n<!-- demo ends -->")[0]
    assert said == SCRIPT["as_markdown"](json.loads(kept.read_text("utf-8")))
