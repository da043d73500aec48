"""The reader takes what models really send, loses nothing that was whole, and raises only CorpusError."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffex_dagster.cli.corpus import as_json
from diffex_dagster.corpus.tree import Drop
from diffex_dagster.corpus.vlm.answers import CUT_OFF, read, read_answer, tree_from_raw
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.wording import exclude_each_other, tidy
from diffex_dagster.errors import CorpusError
from diffex_dagster.worlds.avatars import PHRASES
from tests.support.answers import raw_from_tree

Names = dict[str, list[str]]
HAT_BEARD = {"Hat": ["cap", "beanie"], "Beard": ["goatee", "full beard"]}

MALFORMED: list[tuple[str, str, Names]] = [
    ("plain JSON", '{"Hat": ["cap", "beanie"], "Beard": ["goatee", "full beard"]}', HAT_BEARD),
    ("the paper's sets", '{"Hat": {"cap", "beanie"}, "Beard": {"goatee", "full beard"}}', HAT_BEARD),
    ("sets with trailing commas", '{"Hat": {"cap", "beanie",}, "Beard": {"goatee", "full beard",},}', HAT_BEARD),
    ("last set has no key", '{"Hat": {"cap"}, {"earrings", "ring"}}', {"Hat": ["cap"], "Other": ["earrings", "ring"]}),
    ("last line is only a key", '{"Hat": ["cap"],\n"Glasses"\n}', {"Hat": ["cap"], "Glasses": []}),
    ("key without a value", '{"Hat": ["cap"], "Glasses":}', {"Hat": ["cap"], "Glasses": []}),
    ("fenced", '```json\n{"Hat": ["cap", "beanie"]}\n```', {"Hat": ["cap", "beanie"]}),
    ("fenced, no language", '```\n{"Hat": ["cap"]}\n```', {"Hat": ["cap"]}),
    ("fence never closed", '```json\n{"Hat": ["cap"]}', {"Hat": ["cap"]}),
    ("prose around a fence", 'Sure! {see below}\n```json\n{"Hat": ["cap"]}\n```\nHope [this] helps!', {"Hat": ["cap"]}),
    ("two fences", '```json\n{"Hat": ["cap"]}\n```\nand\n```json\n{"Beard": ["goatee"]}\n```',
     {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("prose around", 'Here you are: {"Hat": ["cap"]} Tell me if you want more.', {"Hat": ["cap"]}),
    ("prose with brackets", 'I looked at [1] and {them}. {"Hat": ["cap"]}', {"Hat": ["cap"]}),
    ("thinking aloud", '<think>maybe {"Nose": ["x"]}</think>{"Hat": ["cap"]}', {"Hat": ["cap"]}),
    ("single quotes", "{'Hat': ['cap', 'beanie']}", {"Hat": ["cap", "beanie"]}),
    ("apostrophes in single quotes", "{'Hat': ['child's cap', 'beanie']}", {"Hat": ["child's cap", "beanie"]}),
    ("curly quotes", "{“Hat”: [“cap”, “beanie”]}", {"Hat": ["cap", "beanie"]}),
    ("no quotes", "{Hat: [cap, wide hat], Beard: [goatee]}", {"Hat": ["cap", "wide hat"], "Beard": ["goatee"]}),
    ("trailing commas", '{"Hat": ["cap", "beanie",],}', {"Hat": ["cap", "beanie"]}),
    ("missing commas", '{"Hat": ["cap" "beanie"] "Beard": ["goatee"]}', {"Hat": ["cap", "beanie"], "Beard": ["goatee"]}),
    ("missing commas between lines", '{"Hat": [\n"cap"\n"beanie"\n]}', {"Hat": ["cap", "beanie"]}),
    ("missing colon", '{"Hat" ["cap"], "Beard" {"goatee"}}', {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("doubled commas", '{"Hat": ["cap",, "beanie"],, "Beard": ["goatee"]}', {"Hat": ["cap", "beanie"], "Beard": ["goatee"]}),
    ("semicolons", '{"Hat": ["cap"; "beanie"]}', {"Hat": ["cap", "beanie"]}),
    ("comments", '{ // groups\n"Hat": ["cap", /* knitted */ "beanie"] # done\n}', {"Hat": ["cap", "beanie"]}),
    ("ellipsis", '{"Hat": ["cap", "beanie", ...], ...}', {"Hat": ["cap", "beanie"]}),
    ("unescaped inner quotes", '{"Hat": ["10" cap", "beanie"]}', {"Hat": ['10" cap', "beanie"]}),
    ("closing quote forgotten", '{"Hat": ["cap, "beanie"]}', {"Hat": ["cap", "beanie"]}),
    ("closing quote forgotten at a line end", '{"Hat": ["cap,\n "beanie"]}', {"Hat": ["cap", "beanie"]}),
    ("line break in a string", '{"Hat": ["baseball\ncap", "beanie"]}', {"Hat": ["baseball cap", "beanie"]}),
    ("one closer too many", '{"Hat": ["cap"]}, "Beard": ["goatee"]}', {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("wrong closer", '{"Hat": ["cap"}, "Beard": ["goatee"]}', {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("closers missing", '{"Hat": ["cap"], "Beard": ["goatee"', {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("cut off in a string", '{"Hat": ["cap", "bea', {"Hat": ["cap"]}),
    ("cut off in a bare word", "{Hat: [cap, bea", {"Hat": ["cap"]}),
    ("cut off in a key", '{"Hat": ["cap"], "Bea', {"Hat": ["cap"]}),
    ("cut off after a key", '{"Hat": ["cap"], "Beard":', {"Hat": ["cap"], "Beard": []}),
    ("cut off in a field", '{"categories": [{"name": "Hat", "children": [{"name": "cap", "prompt": "a c',
     {"Hat": ["cap"]}),
    ("cut off in a field name", '{"categories": [{"name": "Hat", "children": ["cap", {"name": "beanie", "prompt"',
     {"Hat": ["cap", "beanie"]}),
    ("cut off in a name", '[{"name": "Hat", "children": ["cap", {"name": "bea', {"Hat": ["cap"]}),
    ("the same key twice", '{"Hat": ["cap"], "Hat": ["beanie"]}', {"Hat": ["cap", "beanie"]}),
    ("several objects", '{"Hat": ["cap"]}\n{"Beard": ["goatee"]}', {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("JSON lines of nodes", '{"name": "Hat", "children": ["cap"]}\n{"name": "Beard", "children": ["goatee"]}',
     {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("children as text", '{"Hat": "cap, beanie; fez"}', {"Hat": ["cap", "beanie", "fez"]}),
    ("name to prompt", '{"Hat": {"cap": "a baseball cap"}}', {"Hat": ["cap"]}),
    ("null, true and numbers", '{"categories": [{"name": "Hat", "editable": True, "region": None, "count": 3, '
     '"children": ["cap"]}]}', {"Hat": ["cap"]}),
    ("the authors' script", '{"domain": "faces", "categories": {"Hat": ["cap", "beanie"]}}', {"Hat": ["cap", "beanie"]}),
    ("other field names", '[{"category": "Hat", "attributes": [{"feature": "cap"}, {"attribute": "beanie"}]}]',
     {"Hat": ["cap", "beanie"]}),
    ("wrapped twice", '{"result": {"categories": [{"name": "Hat", "children": ["cap"]}]}}', {"Hat": ["cap"]}),
    ("Python tuple", "{'Hat': ('cap', 'beanie')}", {"Hat": ["cap", "beanie"]}),
    ("hash rockets", '{"Hat" => ["cap"]}', {"Hat": ["cap"]}),
    ("Markdown bullets", "- **Hat**\n  - cap\n  - beanie\n- Beard\n  - goatee", {"Hat": ["cap", "beanie"], "Beard": ["goatee"]}),
    ("Markdown headings", "# Features\n## Hat\n- cap\n## Beard\n- goatee", {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("Markdown one line each", "1. **Hat**: cap, beanie\n2. **Beard**: goatee", {"Hat": ["cap", "beanie"], "Beard": ["goatee"]}),
    ("YAML", "Hat:\n  - cap\nBeard:\n  - goatee", {"Hat": ["cap"], "Beard": ["goatee"]}),
    ("a call instead of a value", '{"Hat": [__import__("os").system("touch hacked"), "cap"]}', {"Hat": ["cap"]}),
    ("byte order mark", '\ufeff{"Hat": ["cap"]}', {"Hat": ["cap"]}),
    ("escapes", r'{"Hat": ["caf\u00e9 cap", "a \"big\" hat"]}', {"Hat": ["café cap", 'a "big" hat']}),
    ("control characters", '{"Hat": ["\u001b[31mcap\u202e", "bea\\u0000nie"]}', {"Hat": ["[31mcap", "beanie"]}),
    ("markup", '{"Hat": ["<img src=x onerror=alert(1)>"]}', {"Hat": ["<img src=x onerror=alert(1)>"]}),
]  # fmt: skip

HOPELESS = [
    "", "   ", "\x00", "{}", "[]", "[[[[]]]]", "null", "42", "{" * 50, "I do not see any pictures.", "[1, 2, 3]",
    "I'm sorry, I can't help with identifying people.", '{"error": "rate limited"}', "```json\n```", '"', "{'", "- one\n- two",
]  # fmt: skip


def write_answer(tree: list[RawFeature]) -> str:
    """The structured form of a raw tree, as a model would send it."""
    return json.dumps({"categories": list(tree)}, ensure_ascii=False, indent=2)


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_nothing_that_was_whole_is_lost(
    text: str, expected: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = read_answer(text)
    names = {group["name"]: [child["name"] for child in group.get("children", [])] for group in tree}
    for group, children in expected.items():
        assert set(children) <= set(names[group]), names
    if "__import__" not in text:
        assert names == expected
    assert not list(tmp_path.iterdir())


def test_the_table_is_long_enough() -> None:
    assert len(MALFORMED) >= 40


@pytest.mark.parametrize("text", HOPELESS)
def test_an_answer_without_features_is_one_error(text: str) -> None:
    with pytest.raises(CorpusError):
        read_answer(text)


def test_a_refusal_is_named_as_one() -> None:
    with pytest.raises(CorpusError, match="refused"):
        read_answer("I'm sorry, but I can't help with that.")


@pytest.mark.timeout(120)  # about 1 s for all of them; quadratic work would take hours
@pytest.mark.parametrize(
    "unit", ["[", "{", '{"a":', '{"a', '"', "'", "' ", "\n", "{\n", '{"\n', "/*", "```\n", "<think>", "- ", "a ", "\\", "{'a'b'", "**a** "]
)  # fmt: skip
def test_no_repetition_makes_it_hang(unit: str) -> None:
    for text in (unit * (200_000 // len(unit)), "{'" + unit * (100_000 // len(unit))):
        try:
            read_answer(text)
        except CorpusError:
            pass


def test_too_long_an_answer_is_an_error() -> None:
    with pytest.raises(CorpusError, match="characters"):
        read_answer("[" + "x" * 2_000_001)


def test_an_outline_that_the_server_cut_off_keeps_its_whole_lines() -> None:
    answer = read("- Hat\n  - cap\n  - bea" + CUT_OFF)
    assert answer.truncated and answer.tree == [{"name": "Hat", "children": [{"name": "cap"}]}]
    assert not read('{"Hat": ["cap"]}' + CUT_OFF).truncated  # braces say themselves whether they are whole


def test_truncation_is_noticed() -> None:
    assert read('{"Hat": ["cap"').truncated
    assert not read('{"Hat": ["cap"]}').truncated


FRAGMENTS = st.sampled_from(
    list("{}[]():,;'\"\\\n\t`#*-=/ ") + ["name", "children", "prompt", "Hat", "cap", "```json", "//", "/*", "null", "...", "“", "é", "\x1b"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(FRAGMENTS, max_size=80).map("".join)))
def test_whatever_is_accepted_round_trips(text: str) -> None:
    try:
        tree = read_answer(text)
    except CorpusError:
        return
    assert read_answer(write_answer(tree)) == tree
    corpus = tree_from_raw(tree)
    assert len({feature.id for feature in corpus.walk()}) == len(list(corpus.walk()))
    again = tree_from_raw(read_answer(write_answer(raw_from_tree(corpus))))
    assert again == corpus


NAMES = st.text(min_size=1, max_size=30).map(tidy).filter(bool)
NODES = st.recursive(
    st.builds(lambda name: RawFeature(name=name), NAMES),
    lambda inner: st.builds(
        lambda name, prompt, editable, children: RawFeature(name=name, prompt=prompt, editable=editable, children=children),
        NAMES, NAMES, st.booleans(), st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip


def depth(node: RawFeature) -> int:
    return 1 + max(map(depth, node.get("children", [])), default=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(NODES.filter(lambda node: depth(node) <= 5), min_size=1, max_size=4))
def test_the_structured_form_loses_nothing(nodes: list[RawFeature]) -> None:
    tree = tree_from_raw(nodes)
    assert tree_from_raw(read_answer(write_answer(nodes))) == tree
    assert tree_from_raw(read_answer(json.dumps({"categories": nodes}))) == tree


def test_an_answer_says_which_groups_exclude_their_children() -> None:
    answer = """{"categories": [{"name": "Hat", "exclusive": true, "children": ["cap", "bow"]},
        {"name": "Hair colour", "exclusive": false, "children": ["black", "grey"]},
        {"name": "Marks", "exclusive": "perhaps", "children": ["freckles", "a scar"]}]}"""
    corpus = tree_from_raw(read_answer(answer))
    assert [group.exclusive for group in corpus.groups] == [True, False, None]
    assert tree_from_raw(read_answer(write_answer(raw_from_tree(corpus)))) == corpus
    unsaid = tree_from_raw(read_answer(answer.replace('"exclusive": true, ', "")))
    assert unsaid.version != corpus.version and unsaid["hat"].one_of and not corpus["hair-colour"].one_of


@pytest.mark.parametrize(
    ("group", "children", "one_of"),
    [
        ("Hair color", ["black", "dyed in several tones"], True),
        ("Colour of the car", ["red", "a blue one"], True),
        ("Time of day", ["night", "noon"], True),
        ("Jewellery", ["earrings", "a necklace"], False),
        ("Pose and background", ["sitting", "a beach"], False),
        ("Brows", ["angry eyebrows", "flat eyebrows", "raised eyebrows"], True),
        ("Skin markings", ["freckles", "a scar"], False),
        ("Hair colour", ["black hair"], False),
    ],
)
def test_names_tell_whether_children_exclude_each_other(group: str, children: list[str], one_of: bool) -> None:
    assert exclude_each_other(group, children) == one_of


def test_tree_from_raw_fills_in_what_is_missing() -> None:
    corpus = tree_from_raw(read_answer('{"Hat": ["logo", "red", "cap"], "Hair colour": ["black", "grey hair"]}'))
    assert [feature.prompt for feature in corpus["hat"].children] == ["a hat with a logo", "red hat", "cap"]
    assert [feature.prompt for feature in corpus["hair-colour"].children] == ["black hair", "grey hair"]
    repeated = tree_from_raw([{"name": "Hat", "children": [{"name": "Logo", "prompt": "the logo"}]}])
    assert repeated["hat/logo"].prompt == "a hat with a logo"  # a prompt that repeats the name does not stand alone
    assert corpus["hat"].editable and not corpus["hair-colour"].editable
    assert corpus["hat/cap"].level == 2 and corpus["hat/cap"].source == "vlm"


def test_what_the_command_line_prints_can_be_read_again() -> None:
    corpus = tree_from_raw([{"name": "Hat", "support": 2, "children": [{"name": "cap", "citation": "hats.md"}]}])
    printed = as_json(dataclasses.replace(corpus, drops=(Drop("nice", "is too vague to draw"),)))
    assert tree_from_raw(read_answer(printed)) == corpus


def test_twins_are_merged_and_recorded() -> None:
    corpus = tree_from_raw([{"name": "Hat", "children": [{"name": "cap"}, {"name": "Cap"}]}])
    assert [feature.id for feature in corpus.walk()] == ["hat", "hat/cap"]
    assert corpus.drops[0].reason == "named twice under Hat"


STUDY = Path(__file__).parents[2] / "studies" / "avatars"
IMPOSSIBLE = {"earrings", "freckles", "a nose ring"}  # the world cannot draw them: the edit-success check must say so


def test_the_recorded_avatars_answer_is_drawable() -> None:
    corpus = tree_from_raw(read_answer((STUDY / "proposal.json").read_text("utf-8")))
    edits = [feature for feature in corpus.walk() if feature.editable]
    assert len(corpus.groups) >= 12 and len(list(corpus.walk())) >= 55
    assert {feature.prompt for feature in edits if feature.prompt not in PHRASES} == IMPOSSIBLE
    assert corpus["beard/clean-shaven"].direction == "remove"
    assert [group.name for group in corpus.groups if not group.one_of] == ["Jewellery and marks"]  # by their names
    assert {group.name for group in corpus.groups if group.editable} == {"Eyewear", "Moustache", "Headwear"}
