"""Writes a checkpoint in diffusers format as the single file that web interfaces for Stable Diffusion use.

The names are those of the original implementation (CompVis latent diffusion), which diffusers reads; it writes none.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# (pattern in diffusers' names, original); L is the number of residual blocks of a resolution
_RESNET = [
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection"),
]  # fmt: skip
_UNET_ENDS = [
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
    ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
]  # fmt: skip
_VAE_ATTENTION = [("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")]


def write_single_file(folder: Path, file: Path, layers: int = 1, blocks: int = 3) -> Path:
    """Write UNet, autoencoder and text encoder of the checkpoint in `folder` into one file.

    Args:
        layers: residual blocks of a resolution (`layers_per_block`).
        blocks: resolutions of the autoencoder.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in _weights(folder / "unet").items():
        tensors["model.diffusion_model." + _unet(name, layers)] = tensor
    for name, tensor in _weights(folder / "vae").items():
        original = _vae(name, blocks)
        is_linear = "mid.attn_1" in original and tensor.ndim == 2
        tensors["first_stage_model." + original] = tensor[:, :, None, None] if is_linear else tensor
    for name, tensor in _weights(folder / "text_encoder").items():
        tensors["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def _unet(name: str, layers: int) -> str:
    for ours, original in _UNET_ENDS:
        if name.startswith(ours + "."):
            return name.replace(ours, original, 1)
    if found := re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name):
        way, block, kind, j, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        each = layers + 1
        place = f"input_blocks.{each * block + j + 1}" if way == "down" else f"output_blocks.{each * block + j}"
        return f"{place}.{'01'[kind == 'attentions']}.{_resnet(rest) if kind == 'resnets' else rest}"
    if found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.*)", name):
        return f"input_blocks.{(layers + 1) * (int(found[1]) + 1)}.0.op.{found[2]}"
    if found := re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.*)", name):
        return f"output_blocks.{(layers + 1) * int(found[1]) + layers}.2.conv.{found[2]}"
    if found := re.match(r"mid_block\.attentions\.0\.(.*)", name):
        return f"middle_block.1.{found[1]}"
    found = re.match(r"mid_block\.resnets\.(\d)\.(.*)", name)
    assert found, name
    return f"middle_block.{2 * int(found[1])}.{_resnet(found[2])}"


def _resnet(name: str) -> str:
    for ours, original in _RESNET:
        name = name.replace(ours, original)
    return name


def _vae(name: str, blocks: int) -> str:
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0" in name:
        name = name.replace("mid_block.attentions.0", "mid.attn_1")
        for ours, original in _VAE_ATTENTION:
            name = name.replace(f".{ours}.", f".{original}.")
    return name
