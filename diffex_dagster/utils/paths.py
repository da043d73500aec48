"""From what a person writes as a path to the file it names: one rule for study files, lists and tables."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path, PureWindowsPath

from diffex_dagster.errors import StudyError

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def located(written: str | Path, folder: Path, field: str = "") -> Path:
    """A path as somebody wrote it, made absolute.

    `~` is the home folder, `$NAME` and `${NAME}` are environment variables, other paths start at `folder`. A path with
    back-slashes, as Windows writes them, is read with slashes where no file has that very name.

    Args:
        written: as it stands in a study file, a list or a table.
        folder: what relative paths start from.
        field: what messages name, e.g. "images.table".

    Raises:
        StudyError: it holds a variable that is not set, or nothing can be called so.
    """
    text, where = str(written), f"{field}: " if field else ""
    if text.startswith("~"):
        with contextlib.suppress(RuntimeError):  # nobody is called so: it is the name of a file
            text = str(Path(text).expanduser())
    if "$" in text and not _is_there(folder, text):
        missing = [match.group(1).strip("{}") for match in _VARIABLE.finditer(text)]
        unset = [name for name in missing if not os.environ.get(name)]
        if unset:
            raise StudyError(
                f"{folder}: {where}{str(written)!r} needs the environment variable {unset[0]}, which is not set; set "
                "it, or write the path out"
            )
        text = _VARIABLE.sub(lambda match: os.environ[match.group(1).strip("{}")], text)
    if "\\" in text and os.sep == "/" and not _is_there(folder, text):
        text = PureWindowsPath(text).as_posix()
    if "\0" in text:
        raise StudyError(f"{folder}: {where}{str(written)!r} holds a zero character; no file can be called so")
    return (folder / text).absolute()


def _is_there(folder: Path, text: str) -> bool:
    try:
        return (folder / text).exists()
    except (OSError, ValueError):
        return False
