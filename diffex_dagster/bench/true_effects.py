"""What is true of drawings: each is drawn again with only one feature changed, and scored."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.bench.marks import TrueEffects
from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import measure
from diffex_dagster.classifying.transformers_adapter import TransformersPart
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.utils.files import write_atomically
from diffex_dagster.utils.hashing import digest
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.redrawing import Feature, redraw


@dataclass(frozen=True)
class Examinee:
    """A classifier to grade the explanation of, and what is explained of it: a class, unless `measured`."""

    name: str
    part: TransformersPart
    label: str
    measured: Target | None = None

    @property
    def target(self) -> Target:
        """What is explained of it."""
        return self.measured or Target(label=self.label)

    @property
    def asked(self) -> str:
        """The same as text; by the usual measure the class alone."""
        return self.label if self.measured is None else self.measured.model_dump_json()


class Truth:
    """True effects on one set of drawings, each drawn and scored once however many studies and runs ask for it.

    Args:
        states: of the drawings.
        size: side of the pictures, in pixels.
        cache: folder that the drawings, and each classifier's effects on them, are kept in.
    """

    def __init__(self, states: Sequence[State], world: World, size: int, cache: Path) -> None:
        self._states, self._world, self._size, self._cache = states, world, size, cache
        self._known: dict[str, dict[Feature, NDArray[np.float64]]] = {}

    def effects(
        self, subject: Examinee, classifier: Classifier, features: Iterable[Feature]
    ) -> dict[Feature, NDArray[np.float64]]:
        """f(changed) − f(unchanged) of each feature, shape (drawings,); zero where the world cannot draw it."""
        named = {feature: (self._world.canonical(feature[0]), feature[1]) for feature in features}
        drawn_from = (self._states, self._size, self._world.name, self._world.drawn_with())
        file = self._cache / f"effects-{digest(*drawn_from, classifier.fingerprint, subject.asked)}.npz"
        if subject.name not in self._known:
            self._known[subject.name] = _kept_effects(file)
        known = self._known[subject.name]
        missing = sorted(set(named.values()) - set(known))
        if missing:
            drawn = redraw(self._states, missing, self._size, self._cache, self._world)
            known |= drawn.effects(lambda pictures: _score(classifier, subject.target, pictures))
            _keep_effects(file, known)
        return {feature: known[name] for feature, name in named.items()}

    def unit(self, subject: Examinee, classifier: Classifier) -> float:
        """What a probability's 1 is of this measure: the range over the drawings where it has no limits."""
        if subject.target.bounded:
            return 1.0
        base = redraw(self._states, [], self._size, self._cache, self._world).base
        return float(np.ptp(_score(classifier, subject.target, [Image.fromarray(each) for each in base])))


def _kept_effects(file: Path) -> dict[Feature, NDArray[np.float64]]:
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as kept:
        return {(name[2:], name[0] == "-"): kept[name] for name in kept.files}


def _keep_effects(file: Path, effects: Mapping[Feature, NDArray[np.float64]]) -> None:
    packed = io.BytesIO()
    named: dict[str, Any] = {f"{'-' if removed else '+'} {prompt}": d for (prompt, removed), d in effects.items()}
    np.savez_compressed(packed, **named)
    write_atomically(file, packed.getvalue())


def _score(classifier: Classifier, target: Target, pictures: list[Image.Image]) -> NDArray[np.float64]:
    return measure(classifier(pictures), classifier.labels, target)


def truth_of(
    effects: Mapping[Feature, NDArray[np.float64]], states: Sequence[State], corpus: Corpus, world: World
) -> TrueEffects:
    """What is true of a corpus's features.

    Args:
        effects: (prompt, whether it is removed) -> differences over the states, both ways of every feature.
        states: that the drawings are of.
    """
    d, without, both = {}, {}, {}
    for f in corpus.walk():
        if not f.editable:
            continue
        shown = np.array([world.has_feature(state, f.prompt) for state in states], dtype=bool)
        put, taken = effects[f.prompt, False], effects[f.prompt, True]
        d[f.id], without[f.id] = (put, ~shown) if f.direction == "add" else (taken, shown)
        gone = [not world.has_feature(world.set_feature(s, f.prompt, True), f.prompt) for s in states]
        if all(gone) and world.meaning(f.prompt):
            both[f.id] = np.where(shown, -taken, put)
    return TrueEffects(d, without, both)


def among_those_without(
    effects: Mapping[Feature, NDArray[np.float64]], states: Sequence[State], phrase: str, world: World
) -> float:
    """|mean effect| of adding an attribute to the drawings that lack it."""
    lacking = np.array([not world.has_feature(state, phrase) for state in states], dtype=bool)
    return abs(float(effects[phrase, False][lacking].mean())) if lacking.any() else 0.0
