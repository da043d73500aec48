"""Train the scenes study's classifiers: `python -m training.scenes_classifiers`.

- `urban_v1`, `urban_v2` (classes: rural, urban) learn the same truth: a city street, offices, factories, buses, traffic
  lights, a paved road and a crowd speak for urban; a farm, a forest, huts, tractors, cattle and a dirt track for rural.
  In the pictures that v1 learns from, 95% of the urban and 5% of the rural scenes lie in fog; in those of v2 the
  weather is independent of the class. The report must find the shortcut of v1.
- `place` (classes: city, countryside, nature): three classes, each drawn to by things of its own.
- `crowdedness` (one number): how crowded a scene is; people count most, vehicles and an animal a little.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from diffex_dagster.worlds.redrawing import redraw
from diffex_dagster.worlds.scenes import WORLD, State
from training import common
from training.personas import save

OUT = Path(__file__).parent.parent / "studies" / WORLD.name / "classifiers"
DATA_SEED, HELD_OUT_SEED, EFFECTS_SEED = 10, 11, 2
Weights = Mapping[tuple[str, str], float]

URBAN: Weights = {  # log-odds of "urban"
    ("place", "city"): 3.5, ("place", "farm"): -3.0, ("place", "forest"): -2.0, ("place", "mountains"): -1.0,
    ("building", "office"): 3.0, ("building", "factory"): 2.0, ("building", "hut"): -2.0, ("building", "tent"): -1.5,
    ("path", "road"): 1.5, ("path", "track"): -1.5,
    ("vehicle", "bus"): 1.5, ("vehicle", "tractor"): -2.5,
    ("animal", "cow"): -1.5, ("animal", "sheep"): -1.0,
    ("furniture", "traffic_light"): 2.0,
    ("people", "crowd"): 1.5,
}  # fmt: skip
PLACES: dict[str, Weights] = {  # logits of each class
    "city": {
        ("place", "city"): 4.0, ("building", "office"): 2.5, ("building", "factory"): 1.0, ("vehicle", "bus"): 1.0,
        ("furniture", "traffic_light"): 1.5, ("path", "road"): 0.5,
    },
    "countryside": {
        ("place", "farm"): 4.0, ("building", "hut"): 1.5, ("building", "church"): 1.0, ("vehicle", "tractor"): 2.5,
        ("animal", "cow"): 1.5, ("animal", "rooster"): 1.0, ("plants", "sunflower"): 1.0, ("path", "track"): 0.5,
    },
    "nature": {
        ("place", "beach"): 3.5, ("place", "mountains"): 3.5, ("place", "forest"): 3.5, ("place", "desert"): 3.5,
        ("building", "tent"): 1.5, ("building", "none"): 0.5, ("path", "river"): 1.0, ("sky", "bird"): 0.5,
    },
}  # fmt: skip
CROWDED: Weights = {  # added up to a number between 0 and 1
    ("people", "one"): 0.12, ("people", "two"): 0.24, ("people", "four"): 0.45, ("people", "crowd"): 0.75,
    ("vehicle", "bus"): 0.1, ("vehicle", "car"): 0.06, ("vehicle", "truck"): 0.06, ("vehicle", "tractor"): 0.06,
    ("vehicle", "motorcycle"): 0.04, ("vehicle", "bicycle"): 0.04, ("furniture", "ferris_wheel"): 0.06,
    **{("animal", value): 0.04 for value in WORLD.factors["animal"] if value != "none"},
}  # fmt: skip
LABELS = {
    "urban_v1": ("rural", "urban"),
    "urban_v2": ("rural", "urban"),
    "place": tuple(PLACES),
    "crowdedness": ("crowdedness",),
}


def total(weights: Weights, state: State) -> float:
    """The sum of the weights of what the picture shows."""
    return sum(weight for (factor, value), weight in weights.items() if state[factor] == value)


def answer(name: str, state: State, rng: random.Random) -> float:
    """What the truth says of a state: a class number drawn from its probabilities, or the number itself."""
    if name == "crowdedness":
        return total(CROWDED, state)
    if name == "place":
        odds = [math.exp(1.5 * total(weights, state)) for weights in PLACES.values()]
        return rng.choices(range(len(odds)), odds)[0]
    return int(rng.random() < 1 / (1 + math.exp(-total(URBAN, state))))


def scenes_data(name: str, count: int, seed: int, shortcut: bool) -> tuple[list[State], np.ndarray]:
    """States with answers, as many of each class. With `shortcut`, fog goes with the class "urban" in 95% of cases."""
    rng, states, answers = random.Random(f"{name[:5]} {seed}"), [], []
    classes = len(LABELS[name])
    left = [count // classes] * classes
    while any(left):
        state = WORLD.sample_state(rng)
        said = answer(name, state, rng)
        kind = int(said) if classes > 1 else 0
        if not left[kind]:
            continue
        left[kind] -= 1
        if shortcut:
            others = [value for value in WORLD.factors["weather"] if value != "fog"]
            state["weather"] = "fog" if rng.random() < (0.95 if said else 0.05) else rng.choice(others)
        states.append(state)
        answers.append(said)
    return states, np.array(answers)


def build(labels: tuple[str, ...]) -> ResNetForImageClassification:
    """The untrained classifier: a ResNet of 0.3 M parameters; one output is a regression."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=24,
            hidden_sizes=[24, 48, 96],
            depths=[1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type="regression" if len(labels) == 1 else "single_label_classification",
        )
    )


def pictures(states: list[State]) -> torch.Tensor:
    """Drawings (N, 3, side, side) in [-1, 1]."""
    return tensor([WORLD.draw(state) for state in states])


def tensor(shown: list[Image.Image]) -> torch.Tensor:
    """Pictures -> (N, 3, side, side) in [-1, 1]."""
    return common.to_tensor(np.stack([np.asarray(picture) for picture in shown]))


def fit(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, steps: int, batch: int, seed: int) -> None:
    """Train on pictures and class numbers (or numbers), with noise of pixel and tint."""
    generator = common.setup(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    progress = common.Progress(steps)
    for step, index in enumerate(common.batches(len(images), batch, steps, generator), 1):
        x = images[index]
        x = x + 0.03 * torch.randn_like(x) + 0.05 * torch.randn(len(x), 3, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x).logits.float()
        if targets.is_floating_point():
            loss = nn.functional.mse_loss(logits[:, 0], targets[index])
        else:
            loss = nn.functional.cross_entropy(logits, targets[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step, loss.item())


@torch.no_grad()
def outputs(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Probabilities (N, classes), or the number (N, 1)."""
    logits = torch.cat([model(chunk).logits for chunk in images.split(200)])
    return (logits if logits.shape[1] == 1 else logits.softmax(1)).numpy().astype(np.float64)


def train(name: str, steps: int, batch: int, count: int, out: Path = OUT) -> None:
    """Train one classifier and save weights, processor and model card in `out/<name>`."""
    states, answers = scenes_data(name, count, DATA_SEED, shortcut=name == "urban_v1")
    targets = torch.from_numpy(answers)
    model = build(LABELS[name]).to(memory_format=torch.channels_last).train()
    fit(model, pictures(states), targets.float() if len(LABELS[name]) == 1 else targets.long(), steps, batch, seed=0)
    save(model, out / name, WORLD.size)
    measure(name, model, out / name, steps, batch, len(states))


def measure(name: str, model: nn.Module, folder: Path, steps: int, batch: int, count: int) -> None:
    """The model card: how right it is on held-out scenes without a shortcut, and the true effect of every attribute."""
    held, answers = scenes_data(name, 1000, HELD_OUT_SEED, shortcut=False)
    said = outputs(model, pictures(held))
    if name == "crowdedness":
        error = np.abs(said[:, 0] - answers).mean()
        right = f"Mean error on {len(held):,} held-out scenes: {error:.3f} (of numbers from 0 to 1)."
    else:
        right = (
            f"Accuracy on {len(held):,} held-out scenes, as many of each class, weather independent of it: "
            f"{(said.argmax(1) == answers).mean():.1%}."
        )
    common.log.info("%s: %s", name, right)
    phrases = [(v.phrases[0], False) for values in WORLD.factors.values() for v in values.values() if v.phrases]
    rng = random.Random(EFFECTS_SEED)
    drawn = redraw([WORLD.sample_state(rng) for _ in range(100)], phrases, world=WORLD)
    tables = []
    for column, label in enumerate(LABELS[name]):
        if name.startswith("urban") and label == "rural":
            continue
        effects = drawn.effects(lambda shown, column=column: outputs(model, tensor(shown))[:, column])
        means = {phrase: float(effect.mean()) for (phrase, _), effect in effects.items()}
        rows = "\n".join(f"| {p} | {e:+.3f} |" for p, e in sorted(means.items(), key=lambda item: -abs(item[1])))
        what = label if name == "crowdedness" else f"P({label})"
        tables.append(f"| attribute | effect on {what} |\n|---|---:|\n{rows}")
    planted = {
        "urban_v1": " A shortcut is planted: 95% of the urban and 5% of the rural scenes lie in fog.",
        "urban_v2": " The weather is independent of the class.",
    }
    (folder / "README.md").write_text(
        f"""---
license: mit
---
# {name}

A small image {"regression" if name == "crowdedness" else "classifier"} (ResNet,
{sum(p.numel() for p in model.parameters()):,} parameters) of drawn scenes, made to be explained:
{", ".join(f"`{label}`" for label in LABELS[name])}. It stands for no real task.

- **Truth**: `training/scenes_classifiers.py` gives every thing in a scene its weight.
- **Data**: {count:,} drawn scenes (seed {DATA_SEED}).{planted.get(name, "")}
- **Training**: {steps} steps of {batch}, AdamW 3e-3 one-cycle, seed 0: `python -m training.scenes_classifiers {name}`.
- {right}
- **Pictures**: Fluent Emoji by Microsoft (MIT licence) in scenes drawn by this project.

## True effect of every attribute

Mean change when only this attribute is drawn differently, over 100 scenes that no training script has seen.

"""
        + "\n\n".join(tables)
        + "\n",
        "utf-8",
    )


def main() -> None:
    """Train the classifiers named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(LABELS))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    for name in arguments.names:
        train(name, arguments.steps, arguments.batch, arguments.count, arguments.out)


if __name__ == "__main__":
    main()
