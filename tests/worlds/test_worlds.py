"""What every world promises: drawings that show their attributes, and words that are true of them."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.worlds import avatars, scenes
from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.exact import ExactEditor

WORLDS = {world.name: world for world in (avatars.WORLD, scenes.WORLD)}


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


def states(world: World, count: int, seed: int = 0) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [world.sample_state(rng) for _ in range(count)]


def test_every_value_of_a_visible_factor_changes_the_picture(world: World) -> None:
    for state in states(world, 2):
        for factor, values in world.factors.items():
            drawn = {}
            for value in values:
                changed = {**state, factor: value}
                if world.visible(changed, factor):
                    drawn[value] = world.draw(changed).tobytes()
            assert len(set(drawn.values())) == len(drawn), (factor, state)


def test_what_cannot_be_seen_changes_nothing() -> None:
    world = scenes.WORLD
    for hidden, state in (("vehicle_colour", {"vehicle": "none"}), ("plant_count", {"plants": "none"})):
        for base in states(world, 3):
            base = {**base, **state}
            assert len({world.draw({**base, hidden: value}).tobytes() for value in world.factors[hidden]}) == 1


def test_a_drawing_has_the_world_s_size_and_is_the_same_again(world: World) -> None:
    state = states(world, 1)[0]
    assert world.draw(state).size == (world.size, world.size)
    assert world.draw(state, 48).size == (48, 48)
    assert world.draw(state).tobytes() == world.draw(dict(state)).tobytes()


def test_captions_are_true_of_the_state(world: World) -> None:
    for seed, state in enumerate(states(world, 40)):
        for full in (False, True):
            names = world.named(state, random.Random(seed), full)
            assert all(world.has_feature(state, name) for name in names)
            assert len({world.phrases[name][0] for name in names}) == len(names)
            assert len(names) == len(world.nameable(state)) or not full
            assert world.caption(state, random.Random(seed), full).endswith(names[-1])


def test_setting_a_feature_changes_one_factor_and_removing_it_takes_it_away(world: World) -> None:
    for state in states(world, 5):
        for phrase, (factor, values) in world.phrases.items():
            changed = world.set_feature(state, phrase)
            assert changed[factor] in values
            assert {f: v for f, v in changed.items() if f != factor} == {f: v for f, v in state.items() if f != factor}
            if state[factor] in values:
                assert changed == state
                gone = world.set_feature(state, phrase, remove=True)
                assert gone[factor] == world.resting.get(factor, state[factor])


def test_no_phrase_names_two_things(world: World) -> None:
    fine = [p for values in world.factors.values() for value in values.values() for p in value.phrases]
    assert len(fine) == len(set(fine))
    assert not set(fine) & set(world.coarse)
    for factor, values in world.coarse.values():
        assert set(values) <= set(world.factors[factor])
    for factor, value in world.resting.items():
        assert value in world.factors[factor]


def test_scenes_are_a_hierarchy_of_many_groups() -> None:
    world = scenes.WORLD
    named = {f: [v for v in values.values() if v.phrases] for f, values in world.factors.items()}
    assert sum(bool(values) for values in named.values()) >= 12
    assert sum(len(values) for values in named.values()) >= 60
    assert sum("none" in values for values in world.factors.values()) >= 8  # things that may be absent


def test_a_world_draws_without_the_rest_of_the_project() -> None:
    code = (
        "import sys, random; from diffex_dagster.worlds import scenes, avatars;"
        "scenes.WORLD.draw(scenes.WORLD.sample_state(random.Random(0)));"
        "assert not {'torch', 'duckdb', 'dagster', 'pydantic', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_exact_editor_s_judge_knows_what_every_edit_shows(world: World, tmp_path: Path) -> None:
    """Of an image that shows it already, one that does not, and words that the world does not know."""
    state = states(world, 1, seed=3)[0]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "attributes.json").write_text(json.dumps({"a.png": state}))
    editor = ExactEditor(world, tmp_path, {})
    (image,) = editor.by_image
    judge = editor.judge(2)
    phrase = world.name_of(state, world.nameable(state)[0], random.Random(0))
    added = next(p for p in world.phrases if world.has_feature(world.set_feature(state, p), p) and p != phrase
                 and not world.has_feature(state, p))  # fmt: skip
    null, edit = EditRequest(image), EditRequest(image, (Concept(added),))
    assert judge.evidence_of(null, phrase) == 1.0
    assert (judge.evidence_of(null, added), judge.evidence_of(edit, added)) == (0.0, 1.0)
    assert judge.evidence_of(EditRequest(image, (Concept("florn"),)), "florn") == 0.0
    assert judge.absolute and judge.fingerprint != editor.fingerprint


def test_the_truth_of_a_study_says_which_attributes_there_are_and_which_are_named() -> None:
    from diffex_dagster.worlds.avatars import WORLD
    from diffex_dagster.worlds.redrawing import study_truth

    synonym, meaning = next((words, meant) for words, meant in WORLD.synonyms.items() if len(meant[1]) == 1)
    coarse = next(iter(WORLD.coarse))
    found = study_truth.attributes([synonym, coarse, "a bicycle"])
    assert [prompt for prompt, named in found.items() if named] == [synonym]
    assert {WORLD.meaning(prompt) for prompt in found} == {
        (factor, (name,)) for factor, values in WORLD.factors.items() for name, value in values.items() if value.phrases
    }
    assert WORLD.meaning(synonym) == meaning and coarse not in found
