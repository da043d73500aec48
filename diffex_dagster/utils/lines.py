"""Text from a model, a file or a person as one line that is safe to print."""

from __future__ import annotations

import unicodedata


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
