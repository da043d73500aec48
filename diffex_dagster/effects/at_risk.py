"""Which pictures depend on an attribute: would the decision be another one if its effect were taken away?

A study gives the mean effect of an attribute, not that on a new picture. What is said of a new picture that shows the
attribute is what that mean would make of its score:

    after = f(picture) + shift,   shift = the effect of taking the attribute away

Where the study edited the attribute away from pictures that show it, `shift` is the mean effect of those edits; else it
is minus the effect of putting it on pictures without it. A picture is *at risk* where `after` lies on the other side of
the decision boundary, and the more so the further beyond it. This is a list to look at first, not a finding about each
picture: on one picture an attribute may do more or less than on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.presence import least_images


@dataclass(frozen=True)
class Shift:
    """What taking an attribute away adds to the measure, on average over the study's images.

    Attributes:
        mean: in the unit of the measure.
        low, high: its interval; None where the study has none.
        removed: whether it was measured by edits that take the attribute away.
    """

    mean: float
    low: float | None
    high: float | None
    removed: bool


class Measured(Protocol):
    """What a report says of a feature (`results.RankedFeature`), as far as this module asks."""

    @property
    def direction(self) -> str: ...
    @property
    def effect(self) -> float: ...
    @property
    def ci_low(self) -> float: ...
    @property
    def ci_high(self) -> float: ...
    @property
    def other_way(self) -> float | None: ...
    @property
    def other_way_success(self) -> float | None: ...
    @property
    def other_way_images(self) -> int | None: ...


def taken_away(row: Measured, min_success: float, level: float = 0.05) -> Shift:
    """What taking a feature's attribute away adds to the measure.

    Args:
        row: the feature's row of a report.
        min_success: the share of edits that have to succeed for their effect to say something.
        level: the study's; edits of fewer than `least_images(level)` images the other way are not used.
    """
    if row.direction == "remove":
        return Shift(row.effect, row.ci_low, row.ci_high, True)
    removed, success = row.other_way, row.other_way_success
    if removed is not None and (row.other_way_images or 0) >= least_images(level) and (success or 0.0) >= min_success:
        return Shift(removed, None, None, True)
    return Shift(-row.effect, -row.ci_high, -row.ci_low, False)


def shifted(scores: ArrayLike, shift: float, bounded: bool) -> NDArray[np.float64]:
    """Scores with an effect added, shape (images,); those of a probability stay between 0 and 1."""
    moved = np.asarray(scores, dtype=np.float64) + shift
    return np.clip(moved, 0.0, 1.0) if bounded else moved


def beyond(inside: ArrayLike, after: ArrayLike, boundary: ArrayLike) -> NDArray[np.float64]:
    """How far beyond the boundary each picture lies, (images,): above 0 where its decision would be another one.

    Args:
        inside: whether it is of the explained class now (its measure is above the boundary), (images,) booleans.
        after: the measure without the attribute, (images,).
        boundary: the value of the measure that divides the two, (images,).
    """
    distance = np.asarray(after, dtype=np.float64) - np.asarray(boundary, dtype=np.float64)
    return np.where(np.asarray(inside, dtype=bool), -distance, distance)
