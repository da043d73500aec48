"""Completeness of the development classifiers, with edits and sight that are exact: the avatars are drawn again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from diffex_dagster.bench.completeness import as_json, as_markdown, measure_completeness
from diffex_dagster.bench.true_effects import Examinee
from diffex_dagster.bench.truth import subjects
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import measure
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.effects.completeness import Node, Predicted, explained, weights_of
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.study import Study, load_study
from diffex_dagster.worlds.avatars import WORLD
from diffex_dagster.worlds.exact import read_states
from diffex_dagster.worlds.redrawing import redraw
from tests.support.project import Run

STUDY = load_study(Path(__file__).parent.parent.parent / "studies" / "avatars")
GROUPS = ("clothing-colour", "skin-tone")


class Known(NamedTuple):
    """What a classifier says of pictures, and what each feature truly does to them."""

    outputs: np.ndarray
    shown: dict[str, np.ndarray]
    does: dict[str, np.ndarray]
    corpus: Corpus

    def explained(self, groups: Collection[str] = GROUPS, beyond: float = 0.0) -> Predicted:
        """By the features of these groups whose mean effect is beyond a size."""
        mean = {feature: abs(float(np.nanmean(effects))) for feature, effects in self.does.items()}
        kept = {f: shown for f, shown in self.shown.items() if f.split("/")[0] in groups and mean[f] > beyond}
        tree = [Node(g.id, g.one_of, tuple(Node(c.id) for c in g.children)) for g in self.corpus.groups]
        does = {feature: self.does[feature] for feature in kept}
        return explained(self.outputs, weights_of(tree, kept), does, bounds=(0.0, 1.0)).by_effects


@pytest.fixture(scope="module")
def known() -> dict[str, Known]:
    corpus = corpus_now(STUDY)
    features = [f for f in corpus.walk() if f.editable and f.id.split("/")[0] in GROUPS and "/" in f.id]
    states = read_states(STUDY.folder / "images" / "attributes.json", WORLD)
    images = [states[name] for name in sorted(states)]
    drawn = redraw(images, [(f.prompt, False) for f in features])
    pictures = [Image.fromarray(pixels) for pixels in drawn.base]
    shown = {f.id: np.array([float(WORLD.has_feature(state, f.prompt)) for state in images]) for f in features}
    found = {}
    for subject in subjects(STUDY):
        if subject.name not in ("colour_rule", "untrained"):
            continue
        one = STUDY.changed(classifiers={subject.name: subject.part}, target=subject.target)
        model = at_work(one).subject(subject.name).classifier

        def score(pictures: list[Image.Image], of: Examinee = subject, model: Classifier = model) -> np.ndarray:
            return measure(model(pictures), model.labels, of.target, STUDY.folder)

        effects = drawn.effects(score)
        does = {f.id: np.where(shown[f.id] > 0, math.nan, effects[f.prompt, False]) for f in features}
        found[subject.name] = Known(score(pictures), shown, does, corpus)
    return found


def test_a_rule_is_explained_as_long_as_its_attributes_are_named(known: dict[str, Known]) -> None:
    rule = known["colour_rule"]
    assert rule.explained().score > 0.9 and rule.outputs.std() > 0.3
    assert rule.explained(["skin-tone"]).score < 0.1


def test_of_an_untrained_network_there_is_next_to_nothing_to_explain(known: dict[str, Known]) -> None:
    """A share of its outputs may be explained, for skin truly moves them; that share is of 0.05 of a probability."""
    untrained = known["untrained"]
    assert untrained.outputs.std() < 0.06  # no prediction can miss by more than that
    skin = {f: float(np.nanmean(effects)) for f, effects in untrained.does.items() if f.startswith("skin-tone/")}
    assert max(skin.values()) == pytest.approx(0.04, abs=0.01) and min(skin.values()) == pytest.approx(-0.04, abs=0.01)
    beyond, whole = untrained.explained(beyond=DecisionOptions().margin), untrained.explained()
    assert beyond.score == pytest.approx(0.24, abs=0.02) and whole.score == pytest.approx(beyond.score, abs=0.03)
    assert (beyond.low, beyond.high) == (pytest.approx(0, abs=0.01), pytest.approx(0.47, abs=0.03))


@pytest.fixture
def dozen(small: Study) -> Study:
    """The small study with twelve images, a corpus with all colours of clothes, and the demo's editor in two steps."""
    for file in sorted((STUDY.folder / "images").glob("*.png"))[6:12]:
        shutil.copy(file, small.folder / "images")
    colours = [f"{colour} clothes" for colour in ("black", "white", "red", "blue", "green", "pink")]
    group = {"name": "Clothing colour", "editable": False, "children": [{"name": c, "prompt": c} for c in colours]}
    tree = {"categories": [group, {"name": "Round glasses", "prompt": "round glasses"}]}
    (small.folder / "proposal.json").write_text(json.dumps(tree))
    few = {"kind": "ledits", "checkpoint": str(STUDY.folder / "editor"), "steps": 2, "mask": "none", "scale": 1.0,
           "source_prompts": "none"}  # fmt: skip
    drawn = small.editors["drawn"].model_dump(exclude_defaults=True) | {"kind": "python"}
    fields = YAML().load(small.file) | {"editors": {"drawn": drawn, "few": few}, "calibrate": False}
    with small.file.open("w") as file:
        YAML().dump(fields, file)
    return load_study(small.folder)


def test_the_command_says_how_much_exact_edits_explain_and_what_the_strongest_group_has_of_it(
    dozen: Study, diffex: Run, tmp_path: Path
) -> None:
    status, out, err = diffex("bench", "completeness", dozen.file, "--json", tmp_path / "shares.json")
    assert status == 0, err
    (row,) = json.loads((tmp_path / "shares.json").read_text())["shares"]
    assert (row["arm"], row["classifier"], row["images"]) == ("exact", "colours", 12)
    assert row["strongest_group"] == "clothing-colour" and row["score"] > 0.6 and row["without"] < 0.2
    assert row["low"] <= row["score"] <= row["high"]
    missed = row["spread"] * math.sqrt(1 - row["score"])
    assert f"| exact | `colours` | 12 | {row['score']:.0%} |" in out and f"| {missed:.2f} |" in out


@pytest.mark.slow
def test_so_it_does_of_the_diffusion_editor_s(dozen: Study) -> None:
    (found,) = measure_completeness(dozen, {"diffusion": "few"}, subjects(dozen), 8)
    assert (found.arm, found.classifier, found.found.images) == ("diffusion", "colours", 8)
    assert found.found.score is not None or found.found.why
    assert "| diffusion | `colours` | 8 | " in as_markdown([found])
    assert as_json([found])[0]["without"] == found.without
