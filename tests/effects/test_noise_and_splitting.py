"""The noise floor and the split into discovery and confirmation images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffex_dagster.effects.noise import image_noise, noise_floor
from diffex_dagster.effects.splitting import split

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines


def test_without_other_seeds_there_is_no_floor() -> None:
    for nothing in (np.empty((0, 0)), np.empty((8, 0)), np.full((8, 1), np.nan)):
        assert noise_floor(nothing) == image_noise(nothing) == 0.0
    assert noise_floor(np.zeros((8, 2))) == 0.0


def test_floor_lies_above_what_noise_alone_reaches() -> None:
    rng = np.random.default_rng(0)
    over = [np.abs(rng.normal(0, 0.05, 24)).mean() > noise_floor(rng.normal(0, 0.05, (24, 3))) for _ in range(300)]
    assert np.mean(over) < 0.04  # 1% by the quantile, and some for the floor being estimated itself


def test_floor_is_a_quantile_of_the_mean_and_not_of_one_image() -> None:
    d = np.random.default_rng(1).normal(0, 0.05, (32, 2))
    assert np.abs(d).mean() < noise_floor(d) < image_noise(d)
    assert image_noise(d) == pytest.approx(np.quantile(np.abs(d), 0.95))


def test_floor_takes_one_other_seed_and_missing_seeds() -> None:
    d = np.random.default_rng(2).normal(0, 0.05, (16, 2))
    assert noise_floor(d[:, 0]) == noise_floor(d[:, :1])
    d[3, 1] = np.nan
    assert 0.0 < noise_floor(d) == noise_floor(d)
    with pytest.raises(ValueError, match="expected"):
        noise_floor(np.zeros((2, 2, 2)))


KEYS = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=60, unique=True)


@PATIENT
@given(KEYS, st.floats(0.05, 0.95), st.integers(0, 5))
def test_split_covers_every_image_once_in_order(keys: list[str], share: float, seed: int) -> None:
    discovery, confirmation = split(keys, share, seed)
    assert sorted(discovery + confirmation) == sorted(keys)
    assert discovery and confirmation
    assert discovery == [k for k in keys if k in set(discovery)]
    again = split(list(reversed(keys)), share, seed)
    assert set(again[0]) == set(discovery)


def test_an_added_image_moves_no_other() -> None:
    keys = [f"image-{i}" for i in range(40)]
    discovery, confirmation = split(keys, 0.5, 0)
    for new in range(40, 80):
        later_discovery, later_confirmation = split([*keys, f"image-{new}"], 0.5, 0)
        assert set(discovery) <= set(later_discovery) and set(confirmation) <= set(later_confirmation)


def test_share_is_met_on_average_and_seeds_differ() -> None:
    keys = [f"image-{i}" for i in range(4000)]
    _, confirmation = split(keys, 0.3, 0)
    assert len(confirmation) / 4000 == pytest.approx(0.3, abs=0.03)
    assert split(keys, 0.3, 1) != split(keys, 0.3, 0)


def test_edges_of_the_share() -> None:
    keys = ["a", "b", "c"]
    assert split(keys, 0.0, 0) == (keys, [])
    assert split(keys, 1.0, 0) == ([], keys)
    assert split([], 0.5, 0) == ([], [])
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(keys, 1.5, 0)
    with pytest.raises(ValueError, match="twice"):
        split(["a", "a"], 0.5, 0)
