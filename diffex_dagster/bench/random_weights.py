"""Checkpoints with random weights, as large as the known ones: how fast an editor is does not depend on its weights."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_CROSS, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_TINY_CLIP = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
_TINY = {"layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 4}

# The architectures as their authors publish them (unet/config.json and so on), and small ones of the same kind.
SIZES: dict[str, dict[str, Any]] = {
    "sd15": {
        "unet": {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8},
        "down": (_CROSS, _CROSS, _CROSS, _PLAIN),
        "vae": _VAE | {"scaling_factor": 0.18215},
        "encoders": [_CLIP_L],
        "tokens": 77,
    },
    "sdxl": {
        "unet": {
            "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "addition_time_embed_dim": 256,
        },
        "down": (_PLAIN, _CROSS, _CROSS),
        "vae": _VAE | {"scaling_factor": 0.13025},
        "encoders": [_CLIP_L, _CLIP_G],
        "tokens": 77,
    },
    "tiny": {
        "unet": _TINY | {"sample_size": 16, "block_out_channels": (16, 24, 32)},
        "down": (_CROSS, _CROSS, _CROSS),
        "vae": {"block_out_channels": (8, 8, 16), "layers_per_block": 1, "norm_num_groups": 4, "scaling_factor": 1.7},
        "encoders": [_TINY_CLIP],
        "tokens": 12,
    },
    "tiny-xl": {
        "unet": _TINY | {
            "sample_size": 16, "block_out_channels": (16, 24, 32), "transformer_layers_per_block": (1, 1, 2),
            "use_linear_projection": True, "addition_time_embed_dim": 8,
        },
        "down": (_PLAIN, _CROSS, _CROSS),
        "vae": {"block_out_channels": (8, 8, 16), "layers_per_block": 1, "norm_num_groups": 4, "scaling_factor": 1.7},
        "encoders": [_TINY_CLIP, _TINY_CLIP | {"hidden_size": 24, "num_attention_heads": 3}],
        "tokens": 12,
    },
}  # fmt: skip


def resolution(size: str) -> int:
    """The side in pixels of the pictures that a size works on."""
    levels = len(SIZES[size]["vae"]["block_out_channels"])
    return int(SIZES[size]["unet"]["sample_size"]) * 2 ** (levels - 1)


def write_checkpoint(
    folder: Path,
    size: str,
    *,
    dtype: torch.dtype,
    prediction_type: str = "epsilon",
    device: str = "cpu",
    steady: bool = False,
) -> Path:
    """Write a checkpoint with random weights.

    Its tokenizer knows letters only, so that a word has as many tokens as letters.

    Args:
        folder: where to; created.
        size: one of `SIZES`; those that end in "xl" are Stable Diffusion XL.
        dtype: of the weights: at the size of XL, 14 GB in float32.
        prediction_type: what the UNet is said to predict.
        device: where they are drawn: a GPU draws billions in a moment.
        steady: makes edits comparable. As drawn, attention is uniform, so that a mask says nothing; and an untrained
            UNet enlarges rounding errors from step to step. With `steady` its attention is sharper and its output is
            damped.

    Returns:
        The folder.
    """
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    shape, is_xl = SIZES[size], size.endswith("xl")
    tokenizer = _write_tokenizer(folder / "tokenizer", shape["tokens"])
    encoders = shape["encoders"]
    for i, encoder in enumerate(encoders):
        with torch.device(device):
            _write_encoder(
                folder / f"text_encoder{'_2' if i else ''}", encoder, tokenizer, projected=i > 0, dtype=dtype
            )
    width = sum(encoder["hidden_size"] for encoder in encoders)
    unet_options: dict[str, Any] = dict(shape["unet"])
    if is_xl:
        _write_tokenizer(folder / "tokenizer_2", shape["tokens"])
        sizes = 6 * unet_options["addition_time_embed_dim"]
        unet_options |= {
            "addition_embed_type": "text_time",
            "projection_class_embeddings_input_dim": sizes + encoders[1]["hidden_size"],
        }
    down = shape["down"]
    with torch.device(device):
        unet: Any = UNet2DConditionModel(
            down_block_types=down,
            up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(down)),
            cross_attention_dim=width,
            **unet_options,
        )
    if steady:
        with torch.no_grad():
            for name, weights in unet.named_parameters():
                if "attn2.to_q" in name or "attn2.to_k" in name:
                    weights.mul_(6)
            unet.conv_out.weight.mul_(0.3)
    _cast(unet, dtype).save_pretrained(folder / "unet")
    levels = len(shape["vae"]["block_out_channels"])
    with torch.device(device):
        vae: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            sample_size=resolution(size),
            force_upcast=is_xl,
            latent_channels=4,
            **shape["vae"],
        )
    _cast(vae, dtype).save_pretrained(folder / "vae")
    scheduler: Any = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
        prediction_type=prediction_type,
    )  # fmt: skip
    scheduler.save_pretrained(folder / "scheduler")
    name = "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": name, **({"force_zeros_for_empty_prompt": True} if is_xl else {})}), "utf-8"
    )
    return folder


def _cast(model: Any, dtype: torch.dtype) -> Any:
    for weights in model.parameters():  # `model.to(dtype)` warns of models that keep some layers in float32
        weights.data = weights.data.to(dtype)
    return model


def _write_tokenizer(folder: Path, tokens: int) -> Any:
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True)
    words = [letter + end for letter in string.ascii_lowercase for end in ("", "</w>")]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=tokens)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _write_encoder(folder: Path, shape: dict[str, Any], tokenizer: Any, *, projected: bool, dtype: torch.dtype) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=shape["hidden_size"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    kind: Any = CLIPTextModelWithProjection if projected else CLIPTextModel
    _cast(kind(config), dtype).save_pretrained(folder)
