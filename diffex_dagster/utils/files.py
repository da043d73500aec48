"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write, fsync and rename: a reader sees the old content or the new, and a crash never leaves half of it.

    Who may read it is what the process's umask and the folder say, as for any file that a program makes: what people
    who share a folder write there is readable for all of them. (`tempfile` makes files that are their owner's alone.)

    Args:
        path: the file; its folder is made if need be.
        content: all of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
