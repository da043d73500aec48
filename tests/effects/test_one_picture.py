"""What one picture may claim: the error rate of the rule, its interval, and what it would be otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from diffex_dagster.effects.one_picture import (
    WORDS,
    changes_more,
    control_words,
    effect_interval,
    fewest_controls,
    p_value,
)

RUNS = 4000


def drawn(rng: np.random.Generator, prompts: int, seeds: int) -> np.ndarray:
    """d of edits towards words that mean nothing, (prompts, seeds): skewed, and each word has an effect of its own."""
    of_word = rng.lognormal(0.0, 1.0, size=(prompts, 1))
    return of_word + 0.3 * rng.standard_t(3, size=(prompts, seeds))


@pytest.mark.parametrize(("controls", "seeds"), [(19, 1), (19, 4), (39, 2)])
def test_a_feature_without_effect_stands_out_no_more_often_than_promised(controls: int, seeds: int) -> None:
    rng, claims = np.random.default_rng(controls + seeds), 0
    for _ in range(RUNS):
        x = drawn(rng, controls + 1, seeds).mean(axis=1)
        claims += p_value(x[0], x[1:]) <= 0.05
    assert 0.038 <= claims / RUNS <= 0.062  # 0.05, and three standard errors: neither more nor much less


def stands_out(rng: np.random.Generator, spread: float) -> float:
    return float(np.mean([p_value(rng.normal(0, spread), rng.normal(size=19)) <= 0.05 for _ in range(RUNS)]))


def test_the_rate_is_that_of_edits_that_change_the_picture_no_more_than_control_edits() -> None:
    """Nothing here has an effect on average: a word that redraws three times as much stands out all the same."""
    rng = np.random.default_rng(11)
    assert 0.038 <= stands_out(rng, 1.0) <= 0.062
    assert 0.42 <= stands_out(rng, 3.0) <= 0.52
    assert 0.12 <= stands_out(rng, np.sqrt(2)) <= 0.18  # two such words together, against single ones
    assert changes_more(0.3, [0.1] * 19) and not changes_more(0.1, [0.1] * 19) and not changes_more(0.1, [0.05, 0.2])
    assert not changes_more(0.3, [])


def test_seeds_are_no_control_prompts() -> None:
    """The rule that takes each seed of a word for a word of its own claims far more often than it says."""
    rng, claims = np.random.default_rng(5), 0
    for _ in range(RUNS):
        x = drawn(rng, 6, 4)  # five control prompts under four seeds: twenty values, and only five words
        claims += p_value(x[0].mean(), x[1:].ravel()) <= 0.05
    assert claims / RUNS > 0.08


def test_fewer_than_nineteen_can_claim_nothing_and_nineteen_can() -> None:
    assert (fewest_controls(0.05), fewest_controls(0.1), fewest_controls(0.01)) == (19, 9, 99)
    noise = np.linspace(-0.01, 0.01, 19)
    assert p_value(0.9, noise[:18]) == pytest.approx(1 / 19) and p_value(0.9, noise) == pytest.approx(1 / 20)
    assert p_value(0.0, noise) > 0.9
    assert p_value(0.0, np.zeros(19)) == 1.0  # an edit that does what nothing does
    assert p_value(0.3, []) == 1.0


def test_more_seeds_find_smaller_effects() -> None:
    rng, found = np.random.default_rng(1), []
    for seeds in (1, 8):
        hits = 0
        for _ in range(500):
            x = rng.normal(size=(20, seeds)).mean(axis=1)
            hits += p_value(x[0] + 1.5, x[1:]) <= 0.05
        found.append(hits / 500)
    assert found[1] > found[0] + 0.3


def test_the_interval_holds_the_effect_as_often_as_it_says_and_agrees_with_the_test() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(RUNS):
        x = drawn(rng, 20, 1)[:, 0]
        low, high = effect_interval(x[0] + 0.7, x[1:])
        held += low <= 0.7 <= high
        assert (low <= 0.0 <= high) == (p_value(x[0] + 0.7, x[1:]) > 0.05)
    assert 0.938 <= held / RUNS <= 0.962
    assert effect_interval(0.4, np.zeros(19)) == (0.4, 0.4)
    assert effect_interval(0.4, [0.1]) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("controls", "level"), [(19, 0.05), (39, 0.05), (40, 0.05), (19, 0.1), (24, 0.2), (60, 0.05), (5, 0.05)]
)
def test_a_claim_and_its_interval_never_contradict_each_other(controls: int, level: float) -> None:
    """With 39 control prompts one of them may lie further out, and the interval has to allow for it."""
    rng, claims, held = np.random.default_rng(3), 0, 0
    for _ in range(RUNS):
        x = drawn(rng, controls + 1, 1)[:, 0]
        low, high = effect_interval(x[0] + 0.7, x[1:], level)
        claimed = p_value(x[0] + 0.7, x[1:]) <= max(level, 1 / (controls + 1)) + 1e-12
        assert claimed == (not low <= 0.0 <= high)
        claims += claimed
        held += low <= 0.7 <= high
    expected = 1 - max(1, int(level * (controls + 1) + 1e-9)) / (controls + 1)
    assert abs(held / RUNS - expected) < 4 * (expected * (1 - expected) / RUNS) ** 0.5 and claims


def test_control_words_are_the_study_s_own_and_further_ones_that_mean_nothing() -> None:
    words = control_words(("florn", "vask"), 19, but=("a plorn hat",))
    assert len(words) == len(set(words)) == 19 and words[:2] == ("florn", "vask") and "plorn" not in words
    assert control_words((), 19) == ()
    assert control_words(tuple("abcdef"), 3) == tuple("abc")
    assert len(set(WORDS)) == len(WORDS) >= 38
