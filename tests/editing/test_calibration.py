"""What calibration tries next, and what it chooses: plain functions on made-up tries."""

from __future__ import annotations

from itertools import pairwise

import pytest

from diffex_dagster.editing.calibration import (
    FINALISTS,
    Choice,
    Try,
    Wanted,
    better,
    choose,
    cost,
    expected,
    halving,
    in_turn,
    in_words,
    interleaved,
    spread,
)
from diffex_dagster.editing.settings import Setting

HAT, CAP, BEARD = (
    Wanted("a hat", "add", "head", "hair"),
    Wanted("a cap", "add", "head"),
    Wanted("a beard", "add", "face"),
)


def tries(wanted: Wanted, setting: str, took: int, of: int, harm: float) -> list[Try]:
    return [Try(wanted, f"image {i}", setting, i < took, harm) for i in range(of)]


@pytest.mark.parametrize("budget", range(0, 400, 7))
def test_halving_never_costs_more_than_the_budget_and_uses_most_of_it(budget: int) -> None:
    rounds = halving(40, budget, pairs=60, controls=12)
    assert cost(rounds) <= budget
    assert all(a.arms > b.arms and a.pairs < b.pairs for a, b in pairwise(rounds))
    if rounds and rounds[0].arms < 40:
        more = halving(rounds[0].arms + 1, 10**6, pairs=60, controls=12)
        assert cost(more) > budget  # one setting more would not have fitted
    if not rounds:
        assert budget < 2 * (4 + 2)


def test_rounds_double_the_pairs_for_half_of_the_settings() -> None:
    assert [(r.arms, r.pairs, r.controls) for r in halving(12, 10**6, pairs=100, controls=6)] == [
        (12, 4, 2), (6, 8, 4), (FINALISTS, 16, 6)
    ]  # fmt: skip
    assert [r.pairs for r in halving(12, 10**6, pairs=5, controls=6)] == [4, 5]  # never more pairs than there are


def test_any_beginning_of_the_pairs_is_spread_over_groups_and_prompts() -> None:
    assert interleaved([HAT, CAP, BEARD]) == [HAT, BEARD, CAP]
    pairs = spread([HAT, CAP, BEARD], {HAT: ["a", "b"], CAP: ["c", "a"], BEARD: ["b"]})
    assert pairs == [(HAT, "a"), (BEARD, "b"), (CAP, "c"), (HAT, "b"), (CAP, "a")]


def test_groups_that_stand_beside_each_other_are_tried_far_apart_and_typical_prompts_first() -> None:
    groups = [[Wanted(f"coarse {i}", "add", f"g{i}", "", True), Wanted(f"fine {i}", "add", f"g{i}")] for i in range(14)]
    order = interleaved([each for group in groups for each in group])
    assert sorted(order) == sorted(each for group in groups for each in group)
    assert [each.prompt.split()[0] for each in order] == ["fine"] * 14 + ["coarse"] * 14
    for beginning in (2, 3, 4, 7):  # no two of the first few groups are nearer than half of what would be even
        at = sorted(int(each.group[1:]) for each in order[:beginning])
        assert min(b - a for a, b in pairwise(at)) >= 14 / beginning / 2, at


def test_an_edit_that_takes_and_leaves_the_rest_alone_is_of_use() -> None:
    some = tries(HAT, "hard", 3, 3, 0.8) + tries(HAT, "gentle", 2, 3, 0.1) + tries(HAT, "idle", 0, 3, 0.0)
    assert better(some, ["hard", "gentle", "idle"], 1) == ["gentle"]
    assert better(some, ["idle", "hard", "gentle"], 2) == ["hard", "gentle"]  # in the order they came in


def test_a_stubborn_prompt_keeps_a_hard_setting_among_the_finalists() -> None:
    easy = [t for setting in ("a", "b", "c") for t in tries(HAT, setting, 6, 6, 0.1)] + tries(HAT, "hard", 6, 6, 0.6)
    stubborn = [t for setting in ("a", "b", "c") for t in tries(BEARD, setting, 0, 2, 0.1)]
    assert better([*easy, *stubborn, *tries(BEARD, "hard", 2, 2, 0.6)], ["a", "b", "c", "hard"], 2) == ["a", "hard"]


def test_the_gentlest_of_those_that_succeed_is_chosen() -> None:
    some = tries(HAT, "gentle", 6, 6, 0.1) + tries(HAT, "hard", 6, 6, 0.5) + tries(HAT, "idle", 0, 6, 0.0)
    chosen = choose(HAT, ["hard", "gentle", "idle"], some)
    assert (chosen.setting, chosen.tries, chosen.why) == ("gentle", 6, "shown by 6 of 6")
    stubborn = [*tries(HAT, "gentle", 1, 6, 0.1), *tries(HAT, "hard", 6, 6, 0.5)]
    assert choose(HAT, ["gentle", "hard"], stubborn).setting == "hard"
    assert choose(HAT, ["own", "hard"], []) == Choice("own", None, None, 0, "nothing was tried")
    assert choose(HAT, ["idle"], tries(HAT, "idle", 0, 2, 0.0)).why == "no setting that was tried shows it"


def test_a_prompt_without_tries_starts_from_its_group() -> None:
    some = [
        *tries(HAT, "gentle", 0, 6, 0.1), *tries(HAT, "hard", 6, 6, 0.4),
        *tries(BEARD, "gentle", 6, 6, 0.1), *tries(BEARD, "hard", 6, 6, 0.4),
    ]  # fmt: skip
    assert choose(CAP, ["gentle", "hard"], some).setting == "hard"  # as hats
    assert choose(Wanted("a moustache", "add", "face"), ["gentle", "hard"], some).setting == "gentle"
    assert choose(CAP, ["gentle", "hard"], some).why == "as suits its group"
    own, group, stranger = (expected(w, "gentle", some)[0] for w in (HAT, CAP, Wanted("fog", "add", "weather")))
    assert own < group < stranger < expected(BEARD, "gentle", some)[0]


def test_a_region_is_pooled_across_groups() -> None:
    some = tries(HAT, "hard", 6, 6, 0.4) + tries(BEARD, "hard", 0, 6, 0.4)
    at_hair, elsewhere = Wanted("a bow", "add", "bows", "hair"), Wanted("a bow", "add", "bows")
    assert expected(at_hair, "hard", some)[0] > expected(elsewhere, "hard", some)[0]


def test_settings_in_words() -> None:
    assert in_words("") == "the editor's own options" and in_words("70") == "70"
    assert in_words(Setting(scale=3.0, mask="none").text) == "scale 3, no mask, skip 0.1"
    assert in_words(Setting(warmup=4).text) == "scale 5, threshold 0.9, intersection, skip 0.1, warmup 4"


def test_tries_start_from_what_suits_the_kinds_of_a_corpus() -> None:
    """The kind with most prompts first, and no kind waits until another's settings are through."""

    def settings(region: str | None, group: str | None) -> list[str]:
        return ["own", *({"eyes": ["narrow", "hard"], "scene": ["wide"]}.get(region or "", ["any"]))]

    eyes = [Wanted(f"eyes {i}", "add", f"eyes-{i}", "eyes") for i in range(3)]
    wanted = [Wanted("dusk", "add", "light", "scene"), *eyes]
    assert in_turn(wanted, settings) == ["own", "narrow", "wide", "hard"]
    assert in_turn(wanted[:1], settings) == ["own", "wide"]
    assert in_turn([Wanted("x", "add", "x")], settings) == ["own", "any"] and in_turn([], settings) == []


def test_of_every_kind_a_setting_that_suits_it_goes_on() -> None:
    """Masked settings are of most use by far; what fills the picture has none of them, and keeps one of its own."""
    some = [*tries(HAT, "narrow", 6, 6, 0.1), *tries(HAT, "hard", 6, 6, 0.2), *tries(HAT, "all", 3, 6, 0.8)]
    arms = ["narrow", "hard", "all"]
    assert better(some, arms, 2) == ["narrow", "hard"]
    assert better(some, arms, 2, [("narrow", "hard"), ("all",)]) == ["narrow", "all"]
    assert better(some, arms, 1, [("narrow", "hard"), ("all",)]) == ["narrow"]  # the kind with most prompts
    assert better(some, arms, 2, [("all",), ("unknown",)]) == ["narrow", "all"]
