"""Runs that died: give back the places in Dagster's pools that a killed process still holds.

Dagster frees a pool's place when its run ends. A process that is killed (`kill -9`, a full memory, a closed lid) never
ends its run, and the next one would wait for ever. Every run therefore holds a file lock, which the operating system
lets go of whatever way the process dies; the process that starts next and gets the lock of an earlier run knows that
it is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from diffex_dagster.utils.secrets import logger

_ONE_AT_A_TIME = "one_at_a_time"
DIED = (
    "The process of this run has died. What it had finished is kept; where lost runs are tried again (run_retries) it "
    "goes on from there by itself, else materialize again."
)


EVERY = 10.0  # seconds between two looks of a run at the others: it may be waiting for a place that a dead one holds

log = logger(__name__)


@contextmanager
def owned(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Hold the lock of a run while its process works on it; end the runs whose process has died, now and meanwhile."""
    folder = _folder(instance)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{run_id}.lock", thread_local=False)
    try:
        with FileLock(folder / _ONE_AT_A_TIME):  # nobody mistakes a lock that is just being taken for a dead run's
            lock.acquire(blocking=False)
    except Timeout:  # another step of the same run, in a process of its own, holds it
        yield
        return
    over = threading.Event()
    try:
        end_dead_runs(instance, but=run_id)
        looking = threading.Thread(target=_look, args=(instance, run_id, over), name="diffex-dead-runs", daemon=True)
        if not instance.is_ephemeral:
            looking.start()
        yield
    finally:
        over.set()
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _look(instance: dg.DagsterInstance, run_id: str, over: threading.Event) -> None:
    while not over.wait(EVERY):
        try:
            end_dead_runs(instance, but=run_id)
        except Exception as error:  # the instance's database is busy or away: the next look finds it
            log.debug("dead runs were not looked for: %s", error)


def end_dead_runs(instance: dg.DagsterInstance, but: str | None = None) -> list[str]:
    """Mark the runs whose lock is free as failed and give back their places; returns their ids.

    Runs without a lock file (other code locations, other machines, finished ones) are left alone.

    Args:
        but: a run that is left alone too.
    """
    folder = _folder(instance)
    if not any(file.stem != but for file in folder.glob("*.lock")):
        return []
    ended = []
    with FileLock(folder / _ONE_AT_A_TIME):
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


def _folder(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "runs_alive"
