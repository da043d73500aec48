"""What the first n of N images say about the means over all N: draws of what those means may turn out to be.

The images are a random sample without replacement, and all features are seen on the same ones, so that what is not
known of their means moves together: a picture that no beard can move is moved by none of the five. Intervals for one
feature at a time lose that; draws of all means at once keep it, and answer any question about ranks by counting.

A draw is the regression estimate (Cochran, Sampling Techniques, 1977, chapter 7) plus a draw of its error: the
residuals of the images seen, each times a standard normal number that all features share (the multiplier bootstrap),
scaled to the finite population, with Student's tails. A feature's variance is drawn towards that of all features, since
the values of the first few images are sometimes all alike by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_SHARED_OBSERVATIONS = 2.0  # how many observations' worth of the variance of all features counts for each


def draw_means(
    values: Sequence[Sequence[float]], low: float, high: float, covariate: Array, draws: int, seed: int = 0
) -> Array:
    """What the means over all N images may be, given those seen.

    What the classifier says of an image before the edit is known of all N images, and explains much of how far an edit
    can move it: where the probability is near 1 already, nothing can raise it. Values are therefore regressed on it,
    and the line is read at the mean of all N.

    Args:
        values: for each feature what was seen of the first images, at least 2 of each; features may have been seen on
            different numbers of images.
        low, high: no value lies outside.
        covariate: (N,) in the order of the images, known of all; a constant one changes nothing.
        draws: how many.
        seed: of the draws; the same one gives the same draws.

    Returns:
        (features, draws). The exact mean, draw for draw, for a feature seen on all N.
    """
    rng = np.random.default_rng(seed)
    population, counts = len(covariate), np.array([len(row) for row in values], dtype=np.int64)
    walk = np.zeros((population, draws))  # of the multipliers, from all images down to the first few
    own_noise = rng.normal(size=(len(values), draws))
    estimate, width, variance = (np.zeros(len(values)) for _ in range(3))
    moved, tails, before = np.zeros((len(values), draws)), np.ones((len(values), draws)), 0.0
    for n in np.unique(counts)[::-1]:
        rows = np.flatnonzero(counts == n)
        seen: Array = np.array([values[int(row)] for row in rows], dtype=np.float64)
        mean = seen.mean(axis=1)
        x = covariate[:n] - covariate[:n].mean()
        spread = float(x @ x)
        fitted = n >= 4 and spread > 1e-12
        slope = seen @ x / spread if fitted else np.zeros(len(rows))
        shift = float(covariate.mean() - covariate[:n].mean()) if fitted else 0.0
        residuals = seen - mean[:, None] - slope[:, None] * x
        estimate[rows] = mean + slope * shift
        variance[rows] = (residuals**2).sum(axis=1) / max(n - 1 - fitted, 1)
        left = 1 - n / population
        if left > 0:  # otherwise nothing is left to err about
            width[rows] = math.sqrt(left / n + (shift**2 / spread if fitted else 0.0))
            # What n images leave open is what more images leave open and what those between would have told.
            walk = walk[:n] + math.sqrt(left - before) * rng.normal(size=(n, draws))
            moved[rows], before = residuals @ walk / math.sqrt(left), left
            tails[rows] = np.sqrt(rng.chisquare(n - 1 - fitted + _SHARED_OBSERVATIONS, draws))
    prior = _SHARED_OBSERVATIONS * float(variance.sum()) / max(len(values), 1)
    error = width[:, None] * (moved + math.sqrt(prior) * own_noise) / tails
    means: Array = estimate[:, None] + error
    for row in np.flatnonzero(counts < population):  # the unseen lie between their ends
        certain, unseen = sum(values[int(row)]) / population, 1 - counts[row] / population
        means[row] = np.clip(means[row], certain + unseen * low, certain + unseen * high)
    return means
