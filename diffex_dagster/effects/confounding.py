"""Does a feature's effect stand on its own, or is it what the edit also changed?

An edit towards one feature may bring another with it (grey hair that also grows a beard). The probe that checks edits
sees it: under the edit of A, evidence for B rises, as it does under the edit of B itself. The *leak* is the ratio of
the two rises, the share of a whole edit of B that the edit of A contains. If the classifier added up, that much of B's
effect would be part of A's; what is left is A's *direct* effect. This first-order account is a warning, not a
correction: neither evidence nor classifiers are linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from diffex_dagster.effects.paired import interval


@dataclass(frozen=True)
class SideEffect:
    """What the edit of `feature` does to another feature.

    Attributes:
        leak: share of a whole edit of `other` that it contains, in [0, 1].
        direct: mean effect of `feature` less the leak's share of `other`'s.
        direct_low, direct_high: interval of it.
        confounded: whether the leak is strong and the direct effect cannot be told from zero or inside the margin.
    """

    feature: str
    other: str
    leak: float
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
) -> list[SideEffect]:
    """Side effects of every pair of features whose gain in evidence was measured.

    Args:
        d: feature -> paired differences, shape (images,).
        gains: (feature edited, feature looked for) -> gain in evidence against the null edit, shape (images,); a pair
            (B, B) is what the edit of B does to B itself. Pairs without it, or whose own edit does not show, are left
            out.
        margin: effects inside ± margin do not matter.
        strong: leak from which a side effect can confound.

    Returns:
        The largest leaks first.
    """
    found = []
    for feature, other in gains:
        own = np.asarray(gains.get((other, other), [0.0]), dtype=np.float64)
        if feature == other or own.mean() <= 0.0:
            continue
        gain = np.asarray(gains[feature, other], dtype=np.float64)
        leak = float(np.clip(gain.mean() / own.mean(), 0.0, 1.0))
        direct = np.asarray(d[feature], dtype=np.float64) - leak * np.asarray(d[other], dtype=np.float64)
        low, high = interval(direct, confidence)
        real = interval(gain, confidence)[0] > 0.0
        gone = low <= 0.0 <= high or (-margin <= low and high <= margin)
        found.append(
            SideEffect(feature, other, leak, float(direct.mean()), low, high, leak >= strong and real and gone)
        )
    return sorted(found, key=lambda each: -each.leak)
