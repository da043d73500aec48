"""A source of sample images: a folder."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from diffex_dagster.errors import StudyError
from diffex_dagster.images.files import SUFFIXES, why_no_sample
from diffex_dagster.images.sources.parts import Entry, Found, ImageSource, Where, few, sorted_pictures


class FolderSource(ImageSource):
    """A folder of pictures; the one that a study has when it names nothing."""

    source: ClassVar[str] = "folder"
    folder: Path | None = Field(None, description="a folder of pictures, not its subfolders")

    def find(self, where: Where) -> Found:
        """Its pictures in name order; folders in it are counted."""
        folder = where.path(self.folder or Path("images"))
        if not folder.is_dir():
            raise StudyError(
                f"{folder}: images.folder: there is no such folder; put the sample images there or name another"
            )
        found = Found()
        found.entries = [Entry(path.name, path) for path in sorted_pictures(found, folder.iterdir(), folder)]
        inner = sorted(
            path.name for path in folder.iterdir() if path.is_dir() and why_no_sample(path, folder) != "hidden"
        )
        if not found.entries:
            deeper = f" (it has folders: {', '.join(inner[:3])}; use glob or dataset)" if inner else ""
            raise StudyError(
                f"{folder}: images.folder: there is no picture in it{deeper}{found.instead}; put files ending in "
                f"{', '.join(sorted(SUFFIXES))} there"
            )
        if inner:
            found.notes.append(f"{len(inner)} folders in it are not looked into ({few(inner)}); images.glob would")
        return found
