"""The pictures of a folder beside a study: found, prepared as the study's are, and kept in its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from diffex_dagster.errors import StudyError
from diffex_dagster.images.files import read_picture, why_unreadable
from diffex_dagster.images.finding import left_out_in_words
from diffex_dagster.images.sources.parts import Found, sorted_pictures
from diffex_dagster.report.wording import plain
from diffex_dagster.stages.context import Subject
from diffex_dagster.store import image_key
from diffex_dagster.study import Study

AT_ONCE = 64  # pictures that are read and kept before the next


@dataclass
class Folder:
    """The pictures of a folder.

    Attributes:
        path: the folder.
        keys: file, relative to the folder -> key of the prepared picture, in name order.
        unread: (file, why) of those that cannot be read as pictures.
        notes: what else there was, as phrases.
    """

    path: Path
    keys: dict[str, str] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[str]:
        """Keys of the different pictures, in the order of their first files."""
        return list(dict.fromkeys(self.keys.values()))


def read_folder(study: Study, path: Path) -> Folder:
    """Look through a folder and those in it, reading every picture once; none is kept in memory.

    Raises:
        StudyError: there is no such folder, or no picture in it that can be read.
    """
    path = path.expanduser()
    if not path.is_dir():
        what = "that is a file; name the folder that it is in" if path.is_file() else "there is no such folder"
        raise StudyError(f"{plain(str(path))}: images: {what}")
    others = Found()
    folder = Folder(path.resolve())
    for file in sorted_pictures(others, path.rglob("*"), path):
        name = file.relative_to(path).as_posix()
        try:
            folder.keys[name] = image_key(_prepared(study, file))
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # of any kind that a decoder knows
            folder.unread.append((name, why_unreadable(error)))
    folder.notes = left_out_in_words(others.left_out)
    if not folder.keys:
        why = f", only {', '.join(folder.notes)}" if folder.notes else ""
        name, fault = folder.unread[0] if folder.unread else ("", "")
        broken = f"; {plain(name, 200)} cannot be read ({plain(fault, 160)})" if name else ""
        raise StudyError(f"{plain(str(path))}: images: there is no picture in it{plain(why)}{broken}")
    return folder


def _prepared(study: Study, file: Path) -> Image.Image:
    images = study.images
    return read_picture(file, images.size, images.fit, images.background)


def keep_pictures(subject: Subject, folder: Folder) -> None:
    """Put the pictures of a folder into the store, a portion at a time; those that are there are not read again.

    Raises:
        StudyError: a file has changed since it was looked at.
    """
    store, study = subject.store, subject.study
    there = store.known_images(folder.images)
    first = {key: name for name, key in reversed(folder.keys.items()) if key not in there}
    names = [name for name in folder.keys if first.get(folder.keys[name]) == name]
    for start in range(0, len(names), AT_ONCE):
        subject.report("pictures", start, len(names), len(there))
        some = {name: _prepared(study, folder.path / name) for name in names[start : start + AT_ONCE]}
        for name, key in store.put_images(some).items():
            if key != folder.keys[name]:
                raise StudyError(f"{plain(str(folder.path / name))}: it has changed while it was read; ask again")
