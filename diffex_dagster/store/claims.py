"""Who makes which edits, where several runs work on one store: each takes what no other is making.

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

SHARES = 32  # an editor's images fall into so many; each has a lock
AT_ONCE = 1024  # edits claimed at a time: many, since an editor fills its last batch badly
SAY_EVERY = 60.0  # seconds


def in_turn(
    folder: Path,
    editor: str,
    requests: Sequence[EditRequest],
    at_once: int = AT_ONCE,
    take: Take | None = None,
) -> Iterator[list[EditRequest]]:
    """The requests in portions that no other run is making while this one works on them, in their order.

    What others are making comes last, once they are done with it: ask the store again for what it then has.

    Args:
        folder: the results folder.
        editor: fingerprint.
        at_once: about how many to claim together.
        take: holds a name where it is free; file locks in the results folder when left out.
    """
    waiting: dict[int, list[EditRequest]] = {}
    for request in requests:
        waiting.setdefault(_share(request.image), []).append(request)
    if take is None:
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError:
            yield list(requests)  # the store will say what is wrong with the folder
            return
        take = partial(_take, folder / "locks")
    name = hashlib.sha256(editor.encode()).hexdigest()[:12]
    said = time.monotonic() + 3.0
    while waiting:
        with ExitStack() as held:
            mine: set[int] = set()
            for share in list(waiting):
                if sum(len(waiting[each]) for each in mine) >= at_once:
                    break
                if take(held, f"{name}-{share:02d}"):
                    mine.add(share)
            if mine:
                portion = [request for request in requests if _share(request.image) in mine]
                for share in mine:
                    del waiting[share]
                yield portion
                continue
        if time.monotonic() >= said:
            log.warning("%s: another run is making the same edits; waiting for it, to use what it makes", folder)
            said = time.monotonic() + SAY_EVERY
        time.sleep(0.2)


def _share(image: str) -> int:
    return hashlib.sha256(image.encode()).digest()[0] % SHARES


def _take(locks: Path, held: ExitStack, name: str) -> bool:
    """Whether a lock was free; it is held then. Where a disk knows no locks, everything is free."""
    try:
        held.enter_context(FileLock(locks / f"{name}.lock", blocking=False))
    except Timeout:
        return False
    except (OSError, NotImplementedError):
        return True
    return True
