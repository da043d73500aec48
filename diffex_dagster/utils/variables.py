"""`${NAME}` in a study file: the value of an environment variable, or an error; never a text with a dollar sign."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class UnsetVariable(ValueError):
    """A reference that has no value; `place` is where in the file it stands."""

    def __init__(self, place: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.place = place


def resolve(value: Any, environment: Mapping[str, str] | None = None) -> tuple[Any, dict[str, str]]:
    """Fields with each `${NAME}` replaced by its value, and each `${NAME:-other}` by `other` where NAME has none.

    `$${` stands for `${` itself. A variable that is empty counts as one that is not set.

    Returns:
        The fields, and the texts that have changed: what was written, by what it has become.

    Raises:
        UnsetVariable: a variable is not set and has no other value, or what stands in the braces is no name.
    """
    written: dict[str, str] = {}
    given = os.environ if environment is None else environment

    def look_up(reference: re.Match[str], place: tuple[str, ...]) -> str:
        escaped, inside, closed = reference.groups()
        if escaped:
            return reference.group()[1:]
        parts = _NAME.fullmatch(inside)
        if not closed or parts is None:
            raise UnsetVariable(place, f"{reference.group()!r} names no environment variable; write ${{NAME}}")
        name, other = parts.groups()
        found = given.get(name) or other
        if found is None:
            state = "is empty" if name in given else "is not set"
            raise UnsetVariable(place, f"the environment variable {name} {state}; set it, or write ${{{name}:-...}}")
        return found

    def walk(node: Any, place: tuple[str, ...]) -> Any:
        if isinstance(node, dict):
            return {key: walk(each, (*place, str(key))) for key, each in node.items()}
        if isinstance(node, list):
            return [walk(each, (*place, str(i))) for i, each in enumerate(node)]
        if not isinstance(node, str) or "${" not in node:
            return node
        found = _REFERENCE.sub(lambda reference: look_up(reference, place), node)
        written[found] = node
        return found

    return walk(value, ()), written


# Fields that say where something is or runs, not what it is: their content is what versions go by.
PLACES = frozenset(
    "folder glob files table dataset file edits context results checkpoint config inversion_folder manifest weights "
    "labels url base_url key_env device dtype batch_size timeout_s retries parallel".split()
)

_FREE = frozenset({"options", "parameters"})  # the code that reads these may score or paint by any of them


def as_written(settings: Any, written: Mapping[str, str], place: bool = False) -> Any:
    """Dumped settings in which every place stands as the file writes it: `${DATA}/faces`, wherever that is today.

    Args:
        settings: JSON of a part of a study.
        written: as `resolve` returns it.
        place: whether `settings` itself is the value of a place.
    """
    if isinstance(settings, dict):
        return {
            key: value if key in _FREE else as_written(value, written, key in PLACES) for key, value in settings.items()
        }
    if isinstance(settings, list):
        return [as_written(value, written, place) for value in settings]
    if not place:
        return settings
    return next((text for found, text in _spellings(written) if str(settings) == found), settings)


def _spellings(written: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What was written, by how the value may look once a path has been made of it."""
    from pathlib import Path

    for found, text in written.items():
        yield found, text
        yield str(Path(found)), text
