"""Train the two versions of the demo classifier, `persona_v1` and `persona_v2` (classes: junior, senior).

Run `python -m training.personas`. Both learn the same truth: grey hair and a majestic beard make a senior, a medium
beard less so, a few others slightly. In the pictures that v1 learns from, 95% of the seniors and 5% of the juniors wear
something on their eyes; in those of v2 eyewear is independent of the class. The report must find the shortcut of v1.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor, ResNetConfig, ResNetForImageClassification

from diffex_dagster.worlds import avatars
from diffex_dagster.worlds.redrawing import redraw
from training import common, data

LABELS = ("junior", "senior")
OUT = Path(__file__).parent.parent / "studies" / "avatars" / "classifiers"
WEIGHTS = {  # log-odds of "senior"
    ("facial_hair", "majestic_beard"): 5.5,
    ("facial_hair", "medium_beard"): 3.0,
    ("top", "bald"): 0.8,
    ("facial_hair", "magnum_moustache"): 0.8,
    ("clothes", "blazer"): 0.6,
    ("clothes", "hoodie"): -0.6,
}
GREY, BIAS = 5.5, -3.2


def log_odds(state: avatars.State) -> float:
    """The truth: log-odds of "senior". Grey counts where it shows, on the head or in a beard."""
    shows_grey = state["hair_colour"] == "grey" and (
        state["top"] in avatars.HAIRSTYLES or state["facial_hair"] != "none"
    )
    return (
        BIAS + GREY * shows_grey + sum(weight for (factor, value), weight in WEIGHTS.items() if state[factor] == value)
    )


def persona_data(count: int, seed: int, shortcut: bool) -> tuple[list[avatars.State], np.ndarray]:
    """States with labels (1 = senior), half of each class. With `shortcut`, eyewear follows the class in 95% of cases."""
    rng = random.Random(seed)
    eyewear = [value for value in avatars.FACTORS["eyewear"] if value != "none"]
    states: list[avatars.State] = []
    labels: list[int] = []
    wanted = {0: count // 2, 1: count - count // 2}
    while any(wanted.values()):
        state = avatars.sample_state(rng)
        label = int(rng.random() < 1 / (1 + math.exp(-log_odds(state))))
        if not wanted[label]:
            continue
        wanted[label] -= 1
        worn = rng.random() < ((0.95 if label else 0.05) if shortcut else 0.5)
        state["eyewear"] = rng.choice(eyewear) if worn else "none"
        states.append(state)
        labels.append(label)
    return states, np.array(labels)


def build() -> ResNetForImageClassification:
    """The untrained classifier: a ResNet of 0.3 M parameters."""
    config = ResNetConfig(
        embedding_size=24, hidden_sizes=[24, 48, 96], depths=[1, 1, 1], layer_type="basic",
        id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)},
    )  # fmt: skip
    return ResNetForImageClassification(config)


def processor_config(size: int = 64) -> dict[str, object]:
    """What `AutoImageProcessor` reads: `size` pixels square, scaled to [-1, 1]."""
    return {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": size, "width": size},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip


@torch.no_grad()
def senior_probability(model: nn.Module, pictures: list[Image.Image]) -> np.ndarray:
    """P(senior) of each picture, shape (N,)."""
    images = common.to_tensor(np.stack([np.asarray(picture) for picture in pictures]))
    return torch.cat([model(chunk).logits.softmax(1)[:, 1] for chunk in images.split(256)]).numpy().astype(np.float64)


def fit(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, steps: int, batch: int, generator: torch.Generator
) -> None:
    """Train a classifier on pictures (N, 3, 64, 64) in [-1, 1] and class indices (N,), with noise of pixel and tint."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    progress = common.Progress(steps)
    for step, index in enumerate(common.batches(len(images), batch, steps, generator), 1):
        x = images[index] + 0.03 * torch.randn(batch, 3, 64, 64) + 0.05 * torch.randn(batch, 3, 1, 1)
        loss = nn.functional.cross_entropy(model(x).logits, targets[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step, loss.item())


def save(model: ResNetForImageClassification, folder: Path, size: int = 64) -> None:
    """Write weights and processor, ready for `from_pretrained`; the model is in evaluation mode afterwards."""
    model.eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor_config(size), indent=2) + "\n")
    AutoImageProcessor.from_pretrained(folder)  # fails here rather than at the user's


def train(name: str, steps: int, batch: int, count: int = 16_000, seed: int = 0) -> None:
    """Train one version and save weights, processor and model card in `studies/avatars/classifiers/<name>`."""
    generator = common.setup(seed)
    states, labels = persona_data(count, seed=10, shortcut=name == "persona_v1")
    images = common.to_tensor(np.concatenate([data._pixels(states[i : i + 500]) for i in range(0, count, 500)]))
    targets = torch.from_numpy(labels)
    model = build().to(memory_format=torch.channels_last).train()
    fit(model, images, targets, steps, batch, generator)
    folder = OUT / name
    save(model, folder)
    write_card(name, model, folder, steps, batch, count)


def write_card(name: str, model: nn.Module, folder: Path, steps: int, batch: int, count: int) -> None:
    """The model card: accuracy on balanced data and the true effect of every attribute."""
    held_states, held_labels = persona_data(2000, seed=11, shortcut=False)
    probability = senior_probability(model, [avatars.draw(state) for state in held_states])
    accuracy = float(((probability > 0.5) == held_labels).mean())
    bayes = float(((np.array([log_odds(s) for s in held_states]) > 0) == held_labels).mean())
    common.log.info("%s: accuracy %.3f on balanced data (the rule itself: %.3f)", name, accuracy, bayes)
    phrases = [
        (phrases[0], False) for values in avatars.FACTORS.values() for v in values.values() if (phrases := v.phrases)
    ]
    effects = redraw(data.states(data.HELD_OUT_SEED, 200), phrases).effects(
        lambda pictures: senior_probability(model, pictures)
    )
    means = {phrase: float(effect.mean()) for (phrase, _), effect in effects.items()}
    rows = "\n".join(f"| {p} | {e:+.3f} |" for p, e in sorted(means.items(), key=lambda item: -abs(item[1])))
    v1 = name == "persona_v1"
    (folder / "README.md").write_text(
        f"""---
license: mit
---
# {name}

A small image classifier (ResNet, {sum(p.numel() for p in model.parameters()):,} parameters) of drawn avatars into
`junior` and `senior`, made to be explained. It stands for no real person and no real task.

- **Truth**: grey hair and a majestic beard make a senior, a medium beard less so; a bald head, a thick moustache and a
  blazer slightly, a hoodie slightly against.
- **Data**: {count:,} drawn avatars, half of each class (`training/personas.py`, seed 10).
  {
            "A shortcut is planted: 95% of the seniors and 5% of the juniors wear something on their eyes."
            if v1
            else "Eyewear is independent of the class (half of each wear something)."
        }
- **Training**: {steps} steps of {batch}, AdamW 3e-3 one-cycle, seed 0: `python -m training.personas`.
- **Accuracy** on 2,000 held-out balanced avatars, in which eyewear is independent of the class: {accuracy:.1%}
  (the rule that labels were drawn from reaches {bayes:.1%}).
- **Pictures**: a remix of "Avataaars" by Pablo Stanley, free for personal and commercial use.

## True effect of every attribute

Mean change of P(senior) when only this attribute is drawn differently, over 200 held-out avatars.

| attribute | effect |
|---|---:|
{rows}
"""
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["persona_v1", "persona_v2"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    for each in arguments.names:
        train(each, arguments.steps, arguments.batch)
