"""Which run makes which edits, where several work on one store: each takes what no other is making.

Runs may belong to different Dagster instances, which know nothing of each other; what they share is the results folder.
A run holds file locks for what it is making, which the operating system lets go of however the run ends.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.utils.secrets import logger

log = logger(__name__)

Take = Callable[[ExitStack, str], bool]
"""Holds a name until the stack is left; False where another run holds it."""

SHARES = 32  # an editor's images fall into so many, neighbours by key into the same; each has a lock
AT_ONCE = 1024  # edits claimed at a time
SAY_EVERY = 60.0  # seconds

_Waiting = tuple[Sequence[EditRequest], list[int]]  # a batch, and the shares of its images


def in_turn(
    folder: Path,
    editor: str,
    batches: Sequence[Sequence[EditRequest]],
    at_once: int = AT_ONCE,
    take: Take | None = None,
) -> Iterator[list[Sequence[EditRequest]]]:
    """The batches in portions that no other run is making while this one works on them, in their order.

    A batch is claimed whole, by the shares of all its images. What others are making comes last, once they are done
    with it: ask the store again for what it then has.

    Args:
        folder: the results folder.
        editor: fingerprint.
        batches: of edits that are made together; most hold neighbours by image key.
        at_once: about how many edits to claim together.
        take: holds a name where it is free; file locks in the results folder when left out.
    """
    waiting = [(batch, sorted({_share(request.image) for request in batch})) for batch in batches]
    if take is None:
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError:
            yield list(batches)  # the store will say what is wrong with the folder
            return
        take = partial(_take, folder / "locks")
    name = hashlib.sha256(editor.encode()).hexdigest()[:12]
    said = time.monotonic() + 3.0
    while waiting:
        with ExitStack() as held:
            mine, others = set[int](), set[int]()  # shares
            portion, left, size = list[Sequence[EditRequest]](), list[_Waiting](), 0
            for batch, shares in waiting:
                free = size < at_once and others.isdisjoint(shares)
                if free and _take_all(held, take, name, shares, mine, others):
                    portion.append(batch)
                    size += len(batch)
                else:
                    left.append((batch, shares))
            waiting = left
            if portion:
                yield portion
                continue
        if time.monotonic() >= said:
            log.warning("%s: another run is making the same edits; waiting for it, to use what it makes", folder)
            said = time.monotonic() + SAY_EVERY
        time.sleep(0.2)


def _share(image: str) -> int:
    """Which share an image is of: neighbours by key share one, so that a batch is of few."""
    try:
        return int(image[:2], 16) * SHARES // 256 % SHARES
    except ValueError:  # no hash
        return hashlib.sha256(image.encode()).digest()[0] % SHARES


def _take_all(held: ExitStack, take: Take, name: str, shares: Sequence[int], mine: set[int], others: set[int]) -> bool:
    """Whether all these shares were free or are this run's; they are its then. One that is not goes to `others`."""
    with ExitStack() as further:
        for share in shares:
            if share not in mine and not take(further, f"{name}-{share:02d}"):
                others.add(share)
                return False
        held.enter_context(further.pop_all())
    mine.update(shares)
    return True


def _take(locks: Path, held: ExitStack, name: str) -> bool:
    """Whether a lock was free; it is held then. Where a disk knows no locks, everything is free."""
    try:
        held.enter_context(FileLock(locks / f"{name}.lock", blocking=False))
    except Timeout:
        return False
    except (OSError, NotImplementedError):
        return True
    return True
