"""Two editors' reports held against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffex_dagster.effects.agreement import Said, agree, cohens_kappa
from diffex_dagster.effects.deciding import decide
from diffex_dagster.effects.options import DecisionOptions


def said(effect: float, decision: str) -> Said:
    return Said(effect, effect - 0.1, effect + 0.1, decision)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("raises", "raises", "holds under both"),
        ("mixed", "mixed", "holds under both"),
        ("raises", "lowers", "contradicted"),
        ("raises", "no effect shown", "under one alone"),
        ("raises", "mixed", "under one alone"),
        ("inconclusive", "lowers", "not confirmed"),
        ("raises", "edit failed", "not judged by both"),
        ("already there", "raises", "not judged by both"),
        ("edit failed", "edit failed", "not judged by both"),
        ("inconclusive", "no effect shown", "claimed by neither"),
    ],
)
def test_what_is_said_of_a_feature(first: str, second: str, verdict: str) -> None:
    assert agree({"a": said(0.3, first)}, {"a": said(0.2, second)}).verdicts == {"a": verdict}


def test_how_well_effects_agree_is_said_of_what_both_judged() -> None:
    first = {"a": said(0.5, "raises"), "b": said(-0.2, "lowers"), "c": said(0.01, "inconclusive")}
    second = {"a": said(0.4, "raises"), "b": said(0.1, "inconclusive"), "c": said(0.0, "no effect shown")}
    only = {"d": said(0.9, "raises"), "e": said(-0.9, "edit failed")}
    found = agree(first | {"e": said(0.7, "raises")}, second | only)
    assert found.judged == 3
    assert found.spearman == pytest.approx(0.5)
    assert found.same_sign == pytest.approx(0.5)
    assert found.verdicts["d"] == found.verdicts["e"] == "not judged by both"
    assert math.isnan(agree({}, {}).spearman) and math.isnan(agree({}, {}).same_sign)


def test_what_holds_under_both_is_false_in_no_more_studies_than_either_claim() -> None:
    """Two editors with their own noise, and no effect at all: any feature that holds under both is false."""
    rng, false, studies = np.random.default_rng(0), 0, 100
    for study in range(studies):
        reports = []
        for _ in range(2):
            d = {str(j): rng.normal(0, 0.2, 16) for j in range(10)}
            decided = decide(d, DecisionOptions(flips=199, seed=study), image_noise=0.6)
            reports.append({f: said(float(np.mean(d[f])), each.decision) for f, each in decided.items()})
        false += "holds under both" in agree(*reports).verdicts.values()
    assert false / studies <= 0.05


def test_kappa_is_agreement_beyond_chance() -> None:
    """Cohen's own counts: 20 and 15 agreed, 5 and 10 not, of 50: kappa is 0.4."""
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)
    assert cohens_kappa([True, False], [True, False]) == 1.0
    assert math.isnan(cohens_kappa([True, True], [True, True])) and math.isnan(cohens_kappa([], []))
