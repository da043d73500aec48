"""A tiny Stable Diffusion checkpoint with random weights: it edits to nonsense, but by the same arithmetic."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

MAX_TOKENS = 12
SIDE = 64  # pixels; latents are 16×16 and the default mask 4×4


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build_checkpoint(folder: Path, prediction_type: str = "epsilon") -> Path:
    """Write a random checkpoint with the demo checkpoint's architecture and fewer channels."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [letter + end for letter in string.ascii_lowercase for end in ("", "</w>")]
    tokenizer_folder = folder / "tokenizer"
    tokenizer_folder.mkdir(parents=True)
    tokens = [*letters, "<|startoftext|>", "<|endoftext|>"]
    (tokenizer_folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (tokenizer_folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder, model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(tokenizer_folder)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=16,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 24, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    # As initialised, attention is uniform: sharpen it, so that masks differ. But an untrained UNet also amplifies
    # rounding errors from step to step until masks flip: damp its output, and the comparison means something.
    with torch.no_grad():
        for name, weights in unet.named_parameters():
            if "attn2.to_q" in name or "attn2.to_k" in name:
                weights.mul_(6)
        unet.conv_out.weight.mul_(0.3)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=1.7,
    )
    text_encoder.save_pretrained(folder / "text_encoder")
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type
    ).save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def images() -> dict[str, Image.Image]:
    """Three pictures with large forms and fine noise."""
    pictures = {}
    for i, key in enumerate(("one", "two", "three")):
        rng = np.random.default_rng(i)
        coarse = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((16, 16, 1)))
        pictures[key] = Image.fromarray((coarse + rng.integers(0, 55, (SIDE, SIDE, 3))).astype(np.uint8))
    return pictures
