"""What every source of sample images shares; see `images.sources.kinds`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from diffex_dagster.images.files import SUFFIXES, why_no_sample
from diffex_dagster.utils.config import Part
from diffex_dagster.utils.paths import listed, located


@dataclass(frozen=True)
class Entry:
    """An image that a study names: how it is called, where its bytes are, and its label where one is known.

    `origin` is what tells two entries of one name apart: a row, or the folder that a path starts from. `columns` is
    what a table says of it in the columns that a study names (`effects.subgroups`).
    """

    name: str
    content: Path | bytes
    label: str | None = None
    origin: str = ""
    columns: Mapping[str, str | None] = field(default_factory=dict)


@dataclass
class Found:
    """The entries of a source in order, each under a name of its own, and what was left out, by reason."""

    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)  # reason -> names
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, name: str) -> None:
        """Count a file or row that is no sample picture."""
        self.left_out.setdefault(reason, []).append(name)

    @property
    def instead(self) -> str:
        """What there was in the place of pictures, as the end of a sentence: ", only 3 hidden"; empty for nothing."""
        counts = ", ".join(f"{len(names)} {reason}" for reason, names in self.left_out.items())
        return f", only {counts}" if counts else ""


@dataclass(frozen=True)
class Where:
    """The study file that names a source; paths start at its folder."""

    file: Path
    folder: Path

    def path(self, relative: Path) -> Path:
        """A path of the study file, made absolute."""
        return located(relative, self.folder).resolve()


class ImageSource(Part):
    """A kind of source: where sample images come from.

    A kind is a subclass in a file of its own, and one line in `images.sources.kinds`. It has a field that says where
    the images are, by whose name the kind is called, the fields that only it reads, and `find`. The section `images` of
    a study file holds the fields of all kinds side by side, so that their names differ; which one is set is the kind.
    """

    source: ClassVar[str] = ""  # the name of the field that says where
    has_columns: ClassVar[bool] = False  # whether entries come with what a table says of them

    def find(self, where: Where) -> Found:
        """Every image that it names, in its order; none is opened.

        Called with the section `images`, as `Kind.find(images, where)`.

        Raises:
            StudyError: it is missing, or holds no image; the message names the field and the remedy.
        """
        raise NotImplementedError


def sorted_pictures(found: Found, paths: Iterable[Path], root: Path) -> list[Path]:
    """The sample pictures among what a folder holds, in name order; the rest is counted."""
    pictures = []
    for path in sorted(paths):
        if path.is_dir():
            continue
        reason = why_no_sample(path, root)
        if reason is None:
            pictures.append(path)
        else:
            found.leave_out(reason, path.relative_to(root).as_posix())
    return pictures


def located_picture(name: str, folder: Path, where: str) -> Path:
    """The file that a list or table names; where it leaves the ending off (an id), the one picture of that stem."""
    path = listed(name, folder, where)
    if path.suffix.lower() in SUFFIXES or path.exists() or not path.parent.is_dir():
        return path
    same = [path.with_name(f"{path.name}{suffix}") for suffix in sorted(SUFFIXES)]
    there = [each for each in same if each.is_file()]
    return there[0] if len(there) == 1 else path


def few(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
