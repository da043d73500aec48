"""A person's file: every edit, every mistake with its line, and what a comment changes (nothing)."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffex_dagster.corpus.overrides import merge
from diffex_dagster.corpus.overrides_file import overrides_from_text, read_overrides
from diffex_dagster.corpus.showing import diff
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.answers import tree_from_raw
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.recorded import RecordedProposer
from diffex_dagster.errors import CorpusError

STUDY = Path(__file__).parents[2] / "studies" / "avatars"


@pytest.fixture
def proposal() -> Corpus:
    return tree_from_raw(
        [
            {"name": "Hat", "editable": True, "support": 2, "children": [{"name": "Cap"}, {"name": "Beanie"}]},
            {"name": "Hair", "editable": False, "children": [{"name": "Long hair"}, {"name": "Grey hair"}]},
        ]
    )


def merged(proposal: Corpus, text: str) -> Corpus:
    return merge(proposal, overrides_from_text(text, "corpus.yaml"))


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "add:\nremove:\n", "{}"])
def test_nothing_said_is_no_edit(proposal: Corpus, text: str) -> None:
    edits = overrides_from_text(text, "corpus.yaml")
    assert edits.is_empty and merge(proposal, edits) is proposal


def test_no_file_is_no_edit(tmp_path: Path) -> None:
    assert read_overrides(tmp_path / "corpus.yaml").is_empty


def test_comments_do_not_change_the_version() -> None:
    plain = overrides_from_text("remove: [cap]\n", "a.yaml")
    assert plain.version == overrides_from_text("# why\n\nremove:\n  - cap  # because\n", "b.yaml").version
    assert plain.version != overrides_from_text("remove: [beanie]\n", "a.yaml").version


def test_rename_keeps_the_prompt(proposal: Corpus) -> None:
    corpus = merged(proposal, "rename:\n  Hat / Cap: Baseball cap\n  hair: Hair and more\n")
    assert corpus["hat/baseball-cap"].prompt == "cap"
    assert corpus["hair-and-more/long-hair"].name == "Long hair"
    assert not diff(proposal, corpus).new_edits and not diff(proposal, corpus).removed


def test_prompt_remove_deny_allow(proposal: Corpus) -> None:
    corpus = merged(proposal, "prompt: {cap: a red cap}\nremove: [beanie]\ndeny: [grey]\n")
    assert [feature.id for feature in corpus.walk()] == ["hat", "hat/cap", "hair", "hair/long-hair"]
    assert [feature.prompt for feature in diff(proposal, corpus).new_edits] == ["a red cap"]
    assert [(drop.name, drop.reason) for drop in corpus.drops] == [
        ("Beanie", "removed by corpus.yaml, line 2"),
        ("Grey hair", "denied by corpus.yaml, line 3"),
    ]
    only = merged(proposal, "allow: [hair/long-hair]\nadd: [Glasses]\n")
    assert [feature.id for feature in only.walk()] == ["hair", "hair/long-hair", "glasses"]


@pytest.mark.parametrize("name", ["1950", "no", "off", "12:30", "2024-01-01", "007"])
def test_names_that_yaml_may_read_as_something_else_are_names(name: str) -> None:
    edits = overrides_from_text(f"add:\n  - {{name: {name}, group: Hat}}\n", "corpus.yaml")
    assert [each.node["name"] for each in edits.add] == [name]


def test_a_truth_value_is_no_name() -> None:
    with pytest.raises(
        CorpusError, match=r"corpus\.yaml, line 2: add\.0\.name: put it in quotes, so that it is text \(got True\)"
    ):
        overrides_from_text("add:\n  - {name: true, group: Hat}\n", "corpus.yaml")


def test_add_one_feature_is_one_new_edit(proposal: Corpus) -> None:
    corpus = merged(proposal, "add:\n  - {group: Hat, name: Top hat, region: head}\n")
    assert [feature.id for feature in diff(proposal, corpus).new_edits] == ["hat/top-hat"]
    added = corpus["hat/top-hat"]
    assert (added.prompt, added.direction, added.editable, added.region) == ("top hat", "add", True, "head")
    assert added.source == "person" and added.support is None and corpus["hat/cap"] == proposal["hat/cap"]
    new_group = merged(proposal, "add:\n  - {group: Eyewear, name: round glasses}\n")
    assert [feature.id for feature in diff(proposal, new_group).new_edits] == ["eyewear/round-glasses"]
    deep = merged(proposal, "add:\n  - group: hat/cap\n    name: logo\n    children: [red, blue]\n")
    assert deep["hat/cap/logo/red"].level == 4


def test_add_finds_a_group_by_its_old_and_its_new_name(proposal: Corpus) -> None:
    corpus = merged(
        proposal, "rename: {hat: Headwear}\nadd:\n  - {group: Hat, name: a}\n  - {group: Headwear, name: b}\n"
    )
    assert [feature.id for feature in corpus["headwear"].children][2:] == ["headwear/a", "headwear/b"]


def test_a_person_says_whether_the_children_of_a_group_exclude_each_other(proposal: Corpus) -> None:
    assert proposal["hair"].exclusive is None and proposal["hair"].one_of  # by its name
    corpus = merged(proposal, "exclusive: {hair: false}\nadd:\n  - {name: Marks, exclusive: true, children: [a, b]}\n")
    assert not corpus["hair"].one_of and corpus["marks"].one_of
    assert corpus.version != merged(proposal, "add:\n  - {name: Marks, exclusive: true, children: [a, b]}\n").version
    assert not diff(proposal, merged(proposal, "exclusive: {hair: false}\n")).new_edits
    with pytest.raises(CorpusError, match=r"line 1: `exclusive` names 'fez', which the proposal does not have"):
        merged(proposal, "exclusive: {fez: true}\n")
    with pytest.raises(CorpusError, match="valid boolean"):
        overrides_from_text("exclusive: {hair: maybe}", "corpus.yaml")


def test_a_whole_tree_takes_the_proposals_place(proposal: Corpus) -> None:
    text = "tree:\n  - name: Eyewear\n    editable: false\n    children: [round glasses, {name: none, prompt: glasses, direction: remove}]\n  - Beard\n"
    corpus = merged(proposal, text)
    assert [feature.id for feature in corpus.walk()] == ["eyewear", "eyewear/round-glasses", "eyewear/none", "beard"]
    assert corpus["eyewear/none"].direction == "remove" and corpus["beard"].source == "person"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("ad:\n - x", 1, "ad: there is no such field; did you mean 'add'"),
        ("remove: [cap]\nrenam: {}", 2, "did you mean 'rename'"),
        ("zzzz: 1", 1, "zzzz: there is no such field; use one of add, allow, deny"),
        ("add:\n  - name: x\n    grup: Hat", 3, "did you mean 'group'"),
        (
            "add:\n  - name: x\n    children:\n      - name: y\n        promt: z",
            5,
            r"add\.0\.children\.0\.promt: .*did you mean 'prompt'",
        ),
        ("add:\n  - prompt: x", 2, r"add\.0\.name: the field is missing; add it"),
        ("add:\n  - name: x\n    direction: up", 3, "'add' or 'remove'"),
        ("add:\n  - name: x\n    editable: maybe", 3, "valid boolean"),
        ("add: x", 1, "valid list"),
        ("add:\n  - []", 2, r"add\.0: write its fields here"),
        ("remov: [a]\nexclusve: {}", 1, "did you mean 'remove'.*line 2: exclusve: .*did you mean 'exclusive'"),
        ("rename: [a]", 1, "valid dictionary"),
        ("remove:\n  - cap\n  - ''", 3, "at least 1 character"),
        ("- a", 1, "found a list"),
        ("just text", 1, "found a text"),
        ("\n\na: [", 3, "not valid YAML"),
        ("remove: [a]\nremove: [b]", 2, "duplicate key"),
        ("remove:\n  - cap\n  - capp", 3, "does not have.*did you mean 'cap'|did you mean 'Cap'"),
        ("# one\nprompt:\n  hat/fez: x", 3, "does not have"),
        ("allow:\n  - shoes", 2, "does not have"),
        ("add:\n\n  - group: Hat\n    name: CAP", 3, "already has 'hat/cap'"),
        ("add:\n  - Hat", 2, "already has 'hat'"),
        ("add:\n  - group: Hat\n    name: Kepi\n    prompt: a cap", 2, "the edit that 'hat/cap' has"),
        ("prompt:\n  beanie: cap", 2, "the edit that 'hat/cap' has"),
        ("rename:\n  beanie: Cap", 2, "second feature"),
        ("rename:\n  cap: Beanie", 2, "second feature"),
        ("remove: [hat]\nrename:\n  cap: Kepi", 3, "removed by corpus.yaml, line 1"),
        ("tree:\n  - A\n  - name: B\n    children:\n      - x\n      - X", 6, r"there already \(line 5\)"),
        ("tree:\n  - A\n  - a", 3, "there already"),
        ("tree:\n  - A\nadd:\n  - B", 3, "whole `tree`"),
        ("tree: []", 1, "empty"),
        ("remove: [hat, hair]", None, "leaves no feature"),
    ],
)
def test_every_mistake_names_file_and_line(proposal: Corpus, text: str, line: int | None, says: str) -> None:
    with pytest.raises(CorpusError, match=says) as raised:
        merged(proposal, text)
    assert str(raised.value).startswith(f"corpus.yaml, line {line}:" if line else "corpus.yaml ")


def test_an_ambiguous_name_asks_for_the_id() -> None:
    corpus = tree_from_raw([{"name": one, "children": [{"name": "Red"}]} for one in ("Hat", "Hair")])
    with pytest.raises(CorpusError, match="hat/red, hair/red"):
        merged(corpus, "remove: [red]")
    assert len(list(merged(corpus, "remove: [Hat / Red]").walk())) == 3


def test_tags_build_no_objects(proposal: Corpus) -> None:
    with pytest.raises(CorpusError):
        merged(proposal, '!!python/object/apply:os.system ["true"]')


def test_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "corpus.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(CorpusError, match=r"corpus\.yaml"):
        read_overrides(tmp_path / "corpus.yaml")


def test_the_shipped_avatars_file_merges() -> None:
    corpus = RecordedProposer(STUDY / "proposal.json").propose([], ProposalRequest("avatars")).corpus
    edits = read_overrides(STUDY / "corpus.yaml")
    after = merge(corpus, edits)
    assert not edits.is_empty and diff(corpus, after) and not diff(corpus, after).new_edits
