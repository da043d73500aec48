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
from training import common, data


class Probe(nn.Module):
    """A small convolutional network with one softmax head for each factor."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (32, 48, 64, 96):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 16, 192), nn.ReLU())
        self.heads = nn.ModuleDict({factor: nn.Linear(192, len(values)) for factor, values in avatars.FACTORS.items()})

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Images (N, 3, 64, 64) in [-1, 1] -> logits (N, values) for each factor."""
        hidden = self.body(images)
        return {factor: head(hidden) for factor, head in self.heads.items()}

    @torch.no_grad()
    def read(self, pictures: list[Image.Image]) -> list[avatars.State]:
        """The most likely state of each picture."""
        images = common.to_tensor(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
        logits = self(images)
        names = {
            factor: [list(avatars.FACTORS[factor])[i] for i in logit.argmax(1)] for factor, logit in logits.items()
        }
        return [{factor: names[factor][row] for factor in names} for row in range(len(pictures))]


def load(path: Path) -> Probe:
    """The trained probe, ready to read."""
    probe = Probe()
    probe.load_state_dict(load_file(path))
    return probe.eval()


def labels(states: list[avatars.State]) -> dict[str, torch.Tensor]:
    """Index of each factor's value, or -100 (no loss) where the picture does not show it."""
    return {
        factor: torch.tensor([list(values).index(s[factor]) if avatars.visible(s, factor) else -100 for s in states])
        for factor, values in avatars.FACTORS.items()
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
        x = images[index]
        # Decoded edits are slightly blurred and off in colour: a probe that has seen this reads them as a person would.
        soft = nn.functional.avg_pool2d(x, 3, 1, 1)
        mix = torch.rand(batch, 1, 1, 1) * 0.6
        x = x * (1 - mix) + soft * mix + 0.04 * torch.randn(x.shape) + 0.05 * torch.randn(batch, 3, 1, 1)
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
