"""What nearly every test does and few are about, made cheap: opening databases, and drawing the same figure again.

A new DuckDB instance costs 20 ms of CPU, and a run of the toy study would make a hundred; here the process has one, to
which each file is attached while a store has it open. Dagster makes a new engine for each question to its SQLite files,
which compiles every statement anew; here engines are kept (they hold no connection), and nothing waits for the disk.
Each file that it makes, one a run, is stamped with the last of its schema's revisions, for which it imports them all;
here they are read once.
Tests about the DuckDB file itself (`duckdb_file`) and every process that a test starts have what a user has.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory

from diffex_dagster.report.figures import ranked_bars
from diffex_dagster.store import opening

connected = opening.connected  # as users have it
_read_revisions = ScriptDirectory.from_config
_SQLITE = [f"{kind}.sqlite.sqlite_{name}" for kind, name in (
    ("event_log", "event_log"), ("runs", "run_storage"), ("schedules", "schedule_storage"))]  # fmt: skip


class _Instance:
    """One DuckDB instance, and the files that are attached to it: path -> (name, read-only, how many have it open)."""

    def __init__(self) -> None:
        self.root = duckdb.connect(":memory:", config={"threads": 1})
        self.files: dict[str, tuple[str, bool, int]] = {}
        self.lock, self.numbers = threading.Lock(), itertools.count()

    def open(self, path: Path, read_only: bool) -> Any:
        """As `opening.connected`."""
        with self.lock:
            name, mode, users = self.files.get(str(path), (f"file_{next(self.numbers)}", read_only, 0))
            if mode != read_only:
                raise duckdb.ConnectionException("it is open with a different configuration")
            if not users:
                file = str(path).replace("'", "''")
                try:
                    self.root.execute(f"ATTACH '{file}' AS {name}{' (READ_ONLY)' * read_only}")
                except duckdb.Error as error:
                    if "Unique file handle conflict" in str(error):  # a test has it open itself
                        return connected(path, read_only)
                    raise
            self.files[str(path)] = (name, mode, users + 1)
        cursor = self.root.cursor()
        cursor.execute(f"USE {name}")
        return _Attached(self, str(path), cursor)

    def leave(self, path: str) -> None:
        """One fewer has a file open; the last one closes it."""
        with self.lock:
            name, mode, users = self.files[path]
            if users > 1:
                self.files[path] = (name, mode, users - 1)
                return
            del self.files[path]
            self.root.execute(f"DETACH {name}")


class _Attached:
    """A connection to an attached file, as far as the store asks for one."""

    def __init__(self, instance: _Instance, path: str, cursor: duckdb.DuckDBPyConnection) -> None:
        self.instance, self.path, self.execute, self._close = instance, path, cursor.execute, cursor.close

    def close(self) -> None:
        """Roll back what was not committed, and let go of the file."""
        if self.path:
            path, self.path = self.path, ""
            self._close()
            self.instance.leave(path)


@functools.cache
def _instance() -> _Instance:
    return _Instance()


_engines: dict[str, sqlalchemy.Engine] = {}


def _engine(*arguments: Any, **options: Any) -> sqlalchemy.Engine:
    """As `sqlalchemy.create_engine`; the same one for the same arguments."""
    key = repr((arguments, options))
    if key not in _engines:
        if len(_engines) >= 50:
            _engines.clear()
        _engines[key] = sqlalchemy.create_engine(*arguments, **options)
        sqlalchemy.event.listen(_engines[key], "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
    return _engines[key]


_scripts: dict[str, ScriptDirectory] = {}


def _revisions(config: Config) -> ScriptDirectory:
    """As `ScriptDirectory.from_config`; the same one for the same folder."""
    place = repr((config.config_file_name, config.get_main_option("script_location")))
    if place not in _scripts:
        _scripts[place] = _read_revisions(config)
    return _scripts[place]


def figures(patch: pytest.MonkeyPatch) -> None:
    """Draw the figure of a report once for all reports that say the same."""
    drawn: dict[str, dict[str, bytes]] = {}

    def once(*arguments: Any, **options: Any) -> dict[str, bytes]:
        key = repr((arguments, options))
        if key not in drawn:
            drawn[key] = ranked_bars(*arguments, **options)
        return drawn[key]

    patch.setattr("diffex_dagster.report.files.ranked_bars", once)


def databases(patch: pytest.MonkeyPatch) -> None:
    """Open databases cheaply."""
    patch.setattr(opening, "connected", lambda path, read_only: _instance().open(path, read_only))
    patch.setattr(os, "fsync", lambda file: None)
    patch.setattr(ScriptDirectory, "from_config", _revisions)
    for module in _SQLITE:
        patch.setattr(importlib.import_module(f"dagster._core.storage.{module}"), "create_engine", _engine)


def close() -> None:
    """Let go of the one instance."""
    if _instance.cache_info().currsize:
        _instance().root.close()
        _instance.cache_clear()
