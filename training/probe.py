"""Train the attribute probe: pictures -> the value of every factor. It only ever sees drawings.

Run `python -m training.probe`. The evaluation asks it whether an edit shows what it should and leaves the rest alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from diffex_dagster.worlds import avatars
from diffex_dagster.worlds.base import State, World
from training import common, data


class Probe(nn.Module):
    """A small convolutional network with one softmax head for each factor."""

    def __init__(self, world: World = avatars.WORLD, widths: tuple[int, ...] = (32, 48, 64, 96)) -> None:
        super().__init__()
        self.world = world
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        left = world.size // 2 ** len(widths)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * left * left, 192), nn.ReLU())
        self.heads = nn.ModuleDict({factor: nn.Linear(192, len(values)) for factor, values in world.factors.items()})

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Images (N, 3, side, side) in [-1, 1] -> logits (N, values) for each factor."""
        hidden = self.body(images)
        return {factor: head(hidden) for factor, head in self.heads.items()}

    @torch.no_grad()
    def read(self, pictures: list[Image.Image]) -> list[State]:
        """The most likely state of each picture."""
        images = common.to_tensor(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
        logits = self(images)
        names = {
            factor: [list(self.world.factors[factor])[i] for i in logit.argmax(1)] for factor, logit in logits.items()
        }
        return [{factor: names[factor][row] for factor in names} for row in range(len(pictures))]


def load(path: Path, world: World = avatars.WORLD) -> Probe:
    """The trained probe, ready to read."""
    weights = load_file(path)
    layers = {int(name.split(".")[1]): len(value) for name, value in weights.items() if value.dim() == 4}
    probe = Probe(world, tuple(layers[i] for i in sorted(layers)))
    probe.load_state_dict(weights)
    return probe.eval()


def softened(x: torch.Tensor) -> torch.Tensor:
    """Pictures slightly blurred and off in colour, as decoded edits are.

    A probe that has seen this reads edits as a person would.
    """
    shape = (len(x), 1, 1, 1)
    mix = torch.rand(shape, device=x.device) * 0.6
    x = x * (1 - mix) + nn.functional.avg_pool2d(x, 3, 1, 1) * mix
    return x + 0.04 * torch.randn_like(x) + 0.05 * torch.randn((len(x), 3, 1, 1), device=x.device)


def labels(states: list[State], world: World = avatars.WORLD) -> dict[str, torch.Tensor]:
    """Index of each factor's value, or -100 (no loss) where the picture does not show it."""
    return {
        factor: torch.tensor([list(values).index(s[factor]) if world.visible(s, factor) else -100 for s in states])
        for factor, values in world.factors.items()
    }


def train(steps: int, batch: int, out: Path, seed: int = 0) -> None:
    """Train on drawings with colour and blur noise, print and save the held-out accuracy of every factor."""
    generator = common.setup(seed)
    pixels, states = data.drawings()
    images, targets = common.to_tensor(pixels), labels(states)
    probe = Probe().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    progress = common.Progress(steps)
    for step, index in enumerate(common.batches(len(images), batch, steps, generator), 1):
        x = softened(images[index])
        with torch.autocast("cpu", torch.bfloat16):
            logits = probe(x)
        loss = sum(nn.functional.cross_entropy(logits[factor].float(), target[index], ignore_index=-100)
                   for factor, target in targets.items())  # fmt: skip
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step, loss.item())
    probe.eval()
    held_pixels, held_states = data.drawings(1000, data.HELD_OUT_SEED)
    with torch.no_grad():
        logits = probe(common.to_tensor(held_pixels))
    accuracy = {}
    for factor, target in labels(held_states).items():
        shown = target >= 0
        accuracy[factor] = float((logits[factor].argmax(1) == target)[shown].float().mean())
    common.log.info("held-out accuracy %s", json.dumps(accuracy))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in probe.state_dict().items()}, out)
    out.with_suffix(".json").write_text(json.dumps({"held_out_accuracy": accuracy, "images": 1000}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "probe" / "probe.safetensors")
    arguments = parser.parse_args()
    train(arguments.steps, arguments.batch, arguments.out)
