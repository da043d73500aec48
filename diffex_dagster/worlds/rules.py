"""Random rules over a world's factors: what the exam's classifiers were trained to follow.

A rule is a world's name and a seed, and nothing else: a generator draws its factors, weights, interactions and shortcut
from the seed, so that nobody chooses what the method is graded on. The generator was fixed before any classifier was
trained or graded with it.

What the trained network does is not exactly its rule. Explanations are graded against the network's own true effects,
which redrawing measures; the rule only says what there is to find.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffex_dagster.worlds.base import State, World

ARCHITECTURES = ("resnet", "convnext", "vit")


@dataclass(frozen=True)
class Shown:
    """An attribute that a picture shows or does not: any of these values of a factor, where they can be seen."""

    factor: str
    values: tuple[str, ...]
    phrase: str  # one of the world's phrases for it

    def __call__(self, world: World, state: State) -> bool:
        return state[self.factor] in self.values and world.visible(state, self.factor)


@dataclass(frozen=True)
class Rule:
    """Log-odds of "yes": a bias, weighted attributes, and weighted pairs that act only together.

    Attributes:
        world, seed: what the rule is drawn from.
        bias: in logits; set so that between a quarter and three quarters of the world's pictures are "yes".
        terms: (attribute, weight in logits).
        pairs: (attribute, attribute, weight in logits), of different factors.
        shortcut: an attribute of a factor that the rule does not use; in the training pictures it goes with "yes".
        strength: of the shortcut, 0 to 1: P(attribute | yes) − P(attribute | no) among the training pictures.
        architecture: one of `ARCHITECTURES`.
    """

    world: str
    seed: int
    bias: float
    terms: tuple[tuple[Shown, float], ...]
    pairs: tuple[tuple[Shown, Shown, float], ...]
    shortcut: Shown | None
    strength: float
    architecture: str

    @property
    def name(self) -> str:
        """Name of the classifier's folder."""
        return f"rule_{self.seed:03d}"

    def log_odds(self, world: World, state: State) -> float:
        """Log-odds of "yes" for a state, in logits."""
        total = self.bias + sum(weight for shown, weight in self.terms if shown(world, state))
        return total + sum(weight for a, b, weight in self.pairs if a(world, state) and b(world, state))

    def words(self) -> str:
        """The rule as a sentence, weights in logits."""
        parts = [f"{shown.phrase} {weight:+.1f}" for shown, weight in self.terms]
        parts += [f"{a.phrase} together with {b.phrase} {weight:+.1f}" for a, b, weight in self.pairs]
        planted = f"; shortcut: {self.shortcut.phrase}, strength {self.strength:.2f}" if self.shortcut else ""
        return f"bias {self.bias:+.1f}, " + ", ".join(parts) + planted

    def as_json(self) -> dict[str, Any]:
        """What is stored beside the weights."""
        return {
            "world": self.world,
            "seed": self.seed,
            "architecture": self.architecture,
            "rule": self.words(),
            "strength": self.strength,
        }


def draw_rule(world: World, seed: int) -> Rule:
    """The rule of a seed: 3 to 7 attributes, up to 2 interactions, and in half of the rules a shortcut.

    Args:
        world: whose factors it is about. Every factor with words is as likely as any other.
        seed: any whole number; the same world and seed give the same rule.
    """
    rng = random.Random(f"{world.name}/{seed}")
    choices = _attributes(world)
    factors = rng.sample(sorted(choices), min(rng.randint(3, 7), len(choices) - 1))
    terms = tuple((_draw(choices[factor], rng), rng.choice((-1, 1)) * rng.uniform(1.5, 5.0)) for factor in factors)
    pairs = []
    for _ in range(rng.choice((0, 0, 1, 2))):
        one, other = rng.sample(factors, 2)
        weight = rng.choice((-1, 1)) * rng.uniform(2.0, 5.0)
        pairs.append((_draw(choices[one], rng), _draw(choices[other], rng), weight))
    unused = sorted(set(choices) - set(factors))
    planted = rng.random() < 0.5
    shortcut = _draw(choices[rng.choice(unused)], rng) if planted else None
    strength = rng.random() if planted else 0.0
    rule = Rule(world.name, seed, 0.0, terms, tuple(pairs), shortcut, strength, ARCHITECTURES[seed % 3])
    odds = sorted(rule.log_odds(world, world.sample_state(rng)) for _ in range(2000))
    bias = -odds[int(len(odds) * rng.uniform(0.25, 0.75))]
    return Rule(world.name, seed, bias, terms, tuple(pairs), shortcut, strength, rule.architecture)


def training_set(
    rule: Rule, world: World, states: Sequence[State], count: int, seed: int
) -> tuple[list[int], list[int]]:
    """Choose training pictures from a pool, half of each class, with the shortcut planted.

    Args:
        states: the pool, as the world draws it.
        count: how many to choose; a picture may be chosen more than once.
        seed: of labels and choices.

    Returns:
        Positions in the pool and labels (1 = yes), both of length `count`.

    Raises:
        ValueError: the pool lacks pictures of a class, with or without the shortcut.
    """
    rng = random.Random(seed)
    piles: dict[tuple[int, bool], list[int]] = {}
    for position, state in enumerate(states):
        label = int(rng.random() < 1 / (1 + math.exp(-rule.log_odds(world, state))))
        shown = bool(rule.shortcut and rule.shortcut(world, state))
        piles.setdefault((label, shown), []).append(position)
    positions, labels = [], []
    for i in range(count):
        label = i % 2
        if rule.shortcut:
            share = (1 + rule.strength) / 2 if label else (1 - rule.strength) / 2
            pile = piles.get((label, rng.random() < share), [])
        else:
            pile = piles.get((label, False), [])
        if not pile:
            raise ValueError(f"{rule.name}: the pool of {len(states)} has no picture of class {label}; draw more")
        positions.append(rng.choice(pile))
        labels.append(label)
    return positions, labels


def _attributes(world: World) -> dict[str, tuple[list[Shown], list[Shown]]]:
    """Factor -> its values that have a word, one by one, and its coarse sets."""
    found: dict[str, tuple[list[Shown], list[Shown]]] = {}
    for factor, values in world.factors.items():
        single = [Shown(factor, (name,), value.phrases[0]) for name, value in values.items() if value.phrases]
        if single:
            coarse = [Shown(of, names, phrase) for phrase, (of, names) in world.coarse.items() if of == factor]
            found[factor] = (single, coarse)
    return found


def _draw(choices: tuple[list[Shown], list[Shown]], rng: random.Random) -> Shown:
    single, coarse = choices
    return rng.choice(coarse if coarse and rng.random() < 0.25 else single)


def worlds() -> Mapping[str, World]:
    """The worlds that an exam can be about, by name."""
    from diffex_dagster.worlds import avatars, scenes

    return {world.name: world for world in (avatars.WORLD, scenes.WORLD)}
