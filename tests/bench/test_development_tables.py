"""The published figures of the development classifiers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffex_dagster.bench import development_tables, truth, truth_tables
from diffex_dagster.errors import DiffExError
from diffex_dagster.study import Study

DOCS = Path(__file__).parents[2] / "docs"


def test_what_a_benchmark_wrote_is_published(graded: tuple[Study, truth.Benchmark], tmp_path: Path) -> None:
    whole = json.loads(json.dumps(truth_tables.as_json(graded[1])))
    (tmp_path / "figures").mkdir()
    page, file = tmp_path / "validity.md", tmp_path / "truth.json"
    page.write_text("<!-- development begins -->\n<!-- development ends -->\n", "utf-8")
    file.write_text(json.dumps(whole))
    with pytest.raises(DiffExError, match="--commit"):
        development_tables.main([str(file), "--docs", str(tmp_path)])
    assert development_tables.main([str(file), "--docs", str(tmp_path), "--commit", "aaaaaaa"]) == 0
    kept = json.loads((tmp_path / "figures" / "development.json").read_text("utf-8"))
    (marked,) = graded[1].arms["exact"]
    assert marked.resampled is not None
    assert kept["mean"]["coverage"] == pytest.approx(marked.resampled.coverage, abs=1e-4)
    assert kept["studies"] == marked.resampled.studies and kept["commit"] == "aaaaaaa"
    row = next(line for line in page.read_text("utf-8").splitlines() if line.startswith("| mean |"))
    assert f"{100 * kept['mean']['fdr']:.1f}%" in row and row.endswith(f"| {kept['mean']['beam_recall']:.2f} |")


def test_the_page_shows_what_is_committed() -> None:
    figures = json.loads((DOCS / "figures" / "development.json").read_text("utf-8"))
    begin, end = (f"<!-- {development_tables.MARK} {mark} -->" for mark in ("begins", "ends"))
    said = (DOCS / "validity.md").read_text("utf-8").partition(begin)[2].partition(end)[0]
    assert said == f"\n\n{development_tables.as_markdown(figures)}\n"
