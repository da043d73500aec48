"""This process's connection to Ray: which pools use it, which process started it, and which ends it.

No pool may keep what it has of one Ray into the next: every pool is closed before a Ray ends and before another starts.

A private Ray works with a token, also where nobody asks for one (`RAY_AUTH_MODE`); a cluster does where it was started
with one. Ray keeps a process's first mode for good. A cluster without a token cannot answer a process that has one, and
ends each of its workers at once. So a process keeps to its first mode.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diffex_dagster.errors import EditorError, first_line
from diffex_dagster.study.sections import Workers
from diffex_dagster.utils.secrets import logger
from diffex_dagster.workers import reaper
from diffex_dagster.workers.bench import Bench

if TYPE_CHECKING:
    from diffex_dagster.study import Study

log = logger(__name__)


class Closes(Protocol):
    """A pool: what it has of Ray's is let go of by `close`, which also takes it out of `OPEN`."""

    def close(self) -> None: ...


OPEN: weakref.WeakSet[Closes] = weakref.WeakSet()  # pools of this process that have workers, until they are collected
_USERS: set[object] = set()  # the same, until what they made is ended
_REAPERS: list[subprocess.Popen[bytes]] = []  # programs that end what is left where this process is killed
_STARTED: list[bool] = []  # whether they started Ray, or connected to it
_MODES: list[str] = []  # of the first Ray of this process: see `_mode`
TRIES = 3  # to start a Ray here
_TOO_LATE = "timed out during startup"  # Ray waits for its own processes, and no longer than 30 s
STORE_MB = 100  # of shared memory that a private Ray sets aside: pictures on their way to workers


def close_all() -> None:
    """Close every pool of this process, also those that are garbage and not collected yet.

    Whoever shuts Ray down does this before. A pool that is used again starts anew.
    """
    for pool in list(OPEN):
        pool.close()


def connected(
    pool: Closes, study: Study, options: Workers, gpus: float
) -> tuple[Callable[[], Any], Callable[[], object]]:
    """Connect a pool to Ray, or start one for this process; what was made for it ends with it.

    Args:
        pool: is closed where Ray has ended before it.
        study: what its workers work on.
        options: where.
        gpus: for each worker.

    Returns:
        What makes a worker, and what ends all that was made.

    Raises:
        EditorError: Ray is not installed, cannot be reached, or cannot be started here.
    """
    if importlib.util.find_spec("ray") is None:
        raise EditorError("workers need Ray, which is not installed: pip install 'diffex-dagster[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # what is lost is said in a sentence of ours
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if not ray.is_initialized():
        close_all()  # those of a Ray that has ended
        _connect(options)
        _STARTED.append(True)
    worker = ray.remote(Bench)
    user, where = object(), ray.get_runtime_context().get_node_id()
    _USERS.add(user)
    settings = {"num_cpus": 0, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
    there: list[Any] = []

    def make() -> Any:
        there.append(worker.options(**settings).remote(study, tuple(sys.path)))
        return there[-1]

    def end() -> None:
        _USERS.discard(user)
        same = ray.is_initialized() and ray.get_runtime_context().get_node_id() == where  # else theirs is gone
        for actor in there if same else ():
            with contextlib.suppress(Exception):  # it may be gone already
                ray.kill(actor)
        there.clear()
        if same and _STARTED and not _USERS:
            _STARTED.clear()
            ray.shutdown()
            while _REAPERS:
                _REAPERS.pop().communicate()  # its input ends, and with it the program

    weakref.finalize(pool, end)
    OPEN.add(pool)
    return make, end


def _watch_nodes() -> None:
    """Start a `workers.reaper` for each Ray node that is a child of this process; nothing where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return
    command = [sys.executable, "-I", "-S", reaper.__file__]
    for node in reaper.children(os.getpid(), "raylet"):
        _REAPERS.append(
            subprocess.Popen(  # noqa: S603 (a program of our own)
                [*command, str(node), "2"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )
        )  # fmt: skip


def _connect(options: Workers) -> None:
    import ray

    if threading.current_thread() is not threading.main_thread():
        raise EditorError("workers can be started by a process's main thread only: call it from there")
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    asked_for = os.environ.get("RAY_AUTH_MODE")
    mode = _mode(address, asked_for)
    if _MODES and mode not in (None, _MODES[0]):
        raise EditorError(
            f"this process has worked with a Ray {_MODES[0]} and cannot work with one {mode} now "
            f"({'of its own' if address == 'local' else address}): start another process for it, or set RAY_AUTH_MODE "
            "(token, disabled) before this one starts"
        )
    here: dict[str, Any] = {}
    if address == "local":
        here = {"include_dashboard": False, "object_store_memory": STORE_MB * 2**20}
    asked, interrupted = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        for left in reversed(range(TRIES if address == "local" else 1)):
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **here)
                break
            except Exception as error:
                _end_half_started(error)
                if not left or _TOO_LATE not in str(error):
                    raise
                log.warning("Ray takes long to start here (is the machine busy?); trying again")
                ray.shutdown()
    except Exception as error:  # whatever of Ray's, of gRPC's and of the system's goes wrong on the way
        where = "on this machine" if address == "local" else f"at {address}"
        raise EditorError(
            f"Ray cannot be used {where} ({first_line(error)}); see `ray status`, and RAY_AUTH_MODE=token where the "
            "cluster asks for one"
        ) from error
    finally:  # Ray sets handlers of its own, and Dagster cancels a run by a signal
        now = os.environ.get("RAY_AUTH_MODE")
        if asked_for is None:  # programs that this process starts are told what it was told
            os.environ.pop("RAY_AUTH_MODE", None)
        signal.signal(signal.SIGTERM, asked)
        signal.signal(signal.SIGINT, interrupted)
    if not _MODES:
        _MODES.append(mode or ("with a token" if now == "token" else "without a token"))
    if address == "local":
        _watch_nodes()


def _mode(address: str, asked_for: str | None) -> str | None:
    """Whether a Ray works with a token; None for "auto", where Ray itself looks for one in the home folder."""
    if asked_for is not None:
        return "with a token" if asked_for.lower() == "token" else "without a token"
    return {"local": "with a token", "auto": None}.get(address, "without a token")


def with_a_token() -> bool:
    """Whether this process works with a Ray that has a token, or that it takes to have one."""
    return _MODES[:1] == ["with a token"]


def _end_half_started(error: BaseException) -> None:
    """End the processes of a Ray that did not start in time.

    Ray itself forgets them: it keeps the node that holds them once that has started. They are found by the error.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        end = getattr(frame.f_locals.get("self"), "kill_all_processes", None)
        if end is not None:
            with contextlib.suppress(Exception):  # one that has ended by itself
                end(check_alive=False, allow_graceful=False, wait=True)
            return
