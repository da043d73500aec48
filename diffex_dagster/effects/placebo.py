"""Placebo control: what an edit does beyond what an edit towards words that mean nothing does to the same image.

An edit towards anything moves a picture a little: it drifts, it is noisy, and where the measure is curved, noise alone
moves its mean. The null edit knows none of that. Edits towards *control prompts* (words that mean nothing) do, so that
they are to an edit what a placebo is to a drug, and

    D_i = d_i − mean over control prompts of d_i = f(edit_i) − mean over control prompts of f(control edit_i)

is what decisions test. The null edit cancels in it. What is reported is d: the words themselves are few, and each does
something of its own, which is no part of the effect of another edit (docs/decisions/0037-effect-and-test.md).

The null hypothesis of the `exchanges` test is that an edit is one more control prompt: on each image, its d and those
of the control prompts are exchangeable. One of them at random then is the edit. With one control prompt that is the
sign flip of D. With more, D is skewed where d is (a mean of several has less of it than one), and sign flips alone
claim too much: docs/validity.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.effects.signflip import TIE, Array, SignFlips, adjusted_by_maximum, masked

_CHUNK = 256  # random exchanges at a time


def placebo_effects(d: Array, controls: Array) -> Array:
    """D, of the shape of d.

    Args:
        d: (images, features), or (images,) of one feature, against the null edits.
        controls: (images, control prompts), d of their edits; no column leaves d as it is. (images, features, control
            prompts) where the features are edited under other options, each held against controls like it.
    """
    if not controls.shape[-1]:
        return d
    placebo = controls.mean(axis=-1)
    return np.asarray(d - (placebo[:, None] if placebo.ndim < d.ndim else placebo))


def control_effects(controls: Array) -> Array:
    """Each control prompt against the mean of the others, of the shape of `controls`; of a single one, its own d."""
    several = controls.shape[1]
    if several < 2:
        return controls
    return np.asarray((several * controls - controls.sum(axis=1, keepdims=True)) / (several - 1))


def exchanges(
    d: Array,
    controls: Array,
    *,
    minimum_effect: float = 0.0,
    flips: int = 19_999,
    seed: int = 0,
    on: NDArray[np.bool_] | None = None,
) -> SignFlips:
    """Exchange test of every column of d, alone and jointly (step-down over the maximum).

    In each random exchange, one of an image's m + 1 edits (the feature's and those of the control prompts) plays the
    feature. Alone, each p-value is exact under the null hypothesis of its feature. Jointly, which edit plays the
    feature is the same for all features on a share 1 / m of the images and drawn for each feature on the others: two
    features' D share the control prompts, which correlates them by 1 / (m + 1), and so are the exchanged ones under
    the null hypothesis.
    Features that are held against other controls share none: which edit plays is then drawn for each such set of them.

    Args:
        d: (images, features), against the null edits.
        controls: (images, m), m >= 1, of the control prompts; or (images, features, m), of each feature's own.
        minimum_effect, on: as for `sign_flips`.
    """
    directions = [_players(sign * d - minimum_effect, sign * controls, on) for sign in (1.0, -1.0)]
    if not minimum_effect:
        directions = directions[:1]  # the other is its negative
    roles = controls.shape[-1] + 1
    alike = _alike(controls)

    def statistic(total: Callable[[Array], Array]) -> Array:
        found = [_studentised(total(x), total(x**2)) for x in directions]
        return np.asarray(np.maximum(*found) if minimum_effect else np.abs(found[0]))

    observed = statistic(lambda x: np.asarray(x[: len(d)].sum(axis=0, keepdims=True)))[0]

    def draws() -> Iterator[Array]:
        rng = np.random.default_rng(seed)
        yield observed[None]
        for start in range(0, flips, _CHUNK):
            count = min(_CHUNK, flips - start)
            shared = rng.random(len(d)) * (roles - 1) < 1.0
            same, own = (_picked(rng, count, roles, images) for images in (shared, ~shared))
            order = rng.permuted(np.tile(np.arange(count)[:, None], (1, d.shape[1])), axis=0)
            of_set = None
            if alike is not None:
                of_set = rng.permuted(np.tile(np.arange(count)[:, None], (1, alike.max() + 1)), axis=0)[:, alike]
            yield statistic(_total(same, own, order, of_set))

    return adjusted_by_maximum(observed, draws(), untouched=~np.any(_players(d, controls, on) != 0.0, axis=0))


def exchange_e_values(
    d: Array,
    controls: Array,
    *,
    minimum_effect: float = 0.0,
    level: float = 0.05,
    on: NDArray[np.bool_] | None = None,
) -> Array:
    """An e-value for every column of d under the null hypothesis of `exchanges`, as `signflip.e_values` has it.

    Given an image's m + 1 edits, which of them plays the feature is uniform, and exp(λ ΣD_i) over the product of the
    means of exp(λ D_i) over the players has mean one; λ depends on what does not change with which edit plays.
    """
    stake = np.sqrt(2.0 * np.log(2.0 * max(1, d.shape[1]) / level))
    logs = []
    for sign in (1.0, -1.0):
        x = _players(sign * d - minimum_effect, sign * controls, on).reshape(
            -1, *d.shape
        )  # (players, images, features)
        root = np.sqrt((x**2).mean(axis=0).sum(axis=0))
        scale = stake / np.where(root > 0.0, root, 1.0)
        highest = (scale * x).max(axis=0)
        mean = np.log(np.exp(scale * x - highest).mean(axis=0)) + highest
        logs.append((scale * x[0] - mean).sum(axis=0))
    return np.asarray(np.exp(np.logaddexp(*logs) - np.log(2.0)))


def _players(d: Array, controls: Array, on: NDArray[np.bool_] | None = None) -> Array:
    """D with each edit of an image as the feature: (players · images, features), the true one first."""
    controls = controls[:, None] if controls.ndim < 3 else controls  # the same for every feature
    m, total = controls.shape[2], controls.sum(axis=2)
    others = [controls[:, :, j] - (total - controls[:, :, j] + d) / m for j in range(m)]
    return np.concatenate([masked(each, on) for each in (d - total / m, *others)])


def _alike(controls: Array) -> NDArray[np.intp] | None:
    """Which features are held against the same controls, a number each, (features,); None where all are."""
    if controls.ndim < 3:
        return None
    sets: dict[bytes, int] = {}
    of = [sets.setdefault(controls[:, j].tobytes(), len(sets)) for j in range(controls.shape[1])]
    return np.array(of, dtype=np.intp)


Picked = tuple[Array, NDArray[np.intp]]  # (count, k), and which k rows of `_players` it picks from


def _total(
    same: Picked, own: Picked, order: NDArray[np.intp], of_set: NDArray[np.intp] | None
) -> Callable[[Array], Array]:
    """Sums over the images with other players; `same` on the images where features have one, `own` on the others."""

    def total(x: Array) -> Array:
        shared, others = (chosen @ x[rows] for chosen, rows in (same, own))
        if of_set is not None:
            shared = np.take_along_axis(shared, of_set, axis=0)
        return np.asarray(shared + np.take_along_axis(others, order, axis=0))

    return total


def _picked(rng: np.random.Generator, count: int, roles: int, images: NDArray[np.bool_]) -> Picked:
    """Which role is the player on each of some images, (count, roles · such images) of zeros and ones."""
    player = rng.integers(roles, size=(count, 1, len(images)))[:, :, images]
    role = np.arange(roles)[:, None]
    chosen: Array = (player == role).astype(np.float64).reshape(count, -1)
    return chosen, (role * len(images) + np.flatnonzero(images)).ravel()


def _studentised(total: Array, squares: Array) -> Array:
    return np.asarray(np.where(squares > TIE**2, total / np.sqrt(np.maximum(squares, TIE**2)), 0.0))
