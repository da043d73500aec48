"""The example notebook of the documentation: it holds what its script says, was executed, and runs."""

from __future__ import annotations

import ast
import io
import json
import runpy
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.support.project import ROOT

SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_notebook.py"))
CELLS, CODE, FILE = SCRIPT["CELLS"], SCRIPT["CODE"], SCRIPT["FILE"]

FRAME = next(number for number in CODE if "to_frame" in CELLS[number])


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return data


def test_the_notebook_is_what_its_script_makes(notebook: dict[str, Any]) -> None:
    assert ["".join(cell["source"]) for cell in notebook["cells"]] == list(CELLS)
    assert FILE.stat().st_size < 1_000_000 and "/tmp" not in FILE.read_text("utf-8")


def test_it_was_executed_and_shows_tables_with_pictures(notebook: dict[str, Any]) -> None:
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    shown = ["".join(output["data"].get("text/html", "")) for cell in code for output in cell["outputs"]]
    assert len(shown) == 3 and "<img" in shown[0] and "Every image" in shown[0] and "<img" in shown[2]


def test_it_runs_and_finds_what_it_shows(
    notebook: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(FILE.parent)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    for number in CODE:
        cell = ast.parse(CELLS[number])
        last = cell.body.pop() if isinstance(cell.body[-1], ast.Expr) else None
        exec(compile(cell, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            names["_"] = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    assert {"Grey hair", "Majestic beard"} <= {f.name for f in names["found"].report.features if f.decision == "raises"}
    committed = "".join(notebook["cells"][FRAME]["outputs"][0]["data"]["text/plain"])
    frame = pandas.read_csv(io.StringIO(committed), sep=r"\s{2,}", engine="python")
    pandas.testing.assert_frame_equal(frame, names["found"].to_frame()[list(frame)], rtol=0, atol=0.006)
    assert "<table>" in names["one"]._repr_html_() and (ROOT / "studies" / "avatars").is_dir()
