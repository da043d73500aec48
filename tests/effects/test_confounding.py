"""A borrowed effect is told from one of its own."""

from __future__ import annotations

import numpy as np
import pytest

from diffex_dagster.effects.confounding import side_effects

RNG = np.random.default_rng(0)
IMAGES = 30


def noisy(mean: float, spread: float = 0.02) -> np.ndarray:
    return mean + spread * RNG.standard_normal(IMAGES)


B = noisy(0.4)
GAINS = {("b", "b"): noisy(2.0), ("a", "a"): noisy(2.0), ("a", "b"): noisy(1.0), ("b", "a"): noisy(0.0)}


def of(d, gains=GAINS, **options):
    return {(s.edited, s.looked_for): s for s in side_effects(d, gains, margin=0.02, **options)}


def test_an_effect_that_is_the_other_one_s_share_is_confounded() -> None:
    found = of({"a": 0.5 * B + noisy(0.0, 0.01), "b": B})
    assert found["a", "b"].leak == pytest.approx(0.5, abs=0.03)
    assert found["a", "b"].confounded and abs(found["a", "b"].direct) < 0.02
    assert not found["b", "a"].confounded and found["b", "a"].direct == pytest.approx(0.4, abs=0.02)


def test_an_effect_of_its_own_stays() -> None:
    found = of({"a": noisy(0.5), "b": B})["a", "b"]
    assert not found.confounded and found.direct == pytest.approx(0.3, abs=0.03)
    assert found.direct_low < found.direct < found.direct_high


def test_what_is_left_is_left_of_the_effect_that_the_report_shows() -> None:
    """Half of the images show each attribute already: their edits do nothing, to the classifier or to the judge."""
    half = np.arange(IMAGES) % 2 == 0
    d = {"a": np.where(half, 0.5 * B, 0.0), "b": np.where(half, B, 0.0)}
    gains = {pair: np.where(half, gain, 0.0) for pair, gain in GAINS.items()}
    found = of(d, gains, on={"a": half, "b": half})["a", "b"]
    assert found.leak == pytest.approx(0.5, abs=0.03) and found.confounded
    alone = of({"a": np.where(half, noisy(0.5), 0.0), "b": d["b"]}, gains, on={"a": half, "b": half})["a", "b"]
    assert alone.direct == pytest.approx(0.3, abs=0.03) and not alone.confounded  # not half of that


def test_a_weak_or_doubtful_leak_confounds_nothing() -> None:
    d = {"a": 0.1 * B, "b": B}
    assert not of(d, GAINS | {("a", "b"): noisy(0.2)})["a", "b"].confounded  # a tenth: too weak
    doubtful = GAINS | {("a", "b"): noisy(0.6, 8.0)}
    assert not of({"a": 0.3 * B, "b": B}, doubtful)["a", "b"].confounded  # its interval holds zero


def test_pairs_that_cannot_be_judged_are_left_out_and_the_largest_leak_leads() -> None:
    d = {"a": noisy(0.1), "b": B, "c": B}
    gains = GAINS | {("a", "c"): noisy(1.0), ("c", "c"): noisy(-1.0), ("b", "unseen"): noisy(1.0)}
    found = side_effects(d, gains, margin=0.02)
    assert [(s.edited, s.looked_for) for s in found] == [("a", "b"), ("b", "a")]  # c's own edit does not show
    assert found[0].leak > found[1].leak
    assert side_effects(d, {}, margin=0.02) == []


def test_an_edit_that_takes_the_other_one_away_borrows_its_effect_turned_round() -> None:
    found = of({"a": -0.5 * B + noisy(0.0, 0.01), "b": B}, GAINS | {("a", "b"): noisy(-1.0)})["a", "b"]
    assert found.leak == pytest.approx(-0.5, abs=0.03) and found.real
    assert found.confounded and abs(found.direct) < 0.02
    # The same leak cannot explain an effect in the direction of b's own: what is left is larger, not smaller.
    other = of({"a": 0.5 * B, "b": B}, GAINS | {("a", "b"): noisy(-1.0)})["a", "b"]
    assert not other.confounded and other.direct == pytest.approx(0.4, abs=0.02)


def test_no_leak_is_more_than_a_whole_edit_and_a_strong_one_leads_whichever_way() -> None:
    gains = GAINS | {("a", "b"): noisy(-9.0), ("b", "a"): noisy(1.0)}
    found = side_effects({"a": B, "b": B}, gains, margin=0.02)
    assert [(s.edited, s.leak) for s in found] == [("a", -1.0), ("b", pytest.approx(0.5, abs=0.03))]
    assert of({"a": B, "b": B}, GAINS | {("a", "b"): noisy(50.0)})["a", "b"].leak == 1.0


def test_a_leak_that_cannot_be_told_from_none_is_not_real() -> None:
    doubtful = -0.6 + 8.0 * np.array([-1.0, 1.0] * (IMAGES // 2))
    assert not of({"a": B, "b": B}, GAINS | {("a", "b"): doubtful})["a", "b"].real
    assert of({"a": B, "b": B}, GAINS | {("a", "b"): noisy(-0.6)})["a", "b"].real
