"""What a study says of one feature once its p-values are known; `effects.deciding` says what each word means.

Two differences count: d, against the null edit, which is reported, and D, against the control prompts, which is tested
(docs/decisions/0037-effect-and-test.md). What is said has to hold for both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach, images_that_undo, interval, unseen_bounds
from diffex_dagster.utils.lines import decimals

FEW = 3
"""A claim that so many more images would undo, or fewer, says so."""
DecisionText = Literal["raises", "lowers", "mixed", "no effect shown", "inconclusive", "already there", "edit failed"]
CLAIMS = ("raises", "lowers")
"""The decisions that claim an effect, of a feature, of a control prompt, of a subgroup, or on a single picture."""
SHOWN = (*CLAIMS, "mixed")
"""The decisions that claim that a feature does something."""


@dataclass(frozen=True)
class Decision:
    """What the study may say about one feature.

    Attributes:
        decision: see `decide`.
        p_value: adjusted over all tested features for *raises*/*lowers* (for *mixed*, of the test for mixed); compare
            it with `level`. None for a feature that was not tested (*already there*, *edit failed*).
        reason: one clause in words, for the report.
        p_raw: of the feature alone, before adjustment; None for e-BH and for a feature that was not tested.
    """

    decision: DecisionText
    p_value: float | None
    reason: str
    p_raw: float | None = None


class PValues(NamedTuple):
    """What the tests of one feature say: adjusted, alone (None for e-BH), and adjusted, of the test for *mixed*."""

    mean: float
    raw: float | None
    mixed: float


@dataclass(frozen=True)
class Measured:
    """One feature's differences over the images that count.

    Attributes:
        d: against the null edits, (images,): what is reported.
        tested: D, against the control prompts, (images,); d where there are none.
        reach: how far d can be moved; its `still` is the margin.
    """

    d: NDArray[np.float64]
    tested: NDArray[np.float64]
    reach: Reach

    @property
    def both(self) -> tuple[tuple[NDArray[np.float64], Reach], ...]:
        """d and D, each with its reach: where D starts elsewhere, what its mean can be moves with it."""
        by = float((self.tested - self.d).mean())
        moved = replace(self.reach, low=self.reach.low + by, high=self.reach.high + by)
        return (self.d, self.reach), (self.tested, moved)


def decide_one(
    measured: Measured,
    p: PValues,
    counts: tuple[int, int],
    furthest: tuple[float, float],
    options: DecisionOptions,
) -> Decision:
    """Decide about one feature that was tested; see `effects.deciding.decide`.

    Args:
        counts: how many images move up and down by more than the margin and the noise.
        furthest: how far edits of its family move an image up and down (`effects.deciding.furthest_moves`), both >= 0.
    """
    d, margin = measured.d, options.margin
    ends = [interval(of, options.confidence, limits) for of, limits in measured.both]
    within = [-margin <= start and end <= margin for start, end in ends]
    low, high = ends[0]
    mean, images, (up, down) = float(d.mean()), len(d), counts
    places = decimals((mean, low, high))
    shown = f"mean {mean:+.{places}f}, interval [{low:+.{places}f}, {high:+.{places}f}]"
    against = furthest[1] if mean > 0 else furthest[0]
    least = min((float(of.mean()) for of, _ in measured.both), key=abs)
    undone_by = images_that_undo(least, images, against, options.minimum_effect)
    one_side = all(start > 0.0 for start, _ in ends) or all(end < 0.0 for _, end in ends)
    beyond_noise = p.mean <= options.level and one_side and not any(within)
    if beyond_noise and undone_by > 1:
        other = down if mean > 0 else up
        despite = f"; {other} of {images} images move the other way" if other else ""
        if undone_by <= FEW:
            despite += f"; {undone_by:.0f} more that move by {against:.2g} the other way would undo it"
        return Decision("raises" if mean > 0 else "lowers", p.mean, f"{shown}, p = {p.mean:.2g}{despite}", p.raw)
    if p.mixed <= options.level:
        moves = f"{up} of {images} images move up and {down} down by more than the margin or the noise"
        return Decision("mixed", p.mixed, f"{moves}, p = {p.mixed:.2g}", p.raw)
    unseen = [unseen_bounds(of, limits, 1.0 - options.confidence) for of, limits in measured.both]
    if all(within) and all(-margin <= start and end <= margin for start, end in unseen):
        small = " though it differs from zero" if p.mean <= options.level else ""
        return Decision("no effect shown", p.mean, f"{shown} inside ±{margin:g}{small}", p.raw)
    if all(bool((np.abs(of) <= margin).all()) for of, _ in measured.both):
        seen = f"no image moves by more than ±{margin:g}, but {images} images do not rule out that others do"
        return Decision("inconclusive", p.mean, f"{seen}: {shown}", p.raw)
    undone = (
        f", but one more image that moves by {against:.2g} the other way, as edits here do, would undo it"
        if beyond_noise
        else ""
    )
    return Decision("inconclusive", p.mean, f"{shown}, p = {p.mean:.2g}{undone}", p.raw)
