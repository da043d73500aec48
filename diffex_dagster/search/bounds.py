"""What the first n of N images say for certain about the mean over all N: intervals that narrow to nothing at n = N.

Images are taken in random order without replacement, so that an interval shrinks faster than for draws from an infinite
population. The bounds are the empirical-Bernstein confidence sequence of Waudby-Smith & Ramdas, "Confidence sequences
for sampling without replacement" (NeurIPS 2020, theorem 2). It holds for any values in [low, high], at all n together.
It is wide: with tens of features, a hundred images or more are needed before it tells anything apart. What suits fewer
images is approximate: `search.posterior`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LARGEST_BET = 0.75  # of what may be bet at most: beyond it the bound loses more from a surprise than it gains


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
