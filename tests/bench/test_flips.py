"""Counting how right the smallest sets are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from diffex_dagster.bench.flips import SEED, _Redrawn, as_json, as_markdown, mark_flips, measure_flips
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.context import at_work
from diffex_dagster.study import Study, load_study
from diffex_dagster.worlds import redrawing
from diffex_dagster.worlds.redrawing import sample_states
from tests.support.toys import WarmClassifier, picture, write_study


def test_what_is_counted() -> None:
    true = {"a": {"x", "y"}, "b": {"x"}, "c": {"x"}, "d": set(), "e": set()}
    found: dict[str, Sequence[tuple[str, ...]]] = {
        "a": [("y",)],  # right
        "b": [("z",), ("x",)],  # as small, and the first of it does not flip the picture
        "c": [("x", "y")],  # larger than need be
        "d": [("x",)],  # claimed of a picture that nothing flips alone
        "e": [],
    }
    marks = mark_flips("exact", "v1", true, found)
    assert (marks.pictures, marks.flippable, marks.as_small, marks.truly) == (5, 3, 2, 1)
    assert (marks.other, marks.claimed) == (2, 1)
    assert as_json([marks])[0]["share"] == 2 / 3
    assert "| exact | `v1` | 5 | 3 | 2 (67%) | 1 (50%) | 2 | 1 (50%) |" in as_markdown([marks])


def test_what_is_true_is_asked_of_the_classifier(toy: Study) -> None:
    grey, red = Image.new("RGB", (16, 16), (90, 90, 90)), Image.new("RGB", (16, 16), (200, 40, 90))
    drawn = _Redrawn(grey, (("red", red), ("same", grey)))
    assert drawn.flips(WarmClassifier(toy.folder, {}), toy) == {"red"}
    assert _Redrawn(grey, ()).flips(WarmClassifier(toy.folder, {}), toy) == set()


def test_its_pictures_are_its_own() -> None:
    assert SEED not in {1, 2, 3, redrawing.SEED, 601, 602}
    assert sample_states(3, SEED) != sample_states(3, redrawing.SEED)


def test_what_a_study_that_nobody_has_run_lacks_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Grey:
        def draw(self, state: int, size: int | None = None) -> Image.Image:
            return picture(state)

        def meaning(self, phrase: str) -> None:
            """Nothing here has any."""

    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}
    study = load_study(write_study(tmp_path, editors={"knob": knob}, calibrate=True))
    monkeypatch.setattr("diffex_dagster.bench.flips.world_of", lambda study: Grey())
    monkeypatch.setattr("diffex_dagster.bench.flips.sample_states", lambda pictures, seed, world: [90, 104][:pictures])
    monkeypatch.setattr("diffex_dagster.bench.flips._editor", lambda of, world, named: at_work(of).bare_editor)
    (v1, v2) = measure_flips(study, {"knob": "knob"}, 2)
    assert (v1.pictures, v1.flippable, v1.other) == (2, 0, 2) == (v2.pictures, v2.flippable, v2.other)


def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from diffex_dagster.cli.bench import bench

    (tmp_path / "file").touch()
    for name in ("file/figures.json", "."):
        found = CliRunner().invoke(bench, ["flips", "no-such-study", "--json", str(tmp_path / name)])
        assert isinstance(found.exception, DiffExError) and "this file cannot be written" in str(found.exception)
