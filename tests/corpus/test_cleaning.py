"""Cleaning drops what cannot explain a classifier, says why, and leaves a person's features alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from diffex_dagster.corpus.cleaning import CleaningOptions, clean, restates
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.answers import read_answer, tree_from_raw
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.vlm.recorded import RecordedProposer
from diffex_dagster.corpus.wording import words
from diffex_dagster.errors import CorpusError
from tests.support.project import AVATARS


def corpus(text: str, source: str = "vlm") -> Corpus:
    return tree_from_raw(read_answer(text), source)


def dropped(clean_corpus: Corpus) -> dict[str, str]:
    return {drop.name: drop.reason for drop in clean_corpus.drops}


def test_the_avatars_corpus_is_clean_already() -> None:
    proposal = RecordedProposer(AVATARS / "proposal.json").propose([], ProposalRequest("avatars")).corpus
    assert clean(proposal, ["villain", "hero"]) == proposal


@pytest.mark.parametrize(
    ("file", "proposed", "version"),
    [
        ("avatars/proposal.json", 79, "01f18fc5fdf7d55b"),
        ("avatars/proposals/partly_irrelevant.json", 52, "e2c89540bc28ffab"),
        ("avatars/proposals/plain.json", 78, "bece880fec051964"),
        ("avatars/proposals/regrouped.json", 62, "4daa6ec1a88d1402"),
        ("scenes/proposal.json", 93, "5433cb43dfaafd0b"),
    ],
)
def test_the_recorded_proposals_make_the_corpora_that_they_made(file: str, proposed: int, version: str) -> None:
    """A version that changes though its file did not comes of other rules: raise `wording.RULES`, and say so."""
    path = AVATARS.parent / file
    corpus = RecordedProposer(path).propose([], ProposalRequest("any")).corpus
    assert path.read_text("utf-8").count('"name":') == len(list(corpus.walk())) == proposed  # no two names are one
    assert clean(corpus, []).version == version


def test_duplicates_in_other_words() -> None:
    result = clean(corpus('{"Hat": ["red caps", "cap, red", "Red Cap", "beanie"], "Headgear": ["a beanie", "fez"]}'))
    assert [feature.name for feature in result.walk()] == ["Hat", "red caps", "beanie", "Headgear", "fez"]
    assert "is the same as 'hat/red-caps'" in dropped(result)["Red Cap"]
    assert "is the same as 'hat/beanie'" in dropped(result)["a beanie"]


@pytest.mark.parametrize(
    "both",
    "scarf scarves;leaf leaves;tooth teeth;person people;lens lenses;iris irises;nucleus nuclei;fundus fundi;"
    "vertebra vertebrae;berry berries;branch branches;glass glasses;moustache mustaches;wrinkle wrinkles".split(";"),
)
def test_a_name_and_its_plural_are_one(both: str) -> None:
    one, many = both.split()
    assert words(one) == words(many) == words(f"the {many}")
    assert len(words(one)) == 1


def test_the_better_supported_duplicate_stays() -> None:
    raw: list[RawFeature] = [
        {"name": "A hat", "children": [{"name": "cap", "support": 1}]},
        {"name": "Headgear", "children": [{"name": "caps", "support": 3}]},
    ]
    assert [feature.name for feature in clean(tree_from_raw(raw)).walk()] == ["A hat", "Headgear", "caps"]


def test_opposite_directions_are_no_duplicates() -> None:
    raw: list[RawFeature] = [
        {"name": "Beard", "children": [{"name": "Clean shaven", "prompt": "beard", "direction": "remove"}]}
    ]
    assert len(list(clean(tree_from_raw(raw)).walk())) == 2


@pytest.mark.parametrize(
    ("name", "label", "leaks"),
    [
        ("glaucoma", "glaucoma", True),
        ("glaucomatous disc", "glaucoma", False),  # left to the model's own check
        ("old man", "old", True),
        ("elderly face", "old", True),
        ("grey hair", "old", False),
        ("golden hair", "old", False),
        ("smile", "not smiling", False),
        ("round glasses", "with_glasses", True),
        ("red wings", "red winged blackbird", False),
        ("red winged blackbirds", "red winged blackbird", True),
        ("class", "class 3", False),
        ("woman's face", "female", True),
    ],
)
def test_leakage(name: str, label: str, leaks: bool) -> None:
    assert (restates(name, [label]) == label) is leaks


def test_leaking_features_are_dropped_and_groups_keep_their_children() -> None:
    tree = '{"Glaucoma": ["large optic cup", "glaucoma damage"], "Vessels": ["thin vessels", "raised pressure"]}'
    result = clean(corpus(tree), ["glaucoma", "healthy"], CleaningOptions(leakage=("raised pressure",)))
    assert not result["glaucoma"].editable
    assert [feature.name for feature in result.walk()] == ["Glaucoma", "large optic cup", "Vessels", "thin vessels"]
    assert "only its children are edited" in dropped(result)["Glaucoma"]
    assert "leakage list" in dropped(result)["raised pressure"]


def test_a_models_opinion_counts() -> None:
    options = CleaningOptions(leak_check=lambda names, labels: {"grey hair": "typical of age"})
    result = clean(corpus('{"Hair colour": ["grey hair", "black hair"]}'), ["old"], options)
    assert dropped(result) == {"grey hair": "restates a class: typical of age"}


def test_every_drop_names_its_step() -> None:
    tree = '{"Hat": ["glaucoma", "nice", "cap", "caps", "flat cap", "fez", "beret"], "DNA": ["DNA"]}'
    options = CleaningOptions(max_children=1, embed=lambda prompts: np.array([[1.0, "cap" not in p] for p in prompts]))
    steps = {drop.name: drop.step for drop in clean(corpus(tree), ["glaucoma"], options).drops}
    assert steps == {
        "glaucoma": "leakage", "nice": "vagueness", "DNA": "vagueness", "caps": "duplicates",
        "flat cap": "near-duplicates", "beret": "near-duplicates", "fez": "limits",
    }  # fmt: skip


def test_vague_uneditable_and_long_names() -> None:
    tree = '{"Hat": ["nice", "various styles", "image resolution", "cap"], "Other features": ["scar"], "Quality": ["good"]}'
    result = clean(corpus(tree), options=CleaningOptions(vague=("scar",)))
    assert [feature.name for feature in result.walk()] == ["Hat", "cap"]
    assert set(dropped(result)) >= {"nice", "various styles", "image resolution", "scar", "Quality", "good"}
    sentence = "a hat that the person in the picture wears because it is cold"
    assert "sentence" in dropped(clean(corpus(f'{{"Hat": ["{sentence}", "cap"]}}')))[sentence]


def test_children_beyond_the_limit_go_by_support() -> None:
    children: list[RawFeature] = [{"name": f"hat {i}", "support": i} for i in range(6)]
    result = clean(tree_from_raw([{"name": "Hats", "children": children}]), options=CleaningOptions(max_children=2))
    assert [child.name for child in result.groups[0].children] == ["hat 4", "hat 5"]
    assert len(result.drops) == 4 and "most support" in result.drops[0].reason


def test_near_duplicates_by_embedding() -> None:
    def embed(prompts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, 0.01] if "cap" in prompt else [0.0, 1.0 + i] for i, prompt in enumerate(prompts)])

    tree = '{"Headwear": {"peaked cap": "peaked cap", "baseball cap": "baseball cap"}, "Beard": []}'
    result = clean(corpus(tree), options=CleaningOptions(embed=embed))
    assert list(dropped(result)) == ["baseball cap", "Beard"] and "similarity 1.00" in dropped(result)["baseball cap"]
    with pytest.raises(CorpusError, match="one vector each"):
        clean(corpus(tree), options=CleaningOptions(embed=lambda prompts: np.zeros((1, 2))))


def test_what_a_person_wrote_stays() -> None:
    result = clean(corpus('{"Nice": ["glaucoma", "nice", "nices"]}', "person"), ["glaucoma"])
    assert not result.drops


def test_cleaning_twice_is_cleaning_once() -> None:
    tree = '{"Glaucoma": ["large cup", "glaucoma x", "large cups"], "Nice": ["good"], "Hat": ["cap", "caps", "hat"]}'
    once = clean(corpus(tree), ["glaucoma"])
    assert clean(once, ["glaucoma"]) == once and clean(once, ["glaucoma"]).drops == once.drops


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(CorpusError, match="left no feature"):
        clean(corpus('{"Nice": ["good"]}'))
