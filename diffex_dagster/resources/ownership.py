"""Runs that died: give back the places in Dagster's pools that a killed process still holds.

Dagster frees a pool's place when its run ends. A process that is killed (`kill -9`, a full memory, a closed lid) never
ends its run, and the next one would wait for ever. Every run therefore holds a file lock, which the operating system
lets go of whatever way the process dies; whoever starts next and gets the lock of an earlier run knows that it is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

DIED = "The process of this run has died. What it had finished is kept; materialize again to go on from there."


@contextmanager
def owned(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Hold the lock of a run while its process works on it, after ending the runs whose process has died."""
    folder = Path(instance.root_directory) / "runs_alive"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{run_id}.lock")
    try:
        with FileLock(folder / "one_at_a_time"):  # nobody mistakes a lock that is just being taken for a dead run's
            end_dead_runs(instance, folder, but=run_id)
            lock.acquire(blocking=False)
    except Timeout:  # another step of the same run, in a process of its own, holds it
        yield
        return
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def end_dead_runs(instance: dg.DagsterInstance, folder: Path, but: str) -> list[str]:
    """Mark the runs whose lock is free as failed and give back their places; returns their ids.

    Runs without a lock file (other code locations, finished ones) are left alone.
    """
    ended = []
    for file in sorted(folder.glob("*.lock")):
        run_id, lock = file.stem, FileLock(file)
        if run_id == but:
            continue
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_run_failed(run, DIED)
            ended.append(run_id)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        file.unlink(missing_ok=True)
        lock.release()
    return ended
