"""Do two features do more together, or less, than each by itself adds up to?

On image i, with A and B edited alone and together,

    I_i = d_AB − d_A − d_B = f(AB) − f(A) − f(B) + f(null)

is zero where the two add up. An edit towards anything moves a picture a little, and the three edits of a pair do not
cancel: where every edit drifts by δ, I is −δ without any interaction. A pair of *control prompts*, edited alone and
together under the same options of the editor, drifts as the pair does, so that what is decided about is I less the
control pair's I on the same image (`effects.placebo` for single features). With one control pair, exchangeability of
the two is sign symmetry of their difference. Without such a pair, a drift of the edits may pass for an interaction.

On a probability, log-odds that add up do not add up: of two features that each take 0.02 to 0.13, the two together may
take it to 0.5, and of two that each take it to 0.95, to 0.99. How much of I is that is the *curve*: what I would be if
log-odds added up. What is left of I is *beyond* it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.deciding import decide
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach, interval
from diffex_dagster.utils.columns import Maybe, Number, Says

InteractionText = Literal[
    "above the sum", "below the sum", "no interaction shown", "inconclusive", "too few images", "edit failed"
]
_WORDS: Mapping[str, InteractionText] = {
    "raises": "above the sum",
    "lowers": "below the sum",
    "mixed": "inconclusive",  # of one control pair nobody can tell what a single image's noise is
    "no effect shown": "no interaction shown",
    "inconclusive": "inconclusive",
    "already there": "too few images",
    "edit failed": "edit failed",
}
FOUND = ("above the sum", "below the sum")
_TINY = 1e-6  # probabilities this close to 0 and 1 have the same log-odds


@dataclass(frozen=True)
class PairScores:
    """The target measure of one pair's edits, each of shape (images,), and which images count.

    Attributes:
        null, one, other, together: f of the null edit, of A, of B and of both edited together.
        base: f that log-odds are counted from: the mean of the control edits, or the null edit.
        on: the images that lack both and can be changed by both edits, (images,) booleans.
        success: share of the joint edits on these that show both; None where nobody judges.
        control: the same of two control prompts that are edited like the two features, over the same images; None
            without them, and edits that drift may then pass for a finding.
    """

    null: NDArray[np.float64]
    one: NDArray[np.float64]
    other: NDArray[np.float64]
    together: NDArray[np.float64]
    base: NDArray[np.float64]
    on: NDArray[np.bool_]
    success: float | None = None
    control: PairScores | None = None

    @property
    def beyond_control(self) -> NDArray[np.float64]:
        """I less the control pair's, of every image, (images,)."""
        return self.interaction if self.control is None else np.asarray(self.interaction - self.control.interaction)

    @property
    def interaction(self) -> NDArray[np.float64]:
        """I of every image, (images,)."""
        return np.asarray(self.together - self.one - self.other + self.null)

    @property
    def curve(self) -> NDArray[np.float64]:
        """What I would be if the log-odds of a probability added up, (images,)."""
        added = _sigmoid(_logit(self.one) + _logit(self.other) - _logit(self.base))
        return np.asarray(added - self.one - self.other + self.base)


@dataclass(frozen=True)
class Interaction:
    """What two features do together beyond what each does, in the unit of the target measure.

    Where no image counts, `effect`, `alone`, `together` and the interval are NaN.
    """

    one: Annotated[str, Says("feature id")]
    other: Annotated[str, Says("feature id")]
    effect: Annotated[
        Number,
        Says(
            "mean of d_AB − d_A − d_B over the images that lack both, less that of two control prompts where placebo "
            "is true"
        ),
    ]
    ci_low: Annotated[Number, Says("lower end of its interval")]
    ci_high: Annotated[Number, Says("upper end")]
    alone: Annotated[Number, Says("mean d_A + mean d_B over these images: the sum that it is held against")]
    together: Annotated[Number, Says("mean d_AB")]
    images: Annotated[int, Says("how many", minimum=0)]
    decision: InteractionText
    p_value: Annotated[Maybe, Says("adjusted over all pairs; null where it was not tested")]
    reason: Annotated[str, Says("one clause in words")]
    success: Annotated[Maybe, Says("share of the joint edits that show both; null where nobody judges")] = None
    placebo: Annotated[bool, Says("two control prompts edited together were taken off")] = False
    curve: Annotated[
        Maybe,
        Says(
            "the interaction that log-odds which add up would give; null of a measure that is no probability, and of "
            "no image"
        ),
    ] = None
    beyond: Annotated[Maybe, Says("what is left of the effect without the curve")] = None
    beyond_low: Annotated[Maybe, Says("lower end of its interval")] = None
    beyond_high: Annotated[Maybe, Says("upper end")] = None

    @property
    def found(self) -> bool:
        """Whether an interaction is claimed."""
        return self.decision in FOUND

    @property
    def of_the_curve(self) -> bool:
        """Whether log-odds that add up account for it: what is beyond them cannot be told from none, or is opposite."""
        if self.beyond is None or self.beyond_low is None or self.beyond_high is None:
            return False
        opposite = self.beyond * self.effect < 0.0
        return opposite or self.beyond_low <= 0.0 <= self.beyond_high


def interactions(
    pairs: Mapping[tuple[str, str], PairScores],
    options: DecisionOptions | None = None,
    *,
    reach: Reach | None = None,
    probability: bool = True,
    possible: int = 0,
) -> list[Interaction]:
    """Decide about every pair, with one error rate over all of them, as `effects.deciding.decide` does of features.

    Args:
        pairs: (feature id, feature id) -> scores over the same images in the same order.
        reach: how far the measure can be moved by one edit; an interaction reaches twice as far.
        probability: whether log-odds can be counted of the measure.
        possible: of how many pairs these were chosen, on these very images; 0 where other images chose them. A feature
            that stands out by luck brings its luck into I. Every pair that might have been chosen therefore counts as
            tested, so that the error rate holds whatever chose (Holm, as of features that left a race).

    Returns:
        What is found first, each kind by the size of its effect; ties in the order of `pairs`.

    Raises:
        ValueError: a score is not finite, or the pairs do not have the same images.
    """
    options, reach = options or DecisionOptions(), reach or Reach()
    reach = replace(reach, furthest=2 * reach.furthest, low=-2 * reach.furthest, high=2 * reach.furthest)
    reach = replace(reach, still=options.margin)
    names = {pair: "\n".join(pair) for pair in pairs}
    decided = decide(
        {name: pairs[pair].beyond_control for pair, name in names.items()},
        options,
        edit_success={names[pair]: of.success for pair, of in pairs.items() if of.success is not None},
        without={names[pair]: of.on for pair, of in pairs.items()},
        left=max(0, possible - len(pairs)),
        reach=reach,
    )
    found = []
    for pair, of in pairs.items():
        decision = decided[names[pair]]
        found.append(
            Interaction(
                *pair,
                **_sizes(of, options.confidence, reach, probability),
                images=int(of.on.sum()),
                decision=_WORDS[decision.decision],
                p_value=decision.p_value,
                reason=decision.reason,
                success=of.success,
                placebo=of.control is not None,
            )
        )
    return sorted(found, key=_order)


def _order(row: Interaction) -> tuple[bool, bool, float]:
    return not row.found, row.decision in _UNSAID, -abs(row.effect) if row.images else 0.0


def _sizes(of: PairScores, confidence: float, reach: Reach, probability: bool) -> dict[str, Any]:
    """The numbers of an `Interaction`, over the images that count; NaN, and no curve, where none does."""
    on = of.on
    if not on.any():
        return dict.fromkeys(("effect", "ci_low", "ci_high", "alone", "together"), np.nan)
    seen = of.beyond_control[on]
    low, high = interval(seen, confidence, reach)
    sizes: dict[str, Any] = {
        "effect": float(seen.mean()), "ci_low": low, "ci_high": high,
        "alone": float((of.one - of.null + of.other - of.null)[on].mean()),
        "together": float((of.together - of.null)[on].mean()),
    }  # fmt: skip
    if probability:
        left = seen - of.curve[on] + (0.0 if of.control is None else of.control.curve[on])
        left_low, left_high = interval(left, confidence, reach)
        sizes |= {
            "curve": float(of.curve[on].mean()),
            "beyond": float(left.mean()), "beyond_low": left_low, "beyond_high": left_high,
        }  # fmt: skip
    return sizes


_UNSAID: Sequence[InteractionText] = ("too few images", "edit failed")


def _logit(p: ArrayLike) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(p, dtype=np.float64), _TINY, 1.0 - _TINY)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))
