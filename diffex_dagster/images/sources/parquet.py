"""Parquet files that hold pictures, as `datasets` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.errors import StudyError
from diffex_dagster.images.sources.columns import SourceWithColumns, column_of, label_column_of, text
from diffex_dagster.images.sources.parts import Entry, Found
from diffex_dagster.images.tables import read_rows

_PICTURE_COLUMNS = ("image", "img", "picture", "photo", "pixel_values")


def pictures_in(found: Found, file: Path, name: Path, of: SourceWithColumns) -> list[Entry]:
    """The pictures in one shard of a dataset; rows without any are counted.

    Args:
        name: the shard's path within the dataset.
        of: which columns the study names.

    Raises:
        StudyError: no column holds pictures, or not the one that the study names.
    """
    rows = read_rows(file, "images.dataset")
    columns = list(rows[0]) if rows else []
    pictures = [column for column in columns if _holds_pictures(rows, column)]
    if rows and not pictures:
        raise StudyError(
            f"{file}: images.dataset: no column holds encoded pictures; the columns are {', '.join(columns)}"
        )
    column = column_of(pictures, of.path_column, _PICTURE_COLUMNS)
    if rows and column is None and of.path_column:
        raise StudyError(
            f"{file}: images.path_column: no column {of.path_column!r} holds pictures; these do: {', '.join(pictures)}"
        )
    column = column or (pictures[0] if pictures else None)
    if len(pictures) > 1:
        others = ", ".join(each for each in pictures if each != column)
        note = f"the pictures are those of the column {column!r} (images.path_column names another: {others})"
        found.notes += [note] if note not in found.notes else []
    label = label_column_of(columns, of, file)
    names = _class_names(file).get(label or "", [])
    entries = []
    for i, row in enumerate(rows):
        content, where = _encoded(row[column]) if column else (None, None)
        if not content:
            found.leave_out("rows without a picture", f"{name.as_posix()}, row {i + 1}")
            continue
        value = row[label] if label else None
        if names and isinstance(value, int) and 0 <= value < len(names):
            value = names[value]
        origin = f"{name.as_posix()}, row {i + 1}"
        about = {each: text(row[each]) for each in columns if each not in pictures}
        entries.append(Entry(f"{name.stem}/{where or f'{i:06d}'}", content, text(value), origin, about))
    return entries


def _holds_pictures(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = (row[column] for row in rows if row[column] is not None)
    return _encoded(next(values, None))[0] is not None


def _encoded(value: Any) -> tuple[bytes | None, str | None]:
    """The bytes and the path of a cell with a picture: `{bytes, path}` as `datasets` writes it, or the bytes alone."""
    if isinstance(value, dict) and "bytes" in value:
        return (bytes(value["bytes"]) if value["bytes"] else None), value.get("path")
    return (bytes(value), None) if isinstance(value, bytes | bytearray) and value else (None, None)


def _class_names(file: Path) -> dict[str, list[str]]:
    """The class names that `datasets` keeps in a Parquet file's metadata, by column."""
    import duckdb

    try:
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT key, value FROM parquet_kv_metadata(?)", [str(file)]).fetchall()
        kept = {bytes(key).decode("utf-8", "replace"): value for key, value in rows}
        features = json.loads(bytes(kept["huggingface"]).decode("utf-8"))["info"]["features"]
        return {
            column: [str(name) for name in about["names"]]
            for column, about in features.items()
            if isinstance(about, dict) and isinstance(about.get("names"), list)
        }
    except (duckdb.Error, KeyError, TypeError, ValueError, AttributeError):
        return {}
