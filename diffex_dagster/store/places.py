"""Where pictures are kept: a folder, or a bucket of an object store (S3, Google Cloud Storage, Azure).

Pictures are named by the hash of their content, so that a second one of a name is the same: the first process writes
it, and no two writers are in each other's way. Keys and passwords of a bucket come from the environment, or from the
machine's role, and are never part of its address.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from diffex_dagster.deployment import BUCKET
from diffex_dagster.errors import StoreError, first_line, passing
from diffex_dagster.utils.files import write_atomically
from diffex_dagster.utils.text import read_bytes

Stamp = tuple[int, int]
"""Size of a file in bytes, and what another content of it changes: when a file was modified, in nanoseconds; a number
made of the tag that a bucket gives an object.
"""

RETRY = timedelta(seconds=60)  # how long a bucket that does not answer is tried
AT_ONCE = 32  # questions to a bucket, or files that are written: each takes some milliseconds of waiting
TRUSTED = 60.0  # seconds that a stamp of a bucket is used before it is asked for again

_REFUSED = re.compile(r"status code: 40[13]\b")  # as obstore's general error says it where it lists or removes

Given = TypeVar("Given")
Kept = TypeVar("Kept")


class PicturePlace(ABC):
    """Named bytes. Names are relative, with `/`."""

    name: str
    """What messages call it."""

    @abstractmethod
    def read(self, relative: str) -> bytes:
        """Raises OSError where it is gone or cannot be read; StoreError where the place does not answer."""

    @abstractmethod
    def put(self, relative: str, content: bytes, sound: Callable[[bytes], bool]) -> Stamp | None:
        """Keep bytes as a whole; what is there already stays where it is `sound`, and is replaced where it is not.

        Returns:
            The stamp, where that is known without asking.

        Raises:
            StoreError: they cannot be kept.
        """

    @abstractmethod
    def stamps(self, files: Iterable[str]) -> dict[str, Stamp | None]:
        """Of each of these, None where it is gone; raises StoreError where the place does not answer."""

    @abstractmethod
    def everything(self, under: str) -> Iterator[tuple[str, int, float]]:
        """Every file under a folder: its name, its size in bytes, and when it was written, in seconds since 1970."""

    @abstractmethod
    def remove(self, relative: str) -> None:
        """Remove a file; one that is gone already is fine."""

    @abstractmethod
    def at(self, relative: str) -> str:
        """What messages call a file."""

    @abstractmethod
    def doubt(self, relative: str) -> None:
        """Have a file read when it is asked for next: it is not what it was."""

    @staticmethod
    def together(work: Callable[[Given], Kept], each: Sequence[Given]) -> list[Kept]:
        """Do something with each, many at a time, in their order: each mostly waits for a bucket or a disk."""
        if len(each) < 2:
            return [work(one) for one in each]
        with ThreadPoolExecutor(min(AT_ONCE, len(each))) as threads:
            return list(threads.map(work, each))


def place_of(where: Path | str) -> PicturePlace:
    """A folder, or the bucket at an address."""
    return Bucket(where) if isinstance(where, str) and BUCKET.fullmatch(where) else Folder(Path(where))


class Folder(PicturePlace):
    """A folder of this machine, or one that several machines see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def read(self, relative: str) -> bytes:
        return read_bytes(self.folder / relative)

    def put(self, relative: str, content: bytes, sound: Callable[[bytes], bool]) -> Stamp | None:
        path = self.folder / relative
        try:
            if not path.is_file() or not sound(path.read_bytes()):
                write_atomically(path, content)
        except OSError as error:
            remedy = "make room" if error.errno == 28 else "let this user read and write in the folder"
            raise StoreError(
                f"{path}: a picture cannot be written ({error.strerror or error}); {remedy} and run again: what was "
                "finished is kept"
            ) from error
        return None

    def stamps(self, files: Iterable[str]) -> dict[str, Stamp | None]:
        return {file: self._stamp(file) for file in files}

    def everything(self, under: str) -> Iterator[tuple[str, int, float]]:
        for path in sorted((self.folder / under).rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                if path.is_file():
                    found = path.stat()
                    yield path.relative_to(self.folder).as_posix(), found.st_size, found.st_mtime

    def remove(self, relative: str) -> None:
        (self.folder / relative).unlink(missing_ok=True)

    def at(self, relative: str) -> str:
        return str(self.folder / relative)

    def doubt(self, relative: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self.folder / relative)  # its stamp is that of a sound file no more

    def _stamp(self, relative: str) -> Stamp | None:
        try:
            found = (self.folder / relative).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns


class Bucket(PicturePlace):
    """A bucket of an object store, or a folder of one, through obstore, which tries again what may pass.

    Args:
        address: s3://bucket/folder, gs://bucket/folder or az://container/folder.
        retry: how long to try.
    """

    def __init__(self, address: str, retry: timedelta = RETRY) -> None:
        self.name, self.retry = address.rstrip("/"), retry
        self._proven = False  # whether the bucket is known to be there
        self._known: dict[str, tuple[float, Stamp]] = {}  # file -> (when it was asked for, its stamp)

    @functools.cached_property
    def _store(self) -> Any:
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise StoreError(
                f"{self.name}: pictures in a bucket need obstore, which is not installed: pip install "
                "'diffex-dagster[buckets]'"
            ) from error
        with self._plainly("opened"):
            return from_url(
                self.name,
                retry_config={
                    "max_retries": 10,
                    "retry_timeout": self.retry,
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2,
                    },
                },
            )  # fmt: skip

    def read(self, relative: str) -> bytes:
        try:
            with self._plainly("read"):
                return bytes(self._store.get(relative).bytes())
        except FileNotFoundError as error:
            self._prove()
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.at(relative)) from error

    def put(self, relative: str, content: bytes, sound: Callable[[bytes], bool]) -> Stamp | None:
        store = self._store  # says where obstore is missing
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        with self._plainly("written"):
            try:
                made = store.put(relative, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                if sound(bytes(store.get(relative).bytes())):
                    return None
                made = store.put(relative, content, use_multipart=False)
            except NotSupportedError:  # a store that knows no condition: the same bytes once more
                made = store.put(relative, content, use_multipart=False)
        stamp = _tagged(len(content), made)
        return None if stamp is None else self._know(relative, stamp)

    def stamps(self, files: Iterable[str]) -> dict[str, Stamp | None]:
        wanted, now = list(files), time.monotonic()
        known = {f: self._known[f][1] for f in wanted if f in self._known and now - self._known[f][0] < TRUSTED}
        asked = [file for file in wanted if file not in known]
        found = dict(zip(asked, self.together(self._stamp, asked), strict=True))
        if None in found.values():
            self._prove()
        return {file: known[file] if file in known else found[file] for file in wanted}

    def everything(self, under: str) -> Iterator[tuple[str, int, float]]:
        with self._plainly("listed"):
            for some in self._store.list(under or None):
                for each in some:
                    yield each["path"], each["size"], each["last_modified"].timestamp()

    def remove(self, relative: str) -> None:
        with self._plainly("removed"), contextlib.suppress(FileNotFoundError):
            self._store.delete(relative)
        self._known.pop(relative, None)

    def at(self, relative: str) -> str:
        return f"{self.name}/{relative}"

    def doubt(self, relative: str) -> None:
        self._known.pop(relative, None)

    def told(self, relative: str, stamp: Stamp) -> None:
        """Take a stamp from the process that wrote the file: it need not be asked for."""
        self._know(relative, stamp)

    def _know(self, relative: str, stamp: Stamp) -> Stamp:
        if len(self._known) > 200_000:
            self._known.clear()
        self._known[relative] = time.monotonic(), stamp
        return stamp

    def _stamp(self, relative: str) -> Stamp | None:
        try:
            with self._plainly("looked at"):
                found = self._store.head(relative)
        except FileNotFoundError:
            return None
        stamp = _tagged(found["size"], found) or (found["size"], int(found["last_modified"].timestamp() * 1e9))
        return self._know(relative, stamp)

    def _prove(self) -> None:
        """Raise StoreError where the bucket itself is not there: each file of it is called missing then, too."""
        if not self._proven:
            next(iter(self.everything("")), None)
            self._proven = True

    @contextlib.contextmanager
    def _plainly(self, what: str) -> Iterator[None]:
        """A bucket's errors as one sentence. A file that is not there stays a FileNotFoundError."""
        try:
            yield
        except Exception as error:
            if (said := self._sentence(what, error)) is None:
                raise
            raise said from error

    def _sentence(self, what: str, error: Exception) -> BaseException | None:
        if isinstance(error, StoreError):  # it is one already
            return None
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        if re.search(r"NoSuchBucket|ContainerNotFound|bucket does not exist", str(error), re.IGNORECASE):
            return StoreError(f"{self.name}: there is no such bucket; make it, or name another one for the pictures")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(str(error)):
            return StoreError(
                f"{self.name}: the bucket refuses this user: pictures cannot be {what}; put its keys in the "
                "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_SERVICE_ACCOUNT, or "
                "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY) and let that user list, read and write it"
            )
        if not isinstance(error, BaseError | ValueError):
            return None
        return passing(
            StoreError(
                f"{self.name}: pictures cannot be {what} ({_short(error)}); see that the bucket is there and its "
                "region and address (AWS_REGION, AWS_ENDPOINT_URL) are right, and run again: what was finished is kept"
            )
        )


def _tagged(size: int, said: Any) -> Stamp | None:
    """A stamp from the tag that a bucket gives an object, which is another for another content."""
    tag = said.get("e_tag")
    if not tag:
        return None
    return size, int.from_bytes(hashlib.sha256(tag.encode()).digest()[:7], "big")


def _short(error: Exception) -> str:
    """What went wrong, without the program's own view of its parts."""
    text = first_line(error)
    return text if len(text) <= 300 else f"{text[:300]}..."
