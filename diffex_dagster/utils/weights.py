"""Files of weights: whether they are whole, before anything is loaded. Nothing in them is executed."""

from __future__ import annotations

import json
from pathlib import Path

from diffex_dagster.errors import DiffExError, first_line, in_words

INDEX = "*.safetensors.index.json"
AGAIN = "get it again, or save it again with safe_serialization=True"


def check_weights(folder: Path, kind: type[DiffExError], variant: str | None = None) -> None:
    """Raise an error where weights are cut off, or one of several files of one model is missing.

    Only headers are read: a fraction of a second for gigabytes.

    Args:
        folder: with `*.safetensors`, and where these are several, the index that names them.
        kind: of the error.
        variant: which files are used, where the folder has those of several ("fp16"); the plain ones when None.

    Raises:
        DiffExError: of `kind`; names the file, and what to do.
    """
    for index in sorted(folder.glob(INDEX)):
        if _is_used(index, variant):
            _check_index(index, kind)
    for file in sorted(folder.glob("*.safetensors")):
        if _is_used(file, variant):
            check_file(file, kind)


def check_file(file: Path, kind: type[DiffExError]) -> None:
    """Raise an error for a safetensors file that is no such file, or is cut off."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise kind(
            f"{file.absolute()}: the file of weights is damaged or cut off ({first_line(error)}); {AGAIN}"
        ) from error


def _check_index(index: Path, kind: type[DiffExError]) -> None:
    try:
        named = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        missing = [name for name in named if not (index.parent / name).is_file()]
    except Exception as error:  # of JSON, or of what stands in it
        raise kind(f"{index.absolute()}: the list of weights cannot be read ({in_words(error)}); {AGAIN}") from error
    if missing:
        raise kind(
            f"{index.absolute()}: {len(missing)} of the {len(named)} files of weights are not there, first "
            f"{missing[0]}; {AGAIN}"
        )


def _is_used(file: Path, variant: str | None) -> bool:
    """Of `model.safetensors` and `model.fp16.safetensors`, one is read."""
    after_the_dot = file.name.removesuffix(".index.json").removesuffix(".safetensors").partition(".")[2]
    return after_the_dot.partition("-")[0] == (variant or "")
