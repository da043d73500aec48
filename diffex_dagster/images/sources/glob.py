"""A source of sample images: the paths that a pattern matches."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from diffex_dagster.errors import StudyError, in_words
from diffex_dagster.images.sources.parts import Entry, Found, ImageSource, Where, sorted_pictures
from diffex_dagster.utils.paths import located


class GlobSource(ImageSource):
    """A pattern of paths."""

    source: ClassVar[str] = "glob"
    glob: str | None = Field(None, description='a pattern of paths, e.g. "photos/**/*.jpg"')

    def find(self, where: Where) -> Found:
        """The pictures that it matches, in name order."""
        pattern = located(str(self.glob), Path("/"), "images.glob") if str(self.glob)[:1] == "~" else self.glob
        pattern = Path(str(pattern).replace("\\", "/"))
        root = Path(pattern.anchor) if pattern.is_absolute() else where.folder
        relative = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else str(pattern)
        found = Found()
        fixed = _fixed_part(root, relative)
        try:
            paths = sorted_pictures(found, root.glob(relative), fixed)
        except (ValueError, NotImplementedError, OSError, IndexError) as error:
            raise StudyError(
                f"{where.file}: images.glob: {self.glob!r} is no pattern ({in_words(error)}); write one such as "
                '"photos/**/*.jpg"'
            ) from error
        if not paths:
            raise StudyError(
                f"{where.file}: images.glob: {self.glob!r} matches no picture under {root}{found.instead}; correct the "
                'pattern (e.g. "photos/**/*.jpg")'
            )
        found.entries = [Entry(path.relative_to(root).as_posix(), path) for path in paths]
        return found


def _fixed_part(root: Path, pattern: str) -> Path:
    """The folder that a pattern names itself: what is hidden below it is left out, the folder itself was asked for."""
    for part in Path(pattern).parts[:-1]:
        if any(sign in part for sign in "*?["):
            break
        root = root / part
    return root
