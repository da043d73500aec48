"""Does a feature's effect stand on its own, or is it what the edit also changed?

An edit towards one feature may bring another with it (grey hair that also grows a beard), or take it away (a hat that
hides the hair). The judge that checks edits sees it: under the edit of A, evidence for X rises, or falls. How much of
A's effect is X's is asked in one of two ways.

**By X's own edits**, where these change X. The *leak* is the gain in evidence for X in A's edits over that in X's own:
the share of a whole edit of X that the edit of A contains or, below zero, undoes. The edit of X is the yardstick for
what X does to the classifier, an instrument (Wald 1940): noise of the judge cancels in the ratio of two means, and it
does not matter how many of the edits of X take, as long as their mean gain is far from zero (F > 10: Staiger & Stock
1997).
Both edits may contain some of the other; with δ the effects of the attributes themselves and ℓ the leaks,

    mean d_A = δ_A + ℓ_AX δ_X,    mean d_X = δ_X + ℓ_XA δ_A,

so that X's part of A's effect is ℓ_AX δ_X = ℓ_AX (mean d_X − ℓ_XA mean d_A) / (1 − ℓ_AX ℓ_XA). A moustache whose edits
show half a beard does not account for the beard's effect, though its own edits have half of it. Where each contains
most of the other, or undoes it, the two equations are one, ℓ_AX ℓ_XA near 1, and nothing tells whose the effect is
(aliased effects: Box, Hunter & Hunter 2005): all of it may be X's, ℓ_AX mean d_X, or none.

**Among A's edits**, where X has no such edits. The images differ in how far A's edit changed X. What the gain for A
itself does not tell of d is regressed on the gain for X (Judd, Kenny & McClelland 2001, mediation within subjects):
slope times mean gain is X's part. What both gains tell of is A's: how far an edit goes moves whatever looks like it.

A is *confounded with* X where X's part, or what may be its part, is at least half of A's effect, can be told from none,
and the change of X is strong. This first-order account is a warning, not a correction: neither evidence nor
classifiers add up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.paired import Reach, interval
from diffex_dagster.utils.columns import Number, Says

HALF = 0.5
"""The share of an effect from which another feature accounts for it."""

STRONG = 0.25
"""The size of a leak from which it can: a smaller one is as likely the judge's doing."""

APART = 0.5
"""Two leaks into each other whose product is as large or larger leave nothing to tell the features apart by."""

FEWEST = 12  # images, for a slope and its error
INSTRUMENT = 10.0  # the least F of the mean gain of a feature's own edits that is a yardstick


@dataclass(frozen=True)
class SideEffect:
    """What the edit of one feature does to another."""

    edited: Annotated[str, Says("feature id")]
    looked_for: Annotated[str, Says("id of the other feature")]
    leak: Annotated[
        Number,
        Says(
            "share of a whole edit of looked_for that the edit contains; below zero: that it undoes; null where "
            "the edits of looked_for are no yardstick: their mean gain in evidence is not far from zero, or was not "
            "measured",
            minimum=-1,
            maximum=1,
        ),
    ]
    real: Annotated[
        bool,
        Says(
            "the change can be told from none: the interval of the gain in evidence, at a level that is shared by all "
            "features that are looked for in the edit, does not hold zero"
        ),
    ]
    direct: Annotated[
        Number,
        Says(
            "mean effect of edited less the part of looked_for, in the unit of the target measure; null where nothing "
            "tells the two apart: edits towards either contain, or undo, most of the other"
        ),
    ]
    direct_low: Annotated[Number, Says("lower end of its interval")]
    direct_high: Annotated[Number, Says("upper end")]
    confounded: Annotated[
        bool,
        Says(
            "the effect of edited is claimed, and the part of looked_for in it is half of it or more; where nothing "
            "tells the two apart: may be"
        ),
    ]

    @property
    def told_apart(self) -> bool:
        """Whether the direct effect was measured: not where edits towards either contain most of the other."""
        return not math.isnan(self.direct)


def side_effects(
    d: Mapping[str, ArrayLike],
    gains: Mapping[tuple[str, str], ArrayLike],
    *,
    confidence: float = 0.95,
    on: Mapping[str, ArrayLike] | None = None,
    reach: Reach | None = None,
) -> list[SideEffect]:
    """Side effects of every pair of features whose gain in evidence was measured.

    Args:
        d: feature -> paired differences, shape (images,); of every feature that was edited.
        gains: (feature edited, feature looked for) -> gain in evidence against the null edit, shape (images,); a pair
            (B, B) is what the edit of B does to B itself. A pair (X, A) beside (A, X) tells what each contains of the
            other; without it X's edits are taken to contain nothing of A.
        on: feature -> the images that its effect is over, (images,) booleans; all of a feature that is missing.
        reach: how far the measure can be moved, in its unit; `low` and `high` are what a mean effect can be on whatever
            images. The intervals of direct effects stay inside it; None for a measure of which nothing is known.

    Returns:
        The largest leaks first, whichever way; then those without one, the smallest direct effects first. Direct
        effects of pairs that nothing tells apart are NaN.
    """
    counted = {feature: np.asarray(mask, dtype=bool) for feature, mask in (on or {}).items()}
    of = {pair: np.asarray(gain, dtype=np.float64) for pair, gain in gains.items()}
    effects = {feature: np.asarray(values, dtype=np.float64) for feature, values in d.items()}

    def over(feature: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[counted[feature]] if feature in counted else values

    own = {f: over(f, of[f, f]) for f in effects if (f, f) in of}
    whole = {f: float(gain.mean()) for f, gain in own.items() if is_yardstick(gain)}

    def leak(edited: str, looked_for: str) -> float:
        """NaN without a yardstick; 0 where nobody looked."""
        if looked_for not in whole:
            return math.nan
        if (edited, looked_for) not in of:
            return 0.0
        return float(np.clip(over(edited, of[edited, looked_for]).mean() / whole[looked_for], -1.0, 1.0))

    asked = Counter(edited for edited, looked_for in of if edited != looked_for)
    found = []
    for edited, looked_for in of:
        if edited == looked_for or edited not in own or own[edited].mean() <= 0.0:
            continue
        gain, total = over(edited, of[edited, looked_for]), over(edited, effects[edited])
        shared = 1.0 - (1.0 - confidence) / asked[edited]
        low, high = interval(gain, shared)
        real = low > 0.0 or high < 0.0
        contains = leak(edited, looked_for)
        if math.isnan(contains):
            part, told = _among_these_edits(total, gain, own[edited], shared)
            strong, apart = True, True
        else:
            back = leak(looked_for, edited)
            back = 0.0 if math.isnan(back) else back
            apart = contains * back < APART
            part = contains * over(edited, effects[looked_for])
            if apart:
                part = (part - contains * back * total) / (1.0 - contains * back)
            low, high = interval(part, confidence)
            told = low > 0.0 or high < 0.0
            strong = abs(contains) >= STRONG
        direct = total - part
        left = (float(direct.mean()), *_inside(direct, confidence, reach)) if apart else (math.nan,) * 3
        half = abs(part.mean()) >= HALF * abs(total.mean()) > 0.0 and part.mean() * total.mean() > 0.0
        confounded = bool(half and told and real and strong)
        found.append(SideEffect(edited, looked_for, contains, real, *left, confounded))
    return sorted(found, key=_strongest_first)


def _inside(direct: NDArray[np.float64], confidence: float, reach: Reach | None) -> tuple[float, float]:
    low, high = interval(direct, confidence)
    return reach.clip(low, high, float(direct.mean())) if reach else (low, high)


def _strongest_first(each: SideEffect) -> tuple[bool, float, float]:
    return math.isnan(each.leak), -abs(each.leak), abs(each.direct) if each.told_apart else math.inf


def is_yardstick(gain: ArrayLike) -> bool:
    """Whether a feature's own edits change it by so much, beside their spread, that others' can be held against them.

    Args:
        gain: in evidence for the feature, of its own edits, (images,).
    """
    values = np.asarray(gain, dtype=np.float64)
    if values.size < 2 or values.mean() <= 0.0:
        return False
    return bool(values.mean() ** 2 * values.size > INSTRUMENT * values.var(ddof=1))


def _among_these_edits(
    d: NDArray[np.float64], gain: NDArray[np.float64], own: NDArray[np.float64], confidence: float
) -> tuple[NDArray[np.float64], bool]:
    """The part of each difference that goes with the gain in evidence of another feature, and whether it is told.

    Args:
        d, gain, own: differences, gain of the other feature, gain of the edited feature itself; all (images,).
        confidence: of the slope, whose error is HC3 (MacKinnon & White 1985): images differ in spread.
    """
    nothing = np.zeros_like(d)
    if d.size < FEWEST or np.ptp(gain) == 0.0:
        return nothing, False
    from scipy import special  # scipy.stats takes a second to import

    of_own = (own - own.mean()) / own.std() if np.ptp(own) > 0.0 else nothing  # it may say yes of all its edits
    left = d - of_own * float((of_own * d).mean())
    z = np.stack([gain / gain.std(), np.ones_like(d)], axis=1)
    inverse = np.linalg.inv(z.T @ z)
    slopes = inverse @ z.T @ left
    leverage = np.einsum("ij,jk,ik->i", z, inverse, z)
    error_of = (left - z @ slopes) / np.maximum(1.0 - leverage, 1e-9)
    error = math.sqrt(float((inverse @ (z * error_of[:, None] ** 2).T @ z @ inverse)[0, 0]))
    bound = float(special.stdtrit(d.size - 3, 1.0 - (1.0 - confidence) / 2.0))
    return slopes[0] * z[:, 0], abs(float(slopes[0])) > bound * error
