"""Paired effects, their summary and their interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from diffex_dagster.effects.paired import (
    Reach,
    images_for_no_effect,
    interval,
    paired_effects,
    summarise,
    unseen_bounds,
    unseen_share,
)

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines
VECTORS = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=40).map(np.array)


def test_seeds_are_averaged_within_their_image() -> None:
    edit = np.array([[0.9, 0.7], [0.2, 0.4]])
    null = np.array([[0.5, 0.5], [0.1, 0.1]])
    np.testing.assert_allclose(paired_effects(edit, null), [0.3, 0.2])
    np.testing.assert_allclose(paired_effects([0.9, 0.2], [0.5, 0.1]), [0.4, 0.1])


@pytest.mark.parametrize(
    ("edit", "null", "message"),
    [
        ([0.1, 0.2], [0.1], "one null edit for each edit"),
        ([[0.1, 0.2]], [0.1], "one null edit for each edit"),
        ([0.1, math.nan], [0.1, 0.2], "not a finite number"),
        (0.1, 0.2, "must be"),
    ],
)
def test_scores_that_do_not_pair(edit: object, null: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_effects(edit, null)  # type: ignore[arg-type]


def test_summary_of_known_numbers() -> None:
    summary = summarise([0.4, 0.2, -0.1, 0.0], [True, False, False, False])
    assert summary.effect == pytest.approx(0.125)
    assert summary.magnitude == pytest.approx(0.175)
    assert summary.sign_agreement == 0.5  # the image that does not move agrees with neither direction
    assert summary.flip_rate == 0.25
    assert summary.images == 4
    assert summary.ci_low < 0.125 < summary.ci_high


@pytest.mark.filterwarnings("error")
def test_differences_without_spread() -> None:
    zero = summarise(np.zeros(24), np.zeros(24))
    assert (zero.ci_low, zero.ci_high, zero.sign_agreement) == (0.0, 0.0, 0.0)
    constant = summarise(np.full(3, 0.1), np.ones(3))
    assert (constant.ci_low, constant.ci_high) == (constant.effect, constant.effect)
    assert interval([0.3]) == (-math.inf, math.inf)  # one image tells nothing of others
    assert interval(np.r_[np.zeros(30), 1e-200]) == pytest.approx((0.0, 0.0))


PROBABILITY = Reach(1.0, -0.4, 0.6, 0.02)  # of pictures at 0.4 on average


@pytest.mark.parametrize("images", [6, 24, 149])
def test_images_that_do_not_move_leave_room_for_those_that_would(images: int) -> None:
    low, high = interval(np.zeros(images), reach=PROBABILITY)
    share = unseen_share(0, images)
    assert share == pytest.approx(1 - 0.05 ** (1 / images))
    assert high == pytest.approx(min(0.6, share), rel=0.2) and low == pytest.approx(max(-0.4, -share), rel=0.2)
    assert interval(np.full(images, 1e-9), reach=PROBABILITY) == pytest.approx((low, high), abs=1e-6)
    assert unseen_bounds(np.zeros(images), PROBABILITY) == pytest.approx((-share, share))
    assert interval(np.zeros(images), reach=Reach(0.0)) == (-math.inf, math.inf)  # a measure that nothing moved


def test_intervals_stay_inside_what_the_measure_can_take() -> None:
    low, high = interval(np.r_[np.full(20, -0.39), np.zeros(2)], reach=PROBABILITY)
    assert low == -0.4 and -0.36 < high < -0.2
    assert interval(np.full(24, -0.4), reach=PROBABILITY)[0] == pytest.approx(-0.4)
    low, high = interval(np.full(24, 0.3), reach=PROBABILITY)
    assert 0.2 < low < 0.3 < high < 0.4  # all alike is no proof that all are


def test_unseen_share_is_clopper_and_pearsons() -> None:
    for moved, images in ((0, 8), (1, 24), (5, 24), (23, 24)):
        exact = stats.binomtest(moved, images).proportion_ci(0.9, method="exact")  # one-sided 95%
        assert unseen_share(moved, images) == pytest.approx(exact.high)
    assert unseen_share(24, 24) == 1.0


def test_images_for_no_effect() -> None:
    needed = images_for_no_effect(PROBABILITY)
    assert 140 < needed < 160
    assert images_for_no_effect(Reach(1.0, still=0.1)) < 35 and images_for_no_effect(Reach(5.0, still=0.1)) == needed


def test_summary_needs_images() -> None:
    with pytest.raises(ValueError, match="images >= 1"):
        summarise([], [])
    with pytest.raises(ValueError, match="both must be"):
        summarise([0.1, 0.2], [True])


def test_interval_is_students_with_two_more_images() -> None:
    d = np.random.default_rng(0).exponential(0.1, 24)
    furthest = d.max() - d.mean()
    student = stats.ttest_1samp(np.r_[d, d.mean() + furthest, d.mean() - furthest], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(d), (student.low, student.high))


def test_interval_is_wider_than_students_where_few_images_move_far() -> None:
    def against_student(d: np.ndarray) -> float:
        low, high = interval(d)
        student = stats.ttest_1samp(d, 0.0).confidence_interval(0.95)
        return float((high - low) / (student.high - student.low))

    rng = np.random.default_rng(0)
    half_and_half, rare = np.where(np.arange(24) % 2, 0.5, -0.5), np.r_[np.zeros(23), 0.5]
    assert 0.95 < against_student(half_and_half) < 1.05 < 1.3 < against_student(rare)
    assert against_student(rng.normal(0.1, 0.1, 2000)) == pytest.approx(1.0, abs=0.01)


@PATIENT
@given(VECTORS, st.floats(-1, 1))
def test_interval_moves_with_the_differences(d: np.ndarray, shift: float) -> None:
    low, high = interval(d)
    np.testing.assert_allclose(interval(d + shift), (low + shift, high + shift), atol=1e-7)


@PATIENT
@given(VECTORS)
def test_interval_holds_the_mean_and_is_ordered(d: np.ndarray) -> None:
    low, high = interval(d)
    assert low <= d.mean() <= high


@PATIENT
@given(VECTORS, st.floats(0.01, 100))
def test_interval_follows_order_unit_and_sign(d: np.ndarray, unit: float) -> None:
    low, high = interval(d)
    np.testing.assert_allclose(interval(d[::-1]), (low, high), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(interval(d * unit), (low * unit, high * unit), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(interval(-d), (-high, -low), rtol=1e-5, atol=1e-9)


@PATIENT
@given(VECTORS)
def test_more_confidence_is_wider(d: np.ndarray) -> None:
    low, high = interval(d, 0.9)
    wider_low, wider_high = interval(d, 0.99)
    assert wider_low <= low and high <= wider_high
