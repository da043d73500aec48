"""From what a person writes as a path to the file it names: one rule for study files, lists and tables."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path, PureWindowsPath

from diffex_dagster.errors import StudyError
from diffex_dagster.utils.variables import UnsetVariable, resolve

_BARE = re.compile(r"(?:^|[/\\])\$([A-Za-z_]\w*)")


def located(written: str | Path, folder: Path, field: str = "") -> Path:
    """A path as somebody wrote it, made absolute.

    `~` is the home folder, other paths start at `folder`. A path with back-slashes, as Windows writes them, is read
    with slashes where no file has that very name. The variables of a study file have been replaced before
    (`variables.resolve`); one without braces is refused, so that no folder of that name is made.

    Args:
        written: as it stands in a study file, a list or a table.
        folder: what relative paths start from.
        field: what messages name, e.g. "images.table".

    Raises:
        StudyError: a part of it is `$NAME`, or nothing can be called so.
    """
    text, where = str(written), f"{field}: " if field else ""
    if text.startswith("~"):
        with contextlib.suppress(RuntimeError):  # nobody is called so: it is the name of a file
            text = str(Path(text).expanduser())
    if (bare := _BARE.search(text)) and not _is_there(folder, text):
        raise StudyError(
            f"{folder}: {where}there is no {str(written)!r}; an environment variable is written ${{{bare[1]}}}"
        )
    if "\\" in text and os.sep == "/" and not _is_there(folder, text):
        text = PureWindowsPath(text).as_posix()
    if "\0" in text:
        raise StudyError(f"{folder}: {where}{str(written)!r} holds a zero character; no file can be called so")
    return (folder / text).absolute()


def listed(written: str, folder: Path, field: str = "") -> Path:
    """A path in a list or a table, which may hold `${NAME}` as a study file may.

    Raises:
        StudyError: as `located`, or a variable has no value.
    """
    if _is_there(folder, written):
        return located(written, folder, field)
    try:
        text, _ = resolve(written)
    except UnsetVariable as unset:
        raise StudyError(f"{folder}: {field}{': ' if field else ''}{written!r}: {unset}") from unset
    return located(str(text), folder, field)


def _is_there(folder: Path, text: str) -> bool:
    try:
        return (folder / text).exists()
    except (OSError, ValueError):
        return False


def studies_root() -> Path:
    """Where `studies/` is: DIFFEX_ROOT, else the working directory, else this checkout."""
    if root := os.environ.get("DIFFEX_ROOT"):
        return Path(root)
    here = Path.cwd()
    return here if (here / "studies").is_dir() else Path(__file__).parents[2]
