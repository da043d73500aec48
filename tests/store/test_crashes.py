"""Runs that are killed, and several runs on one store: nothing is lost, and next to nothing is made twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.stages.setup import build_editor, build_store
from diffex_dagster.store import Store
from diffex_dagster.study import load_study
from tests.support.crashing import BATCH, SPOTS, make, requests
from tests.support.toys import edits_made

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.duckdb_file


def happened(folder: Path, what: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.crashing", str(folder), what]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def complete(folder: Path) -> Store:
    """The store of a study that has all its edits, each with a sound picture."""
    study = load_study(folder)
    store = build_store(study)
    asked = requests(list(store.samples(study.name)))
    assert store.stored_edits(asked, build_editor(study).fingerprint).keys() == set(asked)
    assert store.bad_pictures() == ([], [])
    return store


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_is_gone_on_with(tmp_path: Path) -> None:
    killed = happened(tmp_path, "spots")
    assert killed == dict.fromkeys(SPOTS, -9)
    for spot in SPOTS:
        folder = tmp_path / spot
        before = len(edits_made(folder))
        make(folder)
        store = complete(folder)
        repeated = len(edits_made(folder)) - len(set(edits_made(folder)))
        lost = {"between a picture and its row": 4, "before the commit": 4}.get(spot, 0)  # the batch in flight
        assert repeated == lost <= before, spot
        store.prune()
        assert [path.name for path in store.folder.rglob(".*.png.*")] == []  # half a picture


@pytest.mark.slow
def test_runs_that_are_killed_while_others_work_lose_their_batch_alone(tmp_path: Path) -> None:
    assert happened(tmp_path, "killed") == {"0": 0, "1": 0, "2": 0}
    complete(tmp_path)
    assert len(edits_made(tmp_path)) - len(set(edits_made(tmp_path))) <= 5 * BATCH


@pytest.mark.slow
def test_two_commands_with_dagster_homes_of_their_own_make_no_edit_twice(tmp_path: Path) -> None:
    assert happened(tmp_path, "commands") == {"0": 0, "1": 0}
    assert len(edits_made(tmp_path)) == len(set(edits_made(tmp_path))) > 0
    assert len(list(tmp_path.glob("home*/history"))) == 2
