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
        latents: clean, (N, C, H, W), on the engine's device.
        words: prompts of each picture, N lists.
        levels: noise level of each draw, as a share of the noise schedule; noise comes from the CPU on every device.
        rows: the largest UNet batch.

    Returns:
        For each picture evidence of shape (its words, draws), float64.
    """
    # A row without words for every picture first, then one for each of its words.
    owner = torch.tensor(
        [i for i, prompts in enumerate(words) for _ in prompts], device=engine.device, dtype=torch.long
    )
    prompts = [prompt for some in words for prompt in some]
    texts = Texts.stack([engine.text(prompt) for prompt in [""] * len(latents) + prompts])
    source = torch.cat([torch.arange(len(latents), device=engine.device), owner])
    draws = []
    for i, level in enumerate(levels):
        step = min(engine.steps, key=lambda each: abs(each.timestep - level * engine.train_timesteps))
        noise = torch.randn(tuple(latents.shape[1:]), generator=torch.Generator().manual_seed(i)).to(engine.device)
        clean = latents[source]
        x = step.noised(clean, noise)
        with torch.no_grad():
            output, _ = engine.predict(x, torch.full((len(x),), step.timestep, device=x.device), texts, None, rows)
        error = noise_error(step, clean, x, output)
        draws.append((error[: len(latents)][owner] - error[len(latents) :]).double())
    return list(torch.stack(draws, dim=1).split([len(some) for some in words]))


def noise_error(step: Step, clean: torch.Tensor, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted noise, shape (N,), whatever the model predicts (noise, velocity, picture).

    With x = signal·clean + sigma·ε, predicting m for the clean latents is predicting ε with signal / sigma the error.
    """
    return ((step.clean(x, output) - clean) * (step.signal / step.sigma)).square().mean(dim=(1, 2, 3))
