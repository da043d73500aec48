"""Classifiers with random weights, saved as the hub's are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


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
