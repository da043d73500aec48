"""Pictures as content-addressed PNG files: written whole or not at all, never used when they are not what they were.

A file is named by the hash of its content. Whoever reads one has read its bytes anyway and hashes them, so that an
altered picture (a sync tool, an image optimiser, a bad disk) is never scored or shown. Whether thousands of pictures
are still there is asked before each use, and answered by size and time alone where these are as they were when the
content was last found right.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from cachetools import LRUCache
from PIL import Image

from diffex_dagster.editing.protocol import MASK, FiledPicture
from diffex_dagster.errors import StoreError
from diffex_dagster.store.places import Bucket, PicturePlace, Stamp, place_of

DECODED_MB = 64  # of pixels that are kept, so that pictures that are asked for again are not decoded again


class PictureFiles:
    """Pictures in `pictures` of a folder or a bucket, named by the hash of their content.

    Args:
        where: a folder, the address of a bucket (`store.places`), or a place that is made already.
    """

    def __init__(self, where: Path | str | PicturePlace) -> None:
        self.place = where if isinstance(where, PicturePlace) else place_of(where)
        self._decoded: LRUCache[str, Image.Image] = LRUCache(DECODED_MB * 2**20, getsizeof=_bytes)
        self._lock = threading.Lock()

    def put(self, picture: Image.Image) -> str:
        """Keep a picture losslessly; returns its path relative to the place.

        A file of that name whose content is another (cut off, altered) is written again.

        Raises:
            StoreError: it cannot be written.
        """
        return self._put(picture)[0]

    def put_all(self, pictures: Sequence[Image.Image]) -> list[str]:
        """As `put` for each of these, in their order; many at a time, since each waits for its disk or bucket."""
        return self.place.together(self.put, pictures)

    def _put(self, picture: Image.Image) -> tuple[str, Stamp | None]:
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "PNG")
        content = buffer.getvalue()
        relative = _name(content)
        return relative, self.place.put(relative, content, lambda there: _name(there) == relative)

    def filed(self, picture: Image.Image | FiledPicture) -> FiledPicture:
        """Keep a picture; returns what names it, with all that the picture carries besides its pixels."""
        if isinstance(picture, FiledPicture):
            return picture
        relative, stamp = self._put(picture)
        return FiledPicture(relative, picture.size, picture.mode, {MASK: picture.info.get(MASK)}, stamp)

    def filed_all(self, pictures: Sequence[Image.Image | FiledPicture]) -> list[FiledPicture]:
        """As `filed` for each of these, in their order; many at a time."""
        return self.place.together(self.filed, pictures)

    def get(self, relative: str) -> Image.Image:
        """Read a picture back, RGB; raises StoreError naming the file when it is gone or is another than it was."""
        with self._lock:
            known = self._decoded.get(relative)
        if known is None:
            known = self._read(relative)
            with self._lock:
                if _bytes(known) <= self._decoded.maxsize:
                    self._decoded[relative] = known
        return known.copy()  # the caller may draw on it

    def get_all(self, files: Sequence[str]) -> list[Image.Image]:
        """As `get` for each of these, in their order; from a bucket many at a time."""
        if isinstance(self.place, Bucket):
            return self.place.together(self.get, list(files))
        return [self.get(file) for file in files]

    def stamp(self, relative: str) -> Stamp | None:
        """Size and time of a file; None where it is gone."""
        return self.stamps([relative])[relative]

    def stamps(self, files: Iterable[str]) -> dict[str, Stamp | None]:
        """Size and time of each file; None where it is gone. Raises StoreError where the place does not answer."""
        return self.place.stamps(files)

    def arrived(self, filed: FiledPicture) -> bool:
        """Whether a picture that another process has written is here."""
        if filed.stamp is not None and isinstance(self.place, Bucket):
            self.place.told(filed.file, filed.stamp)  # one bucket for all: it was there when it was written
            return True
        return self.stamp(filed.file) is not None

    def is_sound(self, relative: str) -> bool:
        """Whether a file holds what its name says; reads it. Raises StoreError where this user may not read it."""
        try:
            return _name(self.place.read(relative)) == relative
        except PermissionError as error:  # it is as good as it was, and must not be made again
            raise self._unreadable(relative) from error
        except OSError:
            return False

    def sound(self, files: Sequence[str]) -> list[str]:
        """Those of these files that hold what their names say; reads them."""
        if isinstance(self.place, Bucket):
            return [f for f, fine in zip(files, self.place.together(self.is_sound, list(files)), strict=True) if fine]
        return [file for file in files if self.is_sound(file)]

    def everything(self) -> Iterator[tuple[str, int, float]]:
        """Every file under `pictures` (what an interrupted write left among them): name, bytes, when it was written."""
        return self.place.everything("pictures")

    def _read(self, relative: str) -> Image.Image:
        path = self.place.at(relative)
        try:
            content = self.place.read(relative)
            if _name(content) != relative:
                self.place.doubt(relative)  # the next reader reads it
                raise StoreError(
                    f"{path}: a stored picture is not what it was: its content has changed; run the study again: it "
                    "alone is made again"
                )
            with Image.open(io.BytesIO(content)) as picture:
                return picture.convert("RGB")
        except PermissionError as error:
            raise self._unreadable(relative) from error
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                self.place.doubt(relative)
            raise StoreError(
                f"{path}: a picture that the database names cannot be read ({error.strerror or error}); run the study "
                "again: it alone is made again"
            ) from error

    def _unreadable(self, relative: str) -> StoreError:
        return StoreError(
            f"{self.place.at(relative)}: this user may not read a stored picture; let its owner give the others of the "
            "team the right to (chmod -R g+rX, and umask 002 for what comes later): nothing is wrong with it"
        )


def _name(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return f"pictures/{digest[:2]}/{digest}.png"


@dataclass(frozen=True)
class StoredPicture:
    """A picture on disk, read when it is called for: thousands of them take no memory."""

    files: PictureFiles
    relative: str

    def __call__(self) -> Image.Image:
        """The picture, RGB; raises StoreError when its file is gone."""
        return self.files.get(self.relative)


class StoredPictures(Mapping[str, Image.Image]):
    """Pictures by key, each read when it is looked up."""

    def __init__(self, stored: Mapping[str, StoredPicture]) -> None:
        self.stored = stored

    def __getitem__(self, key: str) -> Image.Image:
        return self.stored[key]()

    def several(self, keys: Sequence[str]) -> list[Image.Image]:
        """Those of these keys, in their order; all of one place."""
        wanted = [self.stored[key] for key in keys]
        return wanted[0].files.get_all([each.relative for each in wanted]) if wanted else []

    def __contains__(self, key: object) -> bool:
        return key in self.stored  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


class InOrder(Sequence[Image.Image]):
    """Pictures one after the other, each read when it is asked for: a reader of a few of them holds no others."""

    def __init__(self, stored: Sequence[StoredPicture]) -> None:
        self.stored = stored

    @overload
    def __getitem__(self, at: int) -> Image.Image: ...
    @overload
    def __getitem__(self, at: slice) -> InOrder: ...
    def __getitem__(self, at: int | slice) -> Image.Image | InOrder:
        return InOrder(self.stored[at]) if isinstance(at, slice) else self.stored[at]()

    def __len__(self) -> int:
        return len(self.stored)


def _bytes(picture: Image.Image) -> int:
    return 3 * picture.width * picture.height
