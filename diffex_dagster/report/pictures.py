"""Pictures of a page: each embedded once, as WebP, within a budget."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cachetools import LRUCache
from PIL import Image

from diffex_dagster.results import Picture, opened

T = TypeVar("T")

BUDGET = 3_900_000  # characters of base64 on a page, so that the page stays under 5 MB with its text


@dataclass(frozen=True)
class Fit:
    """How pictures are made to fit: the largest side, WebP's quality, how many examples a feature shows."""

    side: int
    quality: int | None  # None: lossless
    examples: int | None  # None: all
    part: float = 1.0  # of the budget


LADDER = (
    Fit(128, None, None, part=0.6),  # lossy WebP halves the colour resolution, which enlarged small drawings show
    Fit(256, 95, None),
    Fit(256, 88, None),
    Fit(192, 85, None),
    Fit(128, 85, None),
    Fit(128, 85, 16),
    Fit(128, 80, 9),
    Fit(96, 78, 9),
    Fit(64, 75, 9),
    Fit(64, 70, 6),
    Fit(64, 60, 3),
    Fit(48, 50, 1),
)
"""From best to smallest. Large pictures first lose pixels, then a feature shows fewer of its images."""


_ENCODED: LRUCache[tuple[bytes, int, int | None], tuple[str, tuple[int, int]]] = LRUCache(
    16 * 2**20, getsizeof=lambda encoded: len(encoded[0])
)
"""What was encoded last, as base64: the pages of two classifiers show the same edits."""
_LOCK = threading.Lock()


class OverBudget(Exception):
    """The pictures do not fit in this way."""


class Book:
    """Numbers the pictures of a page. The same pixels get the same number."""

    def __init__(self, fit: Fit, budget: int = BUDGET) -> None:
        self.fit = fit
        self.encoded: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self._left = int(budget * fit.part)
        self._numbers: dict[bytes, int] = {}
        # Reading and hashing is slow beside a dictionary; images stay alive here, so that their ids stay theirs.
        self._seen: dict[object, tuple[Picture, int]] = {}

    def add(self, picture: Picture) -> int:
        """The number of a picture, encoding it the first time.

        Raises:
            OverBudget: no room is left.
        """
        name = id(picture) if isinstance(picture, Image.Image) else picture
        if name in self._seen:
            return self._seen[name][1]
        plain = opened(picture)
        plain = plain if plain.mode == "RGB" else plain.convert("RGB")
        key = hashlib.blake2b(plain.tobytes(), digest_size=16, person=f"{plain.width}x{plain.height}".encode()).digest()
        if key not in self._numbers:
            self._numbers[key] = self._encode(plain, key)
        self._seen[name] = (picture, self._numbers[key])
        return self._numbers[key]

    def _encode(self, picture: Image.Image, key: bytes) -> int:
        if max(picture.size) > self.fit.side and self.fit.quality is None:
            raise OverBudget  # large pictures are photographs: better lossy and larger
        name = (key, self.fit.side, self.fit.quality)
        with _LOCK:
            known = _ENCODED.get(name)
        if known is None:
            known = _webp(picture, self.fit)
            with _LOCK:
                _ENCODED[name] = known
        text, size = known
        self._left -= len(text)
        if self._left < 0:
            raise OverBudget
        self.encoded.append(text)
        self.sizes.append(size)
        return len(self.encoded) - 1

    @property
    def native(self) -> int:
        """The largest side of any picture, in pixels; 64 for a page without pictures."""
        return max((max(size) for size in self.sizes), default=64)


def _webp(picture: Image.Image, fit: Fit) -> tuple[str, tuple[int, int]]:
    if max(picture.size) > fit.side:
        picture = picture.copy()
        picture.thumbnail((fit.side, fit.side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if fit.quality is None:
        picture.save(buffer, "WEBP", lossless=True, method=0)  # 8% larger than by method 2, in a third of the time
    else:
        picture.save(buffer, "WEBP", quality=fit.quality, method=2)  # 2% larger than by method 4
    return base64.b64encode(buffer.getvalue()).decode("ascii"), picture.size


def fitted(build: Callable[[Book], T], budget: int = BUDGET) -> tuple[Book, T]:
    """Call `build` with ever smaller books until its pictures fit.

    Raises:
        OverBudget: they do not fit even in the smallest.
    """
    for fit in LADDER[:-1]:
        book = Book(fit, budget)
        try:
            return book, build(book)
        except OverBudget:
            continue
    book = Book(LADDER[-1], budget)
    return book, build(book)
