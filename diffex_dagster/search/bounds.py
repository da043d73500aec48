"""What the first n of N images say about the mean over all N: intervals that narrow to nothing at n = N.

Images are taken in random order without replacement, so that an interval shrinks faster than for draws from an infinite
population. Both kinds of bounds look at many arms (features) at once.

- **bounded**: the empirical-Bernstein confidence sequence of Waudby-Smith & Ramdas, "Confidence sequences for sampling
  without replacement" (NeurIPS 2020, theorem 2). It holds for any values in [low, high], at all n together. It is wide:
  with tens of features, a hundred images or more are needed before it tells anything apart.
- **normal**: Student intervals at a few planned n, with finite-population correction and regression on what is known of
  all images. Approximate, as the name says; it is what a study of tens of images can afford. An arm's variance is drawn
  towards that of all arms, since the values of the first few images are sometimes all alike by chance.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bounds = Literal["normal", "bounded"]
Array = NDArray[np.float64]
_LARGEST_BET = 0.75  # of what may be bet at most: beyond it the bound loses more from a surprise than it gains
_SHARED_OBSERVATIONS = 2.0  # how many observations' worth of the variance of all arms counts for each arm


def bounded(values: Array, low: float, high: float, population: int, error: float) -> tuple[Array, Array]:
    """Confidence sequence of each arm's population mean.

    Args:
        values: (arms, n), what was seen, in the order in which it was seen.
        low, high: no value lies outside.
        population: N.
        error: with at most this probability does any of the intervals at n = 1, 2, ... N miss the mean, for one arm.

    Returns:
        Lower and upper ends at n, (arms,) each: the best of all n so far.
    """
    if values.shape[1] >= population:
        mean = values.mean(axis=1)
        return mean, mean
    below = _lower(values, low, high, population, error / 2)
    above = -_lower(-values, -high, -low, population, error / 2)
    return below, above


def _lower(values: Array, low: float, high: float, population: int, error: float) -> Array:
    """A lower confidence sequence with the values' running mean as the predictor.

    For a predictor p and c = p − low, every value x ≥ low and λ < 1/c satisfy (Fan, Grama & Liu 2015)
    exp(λ(x − p) − ((x − p)/c)²·(−log(1 − λc) − λc)) ≤ 1 + λ(x − p), from which
    exp(Σ λ(x − m) − Σ ((x − p)/c)²·ψ(λc)) is a supermartingale, m being the mean of the images not yet seen.
    """
    arms, n = values.shape
    if n == 0:
        return np.full(arms, low)
    seen = np.arange(n)  # values before each
    sums = np.concatenate([np.zeros((arms, 1)), np.cumsum(values, axis=1)[:, :-1]], axis=1)
    middle = min(max(0.0, low), high)
    predictor = np.clip((sums + middle) / (seen + 1), low, high)
    reach = np.maximum(predictor - low, 1e-9)  # c
    squares = np.cumsum((values - predictor) ** 2, axis=1)
    spread = np.concatenate([np.zeros((arms, 1)), squares[:, :-1]], axis=1) + ((high - low) / 4) ** 2
    variance = spread / (seen + 1)
    bet = np.sqrt(2 * math.log(1 / error) / (variance * (seen + 1) * np.log(seen + 2)))
    bet = np.minimum(bet, _LARGEST_BET / reach)
    cost = ((values - predictor) / reach) ** 2 * (-np.log1p(-bet * reach) - bet * reach)
    left = population - seen
    gain = np.cumsum(bet * (values + sums / left), axis=1)
    weight = np.cumsum(bet * population / left, axis=1)
    sequence = (gain - np.cumsum(cost, axis=1) - math.log(1 / error)) / weight
    worst = (sums + values + (population - seen - 1) * low) / population  # the unseen at their lowest
    lower: Array = np.maximum(sequence, worst).max(axis=1)
    return lower


def normal(values: Array, low: float, high: float, covariate: Array, error: float, looks: int) -> tuple[Array, Array]:
    """Student intervals of the regression estimator (Cochran, Sampling Techniques, 1977, chapter 7).

    What the classifier says of an image before the edit is known of all N images, and explains much of how far an edit
    can move it: where the probability is near 1 already, nothing can raise it. Values are therefore regressed on it,
    and the line is read at the mean of all N.

    Args:
        values, low, high, error: as for `bounded`.
        covariate: (N,) in the same order, known of all images; a constant one changes nothing.
        looks: how many times in all an interval is formed, at n < N; they share the error.

    Returns:
        As `bounded`.
    """
    population, n = len(covariate), values.shape[1]
    mean = values.mean(axis=1)
    if n >= population:
        return mean, mean
    if n < 2:
        return np.full(len(values), low), np.full(len(values), high)
    x = covariate[:n] - covariate[:n].mean()
    spread = float(x @ x)
    fitted = n >= 4 and spread > 1e-12
    slope = values @ x / spread if fitted else np.zeros(len(values))
    shift = float(covariate.mean() - covariate[:n].mean()) if fitted else 0.0
    estimate = mean + slope * shift
    residuals = values - mean[:, None] - slope[:, None] * x
    squares, degrees = (residuals**2).sum(axis=1), n - 1 - fitted
    shared = float(squares.mean()) / degrees
    deviation = np.sqrt((squares + _SHARED_OBSERVATIONS * shared) / (degrees + _SHARED_OBSERVATIONS))
    from scipy import special  # see effects.paired

    quantile = -float(special.stdtrit(degrees + _SHARED_OBSERVATIONS, error / (2 * looks)))
    leverage = shift**2 / spread if fitted else 0.0
    half = quantile * deviation * math.sqrt((1 - n / population) / n + leverage)
    unseen = (population - n) / population  # what is certain: the unseen between their ends
    certain = values.sum(axis=1) / population
    return np.maximum(estimate - half, certain + unseen * low), np.minimum(estimate + half, certain + unseen * high)
