"""Train the benchmark's classifiers: each follows a rule that is known, so that its explanation can be graded.

Run `python -m training.rules` (a minute or two each). Unlike the personas they tell no story; each asks a question of
the method: is a colour found, a shape, an interaction, a group whose children cancel, and is nothing found where there
is nothing to find? `diffex bench truth` grades the tool on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from diffex_dagster.worlds import avatars
from diffex_dagster.worlds.redrawing import redraw
from training import common, data
from training.personas import fit, save, senior_probability

LABELS = ("no", "yes")
OUT = Path(__file__).parent.parent / "studies" / "avatars" / "bench"
COUNT, HELD_OUT = 10_000, 1000
STAMP = 7  # side in pixels of the watermark

LogOdds = Callable[[avatars.State], float]


@dataclass(frozen=True)
class Rule:
    """One benchmark classifier: what it asks of an explanation, its rule in words, and the log-odds of "yes".

    Without log-odds the label is whether the picture carries the watermark; an untrained network has no rule at all.
    """

    question: str
    words: str
    log_odds: LogOdds | None = None
    trained: bool = True


def weights(bias: float, table: dict[tuple[str, str], float]) -> LogOdds:
    """Additive log-odds: the bias and the weight of every (factor, value) that the picture shows."""

    def log_odds(state: avatars.State) -> float:
        shown = (
            (factor, value) for factor, value in table if state[factor] == value and avatars.visible(state, factor)
        )
        return bias + sum(table[pair] for pair in shown)

    return log_odds


def glasses_and_smile(state: avatars.State) -> float:
    """Neither eyewear nor a cheerful mouth does anything without the other."""
    return -4.0 + 8.0 * (state["eyewear"] != "none" and state["mouth"] in ("smile", "tongue"))


RULES: dict[str, Rule] = {
    "colour_rule": Rule(
        "Is a colour found, with the shape of the same thing left alone?",
        "Red clothes count strongly for, pink ones less, blue ones against, black ones slightly against; red hair "
        "counts slightly for.",
        weights(-0.5, {("clothes_colour", "red"): 5.0, ("clothes_colour", "pink"): 2.5,
                       ("clothes_colour", "blue"): -4.0, ("clothes_colour", "black"): -1.5,
                       ("hair_colour", "red"): 1.5}),
    ),
    "shape_rule": Rule(
        "Is a shape found, with its colour left alone?",
        "A wide hat counts strongly for, overalls and a bun for, an afro and a blazer against.",
        weights(-1.0, {("top", "hat"): 5.5, ("top", "bun"): 3.0, ("top", "afro"): -3.0, ("clothes", "overalls"): 3.5,
                       ("clothes", "blazer"): -3.0}),
    ),
    "interaction": Rule(
        "Is a feature found that acts only where another one is present?",
        "Yes where something is worn on the eyes and the mouth smiles or sticks its tongue out; neither alone counts.",
        glasses_and_smile,
    ),
    "opposite_children": Rule(
        "Is a group found whose children push in opposite directions?",
        "Round and square glasses count for, sunglasses and black shades against, so that eyewear as a whole hardly "
        "counts; a smile counts for, a sad mouth against.",
        weights(0.0, {("eyewear", "round"): 5.0, ("eyewear", "square"): 5.0, ("eyewear", "sunglasses"): -5.0,
                      ("eyewear", "shades"): -5.0, ("mouth", "smile"): 3.0, ("mouth", "sad"): -3.0}),
    ),
    "eyebrow_rule": Rule(
        "Is an effect that edits of something else have through the eyebrows told from one of its own?",
        "Worried eyebrows count strongly for, flat ones for, angry ones against. Nothing else counts.",
        weights(-0.5, {("eyebrows", "worried"): 5.0, ("eyebrows", "flat"): 3.0, ("eyebrows", "angry"): -4.0}),
    ),
    "eyes_skin_background": Rule(
        "Is what the editor draws badly found, and what fills most of the picture?",
        "Closed eyes count strongly for, surprised ones against; dark skin counts for, pale skin against; a blue "
        "background counts for, a yellow one against.",
        weights(0.0, {("eyes", "closed"): 4.5, ("eyes", "surprised"): -4.0, ("skin", "dark"): 4.0,
                      ("skin", "pale"): -2.5, ("background", "blue"): 2.5, ("background", "yellow"): -2.5}),
    ),
    "watermark": Rule(
        "Is nothing found where the classifier looks at nothing that the corpus names?",
        "Yes where the picture carries a watermark, a dark square in the lower right corner. Half of the training "
        "pictures carry one; the world itself never draws it.",
    ),
    "untrained": Rule(
        "Is nothing made up about a classifier that has learned nothing?",
        "None: random weights, with the batch-norm statistics of drawings, so that its output varies with the picture.",
        trained=False,
    ),
}  # fmt: skip


def build() -> ResNetForImageClassification:
    """The untrained classifier: a ResNet of 0.13 M parameters."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic",
            id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)},
        )
    )  # fmt: skip


def stamped(pixels: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The pictures (N, H, W, 3), those of `which` (N,) with the watermark."""
    marked = pixels.copy()
    marked[which, -STAMP - 3 : -3, -STAMP - 3 : -3] = marked[which, -STAMP - 3 : -3, -STAMP - 3 : -3] // 3
    return marked


def labelled(rule: Rule, pixels: np.ndarray, states: list[avatars.State], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels (1 = yes), drawn from the rule's probabilities."""
    rng = np.random.default_rng(seed)
    if rule.log_odds is None:
        labels = rng.random(len(states)) < 0.5
        return (stamped(pixels, labels) if rule.trained else pixels), labels.astype(np.int64)
    odds = np.array([rule.log_odds(state) for state in states])
    return pixels, (rng.random(len(states)) < 1 / (1 + np.exp(-odds))).astype(np.int64)


def train(name: str, steps: int, batch: int, seed: int = 0) -> None:
    """Train one classifier and save weights, processor and model card in `studies/avatars/bench/<name>`."""
    rule, generator = RULES[name], common.setup(seed)
    pixels, states = data.drawings(COUNT)  # the first of the stream that the editor was trained on
    pixels, labels = labelled(rule, pixels, states, seed=20)
    images, targets = common.to_tensor(pixels), torch.from_numpy(labels)
    model = build().to(memory_format=torch.channels_last).train()
    if rule.trained:
        fit(model, images, targets, steps, batch, generator)
    else:
        with torch.no_grad():
            for index in common.batches(COUNT, batch, 50, generator):
                model(images[index])  # the running statistics of batch norm, and nothing else
    folder = OUT / name
    save(model, folder)
    write_card(name, rule, model, folder, steps, batch)


def write_card(name: str, rule: Rule, model: nn.Module, folder: Path, steps: int, batch: int) -> None:
    """The model card: the rule, accuracy on held-out drawings, and the largest true effects."""
    from PIL import Image

    pixels, states = data.drawings(HELD_OUT, data.HELD_OUT_SEED)
    pixels, labels = labelled(rule, pixels, states, seed=21)
    probability = senior_probability(model, [Image.fromarray(each) for each in pixels])
    accuracy = float(((probability > 0.5) == labels).mean())
    common.log.info("%s: accuracy %.3f, %.0f%% yes", name, accuracy, 100 * labels.mean())
    phrases = [(v.phrases[0], False) for values in avatars.FACTORS.values() for v in values.values() if v.phrases]
    effects = redraw(states[:100], phrases).effects(lambda pictures: senior_probability(model, pictures))
    means = {phrase: float(effect.mean()) for (phrase, _), effect in effects.items()}
    largest = sorted(means.items(), key=lambda item: -abs(item[1]))[:12]
    rows = "\n".join(f"| {phrase} | {effect:+.3f} |" for phrase, effect in largest)
    trained = f"{steps} steps of {batch}, AdamW 3e-3 one-cycle, seed 0" if rule.trained else "none"
    accuracy_line = f"- **Accuracy** on {HELD_OUT:,} held-out drawings: {accuracy:.1%}.\n" if rule.trained else ""
    (folder / "README.md").write_text(
        f"""---
license: mit
---
# {name}

A small image classifier (ResNet, {sum(p.numel() for p in model.parameters()):,} parameters) of drawn avatars into `no`
and `yes`, made to grade explanations with (`diffex bench truth`). It stands for no real person and no real task.

- **Question**: {rule.question}
- **Rule**: {rule.words}
- **Data**: {COUNT:,} drawn avatars (`training/data.py`, seed 1), {labels.mean():.0%} of the held-out ones `yes`.
- **Training**: {trained}: `python -m training.rules {name}`.
{accuracy_line}- **Pictures**: a remix of "Avataaars" by Pablo Stanley, free for personal and commercial use.

## Largest true effects

Mean change of P(yes) when only this attribute is drawn differently, over 100 held-out avatars.

| attribute | effect |
|---|---:|
{rows}
"""
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(RULES))
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    for each in arguments.names:
        train(each, arguments.steps, arguments.batch)
