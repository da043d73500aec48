"""Completeness of the development classifiers, with edits and sight that are exact: the avatars are drawn again."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.bench.true_effects import Examinee
from diffex_dagster.bench.truth import subjects
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import measure
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.effects.completeness import Node, Predicted, explained, weights_of
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.study import load_study
from diffex_dagster.worlds.avatars import WORLD
from diffex_dagster.worlds.exact import read_states
from diffex_dagster.worlds.redrawing import redraw

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
