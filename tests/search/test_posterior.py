"""Draws of the means over all images from the first of them: as wide as they should be, and together."""

from __future__ import annotations

import numpy as np
import pytest

from diffex_dagster.search.posterior import draw_means

FLAT = np.zeros(60)


def draw(values: np.ndarray, covariate: np.ndarray = FLAT, draws: int = 400, seed: int = 0) -> np.ndarray:
    return draw_means(values.tolist(), -1.0, 1.0, covariate, draws, seed)


@pytest.mark.parametrize("n", [6, 13, 30, 50])
@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_the_mean_lies_in_the_middle_nine_tenths_of_its_draws_about_as_often(n: int, spread: float) -> None:
    """1,000 populations of 60; what is drawn towards all features' variance may hold a little more often."""
    values = np.clip(np.random.default_rng(3).normal(0.1, spread, (1000, 60)), -1, 1)
    low, high = np.quantile(draw(values[:, :n]), [0.05, 0.95], axis=1)
    inside = ((low <= values.mean(axis=1)) & (values.mean(axis=1) <= high)).mean()
    assert 0.9 - 3 * (0.9 * 0.1 / 1000) ** 0.5 < inside < 0.96


def test_all_images_leave_nothing_to_draw() -> None:
    values = np.random.default_rng(0).normal(0, 0.2, (4, 60))
    covariate = np.random.default_rng(1).random(60)
    np.testing.assert_allclose(draw(values, covariate), np.repeat(values.mean(axis=1)[:, None], 400, axis=1))


def test_features_that_move_the_same_images_are_known_apart_early() -> None:
    """Two features an image moves alike, 0.02 apart: no interval of one tells them apart, their difference does."""
    rng = np.random.default_rng(5)
    common = rng.normal(0.1, 0.3, 30)
    alike = np.stack([common, common + 0.02 + rng.normal(0, 0.005, 30)])
    apart = np.stack([common, rng.permutation(common) + 0.02])
    sure = [(first < second).mean() for first, second in map(draw, (alike, apart))]
    assert sure[0] > 0.9 > 0.75 > sure[1]


def test_equal_first_values_are_no_certainty() -> None:
    """Six zeros of one feature, while others vary: the others' variance counts for it too."""
    values = np.random.default_rng(4).normal(0, 0.2, (5, 6))
    values[0] = 0.0
    assert np.ptp(np.quantile(draw(values)[0], [0.025, 0.975])) > 0.1


def test_what_is_known_before_the_edit_narrows() -> None:
    rng = np.random.default_rng(6)
    before = rng.random(60)
    values = 0.8 * (1 - before) + rng.normal(0, 0.05, (20, 60))
    plain, regressed = draw(values[:, :15]).std(axis=1), draw(values[:, :15], before).std(axis=1)
    assert (regressed < 0.5 * plain).all()
    assert np.abs(draw(values[:, :15], before).mean(axis=1) - values.mean(axis=1)).mean() < 0.03


def test_nothing_lies_beyond_what_the_unseen_could_add() -> None:
    values = np.where(np.random.default_rng(7).random((10, 20)) < 0.5, -1.0, 1.0)
    drawn, seen = draw(values), values.sum(axis=1)[:, None]
    assert (drawn >= (seen - 40) / 60 - 1e-12).all() and (drawn <= (seen + 40) / 60 + 1e-12).all()


def test_features_may_have_been_seen_on_different_numbers_of_images_and_draws_repeat() -> None:
    rng = np.random.default_rng(8)
    rows = [rng.normal(0.1, 0.2, n).tolist() for n in (6, 60, 20)]
    first = draw_means(rows, -1.0, 1.0, FLAT, 200)
    np.testing.assert_array_equal(first, draw_means(rows, -1.0, 1.0, FLAT, 200))
    few, whole, more = first.std(axis=1)
    assert few > more > whole == pytest.approx(0, abs=1e-12)


def test_a_difference_between_counts_is_as_uncertain_as_it_is() -> None:
    """Two features that move images almost alike, one seen on 10 of 60 and one on 40: what the first does not know of
    the other thirty is not made up for."""
    rng = np.random.default_rng(9)
    inside = []
    for _ in range(400):
        common = rng.normal(0.0, 0.2, 60)
        rows = [common + rng.normal(0, 0.02, 60), common + rng.normal(0, 0.02, 60)]
        first, second = draw_means([rows[0][:10].tolist(), rows[1][:40].tolist()], -1.0, 1.0, FLAT, 300)
        low, high = np.quantile(first - second, [0.05, 0.95])
        inside.append(low <= rows[0].mean() - rows[1].mean() <= high)
    assert np.mean(inside) > 0.9 - 3 * (0.9 * 0.1 / 400) ** 0.5


def test_values_without_limits_and_no_features() -> None:
    rows = [[0.1] * 60, [0.1] * 23 + [7.0]]
    drawn = draw_means(rows, -np.inf, np.inf, FLAT, 50)
    assert np.isfinite(drawn).all() and drawn[0] == pytest.approx(0.1)
    assert draw_means([], -1.0, 1.0, FLAT, 50).shape == (0, 50)
