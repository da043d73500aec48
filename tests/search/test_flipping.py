"""The smallest set of edits that flips a picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.search.flipping import FlipOptions, Flips, Outcome, smallest_flips
from diffex_dagster.search.joint import key

FEATURES = [Feature(f"{group}/{name}", name, prompt=name) for group in "abcd" for name in ("one", "two")]
PUSH = dict(zip((f.id for f in FEATURES), (0.30, 0.10, 0.28, 0.05, 0.2, -0.4, 0.0, 0.02), strict=True))


def run(limit: float, options: FlipOptions, unseen: tuple[str, ...] = ()) -> tuple[Flips, list[list[tuple[str, ...]]]]:
    """A picture that flips once pushes add up to `limit`; edits of `unseen` never show their attribute."""

    def outcome(ids: tuple[str, ...]) -> Outcome:
        moved = sum(PUSH[i] for i in ids)
        flips = moved >= limit - 1e-12
        return Outcome(moved, flips, flips and not set(ids) & set(unseen), distance=moved)

    singles = {f.id: outcome((f.id,)) for f in FEATURES}
    searching = smallest_flips([f for f in FEATURES if f.id not in unseen], singles, options)
    asked: list[list[tuple[str, ...]]] = []
    answers: Mapping[tuple[str, ...], Outcome] | None = None
    try:
        while True:
            wanted = searching.send(answers)  # type: ignore[arg-type]  # None starts it
            asked.append([key(c) for c in wanted])
            answers = {k: outcome(k) for k in asked[-1]}
    except StopIteration as stop:
        return stop.value, asked


@pytest.mark.parametrize(("limit", "size"), [(0.25, 1), (0.31, 2), (0.58, 2), (0.6, 3), (0.78, 3), (0.9, 0)])
def test_it_is_the_smallest_there_is(limit: float, size: int) -> None:
    groups = [[f.id for f in FEATURES if f.group == g] + [None] for g in "abcd"]
    every = [tuple(i for i in some if i) for some in itertools.product(*groups)]
    true = min((len(s) for s in every if s and len(s) <= 3 and sum(PUSH[i] for i in s) >= limit - 1e-12), default=0)
    assert true == size  # by trying every set
    found, asked = run(limit, FlipOptions())
    assert (len(found.sets[0]) if found.sets else 0) == size
    assert len(asked) == max(0, (size or 3) - 1) and found.size == (size or 3)
    assert all(len(some) <= FlipOptions().tries for some in asked)
    assert found.tried == len(FEATURES) + sum(map(len, asked))


def test_of_equal_sets_the_closest_picture_comes_first() -> None:
    found, _ = run(0.25, FlipOptions())
    assert found.sets == (("b/one",), ("a/one",))  # 0.28 is closer than 0.30, and 0.2 does not flip


def test_a_flip_whose_edit_does_not_show_its_attribute_does_not_count_and_is_said() -> None:
    found, _ = run(0.29, FlipOptions(), unseen=("a/one",))
    assert found.sets and len(found.sets[0]) == 2 and all("a/one" not in s for s in found.sets)
    assert ("a/one",) in found.unseen


def test_members_are_of_different_groups_and_push_the_same_way() -> None:
    _, asked = run(5.0, FlipOptions(most=4, beam=8, tries=100))
    sets = [ids for some in asked for ids in some]
    assert len(sets) == len(set(sets))
    assert all(len({i.split("/")[0] for i in ids}) == len(ids) and "c/two" not in ids for ids in sets)


def test_one_feature_at_most_asks_for_nothing() -> None:
    found, asked = run(0.5, FlipOptions(most=1))
    assert not found.sets and not asked and FlipOptions(most=1).most_sets() == 0 and FlipOptions().most_sets() == 32
