"""Rows of a table that a person wrote: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffex_dagster.errors import StudyError, in_words
from diffex_dagster.utils.text import decoded, read_bytes


def read_rows(file: Path, field: str) -> list[Mapping[str, Any]]:
    """The rows of a CSV, TSV, JSON-lines or Parquet file, read by DuckDB.

    Text of any usual encoding is read, and Excel's "Unicode text", which is tab-separated whatever its name.

    Raises:
        StudyError: the file is missing, of another kind, or broken; the message says how.
    """
    import duckdb

    readers = {
        ".csv": "read_csv(?, all_varchar=true)",
        ".tsv": "read_csv(?, all_varchar=true, delim='\t')",
        ".jsonl": "read_json_auto(?)",
        ".parquet": "read_parquet(?)",
    }
    suffix = file.suffix.lower()
    if suffix not in readers:
        raise StudyError(f"{file}: {field}: tables end in {', '.join(readers)}; convert it")
    if not file.is_file():
        raise StudyError(f"{file}: {field}: there is no such file; correct the path, which starts at the study file")
    try:
        with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
            source = file if suffix == ".parquet" else _as_utf8(file, Path(folder))
            cursor = connection.execute(f"SELECT * FROM {readers[suffix]}", [str(source)])  # noqa: S608
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except (duckdb.Error, OSError) as error:
        raise StudyError(f"{file}: {field}: it cannot be read ({in_words(error)}); mend the file") from error


def _as_utf8(file: Path, folder: Path) -> Path:
    """A text table as UTF-8: the file itself, or a copy where an editor of Windows saved it in another encoding."""
    text, encoding = decoded(read_bytes(file))
    if encoding == "utf-8":
        return file
    copy = folder / file.name
    copy.write_text(text, "utf-8", newline="")
    return copy
