"""Interactions: d_AB − d_A − d_B against a control pair, and how often they are claimed where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffex_dagster.effects.interactions import Interaction, PairScores, interactions
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach
from tests.support.interacting import claimed_rate, found_rate

OPTIONS = DecisionOptions(flips=999)
EVERY = np.ones(12, dtype=bool)


def scores(null: float, one: float, other: float, together: float, **changes: object) -> PairScores:
    rng = np.random.default_rng(3)
    wobble = rng.uniform(-0.01, 0.01, (4, 12))
    values = [mean + each for mean, each in zip((null, one, other, together), wobble, strict=True)]
    return PairScores(*values, base=values[0], **({"on": EVERY} | changes))  # type: ignore[arg-type]


EVEN = scores(0.1, 0.3, 0.2, 0.4)


def decide_one(of: PairScores, **others: object) -> Interaction:
    (found,) = interactions({("a", "b"): of}, OPTIONS, **others)  # type: ignore[arg-type]
    return found


def test_what_two_do_beyond_adding_up_is_found_with_its_sign() -> None:
    found = decide_one(scores(0.1, 0.2, 0.2, 0.9))
    assert found.decision == "above the sum" and found.effect == pytest.approx(0.6, abs=0.02)
    assert (found.alone, found.together) == (pytest.approx(0.2, abs=0.02), pytest.approx(0.8, abs=0.02))
    assert found.ci_low > 0.5 and not found.of_the_curve and found.beyond is not None and found.beyond > 0.3
    assert decide_one(scores(0.1, 0.5, 0.5, 0.5)).decision == "below the sum"
    assert decide_one(scores(0.1, 0.3, 0.2, 0.4)).decision == "inconclusive"  # 12 images do not show that nothing is


def test_log_odds_that_add_up_are_no_finding_of_their_own() -> None:
    def odds(z: float) -> float:
        return float(1 / (1 + np.exp(-z)))

    found = decide_one(scores(odds(-3), odds(-1), odds(-1), odds(1)))
    assert (
        found.decision == "above the sum"
        and found.of_the_curve
        and found.curve == pytest.approx(found.effect, abs=0.05)
    )
    plain = decide_one(scores(odds(-3), odds(-1), odds(-1), odds(1)), probability=False, reach=Reach(4.0))
    assert plain.curve is None and not plain.of_the_curve


def test_what_a_pair_of_control_prompts_does_is_taken_off() -> None:
    drifting = scores(0.5, 0.6, 0.6, 0.6)  # every edit drifts by 0.1: I is −0.1
    assert decide_one(drifting).decision == "below the sum"
    rng = np.random.default_rng(9)
    words = PairScores(*(m + rng.uniform(-0.01, 0.01, 12) for m in (0.5, 0.6, 0.6, 0.6)), drifting.null, EVERY)
    found = decide_one(replace(drifting, control=words))
    assert found.placebo and not found.found and abs(found.effect) < 0.02


def test_each_pair_is_held_against_control_prompts_that_are_edited_like_it() -> None:
    drifting, still = scores(0.5, 0.6, 0.6, 0.6), scores(0.5, 0.5, 0.5, 0.5)
    rng = np.random.default_rng(9)
    gentle, hard = (
        PairScores(*(m + rng.uniform(-0.01, 0.01, 12) for m in (0.5, 0.5 + by, 0.5 + by, 0.5 + by)), still.base, EVERY)
        for by in (0.0, 0.1)
    )
    alike = interactions(
        {("a", "b"): replace(drifting, control=hard), ("a", "c"): replace(still, control=gentle)}, OPTIONS
    )
    assert [x.found for x in alike] == [False, False] and all(abs(x.effect) < 0.02 for x in alike)
    assert all(x.beyond is not None and abs(x.beyond) < 0.02 for x in alike)
    crossed = interactions(
        {("a", "b"): replace(drifting, control=gentle), ("a", "c"): replace(still, control=hard)}, OPTIONS
    )
    assert {x.other: x.decision for x in crossed} == {"b": "below the sum", "c": "above the sum"}


def test_only_images_that_lack_both_count_and_enough_edits_must_show_both() -> None:
    half = np.arange(12) < 8
    of = scores(0.1, 0.2, 0.2, 0.9, on=half)
    of.together[~half] = 0.1
    found = decide_one(of)
    assert found.images == 8 and found.effect == pytest.approx(0.6, abs=0.02)
    assert decide_one(scores(0.1, 0.2, 0.2, 0.9, on=np.arange(12) < 1)).decision == "too few images"
    assert decide_one(scores(0.1, 0.2, 0.2, 0.9, success=0.2)).decision == "edit failed"


def test_a_pair_that_no_image_lacks_has_no_numbers_and_is_last() -> None:
    nowhere = scores(0.1, 0.2, 0.2, 0.9, on=np.zeros(12, dtype=bool))
    pairs = {("c", "d"): nowhere, ("a", "b"): scores(0.1, 0.2, 0.2, 0.3, success=0.2), ("a", "c"): EVEN}
    *others, last = interactions(pairs, OPTIONS)
    assert [x.decision for x in others] == ["inconclusive", "edit failed"]
    assert (last.one, last.other, last.images, last.decision) == ("c", "d", 0, "too few images")
    assert np.isnan([last.effect, last.ci_low, last.ci_high, last.alone, last.together]).all()
    assert (last.curve, last.beyond, last.of_the_curve) == (None, None, False)


def test_pairs_that_might_have_been_chosen_count_as_tested() -> None:
    of = scores(0.1, 0.2, 0.2, 0.9)
    alone, among_many = decide_one(of), decide_one(of, possible=50)
    assert alone.p_value is not None and among_many.p_value == pytest.approx(50 * alone.p_value, rel=0.2)
    assert among_many.decision == "above the sum" and decide_one(of, possible=10_000).decision == "inconclusive"


@pytest.mark.parametrize("setting", ["placebo", "placebo, every edit drifts", "effects that add up"])
def test_pairs_without_an_interaction_are_claimed_rarely(setting: str) -> None:
    """Any of six pairs of the four strongest of 30 features, at 24 images: 5% and two standard errors."""
    assert claimed_rate(setting, images=24, studies=120) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 120)


def test_without_a_control_pair_a_drift_passes_for_an_interaction() -> None:
    assert claimed_rate("additive with drift", images=24, studies=30, control=False) > 0.3
    assert claimed_rate("additive with drift", images=24, studies=60) <= 0.12


def test_a_strong_interaction_is_found() -> None:
    assert found_rate(images=24, studies=60) > 0.85
