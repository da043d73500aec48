"""How well words describe a picture: the diffusion model as a classifier (Li et al., ICCV 2023, arXiv 2303.16203).

A diffusion model's error in predicting the noise of a noised picture bounds the picture's log-likelihood (their
equation 3): the text under which the error is least describes the picture best. Evidence for words is

    E_{t, ε} [ ‖ε − ε_θ(x_t, "")‖² − ‖ε − ε_θ(x_t, words)‖² ]

in mean squared noise per latent value: what the words explain beyond no words. Noise and time steps are the same for
every picture and all words, as in their section 3.3: what they have in common cancels in a comparison, so that a few
draws are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffex_dagster.editing.engine import Engine
from diffex_dagster.editing.models import Texts
from diffex_dagster.editing.solver import Step


def evidence(
    engine: Engine, latents: torch.Tensor, words: Sequence[Sequence[str]], levels: Sequence[float], rows: int
) -> list[torch.Tensor]:
    """Evidence for each of some words in each picture.

    Args:
        latents, words, levels, rows: as of `errors`.

    Returns:
        For each picture evidence of shape (its words, draws), float64.
    """
    found = errors(engine, latents, [["", *of] for of in words], levels, rows)
    return [of[:1] - of[1:] for of in found]


def errors(
    engine: Engine, latents: torch.Tensor, prompts: Sequence[Sequence[str]], levels: Sequence[float], rows: int
) -> list[torch.Tensor]:
    """How wrong the model is about the noise in each picture under each of its prompts.

    Args:
        latents: clean, (N, C, H, W), on the engine's device.
        prompts: of each picture, N lists.
        levels: noise level of each draw, as a share of the noise schedule; noise comes from the CPU on every device.
        rows: the largest UNet batch, in which the draws stand beside each other.

    Returns:
        For each picture its mean squared errors, of shape (its prompts, draws), float64.
    """
    owner = torch.tensor([i for i, some in enumerate(prompts) for _ in some], device=engine.device, dtype=torch.long)
    texts = Texts.stack([engine.text(prompt) for some in prompts for prompt in some] * len(levels))
    clean = latents[owner]
    steps = [min(engine.steps, key=lambda each: abs(each.timestep - at * engine.train_timesteps)) for at in levels]
    noise = [
        torch.randn(tuple(latents.shape[1:]), generator=torch.Generator().manual_seed(i)) for i in range(len(steps))
    ]
    noised = [step.noised(clean, of.to(engine.device)) for step, of in zip(steps, noise, strict=True)]
    timesteps = torch.tensor([step.timestep for step in steps], device=engine.device).repeat_interleave(len(clean))
    with torch.no_grad():
        outputs, _ = engine.predict(torch.cat(noised), timesteps, texts, None, rows)
    draws = [
        noise_error(step, clean, x, output).double()
        for step, x, output in zip(steps, noised, outputs.split(len(clean)), strict=True)
    ]
    return list(torch.stack(draws, dim=1).split([len(some) for some in prompts]))


def noise_error(step: Step, clean: torch.Tensor, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted noise, shape (N,), whatever the model predicts (noise, velocity, picture).

    With x = signal·clean + sigma·ε, predicting m for the clean latents is predicting ε with signal / sigma the error.
    """
    return ((step.clean(x, output) - clean) * (step.signal / step.sigma)).square().mean(dim=(1, 2, 3))
