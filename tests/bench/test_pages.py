"""Figures that are kept in a file and shown by a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from diffex_dagster.bench import exam_tables, pages, settings_tables
from diffex_dagster.errors import DiffExError

PAGE = "before\n<!-- runs begins -->\n<!-- runs ends -->\nafter\n"


def count(runs: Sequence[pages.Run]) -> str:
    return f"{len(runs)} of ρ\n"


def test_a_history_grows_and_its_page_with_it(tmp_path: Path) -> None:
    kept, page = tmp_path / "figures" / "runs.json", tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    for n in (1, 2):
        found = pages.publish_runs(kept, page, "runs", lambda runs, n=n: [*runs, {"run": n, "of": "ρ"}], count)
        assert [run["run"] for run in found] == list(range(1, n + 1))
        assert json.loads(kept.read_text("utf-8")) == {"runs": found}
        assert page.read_text("utf-8") == PAGE.replace("begins -->\n", f"begins -->\n\n{n} of ρ\n\n")
    assert "ρ" in kept.read_text("utf-8")  # as a person reads it


def test_what_the_page_cannot_take_is_not_kept(tmp_path: Path) -> None:
    kept, page = tmp_path / "runs.json", tmp_path / "page.md"
    kept.write_text('{"runs": []}', "utf-8")
    page.write_text("no marks\n", "utf-8")
    with pytest.raises(ValueError, match="write them where the tables belong"):
        pages.publish_runs(kept, page, "runs", lambda runs: [*runs, {}], count)
    with pytest.raises(FileNotFoundError):
        pages.publish_runs(kept, tmp_path / "none.md", "runs", lambda runs: [*runs, {}], count)
    assert kept.read_text("utf-8") == '{"runs": []}' and page.read_text("utf-8") == "no marks\n"


def test_what_cannot_be_kept_is_not_shown(tmp_path: Path) -> None:
    kept, page = tmp_path / "runs.json", tmp_path / "page.md"
    kept.mkdir()  # a folder stands where the file belongs
    page.write_text(PAGE, "utf-8")
    with pytest.raises(DiffExError, match="runs.json"):
        pages.publish(kept, {"runs": []}, page, "runs", "something")
    assert page.read_text("utf-8") == PAGE


@pytest.mark.parametrize("tables", [exam_tables, settings_tables])
def test_publishing_nothing_new_leaves_the_committed_figures_as_they_are(tables: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    files = ["validity.md", "figures/exam.json", "figures/settings.json"]
    for name in files:
        (tmp_path / name).write_bytes((exam_tables.DOCS / name).read_bytes())
    assert tables.main(["--docs", str(tmp_path)]) == 0
    assert all((tmp_path / name).read_bytes() == (exam_tables.DOCS / name).read_bytes() for name in files)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({}, ""),
        ({"claims": 0}, "; nothing is claimed, so that no claim is false"),
        ({"claims": 8}, "; claims in all: 8"),
    ],
)
def test_no_false_claims_is_not_said_of_nothing(run: dict[str, int], said: str) -> None:
    assert pages.of_claims(run) == said


def test_claims_are_counted_over_all_classifiers() -> None:
    decisions = ["raises", "inconclusive", "lowers", "mixed", "edit failed"]
    points = {"a": [{"decision": each} for each in decisions], "b": [], "c": [{"decision": "raises"}]}
    wrong = {"a": {"x": "another size", "y": "no effect"}, "b": {}, "c": {"x": "another size"}}
    rows = {name: {"false_discoveries": of_one} for name, of_one in wrong.items()}
    found = pages.claims_of({"points": points, "classifiers": rows})
    assert found["claims"] == 3
    assert found["false"] == {"another size": 2, "no effect": 1}
