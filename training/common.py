"""What every training script shares: device-independent set-up, batches, an averaged copy of the weights."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

log = logging.getLogger("training")


def setup(seed: int) -> torch.Generator:
    """Seed torch, log to the terminal, and return the generator that batches are drawn with."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float (N, 3, H, W) in [-1, 1]."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return images.contiguous(memory_format=torch.channels_last)


def batches(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """`steps` index batches of `size`, reshuffled each time all `count` items have been seen."""
    order = torch.randperm(count, generator=generator)
    start = 0
    for _ in range(steps):
        if start + size > count:
            order, start = torch.randperm(count, generator=generator), 0
        yield order[start : start + size]
        start += size


class Ema:
    """An exponential moving average of a module's weights, with a warm-up so that early steps are forgotten."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.module, self.decay, self.step = copy.deepcopy(module).eval().requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        averaged, current = list(self.module.state_dict().values()), list(module.state_dict().values())
        for mean, value in zip(averaged, current, strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


class Progress:
    """Logs step, smoothed loss and remaining minutes every `every` steps."""

    def __init__(self, steps: int, every: int = 100) -> None:
        self.steps, self.every, self.start, self.mean = steps, every, time.monotonic(), 0.0

    def __call__(self, step: int, loss: float) -> None:
        self.mean = loss if step == 1 else 0.95 * self.mean + 0.05 * loss
        if step % self.every == 0 or step == self.steps:
            elapsed = time.monotonic() - self.start
            left = elapsed / step * (self.steps - step) / 60
            log.info(
                "step %d/%d  loss %.4f  %.2f s/step  %.0f min left", step, self.steps, self.mean, elapsed / step, left
            )


def _upsample(self, hidden_states: torch.Tensor, output_size: int | None = None) -> torch.Tensor:
    n, c, h, w = hidden_states.shape
    doubled = hidden_states[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
    return self.conv(doubled.contiguous(memory_format=torch.channels_last))


def use_compilable_upsampling() -> None:
    """Replace diffusers' nearest-neighbour upsampling by an equal one that torch.compile differentiates correctly.

    Measured on torch 2.13 (CPU, inductor): the compiled backward of `interpolate(scale_factor=2, mode="nearest")`
    returns zeros, so that everything before the last upsampling silently stops learning.
    """
    from diffusers.models.upsampling import Upsample2D

    Upsample2D.forward = _upsample
