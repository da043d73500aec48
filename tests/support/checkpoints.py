"""Editors and classifiers with random weights, saved as the hub's are, and pictures for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIDE = 64  # pixels; latents are 16×16 and the default mask 4×4


def save_random_vit(folder: Path, labels: Sequence[str], side: int = 32) -> Path:
    """A small vision transformer for `transformers`, with its image processor and these classes."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=side, patch_size=8,
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    model = ViTForImageClassification(config)
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # so that its classes differ
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def build_checkpoint(folder: Path, prediction_type: str = "epsilon", size: str = "tiny") -> Path:
    """Write a random checkpoint of a size of `bench.random_weights`, whose masks say something."""
    import torch

    from diffex_dagster.bench.random_weights import write_checkpoint

    return write_checkpoint(folder, size, dtype=torch.float32, prediction_type=prediction_type, steady=True)


def loaded_once(patch: pytest.MonkeyPatch) -> None:
    """A small checkpoint's files are read once for all editors of a process, each of which has a copy of its models."""
    from diffex_dagster.editing import models

    load, kept = models._from_folder, dict[Any, Any]()

    def once(folder: Path, dtype: Any) -> Any:
        files = [
            (file, (now := file.stat()).st_size, now.st_mtime_ns)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        ]
        if sum(size for _, size, *_ in files) > 10e6:
            return load(folder, dtype)
        key = (*files, dtype)
        if key not in kept:
            kept[key] = load(folder, dtype)
        return copy.deepcopy(kept[key])

    patch.setattr(models, "_from_folder", once)


def save_random_clip(folder: Path) -> Path:
    """A small CLIP with random weights, with its processor, in a folder of its own below this one."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(build_checkpoint(folder / "sd") / "tokenizer")
    torch.manual_seed(0)
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 12, "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder / "clip")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(processor, tokenizer).save_pretrained(folder / "clip")
    return folder / "clip"


def noisy_pictures() -> dict[str, Image.Image]:
    """Three pictures with large forms and fine noise."""
    pictures = {}
    for i, key in enumerate(("one", "two", "three")):
        rng = np.random.default_rng(i)
        coarse = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((16, 16, 1)))
        pictures[key] = Image.fromarray((coarse + rng.integers(0, 55, (SIDE, SIDE, 3))).astype(np.uint8))
    return pictures
