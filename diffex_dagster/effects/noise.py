"""How far a score moves when nothing was edited but the noise: the floor that an effect has to clear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noise_floor(
    null_d: NDArray[np.float64],
    *,
    strongest_of: int = 1,
    over: int | None = None,
    quantile: float = 0.99,
    resamples: int = 2000,
    seed: int = 0,
) -> float:
    """The mean |d| over images that re-drawing the noise reaches, at a high quantile.

    Each bootstrap resample draws images with replacement and, for each of them, one of its other seeds: the mean |d|
    of a feature edited under one seed, had it no effect at all. An edit and its null edit share their seed, so that the
    floor errs on the high side.

    Args:
        null_d: f(null edit under another seed) − f(null edit under the study's seed), shape (images, seeds − 1) or
            (images,) for one other seed; NaN where an image lacks a seed.
        strongest_of: the mean |d| that the strongest of so many features without effect reaches: what is looked at
            several times passes no more easily.
        over: how many images the mean is over, all when left out: fewer reach further by chance.
        quantile: of the bootstrap distribution; 0.99 because a dozen groups are held against the same floor.

    Returns:
        The floor in the unit of d; 0.0 when there is nothing to measure it on (an editor without noise).
    """
    images = _images_with_seeds(null_d)
    if not images:
        return 0.0
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(images), size=(resamples, over or len(images)))
    counts = np.array([len(row) for row in images])
    padded = np.zeros((len(images), counts.max()))
    for i, row in enumerate(images):
        padded[i, : len(row)] = row
    seeds = (rng.random(chosen.shape) * counts[chosen]).astype(int)
    means = padded[chosen, seeds].mean(axis=1)
    return float(np.quantile(means, quantile ** (1.0 / max(1, strongest_of))))


def image_noise(null_d: NDArray[np.float64], *, quantile: float = 0.95) -> float:
    """The |d| that noise alone exceeds on few single images: what "this image moved" has to clear.

    Args:
        null_d: as for `noise_floor`.
        quantile: of |null_d| over all images and seeds.

    Returns:
        The level in the unit of d; 0.0 when there is nothing to measure it on.
    """
    images = _images_with_seeds(null_d)
    return float(np.quantile(np.concatenate(images), quantile)) if images else 0.0


def _images_with_seeds(null_d: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """|d| of each image that has at least one other seed."""
    table = np.abs(np.asarray(null_d, dtype=np.float64))
    if table.size == 0:
        return []
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2:
        raise ValueError(f"null_d has shape {table.shape}; expected (images, seeds - 1).")
    rows = [row[~np.isnan(row)] for row in table]
    return [row for row in rows if row.size]
