"""Comparisons of two classifier versions whose difference is known."""

from __future__ import annotations

import numpy as np
import pytest

from diffex_dagster.effects.comparing import compare

RNG = np.random.default_rng(0)
N = 32


def noisy(mean: float | np.ndarray, spread: float = 0.05) -> np.ndarray:
    return mean + RNG.normal(0, spread, N)


TURNS = np.where(np.arange(N) % 2, 0.3, -0.3)
FIRST = {
    "leaned on": noisy(0.4),
    "lowered": noisy(-0.4),
    "new": noisy(0.0, 0.02),
    "same": noisy(0.3, 0.005),
    "reversed": noisy(0.3),
    "both ways": noisy(TURNS),
    "weaker and turned": noisy(-0.4),
    "unclear": noisy(0.1, 0.3),
}
LAST = {
    "leaned on": noisy(0.05),
    "lowered": noisy(0.0, 0.02),
    "new": noisy(-0.3),
    "same": noisy(0.3, 0.005),
    "reversed": noisy(-0.3),
    "both ways": noisy(np.abs(TURNS)),
    "weaker and turned": noisy(0.1),
    "unclear": noisy(0.1, 0.3),
}
EXPECTED = {
    "leaned on": "less reliant",
    "lowered": "less reliant",  # though d_last − d_first is positive
    "new": "more reliant",  # though it is negative
    "same": "no change shown",
    "reversed": "direction changed",
    "both ways": "direction changed",
    "weaker and turned": "less reliant",
    "unclear": "inconclusive",
}


@pytest.mark.filterwarnings("error")
def test_decisions() -> None:
    compared = compare(FIRST, LAST)
    assert {name: effect.decision for name, effect in compared.items()} == EXPECTED
    assert "in the opposite direction" in compared["weaker and turned"].reason


def test_numbers() -> None:
    compared = compare({"a": [0.4, -0.2]}, {"a": [0.1, 0.2]})["a"]
    assert compared.effects == pytest.approx((0.1, 0.15))
    assert compared.reliance == pytest.approx((0.3, 0.15))
    assert compared.difference == pytest.approx(0.05)
    assert compared.reliance_change == pytest.approx(-0.15)
    assert compared.ci_low < 0.05 < compared.ci_high
    assert compared.images == 2


def test_swapping_the_versions_swaps_the_answer() -> None:
    forth, back = compare(FIRST, LAST), compare(LAST, FIRST)
    swap = {"more reliant": "less reliant", "less reliant": "more reliant"}
    for name, effect in forth.items():
        assert back[name].decision == swap.get(effect.decision, effect.decision)
        assert back[name].difference == pytest.approx(-effect.difference)
        assert back[name].p_value == effect.p_value


def test_only_shared_features_over_the_same_images() -> None:
    assert list(compare({"a": [0.1, 0.2], "b": [0.1, 0.2]}, {"b": [0.1, 0.2], "c": [0.1, 0.2]})) == ["b"]
    assert compare({}, {"a": [0.1]}) == {}
    with pytest.raises(ValueError, match="2 and 3 images"):
        compare({"a": [0.1, 0.2]}, {"a": [0.1, 0.2, 0.3]})


@pytest.mark.filterwarnings("error")
def test_a_version_against_itself() -> None:
    assert {effect.decision for effect in compare(FIRST, FIRST).values()} == {"no change shown"}
