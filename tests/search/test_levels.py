"""The gate and the beam on scores whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.effects.noise import noise_floor
from diffex_dagster.search.levels import (
    Judged,
    expand,
    gate,
    kept_ids,
    level1_features,
    next_level,
    score_node,
    stand_ins,
    survivors,
    unexpanded,
)
from diffex_dagster.search.options import SearchOptions
from tests.support.search import node, small_corpus

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

OPTIONS = SearchOptions()


def constant(**means: float) -> dict[str, np.ndarray]:
    return {name.replace("__", "/"): np.full(8, mean) for name, mean in means.items()}


def test_a_group_is_scored_by_its_own_name_or_by_spread_children() -> None:
    features = level1_features(small_corpus(), OPTIONS)
    assert [f.id for f in features["beard"]] == ["beard", "beard/full beard"]  # as many as any other group has
    assert [f.id for f in features["hair colour"]] == ["hair colour/black", "hair colour/grey"]
    three = level1_features(small_corpus(), SearchOptions(probes=3))["hair colour"]
    assert [f.name for f in three] == ["black", "blonde", "grey"]
    one = level1_features(small_corpus(), SearchOptions(probes=1))
    assert [f.name for f in one["hair colour"]] == ["blonde"] and [f.name for f in one["beard"]] == ["beard"]
    signed = level1_features(small_corpus(), SearchOptions(gate="signed"))["beard"]
    assert [f.id for f in signed] == ["beard"]  # the paper's reading


def test_probes_descend_past_children_that_are_no_edit_either() -> None:
    group = node("clothes", node("colour", node("red"), node("blue"), editable=False), editable=False)
    assert [f.id for f in stand_ins(group, OPTIONS)] == ["clothes/colour/red", "clothes/colour/blue"]
    assert stand_ins(node("nothing", editable=False), OPTIONS) == ()


@PATIENT
@given(st.integers(1, 12), st.integers(1, 12))
def test_probes_are_distinct_children_in_order(children: int, probes: int) -> None:
    group = node("g", *(node(f"c{i:02}") for i in range(children)), editable=False)
    chosen = [f.id for f in stand_ins(group, SearchOptions(probes=probes))]
    assert len(chosen) == len(set(chosen)) == min(children, probes)
    assert chosen == sorted(chosen)


def test_magnitude_gate_keeps_a_parent_whose_children_cancel() -> None:
    """Glasses lower, sunglasses raise: the group's mean is zero, its mean |d| is not (the paper's own figures)."""
    scores = constant(beard=0.3, **{"hair colour__black": 0.0, "hair colour__grey": 0.2}, hat=0.005)
    scores["eyewear"] = np.array([0.4, -0.4] * 4)
    outcomes = {o.feature: o for o in gate(scores, small_corpus(), 0.01, OPTIONS)}
    assert outcomes["eyewear"].kept and outcomes["eyewear"].magnitude == pytest.approx(0.4)
    assert outcomes["hat"].kept and "not above the noise floor 0.010, but there is a place" in outcomes["hat"].reason
    three = {o.feature: o for o in gate(scores, small_corpus(), 0.01, SearchOptions(beam=3))}
    assert not three["hat"].kept
    four = {o.feature: o for o in gate(scores, small_corpus(), 0.01, SearchOptions(beam=4))}
    assert four["hat"].kept and "noise floor 0.010, but the beam had a free place" in four["hat"].reason
    assert outcomes["hair colour"].kept and "measured on black, grey" in outcomes["hair colour"].reason

    signed = gate(scores, small_corpus(), 0.01, SearchOptions(gate="signed", delta=0.05))
    assert "eyewear" not in kept_ids(signed)  # what the paper's reading loses
    assert kept_ids(signed) == ["beard", "hair colour"]


def test_the_beam_keeps_the_strongest_and_says_so() -> None:
    scores = constant(beard=0.1, eyewear=-0.3, hat=0.2, **{"hair colour__black": 0.4, "hair colour__grey": 0.0})
    outcomes = gate(scores, small_corpus(), 0.0, SearchOptions(beam=2))
    assert [o.feature for o in outcomes] == ["hair colour", "eyewear", "hat", "beard"]
    assert kept_ids(outcomes) == ["hair colour", "eyewear"]
    assert "the beam of 2 was full" in outcomes[2].reason


def test_ties_and_groups_without_scores_stay_in_corpus_order() -> None:
    outcomes = gate(constant(hat=0.1, beard=0.1), small_corpus(), 0.0, OPTIONS)
    assert [o.feature for o in outcomes] == ["beard", "hat", "hair colour", "eyewear"]
    assert outcomes[2].reason == "not scored" and outcomes[2].magnitude is None
    dead = gate({}, Corpus((node("mood", editable=False),)), 0.0, OPTIONS)
    assert not dead[0].kept and "can be edited" in dead[0].reason


def test_a_group_that_moves_no_image_is_out_even_without_a_noise_floor() -> None:
    (outcome,) = gate(constant(hat=0.0), Corpus((node("hat", node("beanie")),)), 0.0, OPTIONS)
    assert not outcome.kept and outcome.reason == "no image moved"


def test_expand_lists_children_in_beam_order_and_replaces_those_that_are_no_edit() -> None:
    corpus = Corpus(
        (
            node("a", node("a1"), node("colour", node("red"), node("green"), node("blue"), editable=False)),
            node("b", node("b1")),
        )
    )
    assert [f.id for f in expand(corpus, ["b", "a"])] == ["b/b1", "a/a1", "a/colour/red", "a/colour/blue"]
    assert expand(corpus, []) == []


def deep_corpus() -> Corpus:
    return Corpus(
        (
            node("a", node("a1", node("a1x"), node("a1y")), node("a2", node("a2x")), node("a3")),
            node("b", node("b1", node("b1x"))),
        )
    )


def test_next_level_refills_the_beam_among_scored_children_that_have_children() -> None:
    scores = constant(a=0.5, b=0.1, a__a1=0.3, a__a2=0.01, a__a3=0.9, b__b1=0.2)
    two = SearchOptions(beam=2)
    outcomes = next_level(scores, unexpanded(deep_corpus(), ["a", "b"], 2), 0.05, two)
    assert [(o.feature, o.kept) for o in outcomes] == [("a/a1", True), ("b/b1", True), ("a/a2", False)]
    assert kept_ids(next_level(scores, unexpanded(deep_corpus(), ["a", "b"], 2), 0.05, OPTIONS)) == [
        "a/a1",
        "b/b1",
        "a/a2",
    ]
    assert (
        next_level(scores, unexpanded(deep_corpus(), ["a", "b", "a/a1"], 3), 0.05, OPTIONS) == []
    )  # its children have none
    leaves = next_level(scores, unexpanded(small_corpus(), ["beard"], 2), 0.0, OPTIONS)
    assert leaves == []


def test_signed_reading_keeps_a_child_only_when_it_beats_its_parent() -> None:
    signed = SearchOptions(gate="signed", delta=0.05)
    scores = constant(a=0.5, b=0.1, a__a1=0.3, a__a2=0.6, a__a3=0.9, b__b1=0.04)
    outcomes = next_level(scores, unexpanded(deep_corpus(), ["a", "b"], 2), 0.0, signed)
    assert kept_ids(outcomes) == ["a/a2"]
    assert "does not beat its parent's +0.500" in {o.feature: o.reason for o in outcomes}["a/a1"]
    alive = survivors(scores, deep_corpus(), ["a", "b"], 0.0, signed)
    assert [f.id for f in alive] == ["a", "a/a2", "a/a3", "b"]


def test_survivors_are_editable_scored_past_the_floor_and_reached() -> None:
    scores = constant(beard=0.3, hat=0.4, **{"hair colour__grey": 0.2, "hair colour__red": 0.001})
    alive = survivors(scores, small_corpus(), ["beard", "hair colour"], 0.01, OPTIONS)
    assert [f.id for f in alive] == ["beard", "hair colour/grey"]


def test_a_group_that_is_no_edit_is_never_ranked() -> None:
    scores = constant(**{"hair colour": 0.9, "hair colour__grey": 0.2})
    assert [f.id for f in survivors(scores, small_corpus(), ["hair colour"], 0.0, OPTIONS)] == ["hair colour/grey"]
    group = score_node(small_corpus()["hair colour"], scores, OPTIONS)
    assert group is not None and group.magnitude == pytest.approx(0.2)


@PATIENT
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.floats(0.1, 10))
def test_gate_does_not_depend_on_image_order_or_on_the_unit(means: list[float], unit: float) -> None:
    rng = np.random.default_rng(0)
    ids = ["beard", "hair colour/grey", "eyewear", "hat"]
    scores = {i: rng.normal(mean, 0.2, 8) for i, mean in zip(ids, means, strict=True)}
    order = rng.permutation(8)
    kept = kept_ids(gate(scores, small_corpus(), 0.1, OPTIONS))
    assert kept_ids(gate({k: v[order] for k, v in scores.items()}, small_corpus(), 0.1, OPTIONS)) == kept
    assert kept_ids(gate({k: v * unit for k, v in scores.items()}, small_corpus(), 0.1 * unit, OPTIONS)) == kept


def test_options_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="'magnitude', 'signed' or 'absolute'"):
        SearchOptions(gate="biggest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beam"):
        SearchOptions(beam=0)


# The gate and edits that did not take --------------------------------------------------------------------------------


def test_a_group_is_not_judged_by_an_edit_that_did_not_take() -> None:
    scores = constant(eyewear=0.01, eyewear__sunglasses=0.4, beard=0.2, hat=0.3)
    failed = {"eyewear": 0.12}
    outcomes = {o.feature: o for o in gate(scores, small_corpus(), 0.05, OPTIONS, Judged(failed))}
    assert outcomes["eyewear"].kept and outcomes["eyewear"].magnitude == pytest.approx(0.4)
    assert "measured on sunglasses" in outcomes["eyewear"].reason


def test_a_group_of_whose_edits_none_succeeded_gets_a_free_place_before_one_that_is_weak() -> None:
    scores = constant(eyewear=0.3, eyewear__sunglasses=0.3, beard=0.2, hat=0.03, **{"hair colour__grey": 0.04})
    failed = {"eyewear": 0.12, "eyewear/sunglasses": 0.2}
    two = {o.feature: o for o in gate(scores, small_corpus(), 0.05, SearchOptions(beam=2), Judged(failed))}
    assert [f for f, o in two.items() if o.kept] == ["eyewear", "beard"]
    assert "at most 20% of its edits show it" in two["eyewear"].reason and "free place" in two["eyewear"].reason
    one = gate(scores, small_corpus(), 0.05, SearchOptions(beam=1), Judged(failed))
    assert kept_ids(one) == ["beard"]  # what passes comes first, however far the failed edits moved the score
    three = gate(scores, small_corpus(), 0.05, SearchOptions(beam=3), Judged(failed))
    assert set(kept_ids(three)) == {"eyewear", "beard", "hair colour"}
    signed = gate(scores, small_corpus(), 0.05, SearchOptions(gate="signed", beam=1), Judged(failed))
    assert kept_ids(signed) == ["eyewear"]  # the paper's reading asks no judge


def test_how_few_images_are_too_few_for_the_gate_is_the_level_of_the_study() -> None:
    """Six of 24 images lack the beard: enough signs for a claim at 5%, not at 1%."""
    beard, six = small_corpus()["beard"], np.arange(24) < 6
    scores = {"beard": np.where(six, 0.4, 0.0)}
    usual = score_node(beard, scores, OPTIONS, Judged(without={"beard": six}))
    assert usual is not None and (usual.magnitude, usual.images, usual.there) == (pytest.approx(0.4), 6, None)
    strict = score_node(beard, scores, OPTIONS, Judged(without={"beard": six}, level=0.01))
    assert strict is not None and (strict.magnitude, strict.images) == (pytest.approx(0.1), None)
    assert strict.there == pytest.approx(0.75)


def test_a_failed_edit_is_no_part_of_a_combination() -> None:
    scores = constant(beard=0.3, hat=0.4)
    alive = survivors(scores, small_corpus(), ["beard", "hat"], 0.01, OPTIONS, {"hat": 0.1})
    assert [f.id for f in alive] == ["beard"]


def test_more_probes_are_no_easier_gate() -> None:
    """Pure noise: a group of three probes passes its floor and wins its place as seldom as one with a single edit."""
    rng, images = np.random.default_rng(0), 24
    corpus = Corpus((node("one"), node("three", node("a"), node("b"), node("c"), editable=False)))
    options = SearchOptions(probes=3, beam=1)
    studies, passed, first = 400, np.zeros(2), 0
    for study in range(studies):
        d = {name: rng.normal(0, 0.1, images) for name in ("one", "three/a", "three/b", "three/c")}
        table = rng.normal(0, 0.1, (images, 3))
        floors = {n: noise_floor(table, strongest_of=n, resamples=400, seed=study) for n in (1, 3)}
        outcomes = gate(d, corpus, floors.__getitem__, options)
        above = {o.feature: "above the noise floor" in o.reason and "not above" not in o.reason for o in outcomes}
        passed += [above["one"], above["three"]]
        first += outcomes[0].feature == "three"
    assert abs(passed[0] - passed[1]) / studies < 0.06
    assert 0.35 < first / studies < 0.72  # the strongest of three against one, had they one floor: 0.8 or more


def test_the_released_rule_takes_the_largest_mean_either_way_whatever_its_size() -> None:
    scores = constant(beard=0.1, hat=-0.3, **{"hair colour__grey": 0.001})
    scores["eyewear"] = np.array([0.4, -0.4] * 4)  # a mean of zero
    released = SearchOptions(gate="absolute", beam=3)
    outcomes = gate(scores, small_corpus(), 0.2, released, Judged({"hat": 0.1}))  # neither floor nor judge is asked
    assert kept_ids(outcomes) == ["hat", "beard", "hair colour"]
    assert level1_features(small_corpus(), released)["beard"] == level1_features(small_corpus(), OPTIONS)["beard"][:1]
    alive = survivors({**scores, **constant(hat__beanie=0.0)}, small_corpus(), ["hat"], 0.2, released)
    assert [f.id for f in alive] == ["hat", "hat/beanie"]
