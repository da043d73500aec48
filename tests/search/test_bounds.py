"""Intervals from the first n of N images: they hold as often as they say, and end at the truth."""

from __future__ import annotations

import numpy as np
import pytest

from diffex_dagster.search.bounds import bounded

SHAPES = {
    "small": lambda rng, size: np.clip(rng.normal(0.05, 0.05, size), -1, 1),
    "large": lambda rng, size: np.clip(rng.normal(-0.4, 0.3, size), -1, 1),
    "rare": lambda rng, size: np.where(rng.random(size) < 0.03, 0.9, 0.0),
    "two-sided": lambda rng, size: rng.choice([-1.0, 1.0], size),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bounded_sequence_misses_no_more_often_than_it_says(shape: str) -> None:
    """1,000 populations of 40; an error of 20% at any n, of which a binomial deviation is allowed."""
    rng = np.random.default_rng(0)
    values = SHAPES[shape](rng, (1000, 40))
    missed = np.zeros(1000, dtype=bool)
    widths = []
    for n in (1, 5, 12, 25, 39, 40):
        low, high = bounded(values[:, :n], -1.0, 1.0, 40, 0.2)
        missed |= (values.mean(axis=1) < low - 1e-12) | (values.mean(axis=1) > high + 1e-12)
        widths.append((high - low).mean())
    assert missed.mean() < 0.2 + 3 * (0.2 * 0.8 / 1000) ** 0.5
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(0, abs=1e-9)


def test_the_bounded_sequence_is_narrower_than_certainty() -> None:
    """At 150 of 500 images of little spread: certainty alone leaves 1.4."""
    values = np.random.default_rng(1).normal(0.0, 0.05, (20, 150))
    low, high = bounded(values, -1.0, 1.0, 500, 0.05)
    assert (high - low).max() < 0.25


def test_asymmetric_limits() -> None:
    values = np.random.default_rng(2).random((500, 30))
    low, high = bounded(values[:, :20], 0.0, 1.0, 30, 0.2)
    inside = (low <= values.mean(axis=1)) & (values.mean(axis=1) <= high)
    assert inside.mean() > 0.8
    assert (low >= values[:, :20].sum(axis=1) / 30 - 1e-12).all(), "no less than with all others at 0"
