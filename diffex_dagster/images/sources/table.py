"""A source of sample images: a table with a column of paths."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from diffex_dagster.errors import StudyError
from diffex_dagster.images.sources.columns import SourceWithColumns, named_in
from diffex_dagster.images.sources.parts import Found, Where
from diffex_dagster.images.tables import read_rows


class TableSource(SourceWithColumns):
    """A table of which each row is an image."""

    source: ClassVar[str] = "table"
    table: Path | None = Field(None, description="a CSV, TSV or Parquet file with a column of paths, relative to it")

    def find(self, where: Where) -> Found:
        """The pictures that its rows name, in their order; rows without a path are counted."""
        assert self.table is not None
        file = where.path(self.table)
        found = Found()
        found.entries = named_in(found, read_rows(file, "images.table"), file, self, file.parent, "images.table")
        if not found.entries:
            raise StudyError(f"{file}: images.table: no row names a picture; fill the column of paths")
        return found
