"""How well words describe a picture: the diffusion model as a classifier (Li et al., ICCV 2023, arXiv 2303.16203).

A diffusion model's error in predicting the noise of a noised picture bounds the picture's log-likelihood (their
equation 3): the text under which the error is least describes the picture best. Evidence for words is

    E_{t, ε} [ ‖ε − ε_θ(x_t, "")‖² − ‖ε − ε_θ(x_t, words)‖² ]

in mean squared noise per latent value: what the words explain beyond no words. Noise and time steps are the same for
every picture and all words, as in their section 3.3: what they have in common cancels in a comparison, so that a few
draws are enough.
"""

from __future__ import annotations

from collections import Counter
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
        rows: the largest UNet batch, in which the draws stand beside each other. What is held at a time grows with it
            alone, and not with the prompts or draws.

    Returns:
        For each picture its mean squared errors, of shape (its prompts, draws), float64.
    """
    said = [(i, prompt) for i, some in enumerate(prompts) for prompt in some]
    steps = [min(engine.steps, key=lambda each: abs(each.timestep - at * engine.train_timesteps)) for at in levels]
    wrong = torch.empty(len(steps) * len(said), dtype=torch.float64, device=engine.device)
    for start in range(0, len(wrong), rows):  # draw after draw; nothing is made that is larger than a batch
        drawn = [divmod(row, len(said)) for row in range(start, min(start + rows, len(wrong)))]
        texts = Texts.stack([engine.text(said[which][1]) for _, which in drawn])
        timesteps = torch.tensor([steps[draw].timestep for draw, _ in drawn], device=engine.device)
        clean = latents[[said[which][0] for _, which in drawn]]
        of_draw = Counter(draw for draw, _ in drawn)
        sizes = list(of_draw.values())
        noised = torch.cat(
            [
                steps[draw].noised(some, _noise(draw, clean).to(engine.device))
                for draw, some in zip(of_draw, clean.split(sizes), strict=True)
            ]
        )
        with torch.no_grad():
            outputs, _ = engine.predict(noised, timesteps, texts, None, rows)
        parts = zip(of_draw, clean.split(sizes), noised.split(sizes), outputs.split(sizes), strict=True)
        found = [noise_error(steps[draw], *of).double() for draw, *of in parts]
        wrong[start : start + len(drawn)] = torch.cat(found)
    return list(wrong.view(len(steps), len(said)).T.contiguous().split([len(some) for some in prompts]))


def _noise(draw: int, like: torch.Tensor) -> torch.Tensor:
    """The noise of a draw, (C, H, W), from the CPU: the same for every picture of a shape and all words."""
    return torch.randn(tuple(like.shape[1:]), generator=torch.Generator().manual_seed(draw))


def noise_error(step: Step, clean: torch.Tensor, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted noise, shape (N,), whatever the model predicts (noise, velocity, picture).

    With x = signal·clean + sigma·ε, predicting m for the clean latents is predicting ε with signal / sigma the error.
    """
    return ((step.clean(x, output) - clean) * (step.signal / step.sigma)).square().mean(dim=(1, 2, 3))
