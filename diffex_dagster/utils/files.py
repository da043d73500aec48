"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffex_dagster.errors import DiffExError, in_words


def write_atomically(path: Path, content: bytes, durable: bool = True) -> None:
    """Write, fsync and rename: a reader sees the old content or the new, and a crash never leaves half of it.

    What a writer that was killed leaves is a hidden file beside it (`unfinished`).

    Who may read it is what the process's umask and the folder say, as for any file that a program makes: what people
    who share a folder write there is readable for all of them. (`tempfile` makes files that are their owner's alone.)

    Args:
        path: the file; its folder is made if need be.
        content: all of it.
        durable: whether to wait until the disk has it. Without, a machine that stops may leave a file that is cut off:
            for what its reader checks, and can make again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_output(file: Path, content: bytes) -> None:
    """Write a file that somebody asked for, whole or not at all; its folder is made if need be.

    A symbolic link is followed. What is no regular file (a pipe, a device, `/dev/stdout`) is written into.

    Raises:
        DiffExError: it cannot be written.
    """
    with _named(file):
        if not _is_stream(file):
            return write_atomically(_followed(file), content)
        with file.open("ab") as stream:
            stream.write(content)


def check_output(file: Path) -> None:
    """See that a file can be written, before anything is spent on what it will hold. Its folder is made.

    Raises:
        DiffExError: it cannot.
    """
    with _named(file):
        if _is_stream(file):  # not opened: the reader of a pipe would take the end of this for the end of all
            if not os.access(file, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        there = _followed(file)
        there.parent.mkdir(parents=True, exist_ok=True)
        if there.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=there.parent):
            pass


def _is_stream(file: Path) -> bool:
    """Whether a file stands for something else than its content: a pipe, a device, or what a program has open."""
    if file.is_file():
        return bool(_OPEN.fullmatch(str(file)))
    return file.exists() and not file.is_dir()


def _followed(file: Path) -> Path:
    return Path(os.path.realpath(file))


@contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or in_words(error)
        remedy = _REMEDIES.get(error.errno or 0, "name another one")
        if isinstance(error, FileExistsError | NotADirectoryError):
            inside = [each for each in _followed(file).parents if each.exists() and not each.is_dir()]
            why = f"{inside[0]} is no folder" if inside else why
        raise DiffExError(f"{file}: this file cannot be written ({why}); {remedy}") from error


_OPEN = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/\w+/fd/\d+")
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "name another one, in a folder that you may write to"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room, or name another one, on a disk with room left"),
}


def unfinished(folder: Path, names: str) -> Iterator[Path]:
    """What `write_atomically` is writing into a folder, or was when it was killed, for files named like `names`."""
    return folder.glob(f".{names}.{'[0-9a-f]' * 12}")
