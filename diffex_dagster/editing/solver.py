"""The two samplers of LEDITS++, each written as one table of numbers.

Both walk from noise to picture by the same rule. At step *i* the UNet's output and the noisy latents x_i give a
prediction m_i of the clean latents, and the next latents are

    x_{i+1} = a_i·x_i + b_i·m_i + c_i·m_{i-1} + noise_i                                    (the rule)

- **dpm**: DPM-Solver++ for the reverse SDE, second order, multistep (Lu et al. 2022, arXiv 2211.01095), for which
  LEDITS++ derives its inversion (section "perfect inversion"). The previous prediction counts, so c ≠ 0.
- **ddim**: DDIM with η = 1, that is DDPM sampling on fewer steps (Song et al. 2021, equations 12 and 16), as in the
  edit-friendly inversion of Huberman-Spiegelglas et al. (arXiv 2304.06140). First order, so c = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from diffex_dagster.errors import EditorError

SchedulerName = Literal["dpm", "ddim"]
# From this many steps on, diffusers takes the last step in second order if the final noise level is not zero.
_STEPS_THAT_NEED_NO_FIRST_ORDER_END = 15


@dataclass(frozen=True)
class Step:
    """One step of the rule above: all numbers, so that a batch of any size shares them."""

    timestep: int  # what the UNet is told
    signal: float  # x_i = signal·x_clean + sigma·noise
    sigma: float
    prediction_x: float  # m_i = prediction_x·x_i + prediction_out·(UNet output)
    prediction_out: float
    a: float
    b: float
    c: float
    noisy: bool  # whether noise is added after this step

    def noised(self, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Latents of this step's noise level, by the forward process."""
        return self.signal * clean + self.sigma * noise

    def clean(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """m_i, the clean latents that a UNet output predicts."""
        return self.prediction_x * x + self.prediction_out * output

    def mean(self, x: torch.Tensor, clean: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
        """x_{i+1} before its noise is added; `previous` is m_{i-1} and may be None where c is 0."""
        mean = self.a * x + self.b * clean
        return mean if previous is None or self.c == 0 else mean + self.c * previous


def timetable(name: SchedulerName, config: dict[str, Any], steps: int, skip: float) -> list[Step]:
    """The steps that are inverted and denoised, noisiest first.

    Args:
        name: which sampler.
        config: the checkpoint's scheduler configuration (noise schedule and prediction type).
        steps: how many steps are taken.
        skip: share of extra, noisier steps that are left out. Less skip allows stronger changes.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    check_schedule(config)
    # "leading" spacing with offset 1 is what Stable Diffusion and diffusers' LEDITS++ use whatever the checkpoint says.
    config = dict(config) | {"timestep_spacing": "leading", "steps_offset": 1}
    total = int(steps * (1 + skip))
    if total + 1 > config.get("num_train_timesteps", 1000):
        raise EditorError(f"{total} diffusion steps are more than the checkpoint was trained with: ask for fewer steps")
    if name == "ddim":
        scheduler = DDIMScheduler.from_config(config, clip_sample=False, thresholding=False)
        scheduler.set_timesteps(total)
        table = _ddim(scheduler)
    else:
        scheduler = DPMSolverMultistepScheduler.from_config(
            config, algorithm_type="sde-dpmsolver++", solver_order=2, solver_type="midpoint", thresholding=False
        )
        scheduler.set_timesteps(total)
        table = _dpm(scheduler, start=total - steps)
    return table[-steps:]


def check_schedule(config: dict[str, Any]) -> None:
    """Refuse a noise schedule that the two samplers do not have.

    Raises:
        EditorError: the checkpoint was trained with other noise (EDM, flow matching), or does not say with which.
    """
    if config.get("sigma_data") is not None or "EDM" in str(config.get("_class_name", "")):
        raise EditorError(
            "the checkpoint's scheduler is of the EDM kind (sigma_data), whose noise LEDITS++ does not invert: use a "
            "checkpoint that was trained with a beta schedule, as Stable Diffusion 1.5, 2.1 and XL are"
        )
    if config.get("trained_betas") is None and (config.get("beta_start") is None or config.get("beta_end") is None):
        raise EditorError(
            "scheduler/scheduler_config.json of the checkpoint names no betas (beta_start and beta_end, or "
            "trained_betas), so that its noise is not known: use a checkpoint with a beta schedule, or complete it"
        )


def _prediction(kind: str, signal: float, sigma: float) -> tuple[float, float]:
    """(prediction_x, prediction_out) for what the UNet was trained to predict."""
    if kind == "epsilon":
        return 1 / signal, -sigma / signal
    if kind == "v_prediction":
        return signal, -sigma
    if kind == "sample":
        return 0.0, 1.0
    raise EditorError(
        f"the checkpoint predicts {kind!r}, which LEDITS++ cannot edit with: use one that predicts noise or velocity"
    )


def _ddim(scheduler: Any) -> list[Step]:
    bars = scheduler.alphas_cumprod.double().tolist()
    times = [int(t) for t in scheduler.timesteps]
    stride = scheduler.config.num_train_timesteps // len(times)
    table = []
    for t in times:
        bar, last = bars[t], t - stride < 0
        bar_next = float(scheduler.final_alpha_cumprod) if last else bars[t - stride]
        variance = (1 - bar_next) / (1 - bar) * (1 - bar / bar_next)
        signal, sigma = math.sqrt(bar), math.sqrt(1 - bar)
        along_noise = math.sqrt(max(1 - bar_next - variance, 0.0)) / sigma  # multiplies x - signal·m
        table.append(
            Step(
                t, signal, sigma, *_prediction(scheduler.config.prediction_type, signal, sigma),
                a=along_noise, b=math.sqrt(bar_next) - along_noise * signal, c=0.0, noisy=variance > 0,
            )
        )  # fmt: skip
    return table


def _dpm(scheduler: Any, start: int) -> list[Step]:
    """The first step taken (`start`) has no previous prediction; the one that ends without noise cannot use it."""
    ratios = scheduler.sigmas.double().numpy()  # noise over signal, one more than there are steps
    signals = 1 / np.sqrt(1 + ratios**2)
    sigmas = ratios * signals
    with np.errstate(divide="ignore"):
        log_snr = np.log(signals) - np.log(sigmas)  # λ of the paper; infinite where no noise is left
    config, count = scheduler.config, len(scheduler.timesteps)
    first_order_end = (
        config.final_sigmas_type == "zero"
        or config.euler_at_final
        or (config.lower_order_final and count < _STEPS_THAT_NEED_NO_FIRST_ORDER_END)
    )
    table = []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        h = log_snr[i + 1] - log_snr[i]
        gain = signals[i + 1] * (1 - np.exp(-2 * h))
        b, c = gain, 0.0
        if i > start and not (i == count - 1 and first_order_end):
            r = (log_snr[i] - log_snr[i - 1]) / h
            b, c = gain * (1 + 0.5 / r), -0.5 * gain / r
        table.append(
            Step(
                int(t), float(signals[i]), float(sigmas[i]),
                *_prediction(config.prediction_type, float(signals[i]), float(sigmas[i])),
                a=float(sigmas[i + 1] / sigmas[i] * np.exp(-h)), b=float(b), c=float(c), noisy=bool(sigmas[i + 1] > 0),
            )
        )  # fmt: skip
    return table
