"""Who makes edits, as it is said: what a worker differs in, what Dagster shows of workers, and no Ray without them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffex_dagster.assets.common import edit_metadata
from diffex_dagster.errors import EditorError
from diffex_dagster.stages.edits import EditCounts
from diffex_dagster.workers.bench import Hello
from diffex_dagster.workers.pool import differs
from tests.support.project import Run
from tests.support.toys import write_study


def test_a_refused_worker_is_told_by_what_it_differs_in() -> None:
    here = {"checkpoint": "ab12", "device": "cpu", "libraries": {"torch": "2.11.0"}}
    mine = SimpleNamespace(fingerprint="here", identity=here)
    differs(mine, Hello("far", 1, "here", {}), "editors.sd15")  # the same, whatever else it says
    there = Hello("far", 1, "there", here | {"device": "cuda", "libraries": {"torch": "2.10.0"}})
    with pytest.raises(EditorError) as refused:
        differs(mine, there, "editors.sd15")
    said = str(refused.value)
    assert "the worker on far would make other edits" in said and "give editors.sd15 the same" in said
    assert "device 'cpu' here, 'cuda' there" in said and "{'torch': '2.10.0'} there" in said and "ab12" not in said
    with pytest.raises(EditorError, match="its fingerprint is another"):  # of an editor that says no more of itself
        differs(SimpleNamespace(fingerprint="here"), Hello("far", 1, "there"), "editors.own")


def test_dagster_shows_who_made_a_stage_s_edits() -> None:
    crew = EditCounts(20, 2, 4.0, None, {"b 2": 12, "a 1": 8}, 1, ("NVIDIA H100",), 2)
    crew += EditCounts(10, 0, 1.0, None, {"a 1": 4, "c 3": 6}, 0, ("NVIDIA H200", "NVIDIA H100"), 1)
    shown = {
        "edits_made": 30, "edits_reused": 2, "edit_seconds": 5.0, "workers": 3,
        "edits_per_worker": {"a 1": 12, "b 2": 12, "c 3": 6}, "workers_lost": 1, "batches_remade": 3,
        "edits_per_second": 6.0, "gpus": "NVIDIA H100, NVIDIA H200",
    }  # fmt: skip
    assert edit_metadata(crew) == shown
    alone: dict[str, Any] = dict(edit_metadata(EditCounts(30, 2, 5.0)))
    assert alone == {"edits_made": 30, "edits_reused": 2, "edit_seconds": 5.0}


def test_without_workers_a_study_never_imports_ray(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it would fail
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    status, said, error = diffex("run", write_study(tmp_path / "toy", 2), "--classifier", "v1")
    assert status == 0 and " 0 edits made" not in said, error
