"""What every results database can do, whatever program it is.

All SQL of the store goes through a `Connection`, which knows the few statements that databases write differently
(`store.connection`). Which program holds the tables, and how it is opened, is a `Database` of its own: `store.duck` for
a DuckDB file.

Opening may take 20 ms or more, and may shut other processes out: a connection is opened for each question and closed
again. A stage that asks many small questions holds one connection meanwhile (`hold`), which is closed as soon as nobody
has asked for `idle` seconds: a model that takes longer for a batch works without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from diffex_dagster.store.claims import Take
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.holding import IDLE, LONGEST, Held


class Database(ABC):
    """Where the tables of a results folder are.

    Args:
        place: what messages call it.
        reading: opened for reading only.
    """

    kind = ""
    """What Dagster calls this kind of storage."""
    idle, longest = IDLE, LONGEST
    take: Take | None = None
    """Holds a name for one run among all that share the database; None: the results folder's file locks do."""

    def __init__(self, place: str, reading: bool = False) -> None:
        self.place = place
        self.reading = reading
        self.held = Held(self.idle, self.longest)

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a database yet; it is made when something is first written."""

    @abstractmethod
    def open(self) -> Connection:
        """A new connection.

        Raises:
            StoreError: it cannot be opened; says why and what to do.
        """

    @abstractmethod
    def to_read(self, lock_timeout: float | None = None) -> Self:
        """The same database, opened for reading only; `lock_timeout` is how long to wait for others, in seconds."""

    @abstractmethod
    def plain(self, error: BaseException) -> BaseException:
        """An error of the database's program as a StoreError with a remedy; any other error as it is."""

    @abstractmethod
    def columns(self, table: str) -> dict[str, str]:
        """Name -> type of a table's columns, in their order."""

    @abstractmethod
    def full_name(self, table: str) -> str:
        """What a table is called by somebody who looks at several databases."""

    @abstractmethod
    def write(self, work: Callable[[Connection], object]) -> None:
        """Do some work in one transaction; where it is opened for reading only, as far as that is possible."""

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep a connection open between small reads and writes, each still a transaction of its own.

        Other processes may have to wait meanwhile, so that it is closed whenever it has not been used for a moment
        (`store.holding`) and opened again at the next question. May be nested.
        """
        self.held.holds += 1
        try:
            yield
        finally:
            self.held.holds -= 1
            if not self.held.holds:
                self.close()

    @contextmanager
    def asking(self) -> Iterator[Connection]:
        """A connection for one statement, which is a transaction by itself."""
        kept = self.held.kept
        with kept.using(self.open) as connection:
            try:
                yield connection
            except BaseException as error:
                kept.close()  # without a commit, closing rolls back
                plain = self.plain(error)
                if plain is error:
                    raise
                raise plain from error
        if self.held.holds:
            kept.close_when_idle()
        else:
            kept.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection whose work is kept as a whole, or not at all where something raises."""
        with self.asking() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close this thread's connection, where it has one."""
        self.held.kept.close()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, one statement; raises StoreError when the database cannot be opened."""
        with self.asking() as connection:
            return connection.execute(sql, parameters)
