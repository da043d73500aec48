"""Our engine against diffusers' LEDITS++ pipeline for Stable Diffusion XL, in float32, on the latents.

The differences from Stable Diffusion: two text encoders, a pooled prompt, the picture's sizes, an empty prompt of
zeros, the last steps without noise, and the mask "intersection" from the first step on. Of the defects listed in
`test_parity` the first two are put right here as well.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import LEditsPPPipelineStableDiffusionXL as Pipeline
from PIL import Image
from transformers import CLIPTextModelWithProjection

from diffex_dagster.editing.checkpoints import locate
from diffex_dagster.editing.engine import Engine
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.models import load_components
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import EditorError
from tests.support.checkpoints import build_checkpoint
from tests.support.parity import (
    JOINT,
    MASKS,
    SEED,
    TOLERANCE,
    Case,
    CountingTokenizer,
    distance,
    edited_latents,
    edits_for,
    parts_for,
)


@dataclass(frozen=True)
class XLCase(Case):
    """A case, and how many last steps get no noise."""

    zero_noise_steps: int = 3


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("xl"), size="tiny-xl")


def engine_for(checkpoint: Path, case: XLCase) -> Engine:
    options = LeditsOptions(
        checkpoint=str(checkpoint), steps=case.steps, skip=case.skip, scheduler=case.scheduler, correct_end=False,
        zero_noise_steps=case.zero_noise_steps,
    )  # fmt: skip
    return Engine(checkpoint, options, torch.device("cpu"), torch.float32)


def diffusers_edit(checkpoint: Path, picture: Image.Image, case: XLCase, seed: int = SEED) -> torch.Tensor:
    """Edited latents (1, C, H, W) of diffusers' pipeline."""
    pipeline = Pipeline(
        **parts_for(checkpoint, case),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(checkpoint / "text_encoder_2"),
        tokenizer_2=CountingTokenizer.from_pretrained(checkpoint / "tokenizer_2"),
        force_zeros_for_empty_prompt=json.loads((checkpoint / "model_index.json").read_text())[
            "force_zeros_for_empty_prompt"
        ],
        add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    pipeline.invert(
        picture, num_inversion_steps=case.steps, skip=case.skip, num_zero_noise_steps=case.zero_noise_steps,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return edited_latents(pipeline, case)


CASES = {mask: XLCase(mask=mask) for mask in MASKS} | {
    "intersection-ddim": XLCase(mask="intersection", scheduler="ddim"),
    "noise in every step": XLCase(mask="intersection", zero_noise_steps=0),
    "warm-up into the steps without noise": XLCase(warmup=4, skip=0.0),
    "warm-up and cool-down": XLCase(warmup=1, cooldown=4, mask="cross_attention"),
    "joint": XLCase(**JOINT),
    "joint-cross_attention": XLCase(**JOINT, mask="cross_attention"),
    "joint-intersection": XLCase(**JOINT, mask="intersection"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_edit_matches_diffusers(name: str, xl: Path, images: dict[str, Image.Image]) -> None:
    case = CASES[name]
    engine = engine_for(xl, case)
    edits = edits_for(engine, [images["one"]], case)
    ours = engine.edit(edits)
    assert distance(ours, edits[0].inversion.latents[-1]) > 0.02, (
        "the edit does nothing, so the comparison says nothing"
    )
    assert distance(ours, diffusers_edit(xl, images["one"], case)) < TOLERANCE


def test_an_empty_prompt_that_is_encoded(xl: Path, images: dict[str, Image.Image], tmp_path: Path) -> None:
    copy = shutil.copytree(xl, tmp_path / "copy")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"force_zeros_for_empty_prompt": False}))
    case = XLCase(mask="intersection")
    zeros, encoded = (engine_for(folder, case) for folder in (xl, copy))
    assert not zeros.text("").embedding.any() and not zeros.text("").pooled.any()
    ours = encoded.edit(edits_for(encoded, [images["one"]], case))
    assert distance(ours, diffusers_edit(copy, images["one"], case)) < TOLERANCE
    fingerprints = {LeditsEditor(LeditsOptions(checkpoint=str(folder))).fingerprint for folder in (xl, copy)}
    assert len(fingerprints) == 2


def test_a_mixed_batch_of_pictures_equals_its_edits_one_by_one(xl: Path, images: dict[str, Image.Image]) -> None:
    requests = [
        EditRequest("one", (Concept("beard"),)),
        EditRequest("two", (Concept("hat", "remove"), Concept("beard"))),
        EditRequest("one"),
        EditRequest("three", (Concept("smile"),), seed=1),
    ]

    def edited(batch_size: int, wanted: list[EditRequest]) -> dict[EditRequest, torch.Tensor]:
        editor = LeditsEditor(
            LeditsOptions(checkpoint=str(xl), steps=6, scale=6, threshold=0.7, device="cpu", batch_size=batch_size)
        )
        made = editor.edit_tensors(images, wanted)
        return {r: picture for batch, pictures in made for r, picture in zip(batch, pictures, strict=True)}

    together = edited(50, requests)
    for request in requests:
        assert distance(together[request], edited(1, [request])[request]) < TOLERANCE
    assert distance(together[requests[0]], together[requests[2]]) > 0.01


def test_the_autoencoder_stays_in_full_precision_where_it_would_overflow(xl: Path, tmp_path: Path) -> None:
    half = load_components(locate(str(xl)), torch.float16)
    assert half.is_xl and half.vae.dtype == torch.float32
    assert {model.dtype for model in (half.unet, *half.encoders)} == {torch.float16}
    assert load_components(locate(str(xl)), torch.bfloat16).vae.dtype == torch.bfloat16
    copy = shutil.copytree(xl, tmp_path / "copy")
    config = json.loads((copy / "vae" / "config.json").read_text())
    (copy / "vae" / "config.json").write_text(json.dumps(config | {"force_upcast": False}))
    assert load_components(locate(str(copy)), torch.float16).vae.dtype == torch.float16


def test_what_is_missing_of_an_xl_checkpoint_is_named(xl: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(xl, tmp_path / "copy")
    shutil.rmtree(copy / "text_encoder_2")
    with pytest.raises(EditorError, match="has no text_encoder_2: give a folder in Stable Diffusion format"):
        locate(str(copy))
    (copy / "model_index.json").write_text("{")
    with pytest.raises(EditorError, match=r"model_index\.json is not JSON .*: save the checkpoint again"):
        locate(str(copy))
