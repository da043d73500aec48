"""The Dagster instance of DAGSTER_HOME, for commands: made where it is missing, or one sentence that says why not."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import dagster as dg

from diffex_dagster.errors import DiffExError, in_words

_SETTINGS = "dagster.yaml"


def instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, so that the UI shows the run; one that forgets where there is none.

    What a step prints goes to the terminal, and is not also collected for the UI: the processes that collect it would
    answer Ctrl-C with tracebacks of their own.

    Raises:
        DiffExError: DAGSTER_HOME names something that cannot be an instance.
    """
    from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
    from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

    folder = home_folder()
    if folder is None:
        return dg.DagsterInstance.ephemeral()
    os.environ["DAGSTER_HOME"] = str(folder)  # absolute, as Dagster wants it
    try:
        made = dg.DagsterInstance.get()
    except Exception as error:  # Dagster's and its storages', of any kind
        raise DiffExError(
            f"DAGSTER_HOME: the instance in {folder} cannot be opened ({in_words(error)}); correct its {_SETTINGS}, or "
            "name another folder"
        ) from error
    if isinstance(made.compute_log_manager, LocalComputeLogManager):
        made._compute_log_manager = NoOpComputeLogManager()
    return made


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
            settings = files("diffex_dagster.resources").joinpath(_SETTINGS).read_text("utf-8")
            (folder / _SETTINGS).write_text(settings, "utf-8")
    except (OSError, RuntimeError) as error:
        raise DiffExError(
            f"DAGSTER_HOME: {written} cannot be used as a folder ({in_words(error)}); name one that can be written to, "
            "or unset the variable"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiffExError(f"DAGSTER_HOME: {folder} cannot be written to; name another folder, or unset the variable")
    return folder
