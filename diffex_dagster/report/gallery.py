"""Every image by every top feature: effects for a heat map, orders in which likes stand together, and small pictures.

The page's script draws it. All pictures of one image are one strip (original, null edit, the edit of each feature), so
that sixty images by forty features are sixty pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.report.pictures import BUDGET
from diffex_dagster.report.wording import number, plain, titled
from diffex_dagster.results import ImageRow, Picture, Report, opened

TOP = 40  # features, the strongest
MOST = 200  # images, those that move furthest
SHARE = 0.3  # of a page's budget for pictures
PEAK = 95  # percentile of |effect| that has the full colour, so that one odd image does not bleach the others
THUMB = 32  # pixels of a row's picture
FLIP, ALREADY, FAILED = 1, 2, 4  # what a cell says besides its effect


@dataclass(frozen=True)
class _Fit:
    side: int
    quality: int
    edits: bool = True


LADDER = (
    _Fit(96, 72), _Fit(64, 66), _Fit(64, 55), _Fit(48, 50), _Fit(40, 42), _Fit(32, 35), _Fit(24, 30),
    _Fit(64, 60, edits=False), _Fit(32, 50, edits=False),
)  # fmt: skip
"""From best to smallest: first the pictures get smaller, then only the image and its null edit are shown."""


class _Strip:
    """The pictures of one image, each read once however many steps are tried.

    The ladder asks for smaller and smaller edits, so that only those of the last step are held in memory; the image and
    its null edit, which come back larger at its end, are held at the first step's size.
    """

    def __init__(self, pair: Sequence[Picture], edits: Sequence[Picture]) -> None:
        self._pair, self._edits = pair, edits

    @cached_property
    def pair(self) -> list[Image.Image]:
        return [_small(picture, LADDER[0].side) for picture in self._pair]

    def row(self, fit: _Fit) -> Image.Image:
        """The strip at a step of the ladder."""
        if fit.edits:
            self._edits = [_small(picture, fit.side) for picture in self._edits]
        tiles = [*self.pair, *self._edits] if fit.edits else self.pair
        strip = Image.new("RGB", (fit.side * len(tiles), fit.side))
        for i, picture in enumerate(tiles):
            strip.paste(_small(picture, fit.side), (i * fit.side, 0))
        return strip


@dataclass(frozen=True)
class Gallery:
    """What the script draws, and what the template says about it.

    Attributes:
        data: for the script.
        size: characters that its pictures take.
        images, of: how many images are shown, of how many.
        features, of_features: the same of the features.
        columns: what the images can be divided by: (name, values in order).
        peak: the size of an effect that has the full colour.
    """

    data: dict[str, Any]
    size: int
    images: int
    of: int
    features: int
    of_features: int
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    peak: float


def gallery(
    report: Report,
    digits: int,
    budget: int = BUDGET,
    pictures: bool = True,
    top: int | None = None,
    most: int | None = None,
) -> Gallery | None:
    """The gallery of a report; None where it has no effects by image (one that was read from its files).

    Args:
        digits: decimals of its numbers.
        budget: characters of all pictures on the page; it takes `SHARE` of them at most.
        pictures: whether it has pictures at all.
        top: features, the strongest; `TOP`.
        most: images, those that move furthest under these features; `MOST`. Both orders are of what is shown.
    """
    found = report.gallery
    rows = {(row.feature, row.image): row for row in report.per_image}
    features = [f for f in report.features if f.feature in (found.edits if found else ())][: top or TOP]
    if found is None or not features or not rows:
        return None
    effects, flags = _numbers(rows, [f.feature for f in features], found.images)
    clear = np.where((flags & ALREADY) > 0, 0.0, effects)  # what the ranking counts: a failed edit has its part
    moved = np.argsort(-np.abs(clear).mean(axis=1), kind="stable")[: most or MOST]
    shown = np.sort(moved)
    effects, flags, clear = effects[shown], flags[shown], clear[shown]
    keys = [found.images[i] for i in shown]
    columns = _columns({name: [of[i] for i in shown] for name, of in found.columns.items()})
    strips = [
        _Strip((found.originals[i], found.nulls[i]), [found.edits[f.feature][i] for f in features])
        for i in shown.tolist()
    ]
    room = int(budget * SHARE) if pictures else 0
    thumbs = _webp(_column([strip.pair[0] for strip in strips]), 60) if pictures else ""
    sprites, side, tiles = _fitted(strips, room - len(thumbs))
    thumbs = thumbs if len(thumbs) <= room else ""
    used = np.abs(clear[clear != 0])
    peak = float(np.percentile(used, PEAK)) if used.size else 1.0
    first = [rows[features[0].feature, key] for key in keys]
    data = {
        "features": [{"n": titled(f, 60), "g": plain(f.group, 40), "d": f.decision} for f in features],
        "images": [
            {"k": plain(key, 60), "n": plain(row.file or key, 80), "s": [number(row.score_original, digits),
             number(row.score_null, digits)], "v": _finite(row.score_null),
             "c": [values.index(of[i]) if of[i] in values else -1 for _, values, of in columns]}
            for i, (key, row) in enumerate(zip(keys, first, strict=True))
        ],
        "effects": [[_finite(x) for x in row] for row in effects.tolist()],
        "flags": flags.tolist(),
        "alike": [_alike(clear), _alike(clear.T)],
        "peak": peak, "digits": digits, "sprites": sprites, "side": side, "tiles": tiles, "thumbs": thumbs,
    }  # fmt: skip
    return Gallery(
        data, sum(map(len, sprites)) + len(thumbs), len(keys), len(found.images), len(features), len(report.features),
        tuple((name, values) for name, values, _ in columns), peak,
    )  # fmt: skip


def _numbers(
    rows: Mapping[tuple[str, str], ImageRow], features: Sequence[str], images: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Effects and flags, (images, features)."""
    effects, flags = np.zeros((len(images), len(features))), np.zeros((len(images), len(features)), dtype=np.int64)
    for i, image in enumerate(images):
        for j, feature in enumerate(features):
            row = rows[feature, image]
            effects[i, j] = _finite(row.effect)
            flags[i, j] = FLIP * row.flipped + ALREADY * (not row.counted) + FAILED * (row.succeeded is False)
    return effects, flags


def _columns(given: Mapping[str, Sequence[str | None]]) -> list[tuple[str, tuple[str, ...], list[str | None]]]:
    """(name, its values, the value of each image) of the columns that divide the images."""
    found = []
    for name, of in given.items():
        said = [None if value is None else plain(value, 40) for value in of]
        values = tuple(sorted({value for value in said if value is not None}))
        if len(values) > 1:
            found.append((plain(name, 40), values, said))
    return found


def _alike(values: NDArray[np.float64]) -> list[int]:
    """Places of the rows in an order in which rows with like effects stand together (average linkage)."""
    if len(values) < 3:
        return list(range(len(values)))
    from scipy.cluster.hierarchy import leaves_list, linkage

    return [int(i) for i in leaves_list(linkage(values, method="average", optimal_ordering=True))]


def _fitted(strips: Sequence[_Strip], budget: int) -> tuple[list[str], int, int]:
    """The strips as base64, the side of a tile and how many there are; nothing where they do not fit at all."""
    for fit in LADDER if budget > 0 else ():
        left, tiles, encoded = budget, 0, []
        for strip in strips:
            row = strip.row(fit)
            tiles = row.width // fit.side
            encoded.append(_webp(row, fit.quality))
            left -= len(encoded[-1])
            if left < 0 or left < (budget - left) / len(encoded) * (len(strips) - len(encoded)) * 0.5:
                break  # it will not fit: half of what is to come is as large as these
        if len(encoded) == len(strips) and left >= 0:
            return encoded, fit.side, tiles
    return [], 0, 0


def _small(picture: Picture, side: int) -> Image.Image:
    return opened(picture).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def _column(pictures: Sequence[Picture]) -> Image.Image:
    column = Image.new("RGB", (THUMB, THUMB * len(pictures)))
    for i, picture in enumerate(pictures):
        column.paste(_small(picture, THUMB), (0, i * THUMB))
    return column


def _webp(picture: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=2)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _finite(value: float) -> float:
    return round(float(value), 5) if np.isfinite(value) else 0.0
