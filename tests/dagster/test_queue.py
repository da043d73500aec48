"""Several runs and one place in the pool, on a real webserver and daemon: whatever happens, all of them end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffex_dagster.errors import StoreError
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import load_study
from tests.support.toys import edits_made, write_study
from tests.support.ui import ENDS, LAUNCH, ROOT, STATUS, DagsterDev, dagster_dev, until

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]

TERMINATE = """mutation($run: String!) { terminateRun(runId: $run) { __typename
  ... on TerminateRunFailure { message } } }"""
FAMILY = """query($run: String!) { runsOrError(filter: {tags: [{key: "dagster/root_run_id", value: $run}]}) {
  ... on Runs { results { status } } } }"""
STAGES = ["sample_images", "vlm_corpus", "corpus", "level1_edits"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three studies whose editor takes its time, and one whose edits two workers make."""
    paint = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"pause": 1.0, "batch": 2}}
    for name in ("one", "two", "three"):
        write_study(tmp_path / "studies" / name, 4, name=name, editors={"paint": paint})
    write_study(tmp_path / "studies" / "crew", 12, name="crew", editors={"paint": paint}, workers=2)
    (tmp_path / "home").mkdir()
    settings, often = re.subn(r"_seconds: 15\b", "_seconds: 3", (ROOT / ".dagster" / "dagster.yaml").read_text())
    assert often == 2  # how often the queue looks for runs that were killed, and how long it waits for their places
    (tmp_path / "home" / "dagster.yaml").write_text(settings)
    return tmp_path


@pytest.fixture
def ui(root: Path) -> Iterator[DagsterDev]:
    with dagster_dev(root, root / "home") as running:
        yield running


def submit(ui: DagsterDev, study: str) -> str:
    """Press "Materialize" and do not wait; returns the run's id."""
    selector = {
        "repositoryLocationName": ui.location, "repositoryName": ui.repository, "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": [study, stage]} for stage in STAGES], "assetCheckSelection": None,
    }  # fmt: skip
    launched = ui.graphql(LAUNCH, params={"selector": selector, "runConfigData": "{}", "mode": "default"})["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def status(ui: DagsterDev, run: str) -> str:
    return str(ui.graphql(STATUS, run=run)["runOrError"]["status"])


def worker(root: Path, run: str) -> int | None:
    """The process that works on a run: it holds the run's lock (others only try to take it)."""
    file = root / "home" / "runs_alive" / f"{run}.lock"
    if not file.exists():
        return None
    inode = f":{file.stat().st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()  # 1: FLOCK ADVISORY WRITE pid major:minor:inode 0 EOF
        if "FLOCK" in fields and "->" not in fields and any(each.endswith(inode) for each in fields):
            return int(fields[4])
    return None


def editing(root: Path, but: str | None = None) -> str | None:
    """The study that has begun to edit and has not finished."""
    others = [name for name in ("one", "two", "three") if name != but]
    found = [name for name in others if 0 < len(edits_made(root / "studies" / name)) < 20]
    return found[0] if found else None


def first_edits(ui: DagsterDev, root: Path) -> tuple[dict[str, str], str]:
    """Three runs in the queue, the first of which has begun to edit: runs by study, and the study that edits."""
    runs = {name: submit(ui, name) for name in ("one", "two", "three")}
    return runs, until(lambda: editing(root), "a run edits", 300)


def all_over(ui: DagsterDev, runs: dict[str, str]) -> dict[str, str] | None:
    """How the runs have ended, by study; None while one has not."""
    now = {name: status(ui, run) for name, run in runs.items()}
    return now if set(now.values()) <= ENDS else None


def test_a_killed_run_and_then_a_killed_machine_let_the_queue_go_on(root: Path) -> None:
    with dagster_dev(root, root / "home") as ui:
        runs, first = first_edits(ui, root)
        process = until(lambda: worker(root, runs[first]), "the run has a process", 60)
        os.kill(process, signal.SIGKILL)
        second = until(lambda: editing(root, but=first), "the next run edits", 300)
        until(lambda: worker(root, runs[second]), "the next run has a process", 60)
        os.killpg(ui.process.pid, signal.SIGKILL)  # webserver, daemon, code server and runs, all at once
        until(lambda: worker(root, runs[second]) is None or None, "nothing works any more", 60)
        made = {name: len(edits_made(root / "studies" / name)) for name in runs}
        assert 0 < made[second] < 20
    with dagster_dev(root, root / "home") as ui:  # started again
        # The third was in the queue, or had started and waited for its turn: then it died too.
        ended = until(lambda: all_over(ui, runs), "all three runs end", 400, every=2)
        assert ended[first] == ended[second] == "FAILURE", ended

        def succeeded(run: str) -> bool | None:
            family = ui.graphql(FAMILY, run=run)["runsOrError"]["results"]
            return "SUCCESS" in {status(ui, run), *(each["status"] for each in family)} or None

        for run in runs.values():  # nobody presses anything
            until(lambda run=run: succeeded(run), "a lost run is tried again, and ends", 600, every=2)
    for name in runs:
        edits = edits_made(root / "studies" / name)
        assert len(edits) - len(set(edits)) <= 2, "more than the batch that was lost was made again"


def begun(process: int) -> list[int]:
    """All processes that a process has started, and those that they have."""
    try:
        children = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []
    return [each for child in children for each in (child, *begun(child))]


def kept(root: Path, study: str) -> int:
    """How many edits a study's database has; 0 while a run has it to itself."""
    with contextlib.suppress(StoreError):
        store = build_store(load_study(root / "studies" / study)).to_read(lock_timeout=0.0)
        return store.count("edits") if store.exists() else 0
    return 0


def test_a_cancelled_run_ends_with_its_workers_keeps_their_edits_and_lets_the_queue_go_on(
    ui: DagsterDev, root: Path
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    run = submit(ui, "crew")
    there = until(lambda: kept(root, "crew") or None, "edits of workers are kept", 300, every=0.2)
    process = until(lambda: worker(root, run), "the run has a process", 60)
    ours = [process, *begun(process)]
    assert sum("ray::" in program(each) for each in ours) >= 2 and any("raylet" in program(each) for each in ours)
    waiting = submit(ui, "two")
    answer = ui.graphql(TERMINATE, run=run)["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess", answer
    ended = until(lambda: all_over(ui, {"crew": run, "two": waiting}), "both runs end", 400)
    assert ended == {"crew": "CANCELED", "two": "SUCCESS"}
    until(lambda: None if any(map(program, ours)) else True, "no process of the cancelled run is left", 60)
    store = build_store(load_study(root / "studies" / "crew"))
    made, whole = (len(edits_made(root / "studies" / study)) for study in ("crew", "two"))
    assert there <= store.count("edits") <= made < 3 * whole  # of three times as many images
    assert store.bad_pictures() == ([], [])


def program(process: int) -> str:
    """What a process is running; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
