"""Writes what a study says about other pictures into a folder: the page, and the same facts for other programs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffex_dagster.errors import DiffExError
from diffex_dagster.report.applied_model import Applied, AppliedFeature, AppliedRow, applied_data, applied_rows
from diffex_dagster.report.applied_page import render_applied
from diffex_dagster.report.files import effects_csv
from diffex_dagster.report.wording import plain
from diffex_dagster.utils.columns import as_flat_row, columns
from diffex_dagster.utils.files import write_atomically


def write_applied(found: Applied, folder: Path) -> list[Path]:
    """Write index.html, applied.json, images.csv (a row a picture and attribute) and attributes.csv.

    Each file appears whole or not at all; what the folder held under other names stays.

    Args:
        folder: made when it is missing.

    Returns:
        The files, the page first.

    Raises:
        DiffExError: the folder cannot be written.
    """
    attributes = [as_flat_row(feature) for feature in found.features]
    contents = {
        "index.html": render_applied(found),
        "applied.json": json.dumps(applied_data(found), ensure_ascii=False, indent=2, allow_nan=False) + "\n",
        "images.csv": effects_csv(applied_rows(found), list(columns(AppliedRow))),
        "attributes.csv": effects_csv(attributes, list(columns(AppliedFeature))),
    }
    with _in_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            write_atomically(folder / name, text.encode("utf-8"))
    return [folder / name for name in contents]


def check_folder(folder: Path) -> None:
    """Make the folder, and see that files can be written there, before anything is spent on what goes into it.

    Raises:
        DiffExError: it cannot be made or written.
    """
    with _in_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiffExError(
            f"The list cannot be written to {plain(str(folder))} ({error.strerror or error}): choose a folder that you "
            "may write to, on a disk with room left."
        ) from error
