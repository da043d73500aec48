"""One connection kept through many small reads and writes, and closed when nobody has asked for a moment.

Opening a DuckDB database takes 20 ms of CPU, and a stage asks a hundred times; but while it is open, no other process
can write. A connection is therefore kept inside `Database.hold` only, and closed there as soon as it has not been used
for `IDLE`, or has been open for `LONGEST`: a process that waits for the database finds it closed between two questions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diffex_dagster.store.connection import Connection

IDLE, LONGEST = 0.1, 0.5  # seconds


class Kept:
    """At most one open connection. One thread asks; another may close what is not in use.

    Args:
        idle, longest: seconds without a question, and since it was opened, after which `close_when_idle` closes it.
    """

    def __init__(self, idle: float = IDLE, longest: float = LONGEST) -> None:
        self._idle, self._longest = idle, longest
        self._lock = threading.RLock()  # held while the connection is in use
        self._connection: Connection | None = None
        self._opened = self._used = 0.0
        self._watch: threading.Timer | None = None

    @contextmanager
    def using(self, opened: Callable[[], Connection]) -> Iterator[Connection]:
        """The open connection, or a new one; it stays open."""
        with self._lock:
            if self._connection is None:
                self._connection, self._opened = opened(), time.monotonic()
            yield self._connection
            self._used = time.monotonic()

    def close(self) -> None:
        """Close it, where it is open; what was not committed is rolled back."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def close_when_idle(self) -> None:
        """Close it once it has not been used for a moment; at once where it has been open for long."""
        with self._lock:
            if self._connection is None:
                return
            if time.monotonic() - self._opened > self._longest:
                self.close()
            elif self._watch is None:
                self._look_in(self._idle)

    def _look_in(self, seconds: float) -> None:
        watch = threading.Timer(seconds, self._look)
        watch.daemon = True
        try:
            watch.start()
        except RuntimeError:  # no more threads: nobody would close it
            self.close()
            return
        self._watch = watch

    def _look(self) -> None:
        with self._lock:
            self._watch = None
            rest = self._used + self._idle - time.monotonic()
            if self._connection is None:
                return
            if rest > 0:
                self._look_in(rest)
            else:
                self.close()


class Held(threading.local):
    """A thread's connection, and how many `Database.hold` it is in."""

    def __init__(self, idle: float = IDLE, longest: float = LONGEST) -> None:
        self.kept, self.holds = Kept(idle, longest), 0
