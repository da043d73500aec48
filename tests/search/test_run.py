"""The whole search on toy worlds: what it finds, and what it asks for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.search.joint import key
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.run import search
from tests.search.toy import Toy, node, small_corpus

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
    assert result.expanded == ("eyewear", "hair colour", "beard")
    ranked = sorted(result.scores, key=lambda f: -abs(result.scores[f].mean()))
    assert ranked[:4] == ["eyewear/glasses", "eyewear/sunglasses", "beard/full beard", "hair colour/grey"]
    assert "hat/beanie" not in result.scores  # its group was gated out
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
    assert result.expanded == ("c", "b", "b/b2", "c/c1")
    assert {"b/b2/b2x", "c/c1/c1x"} <= set(result.scores)
    assert not any(f.startswith(("a/", "b/b1/")) for f in result.scores)


def test_a_classifier_that_depends_on_nothing_costs_level_1_only() -> None:
    toy = Toy({})
    result = search(small_corpus(), toy)
    assert result.expanded == () and result.joint is None and result.survivors == ()
    assert len(toy.calls) == 1


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
    assert len(first.expanded) <= SearchOptions().beam
