"""What a world is: factors with values, words for them, and a drawing of every state.

A *state* names one value for each factor (weather, vehicle, ...). `World.draw` turns it into a picture, `World.caption`
into a sentence, and changing one factor before drawing again gives the exact counterfactual, hence the true causal
concept effect (CaCE, Goyal et al. 2019). A new world is one file: its factors, its words and its `draw`.

Nothing here is imported by the pipeline's stages, and nothing here needs more than Pillow: a training script draws
worlds on machines without the rest of the project's dependencies.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from PIL import Image

State = dict[str, str]
Named = tuple[str, tuple[str, ...]]
"""What a phrase names: a factor, and any of these values of it."""


@dataclass(frozen=True)
class Value:
    """One value of a factor: how it is drawn, how a caption says it, and how often it is drawn."""

    options: Mapping[str, object] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()
    weight: float = 1.0


class World(ABC):
    """A domain with known truth.

    Attributes:
        name: of the world, and of its folder under `studies/`.
        size: side of its square pictures, in pixels, that its demo editor works on.
        factors: factor -> value -> how to draw and say it. A value without phrases is never named.
        coarse: a coarse phrase -> any of several values of one factor.
        synonyms: further phrases, which no caption uses: what a proposal in a model's words is matched with. An editor
            that was trained on captions has never seen them.
        resting: what a factor falls back to when a feature of it is removed.
        prefixes: how a caption may begin; an empty one as often as it is listed.
        single: share of the captions that name a single attribute.
        most: the most attributes that a caption (not a full one) names.
    """

    name: str
    size: int = 64
    factors: Mapping[str, Mapping[str, Value]]
    coarse: Mapping[str, Named]
    synonyms: Mapping[str, Named] = MappingProxyType({})
    resting: Mapping[str, str]
    prefixes: Sequence[str] = ("",)
    single: float = 0.45
    most: int = 5

    @abstractmethod
    def draw(self, state: State, size: int | None = None) -> Image.Image:
        """Draw a state as an RGB picture of `size` × `size` pixels, the same for the same state.

        Raises:
            KeyError: a factor is missing or has no such value.
        """

    @abstractmethod
    def visible(self, state: State, factor: str) -> bool:
        """Whether the picture of `state` shows which value `factor` has."""

    @abstractmethod
    def versions(self) -> list[str]:
        """What changes a drawing besides the state and the factors, such as a library's version."""

    def drawn_with(self) -> list[str]:
        """All that changes a drawing besides its state, for caches."""
        return [repr(self.factors), repr(dict(self.synonyms)), *self.versions()]

    @cached_property
    def phrases(self) -> dict[str, Named]:
        """Every phrase the world understands -> (factor, the values that it names)."""
        fine = {
            phrase: (factor, (name,))
            for factor, values in self.factors.items()
            for name, value in values.items()
            for phrase in value.phrases
        }
        return {**fine, **self.coarse}

    def meaning(self, phrase: str) -> Named | None:
        """What a phrase names, in the world's own words or in a synonym; None where the world cannot draw it."""
        return self.phrases.get(phrase) or self.synonyms.get(phrase)

    @cached_property
    def _first_phrases(self) -> dict[Named, str]:
        return {named: phrase for phrase, named in reversed(self.phrases.items())}

    def canonical(self, phrase: str) -> str:
        """The world's own first phrase for what a phrase names, where that is a single value; else the phrase itself.

        Both are drawn alike. Of a coarse phrase each wording picks its own value for a state.
        """
        named = self.meaning(phrase)
        return self._first_phrases.get(named, phrase) if named and len(named[1]) == 1 else phrase

    def sample_state(self, rng: random.Random) -> State:
        """Draw one state, every factor independent of the others and by its values' weights."""
        return {
            factor: rng.choices(list(values), [value.weight for value in values.values()])[0]
            for factor, values in self.factors.items()
        }

    def set_feature(self, state: State, phrase: str, remove: bool = False) -> State:
        """The state with one feature added (or removed): the exact edit.

        A coarse phrase ("a beard") picks one of its values, always the same one for the same state. A state that
        already shows the feature, and a phrase the world cannot draw ("earrings"), come back unchanged.
        """
        named = self.meaning(phrase)
        if named is None:
            return dict(state)
        factor, values = named
        has = state[factor] in values
        if remove:
            return {**state, factor: self.resting.get(factor, state[factor])} if has else dict(state)
        if has:
            return dict(state)
        choice = random.Random(json.dumps([sorted(state.items()), phrase])).choice(values)
        return {**state, factor: choice}

    def has_feature(self, state: State, phrase: str) -> bool:
        """Whether the picture of `state` shows the feature that `phrase` names."""
        named = self.meaning(phrase)
        if named is None:
            return False
        factor, values = named
        return self.visible(state, factor) and state[factor] in values

    def nameable(self, state: State) -> list[str]:
        """The factors that a caption of `state` can name: visible, and with a word for their value."""
        return [f for f in self.factors if self.factors[f][state[f]].phrases and self.visible(state, f)]

    def name_of(self, state: State, factor: str, rng: random.Random, coarsely: float = 0.0) -> str:
        """One of the phrases that name the value of a factor; with probability `coarsely` one that names others too.

        Raises:
            IndexError: no phrase names the value, such as a face without eyewear.
        """
        coarse = [phrase for phrase, (of, values) in self.coarse.items() if of == factor and state[factor] in values]
        return rng.choice(coarse if coarse and rng.random() < coarsely else self.factors[factor][state[factor]].phrases)

    def named(self, state: State, rng: random.Random, full: bool = False) -> list[str]:
        """The phrases of one caption: some or all of what the picture shows, any order, fine or coarse words."""
        names = [self.name_of(state, factor, rng, coarsely=0.25) for factor in self.nameable(state)]
        rng.shuffle(names)
        if not full:
            names = names[: 1 if rng.random() < self.single else rng.randint(2, self.most)]
        return names

    def caption(self, state: State, rng: random.Random, full: bool = False) -> str:
        """A sentence that is true of the picture; `full` names everything that it shows.

        Many captions name a single attribute, since an edit prompt does.
        """
        return self.sentence(self.named(state, rng, full), rng)

    def sentence(self, names: Sequence[str], rng: random.Random) -> str:
        """Phrases as one caption."""
        return rng.choice(self.prefixes) + listing(names, rng)


def listing(names: Sequence[str], rng: random.Random) -> str:
    """Phrases with commas, half of the time with "and" before the last."""
    if len(names) > 1 and rng.random() < 0.5:
        return ", ".join(names[:-1]) + " and " + names[-1]
    return ", ".join(names)
