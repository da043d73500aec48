"""The strongest features in pairs: what is edited, what is planned, and what the report says of it."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.errors import StoreError
from diffex_dagster.report.page import render_report
from diffex_dagster.report.schema import report_from_json
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.edits import concepts_of, control_edits, edit_requests, make_edits
from diffex_dagster.stages.interactions import PairEdits, chosen_pairs, edit_pairs, most_pair_edits, possible_pairs
from diffex_dagster.stages.report import classifier_report, pairs_found
from diffex_dagster.stages.scores import Paired
from diffex_dagster.stages.setup import build_store, reports_folder
from diffex_dagster.study import Study, load_study
from tests.support.explaining import explained
from tests.support.measuring import measured
from tests.support.project import AVATARS
from tests.support.toys import edits_made, prepared, write_study

WORDS = {"control_prompts": ["flornip", "quazzle"]}


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@pytest.fixture
def paired(tmp_path: Path) -> Study:
    return load_study(write_study(tmp_path, effects=WORDS, search={"interactions": 3, "joint_size": 1, "beam": 3}))


def test_pairs_are_edited_once_and_the_report_replays_them(paired: Study) -> None:
    explained(paired, "v1")
    made = edits_made(paired.folder)
    together = {prompts for _, prompts in made if len(prompts) > 1}
    # The light group's edits do nothing to the score; it is a group with a feature that was scored all the same.
    assert together == {
        ("blue patch", "red patch"), ("bright", "red patch"), ("blue patch", "bright"), ("flornip", "quazzle"),
    }  # fmt: skip
    assert sum(len(prompts) > 1 for _, prompts in made) == most_pair_edits(paired, 3, 8) == 4 * 8

    data = json.loads((reports_folder(paired, "v1") / "report.json").read_text())
    pairs = {(row["one"], row["other"]): row for row in data["interactions"]}
    red, blue = 3 * 160 / 255, -2 * 160 / 255
    of = next(row for pair, row in pairs.items() if set(pair) == {"red", "blue/plain-blue"})
    expected = sigmoid(red + blue) - sigmoid(red) - sigmoid(blue) + 0.5
    assert of["effect"] == pytest.approx(expected) and of["curve"] == pytest.approx(expected)  # log-odds add up here
    assert of["beyond"] == pytest.approx(0.0, abs=1e-9) and of["of_the_curve"] and of["placebo"]
    back = report_from_json(data)
    assert [(x.one, x.other, x.decision) for x in back.interactions] == [
        (row["one"], row["other"], row["decision"]) for row in data["interactions"]
    ]
    with (reports_folder(paired, "v1") / "interactions.csv").open() as file:
        assert [row["decision"] for row in csv.DictReader(file)] == [row["decision"] for row in data["interactions"]]
    kept = build_store(paired).query("SELECT one, other, effect FROM interactions")
    assert len(kept) == 3
    explained(paired, "v1")
    assert edits_made(paired.folder) == made


def test_a_report_asked_for_pairs_that_were_not_edited_says_which_stage_is_missing(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, effects=WORDS))
    explained(study, "v1")
    more = study.changed(search=study.search.model_copy(update={"interactions": 2}))
    with pytest.raises(StoreError, match="level2_scores is missing or stale"):
        classifier_report(at_work(more).subject("v1"), "diffex run toy")


def test_the_strongest_of_each_group_by_size_whichever_way_and_none_that_failed(paired: Study) -> None:
    scores = {
        "a": np.array([0.3, -0.3]), "a/x": np.array([0.1, 0.1]), "b": np.array([0.2, 0.2]), "c": np.array([0.9, 0.9]),
        "d": np.array([0.01, 0.0]),
    }  # fmt: skip
    assert chosen_pairs(paired, scores, {"c": 0.1}) == [("a", "b"), ("a", "d"), ("b", "d")]
    fewer = paired.changed(search=paired.search.model_copy(update={"interactions": 2}))
    assert chosen_pairs(fewer, scores, {"c": 0.1}) == [("a", "b")]
    assert chosen_pairs(paired, {"a": scores["a"]}, {}) == []
    assert possible_pairs(["a", "a/x", "b", "c"]) == 5  # all but a with a/x


def test_a_pair_with_what_left_the_race_might_have_been_chosen_and_one_that_no_image_lacks_has_no_numbers(
    paired: Study,
) -> None:
    null, some = np.full(24, 0.1), np.linspace(0.0, 0.01, 24)
    a, b, c = (Feature(name, name, name) for name in "abc")
    edits = {a: null + some, b: null + some, c: null + some}
    flat, every = np.zeros(24), np.ones(24, dtype=bool)
    pairs = [PairEdits(of, Paired(null, null + 0.5 + some, flat, null), None) for of in (("a", "b"), ("a", "c"))]
    without = {"a": every, "b": every, "c": np.arange(24) >= 12}

    def found(**others: Any) -> list[Interaction]:
        return list(pairs_found(measured(paired, null, edits, pairs=pairs, without=without, **others)))

    assert [(x.decision, x.images) for x in found()] == [("above the sum", 24), ("above the sum", 12)]
    p, less = (next(x.p_value for x in found(left=left) if x.other == "b") for left in ((), ["d", "e"]))
    assert p is not None and less == pytest.approx(10 / 3 * p, rel=0.2)  # of 5 features, 10 pairs, in place of 3
    without |= {"b": np.arange(24) < 12}
    pairs[:] = [PairEdits(("b", "c"), pairs[0].scored, None)]
    (nowhere,) = found()
    assert nowhere.images == 0 and nowhere.decision == "too few images" and np.isnan(nowhere.effect)


def test_control_prompts_are_edited_under_the_settings_of_each_pair(tmp_path: Path) -> None:
    editors = {"paint": {"kind": "python", "factory": "tests.support.toys:KnobEditor"}}
    work = prepared(load_study(write_study(tmp_path, editors=editors, effects=WORDS)))
    chosen = {"red": "100", "blue/plain-blue": "100", "blue/dark-blue": "30", "light": "30"}
    of = {f.id: replace(f, setting=chosen[f.id], children=()) for f in work.corpus.walk() if f.id in chosen}
    subject = work.changed(work.study.edited_with(list(chosen.values()))).subject("v1")
    images = list(work.samples)
    single = [concepts_of([feature]) for feature in of.values()]
    make_edits(subject, edit_requests(images, [(), *control_edits(subject.study), *single], subject.seeds))

    asked = [("blue/plain-blue", "red"), ("light", "red"), ("blue/dark-blue", "red"), ("blue/dark-blue", "light")]
    pairs, counts, _ = edit_pairs(subject, Corpus(tuple(of.values())), asked, images, {})
    controls = [pair.control for pair in pairs if pair.control]
    assert [[concepts[0].setting for concepts in control.alone] for control in controls] == [
        ["100", "100"], ["100", "30"], ["100", "30"], ["30", "30"],
    ]  # fmt: skip
    assert {concepts[0].prompt for control in controls for concepts in control.alone} == set(WORDS["control_prompts"])
    hard, mixed, mixed_too, gentle = (float(control.scored.effect.mean()) for control in controls)
    assert mixed == mixed_too and len({hard, mixed, gentle}) == 3
    assert counts.made == (len(asked) + 3) * len(images)  # pairs with the same two settings share their control


def test_the_most_edits_of_pairs_count_a_control_pair_for_each_two_settings(paired: Study) -> None:
    assert most_pair_edits(paired.edited_with(["30"]), 3, 8) == (3 + 1) * 8
    assert most_pair_edits(paired.edited_with(["30", "100"]), 3, 8) == (3 + 3) * 8
    assert most_pair_edits(paired.edited_with(["10", "30", "100"]), 3, 8) == (3 + 3) * 8  # no more than pairs


def test_the_shipped_interaction_is_found(tmp_path: Path) -> None:
    """`interaction` says yes to something on the eyes together with a smile; neither alone counts."""
    report = explained(drawn(tmp_path, images=12), "together")
    (pair,) = [pair for pair in report.interactions if pair.found]
    assert {pair.one.split("/")[0], pair.other.split("/")[0]} == {"eyewear", "mouth"}
    assert pair.decision == "above the sum" and pair.effect > 0.3 and not pair.of_the_curve
    page = render_report(report)
    assert 'id="interactions"' in page and "above the sum" in page


def drawn(folder: Path, images: int) -> Study:
    """Avatars with the exact editor, three groups and a classifier of the benchmark."""
    from ruamel.yaml import YAML

    (folder / "images").mkdir()
    for i in range(images):
        shutil.copy(AVATARS / "images" / f"avatar_{i:02d}.png", folder / "images")
    shutil.copy(AVATARS / "images" / "attributes.json", folder / "images")
    tree = [
        {"name": "Eyewear", "prompt": "eyewear", "editable": False, "children": [
            {"name": "Round glasses", "prompt": "round glasses"}]},
        {"name": "Mouth", "prompt": "mouth", "editable": False, "children": [{"name": "A smile", "prompt": "a smile"}]},
        {"name": "Clothing colour", "prompt": "clothing colour", "editable": False, "children": [
            {"name": "Red clothes", "prompt": "red clothes"}]},
    ]  # fmt: skip
    (folder / "proposal.json").write_text(json.dumps({"categories": tree}))
    study = {
        "name": "pairs", "domain": "drawn avatars", "images": {"size": 64},
        "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}},
        "editors": {"drawn": {"kind": "python", "factory": "diffex_dagster.worlds.avatars:ExactEditor"}},
        "classifiers": {
            "together": {"kind": "transformers", "checkpoint": str(AVATARS / "bench" / "interaction")}},
        "target": {"label": "yes"}, "search": {"interactions": 3, "joint_size": 1},
        "effects": {**WORDS, "absence": 0}, "report": {"gradcam": 0},
    }  # fmt: skip
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(study, file)
    return load_study(folder)
