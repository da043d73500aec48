"""Sign-flip tests over images: the machinery under decisions and comparisons.

All features are measured on the same images, so their effects are dependent. Flipping the sign of a whole image (all
its features at once) keeps that dependence, whatever it is: this is what makes a joint test possible.

The null hypothesis is that an image's differences are as likely as their opposites: d_i and −d_i have the same joint
distribution. Given |d|, the signs of the images are then independent fair coins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CHUNK = 512  # flips at a time: what they make stays in a processor's cache
TIE = 1e-9  # statistics closer than this are equal: sums of the same numbers in another order


@dataclass(frozen=True)
class SignFlips:
    """The observed statistics of one study and their p-values.

    Attributes:
        statistic: (features,) max(t+, t−), the studentised mean in its own direction.
        p_raw: (features,) p-value of each feature alone.
        p_max: (features,) step-down max-T adjusted p-value.
    """

    statistic: Array
    p_raw: Array
    p_max: Array


def sign_flips(
    d: Array, *, minimum_effect: float = 0.0, flips: int = 19_999, seed: int = 0, on: NDArray[np.bool_] | None = None
) -> SignFlips:
    """Two-sided sign-flip test of every column of d, alone and jointly (Westfall & Young 1993, step-down max-T).

    The statistic is the sum over images divided by the root of the sum of squares. Squares do not change with signs, so
    this is a monotone function of Student's t, and features of any scale meet on equal terms in the maximum.

    All 2^n sign patterns are used when there are no more of them than `flips`; otherwise `flips` random ones and the
    identity (Hemerik & Goeman 2018: with the identity among them the test is exact, not approximate).

    Args:
        d: (images, features) paired differences.
        minimum_effect: test |mean| <= minimum_effect instead of mean = 0, by shifting d towards zero by that much.
        on: (images, features) which images a feature is tested on; all when left out. Others have no part in it: an
            image of difference zero changes neither the sum nor the sum of squares under any signs.

    Returns:
        Statistics and p-values. A feature that no image moves has statistic 0 and p-values 1.
    """
    columns = _directed_columns(d, minimum_effect, on)
    observed = _statistic(np.ones((1, len(d))), columns)[0]
    draws = (_statistic(signs, columns) for signs in _patterns(len(d), flips, seed))
    return adjusted_by_maximum(observed, draws, untouched=~np.any(masked(d, on) != 0.0, axis=0))


def masked(d: Array, on: NDArray[np.bool_] | None) -> Array:
    """d with zero where an image has no part."""
    return d if on is None else np.asarray(np.where(on, d, 0.0))


def adjusted_by_maximum(observed: Array, draws: Iterable[Array], untouched: NDArray[np.bool_]) -> SignFlips:
    """p-values of statistics held against their distribution under the null hypothesis, alone and step-down.

    Args:
        observed: (features,) the statistics.
        draws: (draws, features) each, the same under the null hypothesis; the observed ones must be among them.
        untouched: (features,) columns that nothing moved: statistic 0 and p-values 1.
    """
    features = len(observed)
    order = np.argsort(-observed, kind="stable")
    beats_alone, beats_max, total = np.zeros(features), np.zeros(features), 0
    bar = observed[order, None] - TIE
    for drawn in draws:
        ranked = drawn.T[order]
        beats_alone[order] += np.count_nonzero(ranked >= bar, axis=1)
        # Step-down: the feature of rank j is held against the maximum over ranks j, j + 1, ...
        for j in range(features - 2, -1, -1):  # row by row: ten times as fast as `maximum.accumulate`
            np.maximum(ranked[j], ranked[j + 1], out=ranked[j])
        beats_max[order] += np.count_nonzero(ranked >= bar, axis=1)
        total += len(drawn)
    p_max = np.empty(features)
    p_max[order] = np.maximum.accumulate(beats_max[order] / total) if features else []
    p_raw = np.where(untouched, 1.0, beats_alone / total)
    return SignFlips(np.where(untouched, 0.0, observed), p_raw, np.where(untouched, 1.0, p_max))


def e_values(
    d: Array, *, minimum_effect: float = 0.0, level: float = 0.05, on: NDArray[np.bool_] | None = None
) -> Array:
    """An e-value for every column of d under the same null hypothesis, for e-BH.

    Given |d|, the signs are fair coins and E[exp(λ Σ s_i |d_i|)] = Π cosh(λ d_i), so exp(λ Σ d_i) / Π cosh(λ d_i) has
    mean one under the null hypothesis (de la Peña 1999, with the exact moment instead of its Gaussian bound); λ may
    depend on |d|. Half the stake goes on each direction. λ is the best one for a feature that just clears e-BH's bar on
    its own.

    Returns:
        (features,) e-values; 1.0 for a feature that no image moves.
    """
    features = max(1, d.shape[1])
    stake = np.sqrt(2.0 * np.log(2.0 * features / level))
    logs = []
    for column in _directed_columns(d, minimum_effect, on, normalise=False):
        root = np.sqrt((column**2).sum(axis=0))
        scale = stake / np.where(root > 0.0, root, 1.0)
        x = np.abs(column) * scale
        log_cosh = x + np.log1p(np.exp(-2.0 * x)) - np.log(2.0)  # does not overflow
        logs.append(scale * column.sum(axis=0) - log_cosh.sum(axis=0))
    untouched = ~np.any(masked(d, on) != 0.0, axis=0)
    return np.where(untouched, 1.0, np.exp(np.logaddexp(logs[0], logs[1]) - np.log(2.0)))


def adjust_by(p: Array) -> Array:
    """Benjamini & Yekutieli (2001) adjusted p-values: false-discovery rate under any dependence."""
    return _step_up(p, len(p) * float(np.sum(1.0 / np.arange(1, len(p) + 1))))


def adjust_ebh(e: Array) -> Array:
    """e-BH (Wang & Ramdas 2022) as adjusted p-values: reject at `level` where the result is <= level."""
    with np.errstate(divide="ignore"):
        return _step_up(1.0 / e, float(len(e)))


def _step_up(p: Array, factor: float) -> Array:
    order = np.argsort(p, kind="stable")
    scaled = p[order] * factor / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0) if len(p) else []
    return adjusted


def _directed_columns(
    d: Array, minimum_effect: float, on: NDArray[np.bool_] | None, normalise: bool = True
) -> tuple[Array, Array]:
    """The evidence for each direction: d − m upwards, −d − m downwards, each column with unit sum of squares."""
    both = (masked(d - minimum_effect, on), masked(-d - minimum_effect, on))
    if not normalise:
        return both
    up, down = (x / np.where((root := np.sqrt((x**2).sum(axis=0))) > 0.0, root, 1.0) for x in both)
    return up, down


def _statistic(signs: Array, columns: tuple[Array, Array]) -> Array:
    """(flips, features): the larger of the two directed sums; in memory feature by feature, as they are compared."""
    up, down = columns
    sums = up.T @ signs.T
    return np.asarray(np.maximum(sums, -sums if np.array_equal(down, -up) else down.T @ signs.T).T)


def _patterns(images: int, flips: int, seed: int) -> Iterator[Array]:
    """Sign patterns in chunks of shape (chunk, images), the identity among them."""
    if images < 63 and 2**images <= flips + 1:
        bits = np.arange(images, dtype=np.int64)
        for start in range(0, 2**images, _CHUNK):
            numbers = np.arange(start, min(start + _CHUNK, 2**images), dtype=np.int64)
            yield np.where((numbers[:, None] >> bits) & 1, -1.0, 1.0)
        return
    yield np.ones((1, images))
    rng = np.random.default_rng(seed)
    for start in range(0, flips, _CHUNK):
        yield np.where(rng.random((min(_CHUNK, flips - start), images)) < 0.5, -1.0, 1.0)
