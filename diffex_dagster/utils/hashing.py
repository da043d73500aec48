"""Fingerprints of plain data, pictures, files and folders. A picture's key in the results is `store.keys.image_key`."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


_HUB_BLOB = re.compile(r"models--[^/]+/blobs/[0-9a-f]{64}")


def digest(*parts: object) -> str:
    """A 32-digit hexadecimal SHA-256 of JSON-serialisable parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def picture_digest(picture: Image.Image) -> str:
    """SHA-256 of a picture's size and RGB pixels."""
    rgb = picture.convert("RGB")
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


@functools.lru_cache(maxsize=2**17)
def _file_hash(path: Path, size: int, modified: int) -> str:
    """Hash of the content of a file that no link leads to; `size` and `modified` are in the key, so that a changed
    file is read again.
    """
    # The hub's cache names a weight file by its SHA-256, so that gigabytes need not be read to know it.
    if _HUB_BLOB.fullmatch("/".join(path.parts[-3:])):
        return path.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's content, computed once while the file stays as it is."""
    stat = path.stat()
    return _file_hash(path.resolve(), stat.st_size, stat.st_mtime_ns)


def folder_fingerprint(folder: Path, suffixes: Sequence[str]) -> str:
    """Hash over the names and contents of a folder's files with these suffixes, at any depth."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in suffixes):
        total.update(f"{path.relative_to(folder).as_posix()} {file_fingerprint(path)}\n".encode())
    return total.hexdigest()
