"""Editors and judges that do what a test says, and what may go wrong in anybody's code."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from diffex_dagster.editing.protocol import EditRequest
from tests.support.toys import picture

Batch = list[tuple[Any, Any]]
ANYTHING = [
    KeyError("radius"), ZeroDivisionError("division by zero"), struct.error("unpack requires 4 bytes"), StopIteration(),
    UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"), SystemExit(3), AssertionError(), OSError(5, "no"),
]  # fmt: skip


class Editor:
    """An editor that does what a test says."""

    fingerprint = "of a test"

    def __init__(self, does: Callable[[Sequence[EditRequest]], Any]) -> None:
        self.does = does

    def edit(self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]) -> Any:
        return self.does(requests)


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


def late(error: BaseException) -> Callable[[Sequence[EditRequest]], Iterator[Batch]]:
    """Makes one edit before it fails."""

    def fail(requests: Sequence[EditRequest]) -> Iterator[Batch]:
        yield [(requests[0], picture(90))]
        raise error

    return fail


def one_sentence(error: BaseException) -> str:
    assert "\n" not in str(error) and len(str(error)) < 600
    return str(error)


class Judge:
    """A judge that says what a test says."""

    fingerprint = "of a test"

    def __init__(self, says: Callable[[Sequence[Any]], Any]) -> None:
        self.says = says

    def evidence(self, pictures: Mapping[str, Image.Image], pairs: Sequence[Any]) -> Any:
        return self.says(pairs)
