"""The whole search on toy worlds: what it finds, and what it asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.joint import key
from diffex_dagster.search.levels import Judged
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.run import search
from tests.support.search import Toy, node, small_corpus

PATIENT = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

OPPOSITE = [0.4, -0.4] * 4


def test_finds_the_planted_features_and_their_combination() -> None:
    toy = Toy(
        {
            "beard": 0.2,
            "beard/full beard": 0.3,
            "beard/goatee": 0.05,
            "hair colour/grey": 0.25,
            "eyewear": OPPOSITE,
            "eyewear/glasses": -0.4,
            "eyewear/sunglasses": 0.35,
        }
    )
    result = search(small_corpus(), toy)
    assert result.expanded == ("eyewear", "beard", "hair colour")
    ranked = sorted(result.scores, key=lambda f: -abs(result.scores[f].mean()))
    assert ranked[:4] == ["eyewear/glasses", "eyewear/sunglasses", "beard/full beard", "hair colour/grey"]
    assert result.gate[-1].feature == "hat" and result.gate[-1].reason.startswith("no image moved")
    assert "hair colour" not in result.scores  # not an edit
    assert result.joint is not None
    assert key(result.joint.features) == ("beard/full beard", "eyewear/sunglasses", "hair colour/grey")
    assert result.joint.effect == pytest.approx(0.9)


def test_the_papers_reading_loses_the_cancelling_parent() -> None:
    toy = Toy({"eyewear": OPPOSITE, "eyewear/glasses": -0.4, "eyewear/sunglasses": 0.4, "beard": 0.1})
    result = search(small_corpus(), toy, SearchOptions(gate="signed", delta=0.05))
    assert result.expanded == ("beard",)
    assert "eyewear/sunglasses" not in result.scores


def test_no_feature_set_is_asked_for_twice() -> None:
    toy = Toy({"hair colour/grey": 0.25, "beard": 0.1, "eyewear": 0.2, "eyewear/glasses": 0.3})
    result = search(small_corpus(), toy)
    assert len(toy.asked) == len(set(toy.asked)) == result.asked


def test_refills_the_beam_at_every_level() -> None:
    corpus = Corpus(
        tuple(node(g, *(node(f"{g}{i}", *(node(f"{g}{i}{j}") for j in "xy")) for i in (1, 2))) for g in "abc")
    )
    toy = Toy({"a": 0.1, "b": 0.2, "c": 0.3, "c/c1": 0.4, "b/b2": 0.5, "b/b1": 0.3, "b/b2/b2x": 0.9})
    result = search(corpus, toy, SearchOptions(beam=2, joint_size=1))
    assert result.expanded == ("b", "c", "b/b2", "c/c1")
    assert {"b/b2/b2x", "c/c1/c1x"} <= set(result.scores)
    assert "a/a1" not in result.scores and "b/b1/b1x" not in result.scores  # no place; no probe of a node without one


def test_the_deepest_level_is_reached() -> None:
    """One group of nine children, each with a line of descendants: every level gets its turn, whatever the beam."""
    corpus = Corpus(
        (node("g", *(node(f"c{i}", node("d", node("e", node("f")), node("e2", node("f2"))))
                     for i in range(9))),)
    )  # fmt: skip
    rng = np.random.default_rng(1)
    weights = {f.id: float(rng.uniform(0.1, 0.5)) for f in corpus.walk()}
    result = search(corpus, Toy(weights), SearchOptions(beam=3, joint_size=1))
    assert {f.level for f in corpus.walk()} == {1, 2, 3, 4, 5}
    assert max(feature.count("/") + 1 for feature in result.scores) == 5
    assert [sum(o.kept for o in level) for level in result.deeper] == [3, 3, 3]


def test_the_fourth_level_of_a_large_group_is_scored_by_default() -> None:
    """One group of nine children: what they divide into, and that again, is edited wherever the beam went."""
    kinds = [node(f"c{i}", *(node(f"{i}{j}", *(node(f"{i}{j}{k}") for k in "xy")) for j in "ab")) for i in range(9)]
    corpus = Corpus((node("g", *kinds),))
    weights = {f.id: 0.2 for f in corpus.walk()} | {"g/c8/8b/8by": 0.9}
    result = search(corpus, Toy(weights), SearchOptions(joint_size=1))
    fourth = [f.id for f in corpus.walk() if f.level == 4 and f.id in result.scores]
    assert set(fourth) == {f.id for f in corpus.walk() if f.level == 4}
    some = search(corpus, Toy(weights), SearchOptions(beam=4, joint_size=1))
    expanded = [f for f in some.expanded if f.count("/") == 2]
    assert len(expanded) == 4
    assert {f"{f}/{f.rpartition('/')[2]}{k}" for f in expanded for k in "xy"} <= set(some.scores)


def test_without_a_beam_every_group_in_which_an_image_moved_is_looked_into() -> None:
    """What a group's probes do says little of its other children: none is left out for it, nor for the noise floor."""
    toy = Toy({"beard": 0.01, "hat": 0.02, "eyewear": 0.3, "hair colour/grey": 0.0})
    result = search(small_corpus(), toy, SearchOptions(joint_size=1), noise_floor=0.1)
    assert result.expanded == ("eyewear", "hat", "beard")
    moved = Toy({"beard": 0.01, "hat": 0.02, "eyewear": 0.3, "hair colour/grey": 0.0001})
    everything = search(small_corpus(), moved, SearchOptions(joint_size=1), noise_floor=0.1)
    assert set(everything.scores) == {f.id for f in small_corpus().walk() if f.editable}


def test_the_rules_of_the_paper_have_a_beam_all_the_same() -> None:
    weights = {f"g{i}": 0.1 + i / 100 for i in range(7)}
    corpus = Corpus(tuple(node(f"g{i}", node("a")) for i in range(7)))
    for rule in ("signed", "absolute"):
        found = search(corpus, Toy(weights), SearchOptions(gate=rule, joint_size=1))  # type: ignore[arg-type]
        assert found.expanded == ("g6", "g5", "g4", "g3")
    assert len(search(corpus, Toy(weights), SearchOptions(joint_size=1)).expanded) == 7


def test_a_coarse_edit_that_did_not_take_does_not_hide_what_its_kinds_do() -> None:
    """The group's own edit succeeded in an eighth of the images; its kinds push in opposite directions."""
    toy = Toy({"eyewear": 0.001, "eyewear/glasses": 0.5, "eyewear/sunglasses": -0.48, "beard": 0.1})

    def failed(features: Sequence[Feature]) -> dict[str, float]:
        return {f.id: 0.12 for f in features if f.id == "eyewear"}

    result = search(
        small_corpus(), toy, SearchOptions(beam=1), noise_floor=0.02, judged=lambda features: Judged(failed(features))
    )
    assert result.expanded == ("eyewear",)
    assert {"eyewear/glasses", "eyewear/sunglasses"} <= set(result.scores)


def test_the_search_gates_by_the_level_that_its_judge_names() -> None:
    """Six of 24 images lack the beard, which is enough at 5% and too few at 1%."""
    toy, six = Toy({"beard": 0.4, "beard/full beard": 0.4, "hat": 0.2}, images=24), np.arange(24) < 6

    def reason(level: float) -> str:
        lacking = {"beard": six, "beard/full beard": six}
        found = search(
            small_corpus(), toy, SearchOptions(), noise_floor=0.02, judged=lambda _: Judged({}, lacking, level)
        )
        return next(outcome.reason for outcome in found.gate if outcome.feature == "beard")

    assert "75% of the images show it already" in reason(0.01) and "show it already" not in reason(0.05)


def test_a_strong_kind_is_found_though_its_groups_own_edit_is_weak() -> None:
    """Every group competes with as many edits as any other."""
    toy = Toy({"hair colour/grey": 0.2, "eyewear": 0.02, "eyewear/sunglasses": 0.4, "beard": 0.1})
    assert search(small_corpus(), toy, SearchOptions(beam=1)).expanded == ("eyewear",)


def test_a_classifier_that_depends_on_nothing_costs_level_1_only() -> None:
    toy = Toy({})
    result = search(small_corpus(), toy)
    assert result.expanded == () and result.joint is None and result.survivors == ()
    assert len(toy.calls) == 1  # no image moved: there is nothing to fill the beam with


def test_the_beam_is_filled_while_it_has_places() -> None:
    toy = Toy({"beard": 0.01, "hat": 0.02, "eyewear": 0.3, "hair colour/grey": 0.001})
    result = search(small_corpus(), toy, SearchOptions(beam=3, joint_size=1), noise_floor=0.1)
    assert result.expanded == ("eyewear", "hat", "beard")
    assert [outcome.kept for outcome in result.gate] == [True, True, True, False]


def test_an_empty_corpus() -> None:
    assert search(Corpus(()), Toy({})).asked == 0


@PATIENT
@given(st.integers(0, 10_000))
def test_the_same_scores_lead_to_the_same_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = {f.id: rng.normal(0, 0.3, 8).tolist() for f in small_corpus().walk()}
    one, two = Toy(weights), Toy(weights)
    first, second = search(small_corpus(), one, noise_floor=0.2), search(small_corpus(), two, noise_floor=0.2)
    assert one.calls == two.calls and first.gate == second.gate and first.expanded == second.expanded
    assert len(search(small_corpus(), one, SearchOptions(beam=2), noise_floor=0.2).expanded) <= 2
