"""Joint combinations of toy features whose sums and interactions are known."""

from __future__ import annotations

import numpy as np

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.search.joint import JointResult, grow_joint, joint_candidates, key
from diffex_dagster.search.options import SearchOptions
from tests.support.search import Toy, node

A1, A2 = (node("a", node("a1"), node("a2"))).children
B, C, D = node("b"), node("c"), node("d")
ALL = [A1, A2, B, C, D]


def grow(toy: Toy, features: list[Feature], options: SearchOptions | None = None) -> JointResult | None:
    scores = {feature.id: toy.d((feature.id,)) for feature in features}
    return grow_joint(features, scores, toy, options or SearchOptions())


def test_additive_model_takes_the_best_of_each_group() -> None:
    joint = grow(Toy({"a/a1": 0.3, "a/a2": 0.29, "b": 0.2, "c": 0.1, "d": 0.05}), ALL)
    assert joint is not None
    assert key(joint.features) == ("a/a1", "b", "c")  # a/a2 is of the same group as a/a1
    assert joint.direction == "raises" and np.isclose(joint.effect, 0.6)
    np.testing.assert_allclose(joint.d, 0.6)


def test_an_extension_that_hurts_is_not_kept() -> None:
    toy = Toy({"a/a1": 0.3, "b": 0.2, "c": 0.1}, interactions={("a/a1", "b"): -0.25, ("a/a1", "c"): -0.5})
    assert grow(toy, [A1, B, C]) is None  # 0.25 and -0.1: neither beats 0.3 alone
    helped = Toy({"a/a1": 0.3, "b": 0.2, "c": 0.1}, interactions={("a/a1", "b"): -0.25, ("a/a1", "c"): 0.5})
    joint = grow(helped, [A1, B, C])
    assert joint is not None and key(joint.features) == ("a/a1", "c")
    assert [(s.features, s.kept) for s in joint.steps] == [
        (("a/a1", "b"), False),  # 0.25
        (("a/a1", "c"), True),  # 0.9
        (("a/a1", "b", "c"), False),  # 0.85
    ]


def test_the_direction_with_the_larger_effect_is_reported() -> None:
    weights = {"a/a1": 0.3, "b": 0.1, "c": -0.25, "d": -0.24}
    joint = grow(Toy(weights), ALL)
    assert joint is not None and joint.direction == "lowers" and key(joint.features) == ("c", "d")
    assert np.isclose(joint.effect, -0.49)
    one_way = grow(Toy(weights), ALL, SearchOptions(joint_directions="strongest"))
    assert one_way is not None and one_way.direction == "raises" and key(one_way.features) == ("a/a1", "b")


def test_all_extensions_of_a_step_are_asked_for_at_once() -> None:
    toy = Toy({"a/a1": 0.3, "b": 0.2, "c": -0.25, "d": -0.1})
    grow(toy, ALL, SearchOptions(joint_size=4))
    assert toy.calls == [[("a/a1", "b"), ("c", "d")]]  # nothing is left to add after that


def test_size_and_width_bound_the_edits() -> None:
    features = [node(f"f{i:02}") for i in range(20)]
    toy = Toy({f.id: 1.0 - i / 100 for i, f in enumerate(features)})
    joint = grow(toy, features, SearchOptions(joint_size=4, joint_width=3))
    assert joint is not None and len(joint.features) == 4
    assert len(toy.asked) == 9
    assert grow(Toy({"b": 1.0, "c": 1.0}), [B, C], SearchOptions(joint_size=1)) is None


def test_joint_gain_asks_for_more_than_a_hair() -> None:
    toy = Toy({"b": 0.3, "c": 0.01})
    assert grow(toy, [B, C]) is not None
    assert grow(toy, [B, C], SearchOptions(joint_gain=0.02)) is None


def test_nothing_to_combine() -> None:
    assert grow(Toy({}), ALL) is None
    assert grow(Toy({"b": 0.3}), [B]) is None
    assert grow(Toy({}), []) is None
    assert grow(Toy({"a/a1": 0.3, "a/a2": 0.2}), [A1, A2]) is None  # one group


def test_candidates_are_in_canonical_order() -> None:
    scores = {"b": np.array([0.1]), "c": np.array([0.3])}
    assert [key(c) for c in joint_candidates([B], [B, C], scores, 1, SearchOptions())] == [("b", "c")]
    assert [key(c) for c in joint_candidates([C], [B, C], scores, 1, SearchOptions())] == [("b", "c")]
