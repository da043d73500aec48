"""Asking a judge of edits, with one look at what comes back: a judge may be anybody's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from diffex_dagster.errors import DiffExError
from diffex_dagster.judging.protocol import Judge, Pair
from diffex_dagster.utils.imports import at_own_code

PORTION = 256  # pictures that are read, and pairs that a judge is asked, at a time
_KEPT = "and run again: what it judged before is kept"
_END = object()


def evidence_of(
    judge: Judge, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
) -> Iterator[list[tuple[Pair, float]]]:
    """The batches of `judge.evidence`: every pair once, with a finite number.

    Raises:
        DiffExError: the judge fails, leaves a pair out, or gives back something else.
    """
    it = f"the judge {judge.__class__.__name__}"
    doing = f"{it} fails while it judges {len(pairs)} edits"
    missing = dict.fromkeys(pairs)
    with at_own_code(doing, f"mend it {_KEPT}"):
        batches = iter(judge.evidence(pictures, pairs))
    while True:
        with at_own_code(doing, f"mend it {_KEPT}"):
            given: Any = next(batches, _END)
            batch = [] if given is _END else [(_pair(pair), float(value)) for pair, value in given]
        if given is _END:
            break
        for pair, value in batch:
            if pair not in missing:
                raise DiffExError(f"{it} judges {pair[1]!r} twice, or unasked; yield every pair once {_KEPT}")
            if not math.isfinite(value):
                raise DiffExError(f"{it} says {value} of {pair[1]!r}; give back finite numbers {_KEPT}")
            del missing[pair]
        yield batch
    if missing:
        prompt = next(iter(missing))[1]
        raise DiffExError(
            f"{it} leaves out {len(missing)} of {len(pairs)} questions, first about {prompt!r}; yield every pair once "
            f"{_KEPT}"
        )


def _pair(given: Any) -> Pair:
    key, prompt = given
    return str(key), str(prompt)
