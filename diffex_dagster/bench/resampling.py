"""Do intervals and decisions keep what they promise? Many studies drawn from effects that are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.effects.deciding import decide
from diffex_dagster.effects.grading import NULL, OFF, RELEVANT
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach, interval
from diffex_dagster.effects.presence import Mask, enough


@dataclass(frozen=True)
class Resampled:
    """Rates over resampled studies of one classifier.

    Attributes:
        studies: how many.
        coverage: share of intervals that hold the population's effect, over the features that have one at all.
        fdr: mean over studies of the share of false claims among *raises* and *lowers* (0 in a study without claims).
        any_false: share of studies with at least one false claim.
        any_wrong_way: share of studies with at least one claim of an effect that is none, or has the other sign: what
            the family-wise rate bounds. An effect that is off by more than its own interval says is not in it.
        found: mean share of the features with |effect| > 0.02 of the reach that are claimed with the right sign; NaN
            without any.
    """

    studies: int
    coverage: float
    fdr: float
    any_false: float
    any_wrong_way: float
    found: float


def resample(
    effects: Mapping[str, NDArray[np.float64]],
    images: int,
    options: DecisionOptions,
    studies: int,
    *,
    without: Mapping[str, Mask] | None = None,
    reach: Reach | None = None,
) -> Resampled:
    """Draw studies of `images` images with replacement from a population whose every effect is known.

    Args:
        effects: feature -> differences over the population, shape (population,).
        without: feature -> which of the population lack it, (population,): its effect is that among these, in the
            population and in every study.
        reach: how far the measure can be moved; that of a probability when left out. A claim is false where the effect
            of the population is `NULL` of it or less, has the other sign, or is off by more than `OFF` of it and than
            the claim's own interval says (as in `effects.grading.grade`).
    """
    names = list(effects)
    table = np.stack([effects[name] for name in names], axis=1)
    lacking = np.stack([(without or {}).get(name, np.ones(len(table), bool)) for name in names], axis=1)
    truth = np.array([table[lacks, j].mean() if (lacks := lacking[:, j]).any() else 0.0 for j in range(len(names))])
    reach = reach or Reach(still=options.margin)
    acting, relevant = np.any(table != 0.0, axis=0), np.abs(truth) > RELEVANT * reach.furthest
    null, rng = NULL * reach.furthest, np.random.default_rng(options.seed)
    covered, shares, falsely, wrongly, found = [], [], [], [], []
    for study in range(studies):
        chosen = rng.integers(len(table), size=images)
        d, on = table[chosen], lacking[chosen]
        masks = dict(zip(names, on.T, strict=True)) if without else None
        decisions = decide(dict(zip(names, d.T, strict=True)), options.replaced(seed=study), without=masks, reach=reach)
        claimed = np.array([{"raises": 1, "lowers": -1}.get(decisions[name].decision, 0) for name in names])
        said = np.full((3, len(names)), np.nan)  # mean, low, high of what anything is said of
        for j in range(len(names)):
            if enough(on[:, j], options.level):
                seen = d[on[:, j], j]
                said[:, j] = seen.mean(), *interval(seen, options.confidence, reach)
        false = false_claims(claimed, said, truth, null, OFF * reach.furthest)
        shares.append(false.sum() / max(1, np.count_nonzero(claimed)))
        falsely.append(bool(false.any()))
        wrongly.append(bool(false_claims(claimed, said, truth, null, math.inf).any()))
        found += [np.mean((claimed != 0) & ~false, where=relevant)] if relevant.any() else []
        said_of = acting & ~np.isnan(said[0])  # already there: nothing is said
        covered += [bool(held) for held in ((said[1] <= truth) & (truth <= said[2]))[said_of]]
    return Resampled(studies, _mean(covered), _mean(shares), _mean(falsely), _mean(wrongly), _mean(found))


def false_claims(
    claimed: NDArray[np.int64],
    said: NDArray[np.float64],
    truth: NDArray[np.float64],
    null: float,
    off_by: float,
) -> NDArray[np.bool_]:
    """Which claims are false: there is no effect, it has the other sign, or another size than is said.

    Args:
        claimed: 1 (raises), −1 (lowers) or 0 of each feature, (features,).
        said: mean, lower and upper end of its interval, (3, features); NaN where nothing is said.
        truth: (features,).
        null: |truth| up to which there is no effect.
        off_by: error from which a claim whose interval does not hold the truth is false.
    """
    mean, low, high = said
    off = (np.abs(mean - truth) > off_by) & ((truth < low) | (truth > high))
    return (claimed != 0) & ((np.abs(truth) <= null) | (np.sign(truth) != claimed) | off)


def _mean(values: list[bool] | list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
