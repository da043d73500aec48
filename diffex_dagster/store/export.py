"""A study's rows in one DuckDB file, which anybody can open, wherever they are kept."""

from __future__ import annotations

from pathlib import Path

from diffex_dagster.errors import StoreError
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.database import Database
from diffex_dagster.store.duck import DuckDatabase

AT_ONCE = 5000  # rows
_ABOUT_THE_FILE = ("store_version", "store_identity", "owners", "stamps")


def export_rows(source: Database, kept_as: str, name: str, file: Path) -> int:
    """Write the rows of a study, and those that belong to no study (edits, scores), into a new file.

    Args:
        kept_as: what the study's own rows are kept under.
        name: what they are kept under in the file: without a space.

    Returns:
        How many rows were written.

    Raises:
        StoreError: the file is there already, or cannot be written.
    """
    if file.exists():
        raise StoreError(f"{file}: it is there already; name another file, or remove it")
    target = DuckDatabase(file)
    written = 0
    try:
        with source.hold(), target.hold():  # opened once, and not for each table
            tables = [t for (t,) in target.rows("SELECT table_name FROM information_schema.tables ORDER BY table_name")]
            for table in (each for each in tables if each not in _ABOUT_THE_FILE):
                written += _copy(source, target, table, kept_as, name)
    except BaseException:
        target.close()
        file.unlink(missing_ok=True)  # half a file would look like all there is
        raise
    return written


def _copy(source: Database, target: Database, table: str, kept_as: str, name: str) -> int:
    columns = list(target.columns(table))
    names = ", ".join(f'"{column}"' for column in columns)
    of_study = "study" in columns
    rows = source.rows(
        f"SELECT {names} FROM {table}{' WHERE study = ?' if of_study else ''}",  # noqa: S608 (our own names)
        [kept_as] if of_study else [],
    )
    made = [dict(zip(columns, row, strict=True)) | ({"study": name} if of_study else {}) for row in rows]

    def put(connection: Connection) -> None:
        for start in range(0, len(made), AT_ONCE):
            connection.insert(table, made[start : start + AT_ONCE])

    target.write(put)
    return len(made)
