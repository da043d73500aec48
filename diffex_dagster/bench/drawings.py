"""Drawing the truth: every image again with only one feature changed, kept so that it is drawn once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.store.keys import digest
from diffex_dagster.worlds import avatars

Feature = tuple[str, bool]  # (prompt, whether it is removed)
SEED = 5  # of the world's sample; training uses 1 and 2, the study's images 3


def sample_states(count: int, seed: int = SEED) -> list[avatars.State]:
    """States that no training script and no study has seen, drawn as the world draws them."""
    rng = random.Random(seed)
    return [avatars.sample_state(rng) for _ in range(count)]


@dataclass(frozen=True)
class Redrawn:
    """Images and their exact counterfactuals.

    Attributes:
        base: (images, side, side, 3) uint8.
        pixels: (changes, side, side, 3): the pictures that differ from their base.
        index: (changes, 2): feature and image of each.
        features: the features, in the order that `index` counts them.
    """

    base: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    index: NDArray[np.int64]
    features: tuple[Feature, ...]

    def effects(self, score: Callable[[NDArray[np.uint8]], NDArray[np.float64]]) -> dict[Feature, NDArray[np.float64]]:
        """f(changed) − f(unchanged) for each feature, shape (images,); zero where the drawing does not change.

        Args:
            score: pictures (N, side, side, 3) -> target measure, shape (N,).
        """
        table = np.zeros((len(self.features), len(self.base)))
        before = score(self.base)
        if len(self.pixels):
            table[self.index[:, 0], self.index[:, 1]] = score(self.pixels) - before[self.index[:, 1]]
        return dict(zip(self.features, table, strict=True))


def redraw(states: Sequence[avatars.State], features: Sequence[Feature], size: int, cache: Path) -> Redrawn:
    """Draw states and all their counterfactuals; features that the world cannot draw change nothing.

    Args:
        cache: folder that the drawings are kept in.
    """
    path = cache / f"drawn-{digest(list(states), list(features), size, _world())}.npz"
    if path.exists():
        stored = np.load(path)
        return Redrawn(stored["base"], stored["pixels"], stored["index"], tuple(features))
    base = np.stack([np.asarray(avatars.draw(state, size)) for state in states])
    pixels, index = [np.empty((0, *base.shape[1:]), np.uint8)], [np.empty((0, 2), np.int64)]
    for j, (phrase, remove) in enumerate(features):
        for i, state in enumerate(states):
            changed = avatars.set_feature(state, phrase, remove)
            if changed != state:
                picture = np.asarray(avatars.draw(changed, size))
                pixels.append(picture[None])
                index.append(np.array([[j, i]]))
    drawn = Redrawn(base, np.concatenate(pixels), np.concatenate(index), tuple(features))
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(unfinished, base=drawn.base, pixels=drawn.pixels, index=drawn.index)
    unfinished.replace(path)
    return drawn


def _world() -> list[str]:
    """What changes a drawing besides its state."""
    from importlib.metadata import version

    return [repr(avatars.FACTORS), *(version(name) for name in ("dicebear-styles", "dicebear-core", "resvg-py"))]
