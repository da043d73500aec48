"""Processes that edit into one store and are killed: `python -m tests.support.crashing FOLDER WHAT` says what happened.

Everything is imported once, and each run is a fork of this process: many runs cost little.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.stages import edits
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import make_edits
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.store import duck
from diffex_dagster.study import load_study
from diffex_dagster.utils.progress import Reporter, silent
from tests.support.toys import edits_made, write_study

BATCH = 2
PAINT = {"kind": "python", "factory": "tests.support.toys:PaintEditor"}
WORDS = ("red patch", "blue patch", "bright")


def die(*_: Any, **__: Any) -> NoReturn:
    """As `kill -9`: nothing is closed, rolled back or written any more."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


class _Dying:
    """In place of the schema's version: dies when it is written, in the middle of making tables."""

    def __iter__(self) -> Iterator[Any]:
        die()


def _dies_at_table(table: str, after: str = "") -> None:
    real, seen = duck.DuckConnection.insert, {""}

    def insert(connection: Any, into: str, *others: Any, **options: Any) -> None:
        if into == table and after in seen:
            die()
        seen.add(into)
        real(connection, into, *others, **options)

    duck.DuckConnection.insert = insert  # type: ignore[method-assign]


SPOTS: dict[str, Callable[[], None]] = {
    "while a picture is written": lambda: setattr(os, "fsync", die),
    "before a picture has its name": lambda: setattr(Path, "replace", die),
    "between a picture and its row": lambda: _dies_at_table("edits"),
    "before the commit": lambda: _dies_at_table("stamps", after="edits"),
    "after a commit": lambda: None,  # the report of a finished batch
    "while tables are made": lambda: setattr(duck, "SCHEMA", _Dying()),
}


def requests(keys: list[str]) -> list[EditRequest]:
    """Every sample image under every word, and its null edit."""
    combinations = [(), *((Concept(word),) for word in WORDS)]
    return [EditRequest(key, concepts) for concepts in combinations for key in keys]


def make(folder: Path, report: Reporter = silent) -> None:
    """What the stages of one run do: prepare the images, make the edits that are missing."""
    study = load_study(folder)
    work = StudyContext(study, report=report)
    keys = list(sample_images(work).keys)
    make_edits(work, requests(keys))


def forked(work: Callable[[], None]) -> int:
    """Start some work in a process of its own; returns its id."""
    if pid := os.fork():
        return pid
    status = 0
    try:
        work()
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        status = 1
    sys.stdout.flush()
    os._exit(status)


def ended(pid: int) -> int:
    """Exit status of a process; the number of the signal that killed it, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_every_spot(folder: Path) -> dict[str, int]:
    """One run into a folder of its own for each spot, which dies there."""

    def run(spot: str) -> None:
        SPOTS[spot]()
        died = (lambda stage, done, total, reused: die() if done else None) if spot == "after a commit" else silent
        make(folder / spot, died)

    return {spot: ended(forked(lambda spot=spot: run(spot))) for spot in SPOTS}  # type: ignore[misc]


def together(folder: Path, runs: int, kills: int) -> dict[str, int]:
    """Several runs on one store at once, of which one is killed and started again, `kills` times."""
    edits.AT_ONCE = 4  # so that they take turns
    alive = [forked(lambda: make(folder)) for _ in range(runs)]
    for number in range(kills):
        seen = len(edits_made(folder))
        while len(edits_made(folder)) < seen + 3:
            time.sleep(0.005)
        victim = alive[number % runs]
        os.kill(victim, signal.SIGKILL)
        ended(victim)
        alive[number % runs] = forked(lambda: make(folder))
    return {str(i): ended(pid) for i, pid in enumerate(alive)}


def commands(folder: Path, runs: int) -> dict[str, int]:
    """`diffex run` several times at once, each with a Dagster instance of its own."""
    from diffex_dagster.cli import main as cli

    def run(number: int) -> None:
        os.environ["DAGSTER_HOME"] = str(folder / f"home{number}")
        sys.argv = ["diffex", "run", str(folder / "study.yaml"), "--classifier", "v1"]
        cli.main()

    return {str(i): ended(pid) for i, pid in enumerate([forked(lambda i=i: run(i)) for i in range(runs)])}  # type: ignore[misc]


def main() -> None:
    """See the module."""
    folder, what = Path(sys.argv[1]), sys.argv[2]
    if what == "spots":
        for spot in SPOTS:
            write_study(folder / spot, 4, editors={"paint": {**PAINT, "options": {"batch": 4}}})
        print(json.dumps(at_every_spot(folder)))
        return
    write_study(folder, 8, editors={"paint": {**PAINT, "options": {"pause": 0.03, "batch": BATCH}}})
    results = {
        "killed": lambda: together(folder, 3, 5),
        "commands": lambda: commands(folder, 2),
    }
    print(json.dumps(results[what]()))


if __name__ == "__main__":
    main()
