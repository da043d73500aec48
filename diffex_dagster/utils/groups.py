"""Small batches put together, so that keeping them costs less: one commit for many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

MOST = 256  # items, where keeping them takes no time
SECONDS = 1.0
SHARE = 10  # a group lasts at least so many times as long as keeping the one before it took
LONGEST = 10.0  # seconds


def in_groups(
    batches: Iterable[Sequence[Item]],
    most: int = MOST,
    seconds: float = SECONDS,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[list[Item]]:
    """The items of batches, many at a time: a group is full with `most` items, or `seconds` after its first one.

    Where the receiver takes long to keep one, the next are larger than that: none goes before it has lasted
    `SHARE` times as long as keeping the one before it took, or `LONGEST` seconds. What a commit costs, however small it
    is, then takes about a tenth of the time at most while a commit takes less than a second.

    An empty batch says that nothing has come for a while, and lets a group go that is old enough. Where the batches
    end with an error, what came before is given first and the error is raised after it.
    """
    group: list[Item] = []
    began, least = 0.0, 0.0
    try:
        for batch in batches:
            if batch and not group:
                began = now()
            group += batch
            lasted = now() - began
            if group and lasted >= least and (len(group) >= most or lasted >= seconds):
                given = now()
                yield group
                group, least = [], min(SHARE * (now() - given), LONGEST)
    except GeneratorExit:  # nobody wants them any more
        raise
    except BaseException:
        if group:
            yield group
        raise
    if group:
        yield group
