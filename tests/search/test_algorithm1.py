"""Algorithm 1 as published, on toys whose combinations are known."""

from __future__ import annotations

import numpy as np

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.search.algorithm1 import algorithm1, grow_published, most_published
from diffex_dagster.search.joint import grow_joint, key
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.run import search
from tests.support.search import Toy, node

CORPUS = Corpus((node("a", node("a1"), node("a2")), node("b", node("b1")), node("c")))
A, B, C = CORPUS.groups
BEST_PAIR = Toy({"a": 0.5, "b": 0.1, "c": 0.1}, interactions={("b", "c"): 0.7, ("a", "b"): -0.3, ("a", "c"): -0.3})


def test_the_best_pair_is_found_where_the_best_single_is_none_of_it() -> None:
    singles = {f.id: BEST_PAIR.d((f.id,)) for f in (A, B, C)}
    assert grow_joint([A, B, C], singles, BEST_PAIR, SearchOptions()) is None  # it starts from a alone
    joint = grow_published(CORPUS, [A, B, C], singles, BEST_PAIR, SearchOptions(joint_size=2))
    assert joint is not None and key(joint.features) == ("b", "c")
    assert np.isclose(joint.effect, 0.9) and joint.direction == "raises"


def test_a_sub_feature_is_edited_with_its_parent_and_kept_where_it_adds() -> None:
    toy = Toy({"a": 0.3, "a/a1": 0.2, "a/a2": -0.1, "b": -0.2})
    scores = {("a",): toy.d(("a",)), ("b",): toy.d(("b",)), ("c",): toy.d(("c",))}
    kept, steps = algorithm1(CORPUS, [A, B, C], scores, toy, SearchOptions(joint_size=2, delta=0.1))
    assert set(kept) == {("a",), ("a", "a/a1")} and np.allclose(kept["a", "a/a1"], 0.5)
    assert [(step.features, step.kept) for step in steps] == [(("a", "a/a1"), True), (("a", "a/a2"), False)]
    assert toy.calls == [[("a", "a/a1"), ("a", "a/a2")]]  # b is below δ, and its children are never edited


def test_the_beam_and_the_size_bound_what_is_asked() -> None:
    features = [node(f"f{i:02}") for i in range(12)]
    toy = Toy({f.id: 1.0 - i / 100 for i, f in enumerate(features)})
    options = SearchOptions(joint_size=3, beam=4)
    joint = grow_published(Corpus(tuple(features)), features, {f.id: toy.d((f.id,)) for f in features}, toy, options)
    assert joint is not None and key(joint.features) == ("f00", "f01", "f02")
    assert len(toy.asked) == len(set(toy.asked)) == 6 + 4 <= most_published(12, options)
    nothing = Toy({"a": 0.5, "b": -0.1, "c": -0.1})
    assert grow_published(CORPUS, [A, B, C], {f.id: nothing.d((f.id,)) for f in (A, B, C)}, nothing, options) is None


def test_the_search_takes_it_as_an_option() -> None:
    found = search(CORPUS, BEST_PAIR, SearchOptions(joint_search="published", joint_size=2, probes=1))
    assert found.joint is not None and key(found.joint.features) == ("b", "c")
    assert search(CORPUS, BEST_PAIR, SearchOptions(joint_size=2, probes=1)).joint is None
