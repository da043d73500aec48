"""The results database as one DuckDB file.

A read-write DuckDB connection shuts every other process out, so that opening waits while another process has the file
(`store.opening`).
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from diffex_dagster.errors import StoreError
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.database import Database
from diffex_dagster.store.opening import guarded, open_database, trouble
from diffex_dagster.store.reports import COLUMNS
from diffex_dagster.utils.columns import SQL_TYPES
from diffex_dagster.utils.hashing import digest

if TYPE_CHECKING:
    import pandas as pd  # half a second: not before a query

LOCK_TIMEOUT = 30.0  # seconds that a command which only reads waits while a run writes
WRITE_BESIDE = 1.0  # seconds that it waits to keep what it found out
_MAKING_TABLES = threading.Lock()

STORE_VERSION = 1
"""Raised when a database becomes one that this program's earlier versions must not write to."""


@functools.cache
def schema_text() -> str:
    """The statements that make all tables, as DuckDB writes them."""
    tables = files("diffex_dagster.store").joinpath("schema.sql").read_text("utf-8")
    added = [
        f'ALTER TABLE {table} ADD COLUMN IF NOT EXISTS "{name}" {SQL_TYPES[kind]};'
        for table, columns in COLUMNS.items()
        for name, kind in columns.items()
    ]
    return "\n".join([tables, "-- Databases from before one of these columns:", *added])


SCHEMA = (STORE_VERSION, digest(schema_text()))
"""What a database says of itself when it has all tables and columns: the version, and a hash of the schema."""


class DuckConnection(Connection):
    """A connection to a DuckDB database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.raw = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.raw.execute(sql, list(parameters)).fetchall()

    def frame(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        return self.raw.execute(sql, list(parameters)).df()

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]], replace: bool = False) -> None:
        if not rows:
            return
        columns = list(rows[0])
        names = ", ".join(f'"{column}"' for column in columns)
        verb = "INSERT OR REPLACE" if replace else "INSERT OR IGNORE"
        self.raw.execute(  # a list a column: one parameter a value takes 20 times as long
            f"{verb} INTO {table} ({names}) SELECT {', '.join(['unnest(?)'] * len(columns))}",
            [[row[column] for row in rows] for column in columns],
        )

    def close(self) -> None:
        with contextlib.suppress(duckdb.Error):  # what could not be written was said before
            self.raw.close()


class DuckDatabase(Database):
    """A DuckDB file.

    Args:
        path: the file; made, with its folder, on first use.
        reading: open it read-only, so that several may read at once, on a disk that cannot be written too. Where there
            is no file, it is an empty database.
        lock_timeout: seconds to keep trying while another process holds the file. Left out, one that writes waits as
            long as it takes, and one that reads LOCK_TIMEOUT.
    """

    kind = "duckdb"

    def __init__(self, path: Path, reading: bool = False, lock_timeout: float | None = None) -> None:
        super().__init__(str(path), reading)
        self.path = path
        self.lock_timeout = LOCK_TIMEOUT if reading and lock_timeout is None else lock_timeout

    def exists(self) -> bool:
        return self.path.exists()

    def to_read(self, lock_timeout: float | None = None) -> DuckDatabase:
        return DuckDatabase(self.path, True, lock_timeout)

    def plain(self, error: BaseException) -> BaseException:
        return guarded(self.path, error)

    def columns(self, table: str) -> dict[str, str]:
        return {name: kind.lower() for name, kind, *_ in self.rows(f"DESCRIBE {table}")}

    def full_name(self, table: str) -> str:
        return f"{self.path.stem}.main.{table}"

    def write(self, work: Callable[[Connection], object]) -> None:
        """Do some work in one transaction.

        A database that is opened for reading keeps what was found out where it can, and goes on where it cannot (a
        read-only disk, a run that is writing): what it writes only saves work later.
        """
        if not self.reading:
            with self.transaction() as connection:
                work(connection)
            return
        self.close()
        if self.path.exists():
            with contextlib.suppress(StoreError):
                DuckDatabase(self.path, lock_timeout=WRITE_BESIDE).write(work)

    def open(self) -> Connection:
        """A connection to a database that has all tables; for reading only where this is."""
        if self.reading:
            return self._open_to_read()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise trouble(self.path, error) from error
        connection = open_database(self.path, timeout=self.lock_timeout)
        try:
            self.make_tables(connection)
        except BaseException as error:
            connection.close()
            plain = guarded(self.path, error)
            if plain is error:
                raise
            raise plain from error
        return DuckConnection(connection)

    def _open_to_read(self) -> Connection:
        """Opened read-only; an empty database in memory where there is none."""
        if not self.path.exists():
            connection = duckdb.connect()
            self.make_tables(connection)
            return DuckConnection(connection)
        connection = open_database(self.path, read_only=True, timeout=self.lock_timeout)
        if self._schema_of(connection) == SCHEMA:
            return DuckConnection(connection)
        connection.close()  # from before the newest tables: they are added once
        DuckDatabase(self.path, lock_timeout=self.lock_timeout).rows("SELECT 1")
        return DuckConnection(open_database(self.path, read_only=True, timeout=self.lock_timeout))

    def make_tables(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Run the schema on a database that was made under another one, or is new."""
        with _MAKING_TABLES:
            if self._schema_of(connection) == SCHEMA:
                return
            connection.execute(f"BEGIN; {schema_text()}")  # all tables or none
            connection.execute("DELETE FROM store_version")
            connection.execute("INSERT INTO store_version VALUES (?, ?)", list(SCHEMA))
            connection.execute("COMMIT")

    def _schema_of(self, connection: duckdb.DuckDBPyConnection) -> tuple[int, str] | None:
        """What a database says; None for a new one, and one from before it said anything.

        Raises:
            StoreError: a newer version of this program wrote it.
        """
        try:
            found = connection.execute("SELECT version, schema FROM store_version").fetchone()
        except duckdb.CatalogException:
            return None
        if found and found[0] > STORE_VERSION:
            raise StoreError(
                f"{self.path}: the results were written by a newer diffex_dagster (version {found[0]} of the tables; "
                f"this one knows {STORE_VERSION}); install a newer one: nothing is wrong with the file"
            )
        return (int(found[0]), str(found[1])) if found else None
