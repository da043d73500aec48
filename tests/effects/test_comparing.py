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
    "same": "inconclusive",  # what 32 images show of others is not enough to say that nothing changed
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
    assert {effect.decision for effect in compare(FIRST, FIRST).values()} == {"inconclusive"}  # of 32 images
    many = {name: np.tile(d, 20) for name, d in FIRST.items()}
    assert {effect.decision for effect in compare(many, many).values()} == {"no change shown"}


def test_edits_that_failed_are_no_change_and_leave_the_tested_family() -> None:
    failed = {"leaned on": 0.1, "same": 0.0}
    compared = compare(FIRST, LAST, edit_success=failed)
    assert {name: compared[name].decision for name in failed} == dict.fromkeys(failed, "edit failed")
    assert all(compared[name].p_value is None and "of its edits show it" in compared[name].reason for name in failed)
    rest = compare({n: FIRST[n] for n in FIRST if n not in failed}, {n: LAST[n] for n in LAST if n not in failed})
    assert {name: compared[name].p_value for name in rest} == {name: each.p_value for name, each in rest.items()}
    assert {e.decision for e in compare(FIRST, LAST, edit_success=dict.fromkeys(FIRST, 0.2)).values()} == {
        "edit failed"
    }


def test_a_change_smaller_than_the_margin_is_never_claimed() -> None:
    # Many images tell −0.010 from −0.013: no change that a release should fail for.
    images = 400
    tiny = np.random.default_rng(3).normal(0, 0.002, images)
    before, after = -0.010 + tiny, -0.013 + 2 * tiny
    far = np.where(np.arange(images) % 2, 0.6, -0.2)  # so that the interval is not inside the margin
    for last in (after, -before * 0.9, after + 0.02 * far - 0.002):
        assert compare({"a": before}, {"a": last})["a"].decision in ("no change shown", "inconclusive")
    assert compare({"a": before}, {"a": before - 0.05})["a"].decision == "more reliant"


@pytest.mark.parametrize(("images", "decision"), [(1, "inconclusive"), (24, "inconclusive"), (400, "no change shown")])
def test_few_images_never_show_that_nothing_changed(images: int, decision: str) -> None:
    compared = compare({"a": np.full(images, 0.3)}, {"a": np.full(images, 0.3)})["a"]
    assert compared.decision == decision and compared.ci_low < 0.0 < compared.ci_high


def test_a_claimed_change_has_an_interval_without_zero() -> None:
    rng = np.random.default_rng(8)
    claimed = 0
    for _ in range(300):
        first, last = (rng.normal(0, 0.02, 9) + (rng.random(9) < 0.4) * rng.uniform(0, 0.5) for _ in range(2))
        c = compare({"a": first}, {"a": last})["a"]
        if c.decision in ("more reliant", "less reliant"):
            assert c.reliance_low > 0 or c.reliance_high < 0
            claimed += 1
        if c.decision == "direction changed":
            assert c.ci_low > 0 or c.ci_high < 0
    assert claimed


def test_features_that_left_a_race_count_as_two_changes_without_a_difference() -> None:
    few = {name: (FIRST[name], LAST[name]) for name in ("leaned on", "same", "unclear")}
    first, last = ({name: pair[i] for name, pair in few.items()} for i in (0, 1))
    alone, raced = compare(first, last), compare(first, last, left=40)
    assert alone["leaned on"].decision == raced["leaned on"].decision == "less reliant"
    assert raced["unclear"].p_value is not None and alone["unclear"].p_value is not None
    assert all(raced[name].p_value >= alone[name].p_value for name in few)  # type: ignore[operator]
    weak = {"a": np.r_[np.full(9, 0.3), 0.0]}
    none = {"a": np.zeros(10)}
    assert compare(weak, none)["a"].decision == "less reliant"  # p = 2/512 for each of two changes
    assert compare(weak, none, left=40)["a"].decision == "inconclusive"  # 82 changes: Holm asks for more


def test_a_change_that_one_more_image_would_undo_is_not_claimed() -> None:
    rng = np.random.default_rng(5)
    hair, moustache = rng.normal(0.1, 0.01, 21), np.r_[np.full(20, 0.0), 0.9]
    less, more = {"hair": hair - 0.03}, {"hair": hair}
    assert compare(more, less)["hair"].decision == "less reliant"
    without = compare(more | {"moustache": 0 * moustache}, less | {"moustache": moustache})
    assert without["hair"].decision == "inconclusive"  # another image may become more reliant by 0.9


def test_a_change_is_claimed_where_it_is_one_against_the_control_prompts_too() -> None:
    first, last = {"hat": noisy(0.1)}, {"hat": noisy(0.5)}
    alone = compare(first, last)["hat"]
    same = compare(first, last, beyond_control=(first, last))["hat"]
    assert same == alone and alone.decision == "more reliant"
    # Whatever is edited moves the last version by 0.4 more.
    drifts = compare(first, last, beyond_control=(first, {"hat": last["hat"] - 0.4}))["hat"]
    assert drifts.decision == "inconclusive" and "control prompts" in drifts.reason
    assert (drifts.effects, drifts.ci_low, drifts.ci_high) == (alone.effects, alone.ci_low, alone.ci_high)
    # Only the control prompts differ.
    assert compare(first, first, beyond_control=(first, last))["hat"].decision == "inconclusive"


def test_a_change_of_direction_is_the_same_against_the_control_prompts() -> None:
    up, down = {"hat": noisy(0.3)}, {"hat": noisy(-0.3)}
    assert compare(up, down, beyond_control=(up, down))["hat"].decision == "direction changed"
    assert compare(up, down, beyond_control=(down, up))["hat"].decision == "inconclusive"
