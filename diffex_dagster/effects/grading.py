"""Marks for an explanation where the truth is known: estimated effects against true ones.

Every mark is NaN, never a flattering number, where it has nothing to judge: no ranking can be right or wrong about a
classifier for which all effects are equal.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffex_dagster.effects.deciding_one import CLAIMS

RELEVANT = 0.02
"""|true effect| above which a feature is relevant, in the unit of the measure."""
NULL = 0.001
"""|true effect| up to which a claim of an effect is false, where the truth is itself measured."""
OFF = 0.1
"""How far a claimed effect may be off, in the unit of the measure, before its interval has to hold the truth."""

NO_EFFECT, OTHER_SIGN, SIZE = "no effect", "the other sign", "another size"
"""Why a claim is false."""


@dataclass(frozen=True)
class Grade:
    """How well estimated effects agree with the truth. *Relevant* features have |true| above `RELEVANT`.

    Attributes:
        features: how many features have both a truth and a finite estimate.
        relevant: how many features of the truth are relevant.
        spearman, kendall: rank correlation (τ-b) of estimated against true effects, over `features`.
        spearman_relevant, kendall_relevant: the same over the relevant ones among them.
        precision_at_5, precision_at_10: share of the k features with the largest |estimate| that are among the k with
            the largest |truth|. k is lowered to the number of relevant features, where there are fewer.
        recall_at_10: share of the ten relevant features with the largest |truth| (all, if fewer) that are among the
            ten with the largest |estimate|.
        sign_accuracy: share of the relevant estimated features whose estimate has the sign of the truth.
        effect_mae: mean |estimate − truth| over `features`.
        coverage: share of the features with an interval whose interval holds the truth.
        discoveries: features decided *raises* or *lowers* for which a truth is known.
        fdr: share of the discoveries that are false: no true effect, the other sign, or a size that is wrong by more
            than `OFF` and outside the claim's own interval. 0 without discoveries.
        false_discoveries: those features -> `NO_EFFECT`, `OTHER_SIGN` or `SIZE`.
        missed: relevant feature -> why it was not discovered: its decision, "wrong sign", or "not scored". Empty when
            no decisions were given.
    """

    features: int
    relevant: int
    spearman: float
    spearman_relevant: float
    kendall: float
    kendall_relevant: float
    precision_at_5: float
    precision_at_10: float
    recall_at_10: float
    sign_accuracy: float
    effect_mae: float
    coverage: float
    discoveries: int
    fdr: float
    false_discoveries: dict[str, str]
    missed: dict[str, str]


def grade(
    estimated: Mapping[str, float],
    truth: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    decisions: Mapping[str, str] | None = None,
    *,
    null_tolerance: float = 1e-6,
    unit: float = 1.0,
) -> Grade:
    """Grade estimated effects.

    Args:
        estimated: feature -> effect; a feature that was not scored is left out or NaN, and counts as ranked last.
        truth: feature -> true effect; features without one are not graded.
        intervals: feature -> (low, high).
        decisions: feature -> decision, as of `effects.deciding`.
        null_tolerance: |true| up to which a feature has no effect (a measured truth is seldom exactly zero), in the
            unit of the measure.
        unit: of the measure: what a probability's 1 is of it. `RELEVANT`, `OFF` and `null_tolerance` are in it.

    Ties: a feature whose |truth| equals that of rank k counts as in the true top k. Features tied in |estimate| at rank
    k share the remaining places, so that the mark is the mean over all orders of the tied.
    """
    known = {name: float(value) for name, value in truth.items() if math.isfinite(value)}
    scored = {name: float(estimated[name]) for name in known if math.isfinite(estimated.get(name, math.nan))}
    relevant = [name for name, value in known.items() if abs(value) > RELEVANT * unit]
    relevant_scored = [name for name in relevant if name in scored]

    def pair(names: Sequence[str]) -> tuple[list[float], list[float]]:
        return [scored[name] for name in names], [known[name] for name in names]

    from scipy import stats  # see effects.paired

    errors = [abs(scored[name] - known[name]) for name in scored]
    signs = [scored[name] * known[name] > 0 for name in relevant_scored]
    covered = [low <= known[name] <= high for name, (low, high) in (intervals or {}).items() if name in known]
    claims = {n: text for n, text in (decisions or {}).items() if text in CLAIMS and n in known}
    false = {}
    for name, text in claims.items():
        bounds = (intervals or {}).get(name)
        if why := _why_false(text, known[name], scored.get(name), bounds, null_tolerance * unit, OFF * unit):
            false[name] = why
    return Grade(
        features=len(scored),
        relevant=len(relevant),
        spearman=_correlation(stats.spearmanr, *pair(list(scored))),
        spearman_relevant=_correlation(stats.spearmanr, *pair(relevant_scored)),
        kendall=_correlation(stats.kendalltau, *pair(list(scored))),
        kendall_relevant=_correlation(stats.kendalltau, *pair(relevant_scored)),
        precision_at_5=_overlap(scored, known, min(5, len(relevant)), min(5, len(relevant))),
        precision_at_10=_overlap(scored, known, min(10, len(relevant)), min(10, len(relevant))),
        recall_at_10=_overlap(scored, known, 10, min(10, len(relevant))),
        sign_accuracy=_mean(signs),
        effect_mae=_mean(errors),
        coverage=_mean(covered),
        discoveries=len(claims),
        fdr=len(false) / len(claims) if claims else 0.0,
        false_discoveries=false,
        missed={} if decisions is None else _missed(relevant, scored, decisions, false),
    )


def beam_recall(
    kept: Collection[str], truth: Mapping[str, float], *, top: int = 10, relevant_above: float = RELEVANT
) -> float:
    """Share of the `top` relevant features with the largest |truth| whose level-1 group the beam kept.

    Args:
        kept: ids of the kept groups.
        truth: feature id -> true effect; the group is the first part of the id.

    Returns:
        NaN when no feature is relevant. Features tied at the last place all count.
    """
    strengths = {name: abs(value) for name, value in truth.items() if abs(value) > relevant_above}
    if not strengths:
        return math.nan
    bar = sorted(strengths.values(), reverse=True)[: max(top, 1)][-1]
    return _mean([name.split("/")[0] in kept for name, strength in strengths.items() if strength >= bar])


def _why_false(
    decision: str,
    true: float,
    estimate: float | None,
    interval: tuple[float, float] | None,
    null_tolerance: float,
    off_by: float,
) -> str | None:
    """Why a claim is false; None where it is not. A size is wrong by more than its interval says, and `off_by`."""
    if abs(true) <= null_tolerance:
        return NO_EFFECT
    if (true > 0) != (decision == "raises"):
        return OTHER_SIGN
    if estimate is None or interval is None or abs(estimate - true) <= off_by:
        return None
    return None if interval[0] <= true <= interval[1] else SIZE


def _missed(
    relevant: Sequence[str], scored: Mapping[str, float], decisions: Mapping[str, str], false: Collection[str]
) -> dict[str, str]:
    missed = {}
    for name in relevant:
        decision = decisions.get(name)
        if name in false:
            missed[name] = "wrong sign"
        elif decision not in CLAIMS:
            missed[name] = decision if decision is not None and name in scored else "not scored"
    return missed


def _overlap(scored: Mapping[str, float], known: Mapping[str, float], chosen: int, wanted: int) -> float:
    """Expected share of the true top `wanted` hit by the top `chosen` estimates, out of `wanted`; NaN if none."""
    if not wanted:
        return math.nan
    bar = sorted((abs(value) for value in known.values()), reverse=True)[wanted - 1]
    true_top = {name for name, value in known.items() if abs(value) >= bar}
    strengths = sorted((abs(value) for value in scored.values()), reverse=True)
    if len(strengths) <= chosen:
        hits = float(len(true_top & scored.keys()))
    else:
        edge = strengths[chosen - 1]
        above = [name for name, value in scored.items() if abs(value) > edge]
        tied = [name for name, value in scored.items() if abs(value) == edge]
        share = (chosen - len(above)) / len(tied)
        hits = len(true_top & set(above)) + share * len(true_top & set(tied))
    return min(1.0, hits / wanted)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's ρ of two lists of effects; NaN for fewer than three, or when either side is constant."""
    from scipy import stats  # see effects.paired

    return _correlation(stats.spearmanr, x, y)


def _correlation(measure: object, x: Sequence[float], y: Sequence[float]) -> float:
    """A rank correlation, NaN for fewer than three features or when either side is constant."""
    if len(x) < 3 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return math.nan
    assert callable(measure)
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(measure(x, y).statistic)


def _mean(values: Sequence[float] | Sequence[bool]) -> float:
    return float(np.mean(values)) if values else math.nan
