"""Fingerprints of plain data, files and folders."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path


def digest(*parts: object) -> str:
    """A 32-digit hexadecimal SHA-256 of JSON-serialisable parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=2**17)
def _file_hash(path: Path, size: int, modified: int) -> str:
    """Hash of a file's content; `size` and `modified` are in the key so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's content, computed once while the file stays as it is."""
    stat = path.stat()
    return _file_hash(path, stat.st_size, stat.st_mtime_ns)


def folder_fingerprint(folder: Path, suffixes: Sequence[str]) -> str:
    """Hash over the names and contents of a folder's files with these suffixes, at any depth."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in suffixes):
        total.update(f"{path.relative_to(folder).as_posix()} {file_fingerprint(path)}\n".encode())
    return total.hexdigest()
