"""The exam's rules: drawn from a seed alone, and training sets that plant what they say."""

import json
import random
from pathlib import Path

import pytest
import torch

from diffex_dagster.bench.exam_classifiers import Recipe, train
from diffex_dagster.classifying.transformers_adapter import TransformersClassifier
from diffex_dagster.worlds.rules import ARCHITECTURES, draw_rule, training_set, worlds

pytest.importorskip("dicebear")
WORLDS = sorted(worlds())


@pytest.mark.parametrize("name", WORLDS)
def test_a_rule_depends_on_its_world_and_seed_alone(name: str) -> None:
    world = worlds()[name]
    random.seed(1)
    first = [draw_rule(world, seed) for seed in range(5)]
    random.seed(2)
    assert first == [draw_rule(world, seed) for seed in range(5)]
    assert len({rule.words() for rule in first}) == 5


@pytest.mark.parametrize("name", WORLDS)
def test_rules_use_every_factor_architecture_and_kind_of_shortcut(name: str) -> None:
    world = worlds()[name]
    rules = [draw_rule(world, seed) for seed in range(40)]
    used = {shown.factor for rule in rules for shown, _ in rule.terms}
    assert used == {factor for factor, values in world.factors.items() if any(v.phrases for v in values.values())}
    assert {rule.architecture for rule in rules} == set(ARCHITECTURES)
    assert 10 <= sum(rule.shortcut is not None for rule in rules) <= 30
    assert all(rule.shortcut is None or rule.shortcut.factor not in {s.factor for s, _ in rule.terms} for rule in rules)


@pytest.mark.parametrize("name", WORLDS)
def test_neither_class_is_rare_in_the_world(name: str) -> None:
    world, rng = worlds()[name], random.Random(9)
    states = [world.sample_state(rng) for _ in range(600)]
    for seed in range(12):
        rule = draw_rule(world, seed)
        at_least = sum(rule.log_odds(world, state) >= 0 for state in states) / len(states)
        above = sum(rule.log_odds(world, state) > 0 for state in states) / len(states)
        assert above <= 0.85 and at_least >= 0.15


def test_the_training_set_plants_the_shortcut_as_strongly_as_the_rule_says() -> None:
    world, rng = worlds()["avatars"], random.Random(3)
    rule = next(r for r in (draw_rule(world, s) for s in range(40)) if r.shortcut and r.strength > 0.6)
    states = [world.sample_state(rng) for _ in range(3000)]
    positions, labels = training_set(rule, world, states, 4000, 0)
    shown = [rule.shortcut(world, states[i]) for i in positions]  # type: ignore[misc]
    among = {label: [s for s, got in zip(shown, labels, strict=True) if got == label] for label in (0, 1)}
    shares = {label: sum(some) / len(some) for label, some in among.items()}
    assert sum(labels) == 2000
    assert shares[1] - shares[0] == pytest.approx(rule.strength, abs=0.05)


def test_an_interaction_acts_only_where_both_are_shown() -> None:
    world = worlds()["avatars"]
    rule = next(r for r in (draw_rule(world, s) for s in range(40)) if r.pairs)
    (one, other, weight), rng = rule.pairs[0], random.Random(4)
    alone = {**draw_rule(world, rule.seed).__dict__, "pairs": ()}
    without = type(rule)(**alone)
    for _ in range(300):
        state = world.sample_state(rng)
        both = one(world, state) and other(world, state)
        extra = rule.log_odds(world, state) - without.log_odds(world, state)
        rest = sum(w for a, b, w in rule.pairs[1:] if a(world, state) and b(world, state))
        assert extra - rest == pytest.approx(weight if both else 0.0)


def test_a_pool_without_a_class_is_refused() -> None:
    world = worlds()["avatars"]
    rule = draw_rule(world, 0)
    states = [world.sample_state(random.Random(1))] * 3
    with pytest.raises(ValueError, match="draw more"):
        training_set(rule, world, states, 40, 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_classifier_of_each_architecture_is_trained_and_small(seed: int, tmp_path: Path) -> None:
    world = worlds()["avatars"]
    rule = draw_rule(world, seed)
    recipe = Recipe(pool=250, held_out=40, pictures=64, steps=2, batch=16)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        facts = train(rule, tmp_path, tmp_path / "cache", recipe)
        assert torch.get_num_threads() == 2  # others in this process have their threads back
    finally:
        torch.set_num_threads(threads)
    folder = tmp_path / rule.name
    assert (
        facts["architecture"] == ARCHITECTURES[seed] == json.loads((folder / "rule.json").read_text())["architecture"]
    )
    assert (folder / "model.safetensors").stat().st_size <= 100_000
    assert TransformersClassifier(str(folder)).labels == ("no", "yes")
