"""What being in charge of many workers costs, and what that comes to. No time is judged, and no worker is started."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffex_dagster.bench.workers import (
    Assumed,
    GreyClassifier,
    SleepingEditor,
    as_markdown,
    growth,
    least_and_most,
    main,
    study_of,
)
from diffex_dagster.editing.protocol import Concept, EditRequest
from tests.support.project import ROOT
from tests.support.toys import picture

ASSUMED = {
    "edits": 1600, "edit_s": 1.0, "judge_s": 0.2, "score_s": 0.05, "rounds": 2, "start_s": 10.0, "reported": 0.5,
}  # fmt: skip
FIGURES: dict[str, Any] = {
    "machine": {"cores": 2, "python": "3.11", "ray": "2.60.0", "load": 1.0},
    "asked": {"workers": 16, "seconds": 2.5, "edits": 1024, "side": 512},
    "edits_per_second": 80.0, "ideal_edits_per_second": 102.4, "share_of_ideal": 80 / 102.4,
    "driver_ms": {"edit": 0.5, "score": 0.2, "change": 0.4}, "alone_ms": {"edit": 60.0, "score": 10.0, "change": 80.0},
    "assumed": ASSUMED,
}  # fmt: skip


def test_growth_is_what_rounds_and_the_process_in_charge_allow() -> None:
    each = 1.0 + 0.2 + 0.05 + 0.060 + 0.010 + 0.5 * 0.080
    one, many = growth(FIGURES, 1), growth(FIGURES, 64)
    assert one.all == pytest.approx(10 + 2 * 50 * 16 * each)  # two rounds of 50 batches
    assert many.all == pytest.approx(10 + 2 * 1 * 16 * each)  # no round is shorter than one batch
    assert many.busy == pytest.approx(1600 * (0.5 + 0.2 + 0.5 * 0.4) / 1000 / many.all)
    assert many.gain(one.all) == one.all / many.all
    # Only editing: judging, scoring and measuring are left to one process.
    rest = 1600 * (0.2 + 0.05 + 0.010 + 0.5 * 0.080)
    assert many.editing == pytest.approx(10 + max(2 * 16 * 1.0, 1600 * 0.060) + rest)
    slow = {**FIGURES, "driver_ms": {"edit": 100.0, "score": 0.0, "change": 0.0}}
    assert growth(slow, 512).all == pytest.approx(10 + 160)  # the process in charge is the end of it


def test_aims_are_met_or_missed_as_the_figures_say() -> None:
    text = as_markdown(FIGURES)
    assert "a share of 0.78 (at least 0.7: met)" in text and "| taking an edit in | 0.50 | 60 | met |" in text
    slow = {**FIGURES, "share_of_ideal": 0.3, "driver_ms": {**FIGURES["driver_ms"], "edit": 1.2}}
    assert "(at least 0.7: missed)" in as_markdown(slow) and "| 1.20 | 60 | missed |" in as_markdown(slow)


def test_a_worker_that_made_nothing_is_the_least() -> None:
    assert least_and_most({"a 1": 64, "a 2": 80}, 2) == [64, 80]
    assert least_and_most({"a 1": 64, "a 2": 80}, 3) == [0, 80] and least_and_most({}, 3) == [0, 0]


def test_the_assumed_edit_is_the_one_that_was_measured_on_a_gpu() -> None:
    measured = json.loads((ROOT / "docs/figures/gpu.json").read_text("utf-8"))["speed sd15"]["ms_per_edit"]["engine"]
    assert math.isclose(Assumed().edit_s, measured / 1000, abs_tol=0.0005)


def test_the_page_shows_the_figures_that_are_committed(tmp_path: Path) -> None:
    page = ROOT / "docs/howto/workers.md"
    copy = tmp_path / "workers.md"
    copy.write_bytes(page.read_bytes())
    main([str(ROOT / "docs/figures/workers.json"), str(copy)])
    assert copy.read_text("utf-8") == page.read_text("utf-8"), "write it again: python -m diffex_dagster.bench.workers"


def test_a_sleeping_editor_gives_each_edit_a_picture_of_its_own(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"kind": "ledits", "checkpoint": "none"}, 64, {"count": 3})
    assert study.crew is not None and study.crew.count == 3 and study.results_folder.is_relative_to(tmp_path)
    editor = SleepingEditor(tmp_path, {"seconds": 0.0, "side": 24})
    requests = [EditRequest("one", (Concept(f"word {i}"),)) for i in range(20)]
    batches = list(editor.edit({"one": picture(90)}, requests))
    assert [len(batch) for batch in batches] == [16, 4]
    pictures = [made for batch in batches for _, made in batch]
    assert len({made.tobytes() for made in pictures}) == 20 and {made.size for made in pictures} == {(24, 24)}
    outputs = GreyClassifier(tmp_path, {})(pictures)
    assert outputs.shape == (20, 2) and np.allclose(outputs.sum(axis=1), 0)
