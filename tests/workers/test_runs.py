"""Whole runs with workers: what is started, what is kept when a run is ended, and that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffex_dagster.errors import EditorError, StoreError
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.setup import build_editor, build_store
from diffex_dagster.study import Study, load_study
from tests.support.crew import crew_study, pids
from tests.support.project import ROOT, Run
from tests.support.toys import edits_made, write_study


def test_a_run_with_nothing_new_starts_no_ray_and_needs_no_cluster(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(write_study(tmp_path / "toy"))
    assert diffex("run", study.file, "--classifier", "v1")[0] == 0
    made = edits_made(study.folder)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("DIFFEX_WORKERS", "8")  # undone after the test, whatever the option sets
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it would fail
    status, said, _ = diffex("run", study.file, "--classifier", "v1", "--workers", "8")
    assert status == 0 and "0 edits made" in said
    assert edits_made(study.folder) == made


def test_workers_enter_no_version_and_are_as_many_as_is_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = crew_study(tmp_path / "crew", {"count": 3, "ahead": 4})
    assert study.crew is not None and (study.crew.count, study.crew.ahead) == (3, 4)
    monkeypatch.setenv("DIFFEX_WORKERS", "5")
    placed = load_study(study.file).crew
    assert placed is not None and (placed.count, placed.ahead) == (5, 4)
    monkeypatch.setenv("DIFFEX_WORKERS", "0")
    assert load_study(study.file).crew is None
    fingerprint = StudyContext(study).editor.fingerprint
    assert fingerprint == StudyContext(load_study(study.file)).editor.fingerprint == "batched"


def test_a_device_that_is_found_out_is_refused_with_workers(tmp_path: Path) -> None:
    editors = {"sd": {"kind": "ledits", "checkpoint": str(ROOT / "studies/avatars/editor"), "device": "auto"}}
    study = load_study(write_study(tmp_path / "toy", editors=editors, workers=2))
    with pytest.raises(EditorError, match=r"editors\.sd: with workers, write device: cuda"):
        build_editor(study)
    build_editor(study.deployed(editor={"device": "cpu"}))  # starts nothing


def started(study: Study) -> subprocess.Popen[bytes]:
    """`diffex run` in a process of its own, once it has kept edits and works on others."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "diffex_dagster", "run", str(study.file), "--classifier", "v1", "--workers", "2"]
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    end = time.monotonic() + 240
    while not edits_kept(study):
        if run.poll() is not None or time.monotonic() > end:
            run.kill()
            pytest.fail(f"no edit is kept: {run.communicate()[1][-2000:].decode()}")
        time.sleep(0.2)
    return run


def edits_kept(study: Study) -> int:
    """How many edits the database has; 0 while the run has it to itself."""
    with contextlib.suppress(StoreError):
        store = build_store(study).to_read(lock_timeout=0.0)
        return store.count("edits") if store.exists() else 0
    return 0


def left(study: Study) -> list[int]:
    """The workers that are still there."""
    return [pid for pid in set(pids(study)) if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_process_and_keeps_its_edits(tmp_path: Path, how: signal.Signals) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    study = crew_study(tmp_path / "crew", pause=1.0)
    run = started(study)
    run.send_signal(how)
    run.communicate(timeout=60)
    assert run.returncode != 0
    end = time.monotonic() + 60
    while (still := left(study)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not still
    store = build_store(study)
    assert 4 <= store.count("edits") <= len(pids(study))
    assert store.bad_pictures() == ([], [])
