"""Printing to whatever reads: terminals of any encoding, files, and pipes that are closed early."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_IN_ASCII = {
    "−": "-", "–": "-", "—": "-", "▲": "^", "▼": "v", "◆": "*", "●": "*", "○": "o", "✓": "+", "✕": "x", "×": "x",
    "→": ">", "←": "<", "↑": "^", "↓": "v", "≤": "<", "≥": ">", "≈": "~", "±": "+", "…": ".", "’": "'", "‘": "'",
    "≠": "!", "“": '"', "”": '"', "ρ": "r", "Δ": "d", "├": "|", "└": "`", "│": "|", "─": "-", "━": "-", "·": ".",
}  # fmt: skip


def in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs`: what an encoding lacks is written with one letter that it has."""
    assert isinstance(error, UnicodeEncodeError)
    written = "".join(_plain(letter) for letter in error.object[error.start : error.end])
    return written, error.end


def _plain(letter: str) -> str:
    if letter in _IN_ASCII:
        return _IN_ASCII[letter]
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or "?"


codecs.register_error("diffex.plain", in_plain_letters)


def every_letter(*streams: Any) -> None:
    """Let streams of any encoding (cp1252, ASCII) take every text, marks that they lack in plain letters."""
    for stream in streams:
        if hasattr(stream, "reconfigure") and not str(stream.encoding).lower().replace("-", "").startswith("utf"):
            stream.reconfigure(errors="diffex.plain")


@contextmanager
def gone_quietly() -> Iterator[None]:
    """Inside, a reader that closes its end of a pipe (`| head`) ends the program without a traceback."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more is flushed into the pipe at exit
        sys.exit(141)  # 128 + SIGPIPE, as the shell counts it


def print_exact(text: str, end: str = "\n") -> None:
    """Print data (CSV, JSON) letter by letter: in UTF-8 where the output's own encoding lacks one of them."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.flush()
            sys.stdout.buffer.write((text + end).encode("utf-8"))
            sys.stdout.buffer.flush()
            return
    print(text, end=end)
