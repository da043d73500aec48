"""What names and texts of a study file may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from diffex_dagster.utils.text import as_text

Text = Annotated[str, BeforeValidator(as_text)]  # YAML reads 7 as a number
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]  # becomes part of asset keys and folder names


def fit_for_every_disk(names: list[str]) -> None:
    """Raise ValueError for names that cannot be folders side by side on every disk: some do not tell A from a, and know
    devices by name.
    """
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in DEVICES:
            raise ValueError(f"{name!r} is the name of a device on Windows, and no folder there; choose another")
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ValueError(
                f"{other!r} and {name!r} differ in capital letters only, and would share a folder on some disks; "
                "rename one of them"
            )
