"""What ways to choose groups cost and save, on rules that answer for states."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffex_dagster.bench import exam, gates
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.worlds import avatars

WAYS = {way.title: i for i, way in enumerate(gates.WAYS)}


def _corpus() -> Corpus:
    """A group a factor, its first values as children: as many groups as a beam can be too small for."""
    groups = []
    for factor, values in avatars.WORLD.factors.items():
        phrases = [value.phrases[0] for value in values.values() if value.phrases][:4]
        children = tuple(Feature(f"{factor}/{i}", phrase, phrase) for i, phrase in enumerate(phrases))
        groups.append(Feature(factor, factor, factor, editable=False, children=children))
    return Corpus(tuple(groups))


@pytest.fixture(scope="module")
def exact() -> list[list[gates.Found]]:
    return gates.of_rules(avatars.WORLD, _corpus(), 3, exact=True)


def test_a_beam_saves_edits_and_may_lose_what_is_strong(exact: list[list[gates.Found]]) -> None:
    for row in exact:
        small, large, all_ = (row[WAYS[title]] for title in ("beam 4, 2 probes", "beam 10, 2 probes", "everything"))
        assert small.edited < large.edited <= all_.edited <= 1.0
        assert small.recall <= large.recall <= all_.recall <= 1.0
        assert all_.precision == 1.0 or all_.recall < 1.0  # estimates are the truth: only what is missed costs places
    assert any(row[WAYS["beam 4, 2 probes"]].recall < row[WAYS["everything"]].recall for row in exact)


def test_everything_is_edited_where_edits_move_a_little_and_a_budget_is_kept() -> None:
    for row in gates.of_rules(avatars.WORLD, _corpus(), 2, exact=False):
        assert row[WAYS["everything"]].edited == row[WAYS["everything"]].recall == 1.0
        assert row[WAYS["80% of the features, 2 probes"]].edited <= 0.8


def test_a_third_of_the_groups_is_unknown_to_the_world() -> None:
    whole = gates.with_unknown(_corpus())
    own = len(_corpus().groups)
    assert (len(whole.groups) - own) / len(whole.groups) == pytest.approx(1 / 3, abs=0.03)
    unknown = [f for group in whole.groups[own:] for f in group.children]
    assert unknown and not any(avatars.WORLD.meaning(f.prompt) for f in unknown)


def test_its_rules_are_not_the_exams() -> None:
    folder = Path(__file__).parent.parent.parent / "studies" / "avatars" / exam.FOLDER
    used = {int(each.name.removeprefix("rule_")) for each in folder.glob("rule_*")}
    assert used and not used & set(range(gates.FIRST, gates.FIRST + gates.RULES))


def test_the_table_has_a_line_a_way(exact: list[list[gates.Found]]) -> None:
    lines = gates.as_markdown({"one": exact}).splitlines()
    assert len(lines) == 2 + len(gates.WAYS) and lines[-1].startswith("| everything | ")
