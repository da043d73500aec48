"""Pictures as content-addressed PNG files: written whole or not at all, and never twice."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache
from PIL import Image

from diffex_dagster.errors import StoreError
from diffex_dagster.utils.files import write_atomically

DECODED_MB = 64  # of pixels that are kept, so that pictures that are asked for again are not decoded again


class PictureFiles:
    """Pictures under `<folder>/pictures`, named by the hash of their content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._decoded: LRUCache[str, Image.Image] = LRUCache(DECODED_MB * 2**20, getsizeof=_bytes)
        self._lock = threading.Lock()

    def put(self, picture: Image.Image) -> str:
        """Keep a picture losslessly; returns its path relative to the folder."""
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "PNG")
        content = buffer.getvalue()
        name = hashlib.sha256(content).hexdigest()[:32]
        relative = f"pictures/{name[:2]}/{name}.png"
        if not (self.folder / relative).exists():
            write_atomically(self.folder / relative, content)
        return relative

    def get(self, relative: str) -> Image.Image:
        """Read a picture back, RGB; raises StoreError naming the file when it is gone."""
        with self._lock:
            known = self._decoded.get(relative)
        if known is None:
            known = self._read(self.folder / relative)
            with self._lock:
                if _bytes(known) <= self._decoded.maxsize:
                    self._decoded[relative] = known
        return known.copy()  # whoever asks may draw on it

    def _read(self, path: Path) -> Image.Image:
        try:
            with Image.open(path) as picture:
                return picture.convert("RGB")
        except OSError as error:
            raise StoreError(
                f"{path}: a picture that the database names cannot be read ({error}); restore it from a backup or run "
                "again with --fresh"
            ) from error


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

    def __contains__(self, key: object) -> bool:
        return key in self.stored  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def _bytes(picture: Image.Image) -> int:
    return 3 * picture.width * picture.height
