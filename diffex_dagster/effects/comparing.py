"""Two versions of a classifier on the same edits: which features does the last rely on more, or less?

*Reliance* on a feature is mean |d|: how far the feature moves the classifier, whichever way. Per image the change is
|d_last| − |d_first|. The signed change d_last − d_first alone would call a feature that goes from lowering by 0.4 to
raising by 0.1 "more", though the classifier leans on it less. Where reliance is the same and the signed effects
differ, the versions use the feature in different directions (+0.4 became −0.4, or some images turned round), and the
decision says so.

What is reported is d, against the null edits. A change is claimed where D, against the control edits
(`effects.placebo`), decides the same: a version that is moved by whatever an edit draws relies on no attribute.

What is tested: that the versions are exchangeable on each image, in which case swapping them flips the sign of both
changes. Both changes of all features are tested in one step-down max-T (`effects.signflip`), so the chance of any false
claim of a change is at most the level. |d| also contains the editing noise; it is the same edits under both versions,
but a version that reacts to noise more strongly seems to rely more on everything: read a small change of reliance next
to the versions' noise floors.

A change that is claimed is at least as large as the margin: with enough images a change of 0.001 is told from none, and
it is still no change that a release should fail for. A feature whose edits failed says nothing about either version.
Nor is one claimed that a single further image would undo, if it changed as far the other way as images here do under
other edits. That nothing changed is only said where the images that nobody has looked at cannot have changed much
either, as far as the sample rules them out (`effects.paired.unseen_bounds`): a probability with the default margin
needs about 300.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.deciding import adjust_holm, flips_for, furthest_moves, stack, who_has_it
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach, images_that_undo, interval, unseen_bounds
from diffex_dagster.effects.presence import enough
from diffex_dagster.effects.signflip import sign_flips
from diffex_dagster.utils.lines import decimals

ComparisonText = Literal[
    "more reliant",
    "less reliant",
    "direction changed",
    "no change shown",
    "inconclusive",
    "already there",
    "edit failed",
]


@dataclass(frozen=True)
class ComparedEffect:
    """One feature under the first and the last version.

    Attributes:
        effects: mean d of (first, last).
        reliance: mean |d| of (first, last).
        difference, ci_low, ci_high: mean over images of d_last − d_first, with its interval.
        reliance_change, reliance_low, reliance_high: mean over images of |d_last| − |d_first|, with its interval.
        decision: see `compare`.
        p_value: adjusted, of the change that the decision speaks of; None for a feature that was not tested.
        reason: in words, for the report.
        images: how many images.
    """

    effects: tuple[float, float]
    reliance: tuple[float, float]
    difference: float
    ci_low: float
    ci_high: float
    reliance_change: float
    reliance_low: float
    reliance_high: float
    decision: ComparisonText
    p_value: float | None
    reason: str
    images: int


def compare(
    first: Mapping[str, ArrayLike],
    last: Mapping[str, ArrayLike],
    options: DecisionOptions | None = None,
    *,
    edit_success: Mapping[str, float] | None = None,
    without: Mapping[str, ArrayLike] | None = None,
    reach: Reach | None = None,
    left: int = 0,
    beyond_control: tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]] | None = None,
) -> dict[str, ComparedEffect]:
    """Compare two versions on the features that both have, over the same images of the same edits.

    Decisions, the first that applies: *already there* (too few images lack the attribute), *edit failed* (too few edits
    show the attribute; both are left out of
    the tested family), *more reliant* / *less reliant* (mean |d| changed, by the margin or more), *direction changed*
    (mean |d| is not shown to have changed, the signed effect is, by the margin or more), *no change shown* (the
    intervals of both changes lie inside ± margin, and so does what unseen images may do), *inconclusive*. A change is
    only claimed where its interval does not hold zero, and where one more image would not undo it that changed as far
    the other way as images here do (`effects.deciding.furthest_moves`).

    Args:
        first, last: feature -> paired differences, shape (images,), images in the same order in both.
        options: level, confidence, margin, min_edit_success, flips and seed are used; the error rate is always
            family-wise.
        edit_success: feature -> share of its edits that show the attribute; features that are missing are tested.
        without: feature -> which images lack the attribute, (images,) booleans: the versions are compared among these.
        reach: how far one version's measure can be moved; that of a probability when left out.
        left: features of the same family that are in neither, because a race dropped them (`search.racing`). Each is
            two changes with p = 1, and max-T, which needs every feature's differences, gives way to Holm.
        beyond_control: D of both versions where the study has control prompts; a decision then has to be that of D too.

    Returns:
        In the order of `first`.

    Raises:
        ValueError: the versions do not have the same images, or a difference is not finite.
    """
    options = options or DecisionOptions()
    names = [name for name in first if name in last]
    if not names:
        return {}
    before, after = stack({n: first[n] for n in names}), stack({n: last[n] for n in names})
    if before.shape != after.shape:
        raise ValueError(f"the versions have {len(before)} and {len(after)} images; they must share the same edits.")
    difference, change = after - before, np.abs(after) - np.abs(before)
    success = edit_success or {}
    lacking = {name: np.asarray(mask, dtype=bool) for name, mask in (without or {}).items()}
    there = {name for name, mask in lacking.items() if not enough(mask, options.level)}
    tested = [
        j for j, name in enumerate(names) if name not in there and success.get(name, 1.0) >= options.min_edit_success
    ]
    # Of a feature that is *already there*, all images are shown.
    on = np.stack(
        [lacking[n] if n in lacking and n not in there else np.ones(len(before), bool) for n in names], axis=1
    )
    family = np.concatenate([change[:, tested], difference[:, tested]], axis=1)
    of_family = np.concatenate([on[:, tested], on[:, tested]], axis=1)
    flips = flips_for(options, family.shape[1] + 2 * left, left > 0)
    flipped = sign_flips(family, flips=flips, seed=options.seed, on=of_family)
    p = adjust_holm(np.append(flipped.p_raw, np.ones(2 * left)))[: family.shape[1]] if left else flipped.p_max
    p_of = {j: (float(p[place]), float(p[len(tested) + place])) for place, j in enumerate(tested)}
    furthest_change, furthest_difference = (furthest_moves(of[:, tested], on[:, tested]) for of in (change, difference))
    of_change, of_difference = change_reaches(reach or Reach(), options.margin)

    compared = {}
    for j, name in enumerate(names):
        first_d, last_d, by, moved = (each[on[:, j], j] for each in (before, after, change, difference))
        low, high = interval(moved, options.confidence, of_difference)
        reliance_low, reliance_high = interval(by, options.confidence, of_change)
        effects = (float(first_d.mean()), float(last_d.mean()))
        reliance = (float(np.abs(first_d).mean()), float(np.abs(last_d).mean()))
        decision: ComparisonText = "already there" if name in there else "edit failed"
        p_value: float | None = None
        reason = who_has_it(lacking[name]) if name in there else f"{success.get(name, 1.0):.0%} of its edits show it"
        if j in p_of:
            p_change, p_signed = p_of[j]
            decision, p_value, reason = _decide_one(
                effects,
                reliance,
                Tested(
                    p_change,
                    reliance_low,
                    reliance_high,
                    _nothing_unseen(by, of_change, options),
                    _undone(by, furthest_change),
                ),
                Tested(
                    p_signed,
                    low,
                    high,
                    _nothing_unseen(moved, of_difference, options),
                    _undone(moved, furthest_difference),
                ),
                options,
            )
        compared[name] = ComparedEffect(
            effects,
            reliance,
            float(moved.mean()),
            low,
            high,
            float(by.mean()),
            reliance_low,
            reliance_high,
            decision,
            p_value,
            reason,
            len(moved),
        )
    if beyond_control is None:
        return compared
    held = compare(*beyond_control, options, edit_success=edit_success, without=without, reach=reach, left=left)
    return {name: _agreed(of, held[name]) for name, of in compared.items()}


def _agreed(of: ComparedEffect, held: ComparedEffect) -> ComparedEffect:
    """What is decided of d where the same is decided of D, else *inconclusive*."""
    if of.p_value is None or held.p_value is None:
        return of
    p = max(of.p_value, held.p_value)
    if of.decision == held.decision and (of.decision != "direction changed" or of.difference * held.difference > 0):
        return replace(of, p_value=p)
    if of.decision == "inconclusive":
        return of
    reason = f"{of.reason}; not so against the control prompts: {held.reason}"
    return replace(of, decision="inconclusive", p_value=p, reason=reason)


def change_reaches(reach: Reach, margin: float) -> tuple[Reach, Reach]:
    """How far both changes can be moved by one image: |d_last| − |d_first|, and d_last − d_first.

    Args:
        reach: how far one version's measure can be moved.
        margin: changes inside ± margin do not matter.
    """
    of_change, of_difference = (Reach(far, -far, far, margin) for far in (reach.furthest, 2.0 * reach.furthest))
    return of_change, of_difference


class Tested(NamedTuple):
    """A change as it was tested: adjusted p, interval, and what images that nobody has looked at can do to it."""

    p: float
    low: float
    high: float
    nothing_unseen: bool  # they cannot have changed much
    undone: bool  # one more would undo it


def _nothing_unseen(d: NDArray[np.float64], reach: Reach, options: DecisionOptions) -> bool:
    low, high = unseen_bounds(d, reach, 1.0 - options.confidence)
    return -options.margin <= low and high <= options.margin


def _undone(d: NDArray[np.float64], furthest: tuple[float, float]) -> bool:
    mean = float(d.mean())
    return images_that_undo(mean, len(d), furthest[1] if mean > 0 else furthest[0]) <= 1


def _decide_one(
    effects: tuple[float, float],
    reliance: tuple[float, float],
    change: Tested,
    signed: Tested,
    options: DecisionOptions,
) -> tuple[ComparisonText, float, str]:
    """Decision, p-value, reason."""
    margin = options.margin

    def claimed(moved: float, of: Tested) -> bool:
        if of.undone or abs(moved) < margin or (-margin <= of.low and of.high <= margin):
            return False
        return of.p <= options.level and (of.low > 0.0 or of.high < 0.0)

    def nothing(of: Tested) -> bool:
        return -margin <= of.low and of.high <= margin and of.nothing_unseen

    by, moved = reliance[1] - reliance[0], effects[1] - effects[0]
    at = decimals((*reliance, *effects))
    in_words = (
        f"mean |d| {reliance[0]:.{at}f} → {reliance[1]:.{at}f}, effect {effects[0]:+.{at}f} → {effects[1]:+.{at}f}"
    )
    if claimed(by, change):
        turned = ", in the opposite direction" if effects[0] * effects[1] < 0 else ""
        text: ComparisonText = "more reliant" if by > 0 else "less reliant"
        return text, change.p, in_words + turned
    if claimed(moved, signed):
        return "direction changed", signed.p, in_words
    p = min(change.p, signed.p)
    if nothing(change) and nothing(signed):
        return "no change shown", p, f"{in_words}, both changes inside ±{margin:g}"
    return "inconclusive", p, in_words
