"""Resampled studies: what counts as a false claim."""

from __future__ import annotations

import numpy as np
import pytest

from diffex_dagster.bench.resampling import false_claims, resample
from diffex_dagster.effects.options import DecisionOptions


def test_a_claim_is_false_without_an_effect_with_the_other_sign_and_far_off() -> None:
    truth = np.array([0.0, 0.3, 0.3, 0.3, 0.3, 0.0])
    claimed = np.array([1, -1, 1, 1, 1, 0])
    said = np.array(
        [
            [0.2, -0.2, 0.45, 0.45, 0.38, 0.9],
            [0.1, -0.3, 0.42, 0.25, 0.35, 0.8],  # off by 0.15 outside its interval, inside it, and by less than 0.1
            [0.3, -0.1, 0.48, 0.65, 0.41, 1.0],
        ]
    )
    assert false_claims(claimed, said, truth, null=0.001, off_by=0.1).tolist() == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    nothing = np.full((3, 6), np.nan)  # already there: no claim, and no size that could be off
    assert not false_claims(np.zeros(6, dtype=np.int64), nothing, truth, 0.001, 0.1).any()


def test_studies_of_an_effect_that_all_images_have_alike_make_no_false_claim() -> None:
    rng = np.random.default_rng(0)
    effects = {"beard": 0.4 + 0.05 * rng.standard_normal(60), "hat": np.zeros(60)}
    found = resample(effects, 16, DecisionOptions(flips=199), studies=10)
    assert (found.fdr, found.any_false, found.found) == (0.0, 0.0, 1.0) and found.coverage == pytest.approx(
        1.0, abs=0.2
    )
