"""The same edits by our engine and by diffusers' LEDITS++ pipelines; `test_parity` lists the defects put right here."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers import LEditsPPPipelineStableDiffusion as Pipeline
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from diffex_dagster.editing.edit_plan import Edit, GuidedConcept
from diffex_dagster.editing.engine import Engine
from diffex_dagster.editing.guidance import Guidance, MaskMode
from diffex_dagster.editing.ledits_options import LeditsOptions

SEED = 5
TOLERANCE = 1e-4
MASKS: dict[MaskMode, dict[str, Any]] = {
    "noise": {"use_cross_attn_mask": False, "use_intersect_mask": False},
    "cross_attention": {"use_cross_attn_mask": True, "use_intersect_mask": False},
    "intersection": {"use_cross_attn_mask": True, "use_intersect_mask": True},
    "none": {"use_cross_attn_mask": False, "use_intersect_mask": False, "edit_threshold": 0.0},
}


class IndexableDDIM(DDIMScheduler):
    """Defect 1 put right."""

    def add_noise(self, original_samples, noise, timesteps):
        return super().add_noise(original_samples, noise, timesteps.long())


class CountingTokenizer(CLIPTokenizer):
    """Defect 2 put right."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tokens = super().__call__(*args, **kwargs)
        if kwargs.get("return_length"):
            tokens["length"] = tokens["attention_mask"].sum(dim=1)
        return tokens


@dataclass(frozen=True)
class Case:
    """One edit as both sides understand it."""

    prompts: tuple[str, ...] = ("beard",)
    signs: tuple[float, ...] = (1.0,)
    scale: float = 6.0
    threshold: float = 0.7
    mask: MaskMode = "noise"
    warmup: int = 0
    cooldown: int | None = None
    scheduler: str = "dpm"
    steps: int = 6
    skip: float = 0.25

    def guidance(self) -> Guidance:
        return Guidance(self.scale, self.threshold, self.mask, self.warmup, self.cooldown)


def engine_for(checkpoint: Path, case: Case) -> Engine:
    options = LeditsOptions(
        checkpoint=str(checkpoint), steps=case.steps, skip=case.skip, scheduler=case.scheduler, correct_end=False
    )
    return Engine(checkpoint, options, torch.device("cpu"), torch.float32)


def edits_for(engine: Engine, pictures: Sequence[Image.Image], case: Case) -> list[Edit]:
    """The case applied to each picture, inverted together; picture i has seed SEED + i."""
    latents = engine.encode(torch.stack([tensor(picture) for picture in pictures]))
    generators = [torch.Generator().manual_seed(SEED + i) for i in range(len(pictures))]
    concepts = tuple(
        GuidedConcept(engine.text(prompt), sign, case.guidance())
        for prompt, sign in zip(case.prompts, case.signs, strict=True)
    )
    return [Edit(inversion, concepts) for inversion in engine.invert(latents, generators)]


def tensor(picture: Image.Image) -> torch.Tensor:
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(picture.height, picture.width, 3)
    return pixels.permute(2, 0, 1).float() / 127.5 - 1


def parts_for(checkpoint: Path, case: Case, **schedule: Any) -> dict[str, Any]:
    """What diffusers' pipelines for Stable Diffusion and for XL are both made of."""
    config = DPMSolverMultistepScheduler.load_config(checkpoint / "scheduler") | schedule
    if case.scheduler == "ddim":
        scheduler = IndexableDDIM.from_config(config)
    else:
        scheduler = DPMSolverMultistepScheduler.from_config(config, algorithm_type="sde-dpmsolver++", solver_order=2)
    return {**copy.deepcopy(_models(checkpoint)), "scheduler": scheduler}  # pipelines change their models


@functools.cache
def _models(checkpoint: Path) -> dict[str, Any]:
    return {
        "vae": AutoencoderKL.from_pretrained(checkpoint / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(checkpoint / "text_encoder"),
        "tokenizer": CountingTokenizer.from_pretrained(checkpoint / "tokenizer"),
        "unet": UNet2DConditionModel.from_pretrained(checkpoint / "unet"),
    }


def pipeline_for(checkpoint: Path, case: Case, **schedule: Any) -> Pipeline:
    parts = parts_for(checkpoint, case, **schedule)
    pipeline = Pipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def edited_latents(pipeline: Any, case: Case) -> torch.Tensor:
    """Edited latents (N, C, H, W) of the pictures that a pipeline of diffusers has inverted."""
    settings = {"edit_threshold": case.threshold} | MASKS[case.mask]
    return pipeline(
        editing_prompt=list(case.prompts), reverse_editing_direction=[sign < 0 for sign in case.signs],
        edit_guidance_scale=case.scale, edit_warmup_steps=case.warmup,
        edit_cooldown_steps=None if case.cooldown is None else [case.cooldown] * len(case.prompts),
        output_type="latent", **settings,
    ).images  # fmt: skip


def diffusers_edit(
    checkpoint: Path, pictures: Sequence[Image.Image], case: Case, first: int = 0, **schedule: Any
) -> torch.Tensor:
    """Edited latents (N, C, H, W) of diffusers' pipeline; `first` is the number of the first picture."""
    pipeline = pipeline_for(checkpoint, case, **schedule)
    generators = [torch.Generator().manual_seed(SEED + first + i) for i in range(len(pictures))]
    pipeline.invert(
        list(pictures), num_inversion_steps=case.steps, skip=case.skip,
        generator=generators if len(generators) > 1 else generators[0],
    )  # fmt: skip
    if not case.prompts:
        return pipeline(output_type="latent", use_intersect_mask=False).images
    return edited_latents(pipeline, case)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


JOINT = {"prompts": ("beard", "no hat"), "signs": (1.0, -1.0)}
