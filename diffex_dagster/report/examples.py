"""Which of a feature's images the page shows first, and what it says under them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from PIL import ImageChops

from diffex_dagster.report.pictures import Book
from diffex_dagster.report.wording import number, plain, signed
from diffex_dagster.results import Example, Turn, opened

BARELY = 10  # grey levels (of 255): an edit that changes 99% of its pixels by less has drawn nothing


def change(example: Example) -> int:
    """The change, in grey levels, that 99% of the edit's pixels stay below, against the null edit.

    Not the mean: glasses cover few pixels, and resampling noise changes all of them a little.
    """
    edit, null = opened(example.edit).convert("RGB"), opened(example.null).convert("RGB")
    if edit.size != null.size:
        return 255
    difference = ImageChops.difference(edit, null)
    counts = difference.convert("L").histogram()
    return int(np.searchsorted(np.cumsum(counts), 0.99 * sum(counts)))


ALREADY = "was so already"
"""Why an image does not count for a feature whose attribute it shows before the edit (or lacks, for a removed one)."""


class Failures:
    """Says why an edit does not count as one. Remembers, since comparing large pictures takes time."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Example, str | None]] = {}  # keeps the example alive, so that its id stays its own

    def __call__(self, example: Example) -> str | None:
        """The reason, or None where the edit succeeded."""
        if id(example) not in self._known:
            self._known[id(example)] = (example, _failure(example))
        return self._known[id(example)][1]


def _failure(example: Example) -> str | None:
    if not example.counted:
        return ALREADY
    if example.succeeded is False:
        return "edit did not take"
    if example.succeeded is None and change(example) < BARELY:
        return "edit changed almost nothing"
    return None


def typical(examples: Sequence[Example], effect: float, failures: Failures, but: Container[str] = ()) -> Example | None:
    """The image that stands for a feature: the successful edit whose effect is nearest to the mean.

    Images named in `but` are avoided where others are left, so that one face does not stand for everything.
    """
    taken = [example for example in examples if failures(example) is None] or list(examples)
    taken = [example for example in taken if example.image not in but] or taken
    return min(taken, key=lambda example: abs(example.effect - effect), default=None)


def sections(
    examples: Sequence[Example], effect: float, limit: int | None, failures: Failures
) -> list[tuple[str, list[int]]]:
    """Sections of a feature's strip: (heading, indices into `examples`).

    Both ends of the order by effect are shown, and the failures: the strongest images, then those that moved least or
    the other way, then edits that did not take, then images that were so already. An index appears once.

    Args:
        examples: by descending effect.
        effect: the feature's mean effect; its sign says which end is the strong one.
        limit: how many in all (None: three of each).
    """
    out = [i for i, example in enumerate(examples) if failures(example)]
    order = [i for i in range(len(examples)) if i not in out]
    already = [i for i in out if not examples[i].counted]
    failed = [i for i in out if examples[i].counted]
    if effect < 0:
        order.reverse()
    each = 3 if limit is None else max(1, limit // 3)
    most = order[:each]
    other = order[each:][-each:]
    against = [i for i in other if examples[i].effect * (1 if effect >= 0 else -1) < 0]
    heading = "Moved the other way" if len(against) == len(other) else "Moved least"
    if against and len(against) < len(other):
        heading = "Moved least, or the other way"
    found = [("Moved most", most), (heading, other), ("Edits that failed", failed[:each])]
    found.append(("Not counted, so already", already[:each]))
    return [(title, indices) for title, indices in found if indices]


def named(example: Example) -> str:
    """An image by its file, with the beginning of its key: `dogs/0001.jpg (5f0c2a99)`; the key alone without a file."""
    name, key = plain(example.file), plain(example.image, 60)
    if not name or name == key:
        return key
    return f"{name if len(name) <= 60 else '…' + name[-59:]} ({key[:8]})"


def turn_of(example: Example, turn: Turn | None) -> str:
    """What an edit makes of a picture: `becomes “zebra”`, `the class changes`, or nothing."""
    if turn and (example.becomes or example.leaves):
        return turn.becomes if example.becomes else turn.leaves
    return "the class changes" if example.flipped else ""


def entry(example: Example, book: Book, digits: int, failures: Failures, turn: Turn | None = None) -> dict[str, Any]:
    """One example as the page's script reads it."""
    return {
        "k": plain(example.image, 60),
        "n": named(example),
        "p": [book.add(example.original), book.add(example.null), book.add(example.edit)],
        "s": [number(x, digits) for x in (example.score_original, example.score_null, example.score_edit)],
        "d": _finite(example.effect),
        "lines": [", ".join(filter(None, (signed(example.effect, digits), turn_of(example, turn))))],
        "flip": bool(example.flipped),
        "fail": failures(example),
    }


def compared_entry(
    pair: tuple[Example, Example],
    names: Sequence[str],
    book: Book,
    digits: int,
    failures: Failures,
    turn: Turn | None = None,
) -> dict[str, Any]:
    """One image under two versions. The pictures are the same; the scores differ."""
    first, last = pair
    lines = [
        f"{plain(name, 40)}: {number(x.score_null, digits)} → {number(x.score_edit, digits)} "
        f"({', '.join(filter(None, (signed(x.effect, digits), turn_of(x, turn))))})"
        for name, x in zip((names[0], names[-1]), pair, strict=True)
    ]
    return {
        "k": plain(first.image, 60),
        "n": named(first),
        "p": [book.add(first.original), book.add(first.null), book.add(first.edit)],
        "s": None,
        "d": _finite(last.effect - first.effect),
        "lines": lines,
        "flip": bool(first.flipped != last.flipped),
        "fail": failures(first),
    }


def _finite(value: float) -> float:
    return round(float(value), 5) if np.isfinite(value) else 0.0
