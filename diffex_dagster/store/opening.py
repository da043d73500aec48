"""Opening the results database: waiting for others who have it open, and what is wrong where it cannot be opened.

DuckDB lets one process write, or several read. A run that writes therefore waits as long as somebody reads, and says
for whom: hours of editing are not given up because a notebook looks at the results. What can be wrong with the file is
told apart, since the remedies differ: moving a database away that only needs a newer DuckDB would throw its edits away.
"""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import duckdb

from diffex_dagster.errors import StoreError, first_line, passing
from diffex_dagster.utils.secrets import logger

log = logger(__name__)

SAY_AFTER, SAY_EVERY = 3.0, 60.0  # seconds of waiting before the first word, and between words
LONGEST_PAUSE = 0.1  # seconds between two tries: a run of quick models leaves the file for a moment each half second
HAVE_OPEN = re.compile(r"lock is held in (?P<program>\S+) \(PID (?P<pid>\d+)\)")


def open_database(path: Path, *, read_only: bool = False, timeout: float | None = None) -> duckdb.DuckDBPyConnection:
    """A connection, as soon as no other process is in the way.

    Args:
        path: the database file; made when it is missing, unless `read_only`.
        timeout: seconds to wait for others; for ever when None.

    Raises:
        StoreError: somebody still has it open after `timeout`, or it cannot be opened; says why and what to do.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StoreError(f"{path}: what stands where the results database should be is no regular file; move it away")
    start = time.monotonic()
    said, pause = SAY_AFTER, 0.05
    while True:
        try:
            return connected(path, read_only)
        except (duckdb.Error, OSError) as error:
            if not _is_locked(error):
                raise trouble(path, error) from error
            waited = time.monotonic() - start
            if timeout is not None and waited >= timeout:
                raise passing(
                    StoreError(
                        f"{path}: the database is locked by {_holder(error)}; close that program (another run, or a "
                        "DuckDB client) and run again: what was finished is kept"
                    )
                ) from error
            if waited >= said:
                log.warning("%s: waiting for %s, which has the results open; close it to go on", path, _holder(error))
                said = waited + SAY_EVERY
        time.sleep(pause * (0.5 + random.random()))  # two that wait do not knock together
        pause = min(2 * pause, LONGEST_PAUSE)


def connected(path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection, or DuckDB's own error."""
    return duckdb.connect(str(path), read_only=read_only)


def _is_locked(error: BaseException) -> bool:
    text = str(error).lower()
    # A thread of this process may have it open for reading, or for writing.
    return isinstance(error, duckdb.Error) and ("lock on file" in text or "with a different configuration" in text)


def _holder(error: BaseException) -> str:
    found = HAVE_OPEN.search(str(error))
    return f"another process ({Path(found['program']).name}, process {found['pid']})" if found else "another process"


def trouble(path: Path, error: BaseException) -> StoreError:
    """What a database's error means, as one sentence with a remedy that loses nothing."""
    text, said = str(error), first_line(error)
    lower = text.lower()
    if "we can only read versions" in lower or "newer version" in lower:
        return StoreError(
            f"{path}: the results were written by a newer DuckDB than the one installed ({duckdb.__version__}); "
            f"install a newer one (pip install -U duckdb): nothing is wrong with the file"
        )
    if "no space left" in lower or getattr(error, "errno", None) == 28 or "disk quota" in lower:
        return StoreError(f"{path}: the disk is full; make room and run again: what was finished is kept")
    if "does not exist" in lower and "read-only" in lower:
        return StoreError(f"{path}: there are no results yet; run the study first")
    if "is a directory" in lower:
        return StoreError(f"{path}: there is a folder where the results database should be; move it away")
    damaged = ("not a valid duckdb", "corrupt", "checksum", "could not read enough bytes", "serialization",
               "deserialize", "invalid unicode", "wal file", "internal error")  # fmt: skip
    if any(mark in lower for mark in damaged):
        return StoreError(
            f"{path}: the results database is damaged or cut off ({said}); restore it from a backup. Without one, "
            "`diffex run STUDY --fresh` keeps this folder aside and starts anew"
        )
    if any(mark in lower for mark in ("permission denied", "read-only file system", "not permitted")):
        return StoreError(f"{path}: the results database cannot be written ({said}); make the folder writable")
    return StoreError(f"{path}: the results database cannot be used ({said}); the file is left as it is")


def guarded(path: Path, error: BaseException) -> BaseException:
    """A database's or a disk's error as a sentence; anything else (mistakes of this program among them) as it is."""
    if isinstance(error, duckdb.ProgrammingError) and not isinstance(error, duckdb.InvalidInputException):
        return error
    if isinstance(error, duckdb.Error) and "interrupted" in str(error).lower():
        return KeyboardInterrupt()
    return trouble(path, error) if isinstance(error, duckdb.Error | OSError) else error
