"""The errors a user can do something about, and how those of others are quoted in them."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from diffex_dagster.utils.secrets import redact


class DiffExError(Exception):
    """Something the user can put right. The message is one sentence that names what is wrong, where, and the remedy.

    No secret that the process knows stands in it, whatever of somebody else's text it quotes.

    Attributes:
        passes: whether it may pass by itself: a server that is down, a database that somebody has open.
    """

    passes = False

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact(each) if isinstance(each, str) else each for each in args))


Said = TypeVar("Said", bound=DiffExError)


def passing(error: Said) -> Said:
    """The error, as one that may pass by itself: asking again later may help, without anybody's doing."""
    error.passes = True
    return error


def may_pass(error: BaseException) -> bool:
    """Whether an error, or the one that it was raised from, may pass by itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DiffExError) and cause.passes:
            return True
        cause = cause.__cause__
    return False


class StudyError(DiffExError):
    """A study file, or a file it names, is wrong."""


class CorpusError(DiffExError):
    """A corpus (a VLM's answer, user overrides, a hand-written tree) is wrong."""


class EditorError(DiffExError):
    """The diffusion editor cannot be loaded or cannot make the edit that was asked for."""


class ClassifierError(DiffExError):
    """The classifier cannot be loaded, lacks the class that was asked for, or returns something unexpected."""


class StoreError(DiffExError):
    """The results database cannot be opened or written."""


_FRAME = re.compile(r"^(Traceback \(most recent|File \"|\.\.\.|[~^\s<-]*[~^]+|-+$|=+$|\d+: )|^frame #\d|^#\d+ ")
_CAUSE = re.compile(
    r"^([A-Za-z_.]*(Error|Exception|Invalid|Warning)\b:?.*|.*\b(error|reason|caused by|because)\b: .+)", re.I
)
_SELF_EXPLAINING = (OSError, RuntimeError, ValueError, NotImplementedError, ImportError)
LONGEST = 240  # letters of somebody else's message that a sentence of ours quotes


def telling(text: str, longest: int = LONGEST) -> str:
    """What a long message says, on one line: its heading and, where the cause stands further down, the cause.

    Tracebacks and lines of marks are left out. A message of one line comes back as it is, cut to `longest` letters.
    """
    lines = [" ".join(line.split()) for line in redact(text).splitlines()]
    said = [line for line in lines if line and not _FRAME.match(line)] or [line for line in lines if line]
    if not said:
        return ""
    heading, below = said[0], said[1:]
    cause = next((line for line in reversed(below) if _CAUSE.match(line)), None)
    if cause is not None and cause != heading:
        heading = _short(heading, longest // 2)
        return _short(f"{heading} {cause}", longest)
    return _short(" ".join(said), longest)


def in_words(error: BaseException, longest: int = LONGEST) -> str:
    """Somebody else's exception in its own words, with its kind where the words alone would not say what is wrong."""
    text = telling(str(error), longest)
    if isinstance(error, OSError) and error.strerror and str(error).startswith("[Errno"):
        text = f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    if not text:
        return type(error).__name__
    return text if type(error) in _SELF_EXPLAINING or isinstance(error, OSError) else f"{type(error).__name__}: {text}"


@contextmanager
def at_the_boundary(
    doing: str,
    remedy: str,
    kind: type[DiffExError] = DiffExError,
    foreseen: Mapping[type[Exception], str] | None = None,
    words: Callable[[BaseException], str] | None = None,
) -> Iterator[None]:
    """Around a call of somebody else's code: whatever it raises becomes one sentence of ours.

    Only that call belongs inside: a mistake of our own must stay a traceback. What is a sentence already, an interrupt
    and a want of memory pass through.

    Args:
        doing: what fails, as the beginning of a sentence: "v1: the model cannot be loaded".
        remedy: what to do, without losing anything.
        kind: which error the user gets.
        foreseen: further remedies, by kinds of exception.
        words: puts an exception into words; `in_words` when left out.

    Raises:
        DiffExError: of `kind`.
    """
    try:
        yield
    except (DiffExError, MemoryError):
        raise
    except Exception as error:
        better = next((text for each, text in (foreseen or {}).items() if isinstance(error, each)), remedy)
        raise kind(f"{doing} ({(words or in_words)(error)}); {better}") from error


_ELSEWHERE = "make the folder writable, or name another one as results"
_CANNOT_WRITE = {
    errno.ENOSPC: "make room", errno.EDQUOT: "make room",
    errno.EROFS: _ELSEWHERE, errno.EACCES: _ELSEWHERE, errno.EPERM: _ELSEWHERE,
}  # fmt: skip


def of_a_disk(error: OSError) -> StoreError | None:
    """A full or read-only disk as a sentence, wherever a file was being written; None for any other error."""
    remedy = _CANNOT_WRITE.get(error.errno or 0)
    if remedy is None:
        return None
    return StoreError(
        f"a file cannot be written ({in_words(error)}); {remedy}, and run again: what was finished is kept"
    )


def first_line(error: BaseException) -> str:
    """What an error's text says, on one line: see `telling`; its kind where it says nothing."""
    return telling(str(error)) or type(error).__name__


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
