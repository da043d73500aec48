"""Text and YAML that people write: in any encoding, and never more than such a file can hold."""

from __future__ import annotations

import codecs
import copy
import datetime
import functools
import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

LARGEST_YAML = 4_000_000  # bytes
MOST_NODES = 200_000  # with every alias written out
DEEPEST = 60  # levels

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(content: bytes) -> tuple[str, str]:
    """Text, and its encoding: by the byte-order mark, else UTF-8, else that of Windows (cp1252)."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace"), encoding
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), "cp1252"


def read_text(file: Path) -> str:
    """The text of a file, whatever encoding it was saved in.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    return decoded(read_bytes(file))[0]


def read_bytes(file: Path) -> bytes:
    """The bytes of a regular file; what is none (a pipe, a device) would never end.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if file.exists() and not file.is_file():
        raise OSError(None, "it is a folder" if file.is_dir() else "it is no regular file", str(file))
    return file.read_bytes()


class UnreasonableYAML(YAMLError):
    """YAML that no person writes: far too large, too deep, or aliases that stand for millions of values."""

    def __str__(self) -> str:
        return str(self.args[0])


class WholeNumber(int):
    """A whole number that knows how it was written: `007` is 7, and as a name it is "007"."""

    written: str

    def __new__(cls, value: int, written: str) -> WholeNumber:
        number = super().__new__(cls, value)
        number.written = written
        return number

    def __str__(self) -> str:
        return self.written

    def __reduce__(self) -> tuple[type[WholeNumber], tuple[int, str]]:
        return WholeNumber, (int(self), self.written)


def as_text(value: Any) -> Any:
    """What a field of text takes: a whole number is the text that it was written as, and all else must be text.

    Raises:
        ValueError: YAML has made something else of it (a date, true, 1e3), whose spelling is lost.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | None):
        if isinstance(value, list | dict | tuple):
            return value  # no slip of quotes: pydantic says what belongs there
        raise ValueError(
            f"YAML reads this as {_KINDS.get(type(value), 'no text')}; put it in quotes, so that it is text"
        )
    return str(value) if isinstance(value, int) else value


_KINDS: dict[type, str] = {bool: "yes or no", float: "a number", datetime.date: "a date", datetime.datetime: "a date"}


class _Constructor(SafeConstructor):
    """Whole numbers remember how they were written."""

    def construct_yaml_int(self, node: Any) -> Any:
        value = super().construct_yaml_int(node)
        return value if str(value) == str(node.value) else WholeNumber(value, str(node.value))


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)


def load_yaml(text: str, *, with_lines: bool = False) -> Any:
    """The content of a YAML text.

    Args:
        text: YAML 1.2; nothing in it can make an object or run code.
        with_lines: maps and lists that know which line they were on.

    Raises:
        YAMLError: it is not valid YAML, or more than a file that a person writes can hold (`UnreasonableYAML`).
    """
    try:
        if not with_lines:
            return copy.deepcopy(_plain_content(text))
        check_size(text)
        return YAML(typ="rt").load(text)
    except RecursionError as error:
        raise UnreasonableYAML("it is nested too deeply") from error


@functools.lru_cache(maxsize=8)
def _plain_content(text: str) -> Any:
    """The content of a text, to be copied before a change: every stage of a run reads the study's file again."""
    check_size(text)
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    return yaml.load(text)


def check_size(text: str) -> None:
    """Refuse YAML that would take minutes or gigabytes to look at, before any of it is built.

    Raises:
        UnreasonableYAML: see there. YAML that is merely wrong passes: the code that loads it says what is wrong.
    """
    if len(text) > LARGEST_YAML:
        raise UnreasonableYAML(f"it has {len(text)} letters, more than the {LARGEST_YAML} that it may have")
    sizes: dict[str, int] = {}  # of what each anchor stands for
    open_anchors: list[str | None] = []
    counts = [0]
    try:
        for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
            if isinstance(event, AliasEvent):
                if event.anchor in open_anchors:
                    raise UnreasonableYAML(f"*{event.anchor} stands inside what it stands for")
                counts[-1] += sizes.get(str(event.anchor), 1)
            elif isinstance(event, ScalarEvent):
                counts[-1] += 1
                if event.anchor:
                    sizes[str(event.anchor)] = 1
            elif isinstance(event, CollectionStartEvent):
                if len(counts) > DEEPEST:
                    raise UnreasonableYAML(f"it is nested more than {DEEPEST} levels deep")
                open_anchors.append(event.anchor)
                counts.append(1)
            elif isinstance(event, CollectionEndEvent):
                size, anchor = counts.pop(), open_anchors.pop()
                counts[-1] += size
                if anchor:
                    sizes[str(anchor)] = size
            if counts[-1] > MOST_NODES:
                raise UnreasonableYAML(f"its aliases (*name) stand for more than {MOST_NODES} values; write them out")
    except UnreasonableYAML:
        raise
    except (YAMLError, RecursionError, ValueError):
        return
