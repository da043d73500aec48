"""Columns of tables that name sample images: the path, the label, and what else is said of an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from diffex_dagster.errors import StudyError
from diffex_dagster.images.sources.parts import Entry, Found, ImageSource, located_picture
from diffex_dagster.utils.names import Text

_PATH_COLUMNS = ("path", "file_name", "filename", "file", "image")


class SourceWithColumns(ImageSource):
    """What the kinds with tables share."""

    has_columns: ClassVar[bool] = True
    path_column: Text | None = Field(
        None, description="of the table or dataset: path, file_name, file or image when left out"
    )
    label_column: Text | None = Field(None, description="of the table or dataset; label when left out")


def named_in(
    found: Found, rows: list[Mapping[str, Any]], file: Path, of: SourceWithColumns, folder: Path, where: str
) -> list[Entry]:
    """The pictures that the rows of a file name; rows without a path are counted.

    Args:
        of: which columns the study names.
        folder: where written paths start.
        where: the field, for messages.

    Raises:
        StudyError: there are no rows, or no such column.
    """
    if not rows:
        raise StudyError(f"{file}: {where}: it has no rows; add one for each image")
    columns = list(rows[0])
    column = column_of(columns, of.path_column, _PATH_COLUMNS)
    if column is None:
        asked = of.path_column
        wrong = f"there is no column {asked!r}" if asked else f"no column is called {', '.join(_PATH_COLUMNS)}"
        raise StudyError(f"{file}: images.path_column: {wrong}; the columns are {', '.join(columns)}")
    label = label_column_of(columns, of, file)
    entries = []
    for number, row in enumerate(rows, 1):
        name = text(row[column])
        if not name:
            found.leave_out("rows without a path", f"row {number}")
            continue
        content = located_picture(name, folder, where)
        about = {name: text(value) for name, value in row.items()}
        entries.append(Entry(name, content, text(row[label]) if label else None, f"row {number}", about))
    return entries


def column_of(columns: Sequence[str], asked: str | None, usual: Sequence[str]) -> str | None:
    """The column that is asked for, or the first of the usual ones, without regard to case."""
    for wanted in (asked,) if asked else usual:
        exact = [column for column in columns if column == wanted]
        alike = [column for column in columns if column.strip().lower() == wanted.lower()]
        if exact or alike:
            return (exact or alike)[0]
    return None


def label_column_of(columns: Iterable[str], of: SourceWithColumns, file: Path) -> str | None:
    """The column of labels: the one that the study names, or `label`; None without one.

    Raises:
        StudyError: the study names one that is not there.
    """
    columns = list(columns)
    column = column_of(columns, of.label_column, ("label",))
    if of.label_column and column is None:
        raise StudyError(
            f"{file}: images.label_column: there is no column {of.label_column!r}; the columns are {', '.join(columns)}"
        )
    return column


def text(value: Any) -> str | None:
    """A cell as text; None where it is empty."""
    return None if value is None else str(value).strip()
