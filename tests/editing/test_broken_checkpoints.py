"""A checkpoint of another kind, or one whose numbers overflow, is one sentence and makes no edit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diffex_dagster.editing import checkpoints
from diffex_dagster.editing.engine import load_parts
from diffex_dagster.errors import EditorError
from tests.support.checkpoints import build_checkpoint


@pytest.mark.parametrize(
    ("channels", "kind"), [(9, "an inpainting model"), (8, "an instruction model"), (5, "another kind")]
)
def test_a_unet_that_takes_more_than_a_picture_is_refused_before_it_is_loaded(
    tmp_path: Path, channels: int, kind: str
) -> None:
    folder = build_checkpoint(tmp_path / "checkpoint")
    assert checkpoints.locate(str(folder)).folder == folder
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "in_channels": channels}))
    with pytest.raises(EditorError, match=f"in_channels is {channels}.*{kind}.*give a text-to-image checkpoint"):
        checkpoints.locate(str(folder))


def test_numbers_that_are_not_finite_are_no_pictures(tmp_path: Path) -> None:
    from diffex_dagster.editing.engine import Engine

    parts = load_parts(checkpoints.locate(str(build_checkpoint(tmp_path / "checkpoint"))), torch.float32)
    latents = torch.zeros(1, 4, 8, 8)
    decode = Engine.decode
    holder = type("Holder", (), {"vae": parts.vae})()
    assert torch.isfinite(decode(holder, latents)).all()
    latents[0, 0, 0, 0] = float("nan")
    with pytest.raises(EditorError, match="UNet returned numbers that are not finite .*set dtype: float32"):
        decode(holder, latents)


@pytest.mark.parametrize("kind", ["StableDiffusion3Pipeline", "FluxPipeline", "PixArtAlphaPipeline", "ZImagePipeline"])
def test_a_checkpoint_of_another_architecture_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    folder = build_checkpoint(tmp_path / "checkpoint")
    index = folder / "model_index.json"
    for known in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "LEditsPPPipelineStableDiffusion"):
        index.write_text(json.dumps({"_class_name": known}))
        assert checkpoints.locate(str(folder)).folder == folder
    index.write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(EditorError, match=rf"model_index\.json: this is a {kind}, .*Stable Diffusion 1, 2 or XL"):
        checkpoints.locate(str(folder))
