"""A world of marks on nine tiles, drawn in microseconds: the refining of a corpus is measured on it, over and over.

A picture is grey, of a shade of its own. Each of its places shows a red mark, a blue mark or none. The editor paints a
mark or takes it away, the judge looks at the tile, and a classifier's log-odds of "yes" are a weighted sum of marks.
All of them see pictures and nothing else; what is true is in the weights alone.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.judging.protocol import Pair
from diffex_dagster.utils.hashing import digest

TILE = 8  # pixels
PLACES = (
    "top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {"red": (200, 40, 40), "blue": (40, 40, 200)}
Marks = dict[str, str]
"""Place -> the colour of its mark; places without one are missing."""


def draw(marks: Mapping[str, str], shade: int = 120) -> Image.Image:
    """The picture with these marks, 24 × 24."""
    pixels = np.full((3 * TILE, 3 * TILE, 3), shade, dtype=np.uint8)
    for place, colour in marks.items():
        pixels[_tile(place)] = COLOURS[colour]
    return Image.fromarray(pixels)


def marks_of(picture: Image.Image) -> Marks:
    """The marks that a picture shows: what anybody with eyes sees."""
    means = _means(np.asarray(picture.convert("RGB").resize((3 * TILE, 3 * TILE))))
    redness = (means[:, 0] - means[:, 2]).tolist()
    return {p: "red" if more > 0 else "blue" for p, more in zip(PLACES, redness, strict=True) if abs(more) > 80}


def sample(count: int, seed: int) -> list[Image.Image]:
    """Random pictures; no two are the same."""
    rng = random.Random(f"tiles/{seed}")
    found: dict[bytes, Image.Image] = {}
    while len(found) < count:
        marks = {place: rng.choice(("red", "blue")) for place in PLACES if rng.random() < 0.6}
        picture = draw(marks, rng.randint(95, 150))
        found[picture.tobytes()] = picture
    return list(found.values())


def prompt_of(place: str, colour: str = "") -> str:
    """What a mark is called, e.g. "red mark at the top left"; without a colour any of them."""
    return f"{colour} mark at the {place}".strip()


def group_of(place: str) -> dict[str, Any]:
    """A corpus entry with the marks of one place."""
    children = [{"name": prompt_of(place, c), "prompt": prompt_of(place, c)} for c in COLOURS]
    return {"name": f"Mark at the {place}", "prompt": prompt_of(place), "editable": False, "exclusive": True,
            "children": children}  # fmt: skip


@functools.cache
def meant(prompt: str) -> tuple[str, str] | None:
    """Place and colour ("" for any) that a prompt names; None for any other words."""
    for place in PLACES:
        for colour in ("", *COLOURS):
            if prompt == prompt_of(place, colour):
                return place, colour
    return None


def draw_weights(seed: int) -> tuple[dict[str, float], str]:
    """A rule: prompt -> its weight in logits, over three places; and the place with the strongest mark."""
    rng = random.Random(f"tiles rule/{seed}")
    places = rng.sample(PLACES, 3)
    sizes = (3.0, 1.2, 1.0)
    weights: dict[str, float] = {}
    for place, size in zip(places, sizes, strict=True):
        colours = rng.sample(sorted(COLOURS), 2)
        weights |= {prompt_of(place, colours[0]): size * rng.choice((-1, 1))}
        weights |= {prompt_of(place, colours[1]): -0.5 * weights[prompt_of(place, colours[0])]}
    return weights, places[0]


class TileEditor:
    """Paints a mark, or takes it away; any other words change nothing. A `python` editor."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.fingerprint = digest("tiles", sorted(COLOURS.items()))[:16]

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """See `Editor.edit`."""
        yield [(request, self._edited(images[request.image], request)) for request in requests]

    def _edited(self, picture: Image.Image, request: EditRequest) -> Image.Image:
        shows, pixels = marks_of(picture), np.array(picture)
        for concept in request.concepts:
            found = meant(concept.prompt)
            if found is None:
                continue
            place, colour = found
            if concept.direction == "add":
                pixels[_tile(place)] = COLOURS[colour or "red"]
            elif shows.get(place) in ({colour} if colour else set(COLOURS)):
                pixels[_tile(place)] = pixels[0, 0] if not shows.get("top left") else 120
        return Image.fromarray(pixels)

    def judge(self, draws: int) -> TileJudge:
        """The judge of these edits: it looks at the tile."""
        return TileJudge()


class TileJudge:
    """Evidence 1 where the tile shows the mark, else 0."""

    name, fingerprint, absolute = "the tile itself", "tile judge", True

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """See `Judge.evidence`."""
        yield [(pair, float(shows(marks_of(pictures[pair[0]]), pair[1]))) for pair in pairs]


def shows(marks: Mapping[str, str], prompt: str) -> bool:
    """Whether marks are what a prompt names."""
    found = meant(prompt)
    return found is not None and found[0] in marks and found[1] in ("", marks[found[0]])


class TileClassifier:
    """Log-odds of "yes" of a picture of 24 × 24: a weighted sum of the marks, and of its shade. A `python` classifier.

    Args:
        options: `weights` (prompt -> logits) and `shade` (logits between the darkest picture and the lightest).
    """

    labels = ("no", "yes")

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.weights = {str(k): float(v) for k, v in dict(options.get("weights", {})).items()}
        self.shade = float(options.get("shade", 0.0))
        self.fingerprint = digest("tile classifier", sorted(self.weights.items()), self.shade)[:16]

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        """Logits, (pictures, 2)."""
        return np.array([[0.0, self._log_odds(picture)] for picture in pictures])

    def _log_odds(self, picture: Image.Image) -> float:
        marks = marks_of(picture)
        found = sum(weight for prompt, weight in self.weights.items() if shows(marks, prompt))
        bare = [place not in marks for place in PLACES]
        shade = float(np.mean(_means(np.asarray(picture)).mean(axis=1)[bare])) if any(bare) else 122.5
        return found + self.shade * (shade - 122.5) / 55.0


def _means(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean colour of each tile, (9, 3), in the order of PLACES."""
    return pixels.reshape(3, TILE, 3, TILE, 3).mean(axis=(1, 3)).reshape(9, 3)


def _tile(place: str) -> tuple[slice, slice]:
    row, column = divmod(PLACES.index(place), 3)
    return slice(row * TILE, (row + 1) * TILE), slice(column * TILE, (column + 1) * TILE)
