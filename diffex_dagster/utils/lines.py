"""What is printed on one line: text from a model, a file or a person, safe to print; decimals of numbers."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable


def one_line(text: str) -> str:
    """White space of any kind, line breaks among it, as single spaces, and nothing that cannot be printed.

    Control, format and private-use characters are left out: terminal escapes and bidirectional overrides would change
    how what stands around them reads.
    """
    kept = (" " if char.isspace() else char for char in text if char.isspace() or printable(char))
    return " ".join("".join(kept).split())


def in_print(text: str) -> str:
    """The same of text that is laid out already: spaces and line breaks stay."""
    return text if text.isprintable() else "".join(char for char in text if char == "\n" or printable(char))


def printable(char: str) -> bool:
    """Whether it is no control, format, private-use, surrogate or unassigned character."""
    return unicodedata.category(char)[0] != "C"


def decimals(values: Iterable[float | None], least: int = 3) -> int:
    """Decimals in which the largest of some numbers has two digits: a measure may be in hundred thousandths.

    Args:
        least: never fewer than these.
    """
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=1.0)
    if largest == 0.0:
        return max(least, 3)
    while largest < 9.5 * 10.0**-least and least < 15:
        least += 1
    return least
