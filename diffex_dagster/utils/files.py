"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
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

    Raises:
        DiffExError: it cannot be written.
    """
    with _named(file):
        write_atomically(file, content)


def check_output(file: Path) -> None:
    """See that a file can be written, before anything is spent on what it will hold. Its folder is made.

    Raises:
        DiffExError: it cannot.
    """
    with _named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=file.parent):
            pass


@contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        no_folder = isinstance(error, FileExistsError | NotADirectoryError)
        why = "it would be inside of a file" if no_folder else error.strerror or in_words(error)
        raise DiffExError(
            f"{file}: this file cannot be written ({why}); name another one, in a folder that you may write to, on a "
            "disk with room left"
        ) from error


def unfinished(folder: Path, names: str) -> Iterator[Path]:
    """What `write_atomically` is writing into a folder, or was when it was killed, for files named like `names`."""
    return folder.glob(f".{names}.{'[0-9a-f]' * 12}")
