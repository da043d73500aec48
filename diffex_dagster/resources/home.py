"""The folder of DAGSTER_HOME, for commands: made where it is missing, or one sentence that says why not."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from diffex_dagster.errors import DiffExError, in_words

SETTINGS = "dagster.yaml"


def home_folder(make: bool = True) -> Path | None:
    """The folder of DAGSTER_HOME, absolute and writable; None where the variable is not set.

    Args:
        make: make a folder that is missing, with the settings that this project ships: a pool with one place for the
            GPU. Otherwise a missing folder is None too.

    Raises:
        DiffExError: it is a file, or cannot be written to.
    """
    written = os.environ.get("DAGSTER_HOME")
    if not written:
        return None
    try:
        folder = Path(written).expanduser().absolute()
        new = not folder.exists()
        if new and not make and next(above for above in folder.parents if above.exists()).is_dir():
            return None
        folder.mkdir(parents=True, exist_ok=True)
        if new:
            settings = files("diffex_dagster.resources").joinpath(SETTINGS).read_text("utf-8")
            (folder / SETTINGS).write_text(settings, "utf-8")
    except (OSError, RuntimeError) as error:
        raise DiffExError(
            f"DAGSTER_HOME: {written} cannot be used as a folder ({in_words(error)}); name one that can be written to, "
            "or unset the variable"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiffExError(f"DAGSTER_HOME: {folder} cannot be written to; name another folder, or unset the variable")
    return folder
