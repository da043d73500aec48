"""Does a feature's effect stand on its own, or is it what the edit also changed?

An edit towards one feature may bring another with it (grey hair that also grows a beard), or take it away (a hat that
hides the hair). The judge that checks edits sees it: under the edit of A, evidence for B rises, as it does under the
edit of B itself, or falls. The *leak* is the ratio of the two: the share of a whole edit of B that the edit of A
contains or, below zero, undoes. If the classifier added up, that much of B's effect would be part of A's; what is left
is A's *direct* effect. This first-order account is a warning, not a correction: neither evidence nor classifiers are
linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from diffex_dagster.effects.paired import interval


@dataclass(frozen=True)
class SideEffect:
    """What the edit of one feature does to another.

    Attributes:
        edited: feature id.
        looked_for: id of the other feature.
        leak: share of a whole edit of `looked_for` that the edit contains, in [−1, 1]; below zero: that it undoes.
        real: whether the leak can be told from none: the interval of the gain in evidence does not hold zero.
        direct: mean effect of `edited` less the leak's share of `looked_for`'s, in the unit of the target measure.
        direct_low, direct_high: interval of it.
        confounded: whether the leak is strong and real, and the direct effect cannot be told from none or lies inside
            the margin.
    """

    edited: str
    looked_for: str
    leak: float
    real: bool
    direct: float
    direct_low: float
    direct_high: float
    confounded: bool


def side_effects(
    d: Mapping[str, ArrayLike],
    gains: Mapping[tuple[str, str], ArrayLike],
    *,
    margin: float,
    strong: float = 0.25,
    confidence: float = 0.95,
    on: Mapping[str, ArrayLike] | None = None,
) -> list[SideEffect]:
    """Side effects of every pair of features whose gain in evidence was measured.

    Args:
        d: feature -> paired differences, shape (images,).
        gains: (feature edited, feature looked for) -> gain in evidence against the null edit, shape (images,); a pair
            (B, B) is what the edit of B does to B itself. Pairs without it, or whose own edit does not show, are left
            out.
        margin: effects inside ± margin do not matter.
        strong: size of a leak from which it can confound.
        on: feature -> the images that its effect is over, (images,) booleans; all of a feature that is missing.

    Returns:
        The largest leaks first, whichever way.
    """
    found = []
    counted = {feature: np.asarray(mask, dtype=bool) for feature, mask in (on or {}).items()}
    for edited, looked_for in gains:
        if edited == looked_for or (looked_for, looked_for) not in gains:
            continue
        gain = np.asarray(gains[edited, looked_for], dtype=np.float64)
        every = np.ones(gain.shape, dtype=bool)
        of = counted.get(edited, every)
        own = np.asarray(gains[looked_for, looked_for], dtype=np.float64)[counted.get(looked_for, every)]
        if own.mean() <= 0.0:
            continue
        gain = gain[of]
        leak = float(np.clip(gain.mean() / own.mean(), -1.0, 1.0))
        gain_low, gain_high = interval(gain, confidence)
        real = gain_low > 0.0 or gain_high < 0.0
        direct = np.asarray(d[edited], dtype=np.float64) - leak * np.asarray(d[looked_for], dtype=np.float64)
        direct = direct[of]
        low, high = interval(direct, confidence)
        gone = low <= 0.0 <= high or (-margin <= low and high <= margin)
        confounded = abs(leak) >= strong and real and gone
        found.append(SideEffect(edited, looked_for, leak, real, float(direct.mean()), low, high, confounded))
    return sorted(found, key=lambda each: -abs(each.leak))
