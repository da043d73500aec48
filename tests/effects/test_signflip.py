"""Sign-flip tests against brute force, SciPy and statsmodels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from diffex_dagster.effects.signflip import adjust_by, adjust_ebh, e_values, sign_flips

PATIENT = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines


def brute_force(d: np.ndarray) -> np.ndarray:
    """Step-down max-T by the definition, one pattern and one feature at a time."""
    d = d / np.sqrt((d**2).sum(axis=0))
    observed = np.abs(d.sum(axis=0))
    order = np.argsort(-observed)
    patterns = [
        np.abs((np.array(signs)[:, None] * d).sum(axis=0)) for signs in itertools.product((1, -1), repeat=len(d))
    ]
    p, previous = np.empty(d.shape[1]), 0.0
    for rank, feature in enumerate(order):
        rest = order[rank:]
        share = np.mean([statistic[rest].max() >= observed[feature] - 1e-9 for statistic in patterns])
        previous = p[feature] = max(previous, share)
    return p


def test_step_down_is_the_definition() -> None:
    d = np.random.default_rng(1).normal([0.0, 0.6, 1.2, -1.5], 1.0, (8, 4))
    np.testing.assert_allclose(sign_flips(d).p_max, brute_force(d))


def test_one_feature_is_scipys_permutation_test() -> None:
    d = np.random.default_rng(2).exponential(1.0, 10) - 0.4
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    result = sign_flips(d[:, None])
    assert result.p_raw[0] == result.p_max[0] == pytest.approx(expected.pvalue)


def test_random_flips_approach_the_exact_test() -> None:
    d = np.random.default_rng(3).normal(0.35, 1.0, (12, 5))
    exact = sign_flips(d, flips=4095)
    random = sign_flips(d, flips=4000, seed=1)
    np.testing.assert_allclose(random.p_raw, exact.p_raw, atol=0.03)
    np.testing.assert_allclose(random.p_max, exact.p_max, atol=0.03)


def test_adjustments_are_those_of_scipy_and_statsmodels() -> None:
    p = np.random.default_rng(4).uniform(0, 1, 30) ** 3
    np.testing.assert_allclose(adjust_by(p), stats.false_discovery_control(p, method="by"))
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    np.testing.assert_allclose(adjust_by(p), multitest.multipletests(p, method="fdr_by")[1])


def test_e_bh_rejects_as_defined() -> None:
    """Reject the k largest e-values for the largest k with e_(k) >= features / (level k)."""
    e = np.array([100.0, 3.0, 45.0, 0.2, 31.0])
    assert (adjust_ebh(e) <= 0.05).tolist() == [True, False, False, False, False]
    np.testing.assert_allclose(adjust_ebh(e)[[0, 2, 4]], [0.05, 5 / (3 * 31), 5 / (3 * 31)])


def test_e_values_have_mean_one_over_all_sign_patterns() -> None:
    """Under the null hypothesis signs are fair coins, so the average over all patterns is the expectation."""
    d = np.random.default_rng(5).exponential(1.0, (8, 3))
    for minimum in (0.0, 0.3):
        e = [e_values(np.array(s)[:, None] * d, minimum_effect=minimum) for s in itertools.product((1, -1), repeat=8)]
        mean = np.mean(e, axis=0)
        np.testing.assert_allclose(mean, 1.0) if not minimum else np.testing.assert_array_less(mean, 1.0)


@pytest.mark.filterwarnings("error")
def test_features_that_no_image_moves_are_never_significant() -> None:
    d = np.zeros((16, 3))
    d[:, 1] = 0.2
    for minimum in (0.0, 0.05):
        result = sign_flips(d, minimum_effect=minimum, flips=999)
        assert result.p_raw[[0, 2]].tolist() == result.p_max[[0, 2]].tolist() == [1.0, 1.0]
        assert result.p_max[1] < 0.05
        assert e_values(d, minimum_effect=minimum)[[0, 2]].tolist() == [1.0, 1.0]
    assert sign_flips(np.zeros((16, 4))).p_max.tolist() == [1.0] * 4
    assert sign_flips(np.empty((5, 0))).p_max.tolist() == []
    assert adjust_by(np.empty(0)).tolist() == adjust_ebh(np.empty(0)).tolist() == []


def test_exact_ties_count_against_the_feature() -> None:
    """Ten equal images: only the two patterns of equal signs reach the observed sum, the smallest p there is."""
    result = sign_flips(np.full((10, 1), 0.1))
    assert result.p_raw[0] == 2 / 2**10


def test_minimum_effect_is_a_test_of_more_than_that() -> None:
    d = np.random.default_rng(6).normal(0.1, 0.05, (24, 1))
    assert sign_flips(d).p_raw[0] < 0.001
    assert sign_flips(d, minimum_effect=0.05).p_raw[0] < 0.001
    assert sign_flips(d, minimum_effect=0.1).p_raw[0] > 0.05
    assert sign_flips(-d, minimum_effect=0.2).p_raw[0] > 0.5


@PATIENT
@given(st.integers(0, 10_000))
def test_order_and_unit_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = rng.normal(rng.uniform(-1, 1, 6), 1.0, (9, 6)) * (rng.random((9, 6)) < 0.7)
    features, images = rng.permutation(6), rng.permutation(9)
    result = sign_flips(d)  # 2^9 patterns: exact
    np.testing.assert_allclose(sign_flips(d[:, features]).p_max, result.p_max[features])
    np.testing.assert_allclose(sign_flips(d[images]).p_max, result.p_max)
    np.testing.assert_allclose(sign_flips(d * rng.uniform(0.001, 1000, 6)).p_max, result.p_max)
    np.testing.assert_allclose(sign_flips(-d).p_max, result.p_max)
    assert np.all(result.p_max >= result.p_raw - 1e-12)


@PATIENT
@given(st.integers(0, 10_000))
def test_the_same_seed_gives_the_same_p_values(seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.2, 1.0, (30, 4))
    first, second = (sign_flips(d, flips=499, seed=seed) for _ in range(2))
    assert first.p_max.tolist() == second.p_max.tolist() and first.p_raw.tolist() == second.p_raw.tolist()
