"""An object that a user's code made, whatever of which fails is one sentence; and what its code is known by."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from diffex_dagster.errors import DiffExError
from diffex_dagster.utils.hashing import digest
from diffex_dagster.utils.imports import at_own_code
from diffex_dagster.utils.sources import beside, sources_digest

T = TypeVar("T")


def code_digest(factory: str, folder: Path, options: Mapping[str, Any]) -> str:
    """Hash of the code of a factory beside the study file, with its options; empty for one of an installed package.

    The code is its module and what that imports from the folder: nobody has to remember to change a fingerprint. What
    an installed package makes is known by its own fingerprint.
    """
    return digest(sources_digest(factory, folder), dict(options)) if beside(factory, folder) else ""


def own(made: T, field: str, kind: type[DiffExError], code: str = "") -> T:
    """An editor or classifier that a user wrote, whatever of which fails is one sentence.

    Args:
        made: the object.
        field: where it stands in the study, for messages.
        kind: of the errors.
        code: what its fingerprint has to cover besides what it says itself.
    """
    return cast(T, _Own(made, field, kind, code))


class _Own:
    """Stands for a user's editor or classifier."""

    def __init__(self, made: Any, field: str, kind: type[DiffExError], code: str) -> None:
        self._made, self._field, self._kind, self._code = made, field, kind, code

    @property
    def fingerprint(self) -> str:
        with at_own_code(f"{self._field}: its fingerprint cannot be asked for", "mend it", self._kind):
            said = self._made.fingerprint
        if not isinstance(said, str) or not said:
            raise self._kind(f"{self._field}: its fingerprint is {said!r}; give it a text that says what it is")
        return digest(said, self._code) if self._code else said

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # code that asks what it is hears what it stands for
        return type(self._made)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if inspect.getattr_static(self._made, name, None) is None:
            return getattr(self._made, name)  # it is not there, or made up on the spot
        with at_own_code(f"{self._field}: its {name!r} cannot be asked for", "mend it", self._kind):
            found = getattr(self._made, name)
        return self._labels(found) if name == "labels" else found

    def _labels(self, found: Any) -> tuple[str, ...]:
        named = isinstance(found, Iterable) and not isinstance(found, str | bytes)
        labels = tuple(found) if named else ()
        if not labels or not all(isinstance(each, str) for each in labels):
            raise self._kind(f"{self._field}: its labels are {found!r}; give it the class names as a list of texts")
        return labels

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._made(*arguments, **options)
