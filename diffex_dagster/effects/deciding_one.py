"""What a study says of one feature once its p-values are known; `effects.deciding` says what each word means.

Two differences count: d, against the null edit, which is reported, and D, against the control prompts, which is tested
(docs/decisions/0037-effect-and-test.md). What is said has to hold for both.
"""

from __future__ import annotations

from dataclasses import dataclass
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


class Measured(NamedTuple):
    """One feature's differences over the images that count, against one thing.

    Attributes:
        d: (images,).
        reach: how far they can be moved.
        furthest: how far edits of its family move an image up and down (`effects.deciding.furthest_moves`), both >= 0.
    """

    d: NDArray[np.float64]
    reach: Reach
    furthest: tuple[float, float]

    @property
    def mean(self) -> float:
        """Of the images."""
        return float(self.d.mean())

    def undone_by(self, least: float) -> float:
        """How many more images would undo the mean; see `effects.paired.images_that_undo`."""
        return images_that_undo(self.mean, len(self.d), self.against, least)

    @property
    def against(self) -> float:
        """How far such an image would move."""
        return self.furthest[1] if self.mean > 0 else self.furthest[0]

    def in_words(self, low: float, high: float) -> str:
        """The mean and its interval."""
        places = decimals((self.mean, low, high))
        return f"mean {self.mean:+.{places}f}, interval [{low:+.{places}f}, {high:+.{places}f}]"


def decide_one(
    reported: Measured, tested: Measured, p: PValues, counts: tuple[int, int], options: DecisionOptions
) -> Decision:
    """Decide about one feature that was tested; see `effects.deciding.decide`.

    Args:
        reported: d, against the null edits.
        tested: D, against the control prompts; the same where there are none.
        counts: how many images move up and down by more than the margin and the noise.
    """
    both, margin, images = (reported, tested), options.margin, len(reported.d)
    ends = [interval(of.d, options.confidence, of.reach) for of in both]
    within = [-margin <= low and high <= margin for low, high in ends]
    sides = [1 if low > 0.0 else -1 if high < 0.0 else 0 for low, high in ends]
    shown = reported.in_words(*ends[0])
    if sides[0] != sides[1] or within[0] != within[1]:
        shown += f"; against the control prompts {tested.in_words(*ends[1])}"
    up, down = counts
    undone_by, against = min(((of.undone_by(options.minimum_effect), of.against) for of in both), key=lambda by: by[0])
    beyond_noise = p.mean <= options.level and sides[0] == sides[1] != 0 and not any(within)
    if beyond_noise and undone_by > 1:
        raises = reported.mean > 0
        other = down if raises else up
        despite = f"; {other} of {images} images move the other way" if other else ""
        if undone_by <= FEW:
            despite += f"; {undone_by:.0f} more that move by {against:.2g} the other way would undo it"
        return Decision("raises" if raises else "lowers", p.mean, f"{shown}, p = {p.mean:.2g}{despite}", p.raw)
    if p.mixed <= options.level:
        moves = f"{up} of {images} images move up and {down} down by more than the margin or the noise"
        return Decision("mixed", p.mixed, f"{moves}, p = {p.mixed:.2g}", p.raw)
    unseen = [unseen_bounds(of.d, of.reach, 1.0 - options.confidence) for of in both]
    if all(within) and all(-margin <= low and high <= margin for low, high in unseen):
        zero = "zero" if np.array_equal(reported.d, tested.d) else "what control prompts do"
        small = f" though it differs from {zero}" if p.mean <= options.level else ""
        return Decision("no effect shown", p.mean, f"{shown} inside ±{margin:g}{small}", p.raw)
    if all(bool((np.abs(of.d) <= margin).all()) for of in both):
        seen = f"no image moves by more than ±{margin:g}, but {images} images do not rule out that others do"
        return Decision("inconclusive", p.mean, f"{seen}: {shown}", p.raw)
    undone = (
        f", but one more image that moves by {against:.2g} the other way, as edits here do, would undo it"
        if beyond_noise
        else ""
    )
    return Decision("inconclusive", p.mean, f"{shown}, p = {p.mean:.2g}{undone}", p.raw)
