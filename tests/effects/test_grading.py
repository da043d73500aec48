"""Marks against a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from diffex_dagster.effects.grading import beam_recall, grade

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

TRUTH = {f"f{i:02}": value for i, value in enumerate(np.linspace(0.6, 0.05, 12))} | {"null": 0.0, "other null": 0.0}


def test_the_truth_itself_gets_full_marks() -> None:
    marks = grade(TRUTH, TRUTH, {n: (v, v) for n, v in TRUTH.items()}, {n: "raises" for n, v in TRUTH.items() if v})
    for correlation in (marks.spearman, marks.kendall, marks.spearman_relevant, marks.kendall_relevant):
        assert correlation == pytest.approx(1.0)
    assert marks.precision_at_5 == marks.precision_at_10 == marks.recall_at_10 == marks.sign_accuracy == 1.0
    assert marks.effect_mae == marks.fdr == 0.0 and marks.coverage == 1.0
    assert (marks.features, marks.relevant, marks.discoveries, marks.missed) == (14, 12, 12, {})


def test_known_numbers() -> None:
    truth = {"a": 0.5, "b": -0.4, "c": 0.3, "d": 0.01, "e": 0.0}
    estimated = {"a": 0.4, "b": 0.2, "c": 0.01, "d": 0.3, "e": math.nan}
    marks = grade(
        estimated,
        truth,
        {"a": (0.3, 0.6), "b": (0.1, 0.3), "x": (0.0, 1.0)},
        {"a": "raises", "b": "raises", "c": "inconclusive", "d": "lowers", "x": "raises"},
    )
    assert marks.relevant == 3 and marks.features == 4
    assert marks.precision_at_5 == pytest.approx(2 / 3)  # top 3 of the estimates: a, d, b
    assert marks.recall_at_10 == 1.0
    assert marks.sign_accuracy == pytest.approx(2 / 3)
    assert marks.effect_mae == pytest.approx((0.1 + 0.6 + 0.29 + 0.29) / 4)
    assert marks.coverage == 0.5
    assert marks.discoveries == 3 and marks.fdr == pytest.approx(2 / 3)
    assert marks.false_discoveries == {"b": "the other sign", "d": "the other sign"}
    strict = grade(estimated, truth, None, {"d": "raises", "b": "raises"}, null_tolerance=0.02)
    assert strict.false_discoveries == {"b": "the other sign", "d": "no effect"}
    assert marks.missed == {"b": "wrong sign", "c": "inconclusive"}
    assert marks.spearman == pytest.approx(stats.spearmanr([0.4, 0.2, 0.01, 0.3], [0.5, -0.4, 0.3, 0.01]).statistic)


def test_a_feature_that_was_not_scored_is_missed_and_not_forgotten() -> None:
    truth = {"a": 0.5, "b": 0.4}
    marks = grade({"b": 0.4}, truth, decisions={"b": "raises"})
    assert marks.precision_at_5 == marks.recall_at_10 == 0.5
    assert marks.missed == {"a": "not scored"}


@pytest.mark.filterwarnings("error")
def test_nothing_to_judge_is_not_a_number() -> None:
    """A classifier that depends on nothing: no ranking is right or wrong, but a discovery is false."""
    truth = {f"f{i}": 0.0 for i in range(6)}
    marks = grade({name: 0.01 * i for i, name in enumerate(truth)}, truth, decisions={"f5": "raises"})
    for value in (marks.spearman, marks.kendall, marks.precision_at_5, marks.recall_at_10, marks.sign_accuracy):
        assert math.isnan(value)
    assert math.isnan(marks.coverage) and marks.fdr == 1.0
    empty = grade({}, {})
    assert math.isnan(empty.effect_mae) and empty.fdr == 0.0


@pytest.mark.filterwarnings("error")
def test_equal_estimates_get_the_mark_of_a_guess() -> None:
    flat = grade(dict.fromkeys(TRUTH, 0.0), TRUTH)
    assert math.isnan(flat.spearman)
    assert flat.precision_at_5 == pytest.approx(5 / 14)
    assert flat.sign_accuracy == 0.0


def test_beam_recall_counts_the_true_top_in_kept_groups() -> None:
    truth = {"a/x": 0.5, "a/y": -0.4, "b": 0.3, "c/z": 0.01}
    assert beam_recall({"a"}, truth) == pytest.approx(2 / 3)
    assert beam_recall({"a"}, truth, top=2) == 1.0
    assert math.isnan(beam_recall({"a"}, {"a": 0.0}))


def test_tolerance_for_a_measured_truth_that_is_almost_zero() -> None:
    assert grade({"a": 0.1}, {"a": 0.0005}, decisions={"a": "raises"}).fdr == 0.0
    assert grade({"a": 0.1}, {"a": 0.0005}, decisions={"a": "raises"}, null_tolerance=0.001).fdr == 1.0


@PATIENT
@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_marks_do_not_depend_on_order_and_ranks_not_on_unit(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    estimated = {name: float(value + rng.normal(0, 0.1)) for name, value in TRUTH.items()}
    marks = grade(estimated, TRUTH)
    shuffled = dict(reversed(estimated.items()))
    assert grade(shuffled, dict(reversed(TRUTH.items()))).precision_at_5 == marks.precision_at_5
    scaled = grade({name: value * unit for name, value in estimated.items()}, TRUTH)
    assert scaled.spearman == pytest.approx(marks.spearman) and scaled.recall_at_10 == marks.recall_at_10
    assert 0.0 <= marks.precision_at_10 <= marks.recall_at_10 <= 1.0
