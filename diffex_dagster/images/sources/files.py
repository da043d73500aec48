"""A source of sample images: a list of paths."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from diffex_dagster.errors import StudyError, in_words
from diffex_dagster.images.sources.parts import Entry, Found, ImageSource, Where, located_picture
from diffex_dagster.utils.text import read_text


class FilesSource(ImageSource):
    """A text file that names pictures."""

    source: ClassVar[str] = "files"
    files: Path | None = Field(None, description="a text file with one path a line, relative to it")

    def find(self, where: Where) -> Found:
        """The pictures that it names, in its order; empty lines and those that begin with # are none."""
        assert self.files is not None
        file = where.path(self.files)
        try:
            lines = [line.strip() for line in read_text(file).splitlines()]
        except OSError as error:
            raise StudyError(
                f"{file}: images.files: it cannot be read ({in_words(error)}); write one path a line"
            ) from error
        names = [line for line in lines if line and not line.startswith("#")]
        if not names:
            raise StudyError(f"{file}: images.files: it names no picture; write one path a line, relative to the file")
        return Found([Entry(name, located_picture(name, file.parent, "images.files")) for name in names])
