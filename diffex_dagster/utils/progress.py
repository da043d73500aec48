"""How far a stage is. Dagster has no progress bar: assets log a line every few seconds, the CLI draws a real bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Reporter(Protocol):
    """Told how far a stage is."""

    def __call__(self, stage: str, done: int, total: int, reused: int) -> None:
        """`done` of `total` items of work are finished; `reused` more were there already."""
        ...


def silent(stage: str, done: int, total: int, reused: int) -> None:
    """Tells nobody."""


class LogReporter:
    """Logs done, total, the remaining time and what was reused, at most every `every` seconds."""

    def __init__(self, log: Callable[[str], None], every: float = 5.0) -> None:
        self.log, self.every = log, every
        self.started: dict[str, float] = {}
        self.last = 0.0

    def __call__(self, stage: str, done: int, total: int, reused: int) -> None:
        now = time.monotonic()
        start = self.started.setdefault(stage, now)
        if not total or (done < total and now - self.last < self.every):
            return
        self.last = now
        left = f", about {(now - start) / done * (total - done):.0f} s left" if 0 < done < total else ""
        self.log(f"{stage}: {done} of {total} done{left}; {reused} reused")


_current: list[Reporter] = []


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """While inside, stages that run in this process report to `reporter` instead of their log."""
    _current.append(reporter)
    try:
        yield
    finally:
        _current.pop()


def reporter_or(default: Reporter) -> Reporter:
    """The reporter of the innermost `reporting_to`, else `default`."""
    return _current[-1] if _current else default
