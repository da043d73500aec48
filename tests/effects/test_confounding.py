"""A borrowed effect is told from one of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffex_dagster.effects.confounding import SideEffect, is_yardstick, side_effects
from diffex_dagster.effects.paired import Reach

RNG = np.random.default_rng(0)
IMAGES = 30


def noisy(mean: float, spread: float = 0.02) -> np.ndarray:
    return mean + spread * RNG.standard_normal(IMAGES)


B = noisy(0.4)
GAINS = {("b", "b"): noisy(2.0), ("a", "a"): noisy(2.0), ("a", "b"): noisy(1.0), ("b", "a"): noisy(0.0)}


def of(d, gains=GAINS, **options) -> dict[tuple[str, str], SideEffect]:
    return {(s.edited, s.looked_for): s for s in side_effects(d, gains, **options)}


def test_an_effect_that_is_the_other_one_s_share_is_confounded() -> None:
    found = of({"a": 0.5 * B + noisy(0.0, 0.01), "b": B})
    assert found["a", "b"].leak == pytest.approx(0.5, abs=0.03)
    assert found["a", "b"].confounded and abs(found["a", "b"].direct) < 0.02
    assert not found["b", "a"].confounded and found["b", "a"].direct == pytest.approx(0.4, abs=0.02)


def test_an_effect_of_its_own_stays() -> None:
    found = of({"a": noisy(0.5), "b": B})["a", "b"]
    assert not found.confounded and found.direct == pytest.approx(0.3, abs=0.03)
    assert found.direct_low < found.direct < found.direct_high


def test_a_direct_effect_stays_inside_what_the_measure_can_take() -> None:
    """The whole of a probability on most images: two more images as far off as the furthest one reach beyond it."""
    d = {"a": np.where(np.arange(IMAGES) < 2, 0.2, 1.0), "b": np.zeros(IMAGES)}
    free, inside = of(d)["a", "b"], of(d, reach=Reach(1.0, -1.0, 1.0))["a", "b"]
    assert free.direct_high > 1.0
    assert (inside.direct, inside.direct_low, inside.direct_high) == (free.direct, free.direct_low, 1.0)


@pytest.mark.parametrize(("own", "confounded"), [(0.13, True), (0.27, False)])
def test_half_of_the_effect_is_the_line(own: float, confounded: bool) -> None:
    """The leak's part is 0.2; of the two effects that is more than half, and less."""
    assert of({"a": 0.5 * B + own, "b": B})["a", "b"].confounded == confounded


def test_a_small_part_of_a_doubtful_effect_does_not_account_for_it() -> None:
    """What is left of the effect could be none, as the whole of it nearly could; the other has a fifth of it."""
    d = {"a": 0.05 + 0.18 * np.linspace(-1, 1, IMAGES), "b": noisy(0.02, 0.005)}
    found = of(d)["a", "b"]
    assert found.direct_low < 0.0 < found.direct_high and not found.confounded


def test_who_borrows_from_whom() -> None:
    """Edits of each contain two fifths of the other; the classifier looks at the beard alone."""
    leaks = {("beard", "beard"): noisy(1.0), ("moustache", "moustache"): noisy(1.0)}
    leaks |= {("beard", "moustache"): noisy(0.6), ("moustache", "beard"): noisy(0.6)}
    beard = noisy(0.6)
    found = of({"beard": beard, "moustache": 0.6 * beard}, leaks)
    assert found["moustache", "beard"].confounded and abs(found["moustache", "beard"].direct) < 0.02
    assert not found["beard", "moustache"].confounded
    assert found["beard", "moustache"].direct == pytest.approx(0.6, abs=0.02)


def pair(own: float, back: float) -> dict[tuple[str, str], np.ndarray]:
    """Gains of a pair of attributes: `own` of the beard's edits for a moustache, `back` the other way round."""
    whole = {("beard", "beard"): noisy(1.0), ("moustache", "moustache"): noisy(1.0)}
    return whole | {("beard", "moustache"): noisy(own), ("moustache", "beard"): noisy(back)}


def test_two_that_the_judge_sees_in_each_other_s_edits_are_not_told_apart() -> None:
    """Whichever of the two the edits draw: each claim says that it may be the other's."""
    d = {"beard": noisy(0.6), "moustache": noisy(0.55)}
    for found in of(d, pair(1.0, 0.9)).values():
        assert found.confounded and found.real
        assert all(map(math.isnan, (found.direct, found.direct_low, found.direct_high)))


def test_two_of_opposite_effects_are_not_each_other_s() -> None:
    d = {"beard": noisy(0.6), "moustache": noisy(-0.5)}
    assert not any(found.confounded for found in of(d, pair(1.0, 1.0)).values())


def test_what_is_a_small_part_of_an_effect_may_not_be_all_of_it() -> None:
    """The moustache moves the classifier by a third: whatever its edits contain, it is not the beard's 0.6."""
    found = of({"beard": noisy(0.6), "moustache": noisy(0.2)}, pair(1.0, 1.0))
    assert not found["beard", "moustache"].confounded and found["moustache", "beard"].confounded


def test_leaks_of_different_signs_are_told_apart_however_large() -> None:
    """D = δ + 0.9 δ' and D' = δ' − 0.9 δ are two equations: of D = 0.6 and D' = 0 they leave δ = 0.6 / 1.81."""
    found = of({"beard": noisy(0.6), "moustache": noisy(0.0, 0.01)}, pair(0.9, -0.9))["beard", "moustache"]
    assert found.direct == pytest.approx(0.6 / 1.81, abs=0.02)


def test_two_that_take_each_other_away_are_not_told_apart() -> None:
    """Day and night: what day does may be that night is gone."""
    for found in of({"beard": noisy(0.6), "moustache": noisy(-0.55)}, pair(-1.0, -0.9)).values():
        assert found.confounded and found.leak < 0.0 and math.isnan(found.direct)


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
    gains = GAINS | {("a", "c"): noisy(1.0), ("c", "c"): noisy(-1.0), ("c", "b"): noisy(1.0)}
    found = side_effects(d, gains)
    assert [(s.edited, s.looked_for) for s in found] == [("a", "b"), ("b", "a"), ("a", "c")]  # c's own edits fail
    assert found[0].leak > found[1].leak and math.isnan(found[2].leak)
    assert side_effects(d, {}) == []


def test_an_edit_that_takes_the_other_one_away_borrows_its_effect_turned_round() -> None:
    found = of({"a": -0.5 * B + noisy(0.0, 0.01), "b": B}, GAINS | {("a", "b"): noisy(-1.0)})["a", "b"]
    assert found.leak == pytest.approx(-0.5, abs=0.03) and found.real
    assert found.confounded and abs(found.direct) < 0.02
    # The same leak cannot explain an effect in the direction of b's own: what is left is larger, not smaller.
    other = of({"a": 0.5 * B, "b": B}, GAINS | {("a", "b"): noisy(-1.0)})["a", "b"]
    assert not other.confounded and other.direct == pytest.approx(0.4, abs=0.02)


def test_no_leak_is_more_than_a_whole_edit_and_a_strong_one_leads_whichever_way() -> None:
    gains = GAINS | {("a", "b"): noisy(-9.0), ("b", "a"): noisy(1.0)}
    found = side_effects({"a": B, "b": B}, gains)
    assert [(s.edited, s.leak) for s in found] == [("a", -1.0), ("b", pytest.approx(0.5, abs=0.03))]
    assert of({"a": B, "b": B}, GAINS | {("a", "b"): noisy(50.0)})["a", "b"].leak == 1.0


def test_a_leak_that_cannot_be_told_from_none_is_not_real() -> None:
    doubtful = -0.6 + 8.0 * np.array([-1.0, 1.0] * (IMAGES // 2))
    assert not of({"a": B, "b": B}, GAINS | {("a", "b"): doubtful})["a", "b"].real
    assert of({"a": B, "b": B}, GAINS | {("a", "b"): noisy(-0.6)})["a", "b"].real


def glasses(rng: np.random.Generator, redrawn: float, sees: float, imagines: float) -> tuple[dict, dict]:
    """Glasses edits that redraw the eyebrows of some pictures, for a classifier that looks at eyebrows only.

    No edit of eyebrows shows them. The judge says yes to a changed eyebrow with probability `sees`, to an unchanged one
    with `imagines`; thirty other attributes, which no edit touches, it imagines as often.
    """
    changed = rng.random(IMAGES) < redrawn

    def judged(truth: np.ndarray) -> np.ndarray:
        return (rng.random(IMAGES) < np.where(truth, sees, imagines)).astype(float)

    gains = {("glasses", "glasses"): judged(np.ones(IMAGES, dtype=bool)), ("glasses", "eyebrows"): judged(changed)}
    gains |= {("glasses", f"other {i}"): judged(np.zeros(IMAGES, dtype=bool)) for i in range(30)}
    return {"glasses": -0.7 * changed + 0.03 * rng.standard_normal(IMAGES)}, gains


def test_what_no_edit_can_draw_is_seen_to_account_for_another_s_effect() -> None:
    """With a judge that errs in a twentieth of the pictures, most studies of 30 images mark the glasses, rightly."""
    rng = np.random.default_rng(1)
    marks: list[str] = []
    for _ in range(60):
        d, gains = glasses(rng, redrawn=0.4, sees=0.95, imagines=0.05)
        marks += [s.looked_for for s in side_effects(d, gains) if s.confounded]
    assert marks.count("eyebrows") >= 40 and len(marks) - marks.count("eyebrows") <= 3


def test_an_effect_of_its_own_is_seldom_said_to_be_another_s() -> None:
    """The classifier looks at glasses; what else the judge sees, with its errors, has nothing to do with it."""
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(200):
        _, gains = glasses(rng, redrawn=0.4, sees=0.8, imagines=0.1)
        took = gains["glasses", "glasses"]
        d = {"glasses": 0.5 * took + 0.2 * rng.standard_normal(IMAGES)}
        false += any(s.confounded for s in side_effects(d, gains))
    assert false <= 10  # 5%


def test_a_gain_that_goes_with_the_edit_s_own_does_not_account_for_the_effect() -> None:
    """How far a beard took moves the classifier, the evidence for it, and some for whatever looks like one."""
    rng = np.random.default_rng(3)
    took = rng.random(IMAGES)
    gains = {("beard", "beard"): took + 0.1 * rng.standard_normal(IMAGES)}
    gains[("beard", "collar")] = 0.5 * took + 0.1 * rng.standard_normal(IMAGES)
    (found,) = side_effects({"beard": 0.8 * took}, gains)
    assert not found.confounded and found.direct > 0.8 * 0.8 * took.mean()


def test_edits_that_seldom_take_are_a_yardstick_all_the_same() -> None:
    """Angry eyebrows take in a third of the pictures, glasses redraw eyebrows in two fifths: that is their effect."""
    rng = np.random.default_rng(4)
    marks = false = 0
    for _ in range(40):
        drawn, redrawn = rng.random((2, IMAGES)) < [[0.33], [0.4]]
        seen = 0.3 * rng.standard_normal((4, IMAGES))
        gains = {("angry", "angry"): drawn + seen[0], ("glasses", "angry"): redrawn + seen[1]}
        gains |= {("glasses", "glasses"): 1.0 + seen[2], ("angry", "glasses"): seen[3]}
        of_brows = of({"angry": -0.6 * drawn, "glasses": -0.6 * redrawn + 0.02 * seen[3]}, gains)
        marks += of_brows["glasses", "angry"].confounded
        of_glasses = of({"angry": -0.6 * drawn, "glasses": -0.6 + 0.02 * seen[3]}, gains)
        false += of_glasses["glasses", "angry"].confounded or of_glasses["angry", "glasses"].confounded
    assert marks >= 24 and false <= 2


def test_what_is_a_yardstick() -> None:
    assert is_yardstick([1.0, 1.0, 0.9]) and not is_yardstick([1.0]) and not is_yardstick([0.0, 0.0])
    spread = np.tile([-1.0, 1.0], 15)
    assert is_yardstick(0.65 + spread) and not is_yardstick(0.5 + spread) and not is_yardstick(-0.65 + spread)
