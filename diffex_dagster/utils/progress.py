"""How far a stage is. Dagster has no progress bar: assets log a line every few seconds; the command line and
`explain(...)` draw a real bar in a terminal or a notebook, and print lines everywhere else.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class Reporter(Protocol):
    """Told how far a stage is."""

    def __call__(self, stage: str, done: int, total: int, reused: int) -> None:
        """`done` of `total` items of work are finished; `reused` more were there already."""
        ...


def silent(stage: str, done: int, total: int, reused: int) -> None:
    """Tells nobody."""


class Pace:
    """How long the rest of a stage takes, by how fast its items have come since the first of them.

    What comes before the first item (a model loads, images are inverted) is no part of the pace.
    """

    def __init__(self) -> None:
        self.first = self.last = (0, 0.0)

    def left(self, done: int, total: int, now: float) -> str:
        """ ", about 12 s left" for a sentence; empty while nothing can be said."""
        if done < self.last[0] or not self.first[0]:  # a pass over new items, or the first of them
            self.first = (done, now)
        if done != self.last[0]:
            self.last = (done, now)
        items, seconds = self.last[0] - self.first[0], self.last[1] - self.first[1]
        return f", about {seconds / items * (total - done):.0f} s left" if items > 0 and done < total else ""


class LogReporter:
    """Logs done, total, the remaining time and what was reused: at a stage's beginning and end, and every `every`
    seconds between them.
    """

    def __init__(self, log: Callable[[str], None], every: float = 5.0) -> None:
        self.log, self.every = log, every
        self.paces: dict[str, Pace] = {}
        self.last = 0.0

    def __call__(self, stage: str, done: int, total: int, reused: int) -> None:
        now = time.monotonic()
        new = stage not in self.paces
        left = self.paces.setdefault(stage, Pace()).left(done, total, now)
        if not total or (not new and done < total and now - self.last < self.every):
            return
        self.last = now
        self.log(f"{stage}: {done} of {total} done{left}; {reused} reused")


@contextmanager
def lines(print_line: Callable[[str], None], every: float = 5.0, silence: float = 30.0) -> Iterator[Reporter]:
    """Progress for where no bar can be drawn (a log file, a pipe, CI): a line every few seconds, flushed by
    `print_line`, and one after `silence` seconds without any (a model is loading, a server is thinking).
    """
    begun = time.monotonic()
    spoken = [begun]
    doing = ["starting"]
    done = threading.Event()

    def say(sentence: str) -> None:
        spoken[0] = time.monotonic()
        print_line(sentence)

    def beat() -> None:
        while not done.wait(min(silence / 4, 5.0)):
            now = time.monotonic()
            if now - spoken[0] >= silence:
                say(f"{doing[0]}: still at it after {now - begun:.0f} s")

    log = LogReporter(say, every)

    def report(stage: str, done: int, total: int, reused: int) -> None:
        doing[0] = stage
        log(stage, done, total, reused)

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield report
    finally:
        done.set()
        thread.join(timeout=1.0)


@contextmanager
def shown(console: Any = None) -> Iterator[Reporter]:
    """A progress bar in a terminal or a notebook, and lines where there is neither.

    Args:
        console: the rich console to draw on; standard error's when None.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = console or Console(stderr=True)
    if console.is_jupyter:
        with in_notebook() as report:
            yield report
        return
    if not console.is_terminal or console.is_dumb_terminal:
        with lines(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)) as report:
            yield report
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[reused]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=not os.environ.get("CI")) as bar:
        tasks: dict[str, TaskID] = {}

        def draw(stage: str, done: int, total: int, reused: int) -> None:
            if not total:
                return
            if stage not in tasks or bar.tasks[tasks[stage]].finished:
                tasks[stage] = bar.add_task(stage, total=total, reused="")
            bar.update(tasks[stage], completed=done, total=total, reused=f"{reused} reused" if reused else "")

        yield draw


@contextmanager
def in_notebook(every: float = 0.2) -> Iterator[Reporter]:
    """A bar a stage in the output of a notebook's cell, in plain HTML, so that no front end needs an extension for it.

    Args:
        every: seconds between two drawings.
    """
    output = importlib.import_module("IPython.display")  # a notebook has it; nothing else needs it
    stages: dict[str, tuple[int, int, int, str]] = {}
    paces: dict[str, Pace] = {}
    drawn = [0.0]
    handle: Any = output.display(output.HTML(""), display_id=True)

    def report(stage: str, done: int, total: int, reused: int) -> None:
        if not total:
            return
        now = time.monotonic()
        stages[stage] = done, total, reused, paces.setdefault(stage, Pace()).left(done, total, now)
        if now - drawn[0] >= every or done == total:
            drawn[0] = now
            handle.update(output.HTML(_bars(stages)))

    try:
        yield report
    finally:
        handle.update(output.HTML(""))


def _bars(stages: Mapping[str, tuple[int, int, int, str]]) -> str:
    """The stages as bars, the last four of them."""
    import html  # with all its entities: only notebooks need it

    rows = []
    for stage, (done, total, reused, left) in list(stages.items())[-4:]:
        words = f"{done} of {total}{left}{f'; {reused} reused' if reused else ''}"
        rows.append(
            f'<tr><td style="text-align:left">{html.escape(stage)}</td>'
            f'<td><progress value="{done}" max="{total}" style="width:16em"></progress></td>'
            f'<td style="text-align:left">{words}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"
