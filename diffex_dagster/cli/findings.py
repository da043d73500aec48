"""What `diffex doctor` finds: one line each, and looks that survive whatever they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from diffex_dagster.errors import DiffExError, in_words


@dataclass(frozen=True)
class Finding:
    """One line: whether it is fine (None: worth knowing), what was looked at, what was found, and what to do."""

    fine: bool | None
    what: str
    found: str
    remedy: str = ""


def surviving(what: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Every finding of a look; whatever it raises is one more, and the next look follows."""
    try:
        yield from look()
    except DiffExError as error:
        yield Finding(False, what, str(error))
    except Exception as error:  # what a package, a driver or a disk raises: to find such things is what doctor is for
        yield Finding(False, what, f"cannot be looked at ({in_words(error)})", "put that right, then look again")


def tried(what: str, check: Callable[[], str]) -> Finding:
    """What a check found; whatever it raises is the finding."""
    try:
        return Finding(True, what, check())
    except DiffExError as error:
        return Finding(False, what, str(error))
    except Exception as error:  # of somebody else's code, which `run` would meet too
        return Finding(False, what, f"{type(error).__name__}: {in_words(error)}", "a run would stop at this: mend it")
