"""Effects within subgroups: which images go up, which down, and how often a subgroup is claimed by chance."""

from __future__ import annotations

import numpy as np
import pytest

from diffex_dagster.effects.deciding import decide
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach
from diffex_dagster.effects.subgroups import opposite, strata, subgroup_effects

OPTIONS = DecisionOptions(flips=999)


def test_strata_leave_out_what_no_claim_can_come_of() -> None:
    place = ["town"] * 8 + ["field"] * 7 + ["sea"] * 2 + [None] * 3
    found = strata({"place": place, "alike": ["x"] * 20, "own": [str(i) for i in range(20)]})
    assert list(found) == [("place", "town"), ("place", "field")]
    assert found["place", "field"].tolist() == [value == "field" for value in place]


def test_mixed_says_which_images() -> None:
    rng = np.random.default_rng(4)
    up = np.arange(24) < 12
    d = {"hat": np.where(up, 0.4, -0.4) + rng.normal(0, 0.05, 24), "scarf": rng.normal(0, 0.05, 24)}
    assert decide(d, OPTIONS)["hat"].decision == "mixed"
    columns = {"class": ["old" if each else "young" for each in up], "half": ["a", "b"] * 12}
    rows = subgroup_effects(d, strata(columns), OPTIONS, image_noise=0.15)
    said = {(row.feature, row.value): row for row in rows}
    assert (said["hat", "old"].decision, said["hat", "young"].decision) == ("raises", "lowers")
    assert said["hat", "old"].effect == pytest.approx(0.4, abs=0.05) and said["hat", "old"].images == 12
    assert {said["scarf", value].decision for value in ("old", "young", "a", "b")} == {"inconclusive"}
    ((column, raised, lowered),) = opposite([row for row in rows if row.feature == "hat"])
    assert (column, [row.value for row in raised], [row.value for row in lowered]) == ("class", ["old"], ["young"])
    assert opposite([row for row in rows if row.feature == "scarf"]) == []


def test_effects_are_over_the_images_of_the_feature_and_against_the_null_edits() -> None:
    columns = {"class": ["old"] * 10 + ["young"] * 10}
    on = {"hat": np.arange(20) >= 6}
    controls = np.full((20, 2), 0.3) + np.random.default_rng(1).normal(0, 0.001, (20, 2))
    succeeded = {"hat": np.arange(20) < 12}
    rows = subgroup_effects(
        {"hat": np.full(20, 0.5)}, strata(columns), OPTIONS, controls=controls, on=on, succeeded=succeeded
    )
    old, young = rows
    assert (old.images, old.decision) == (4, "too few images") and old.effect == pytest.approx(0.5)
    assert (young.images, young.decision, young.p_value) == (10, "edit failed", None)  # 2 of 10 succeeded
    assert subgroup_effects({}, strata(columns), OPTIONS) == []


def test_an_interval_reaches_as_far_as_the_measure_can_move_among_these_images() -> None:
    columns = {"class": ["old"] * 10 + ["young"] * 10}
    reach = {True: Reach(1.0, -0.01, 0.99), False: Reach(1.0, -0.8, 0.2)}  # by whether the images are the old ones
    rows = subgroup_effects({"hat": np.zeros(20)}, strata(columns), OPTIONS, reach=lambda _, on: reach[bool(on[0])])
    old, young = rows
    assert old.ci_low == -0.01 and old.ci_high > 0.1 and young.ci_low < -0.1


def test_features_that_left_a_race_count_in_every_subgroup() -> None:
    columns = {"class": ["old"] * 12 + ["young"] * 12}
    d = {"hat": np.linspace(0.3, 0.4, 24)}
    options = DecisionOptions(flips=4_999)
    alone, among, many = (subgroup_effects(d, strata(columns), options, left=left)[0] for left in (0, 10, 500))
    assert alone.p_value is not None and alone.p_value < 0.003
    assert among.p_value == pytest.approx((2 + 2 * 10) * 2 / 2**12, rel=0.7)  # of 12 images, all signs alike
    assert many.decision == "inconclusive"


@pytest.mark.parametrize("controlled", [False, True])
def test_subgroups_of_features_without_effect_are_claimed_rarely(controlled: bool) -> None:
    """Any claim among 20 features in 4 subgroups of 24 images, that move by chance: 5% and two standard errors."""
    assert false_rate(60, controlled) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def false_rate(studies: int, controlled: bool, images: int = 24, features: int = 20) -> float:
    """Share of studies with a false *raises* or *lowers*; strata by a class that goes with the image's own score."""
    rng, options, false = np.random.default_rng(7), DecisionOptions(flips=999), 0
    for _ in range(studies):
        z = rng.normal(-1, 1.5, images)
        drawn = 1 / (1 + np.exp(-z[:, None] - rng.normal(0.3 * controlled, 1.0, (images, features + 2))))
        null = 1 / (1 + np.exp(-z - rng.normal(0, 1.0, images))) if not controlled else 1 / (1 + np.exp(-z))
        if not controlled:  # signs are fair coins
            d = rng.normal(0, 0.2, (images, features)) * rng.gamma(1.0, 1.0, (images, 1))
        else:
            d = drawn[:, :features] - null[:, None]
        columns = {"class": ["yes" if each > -1 else "no" for each in z], "half": ["a", "b"] * (images // 2)}
        rows = subgroup_effects(
            {str(j): d[:, j] for j in range(features)},
            strata(columns),
            options,
            controls=drawn[:, features:] - null[:, None] if controlled else None,
        )
        false += any(row.decision in ("raises", "lowers") for row in rows)
    return false / studies
