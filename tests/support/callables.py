"""Classifiers as users write them, and some that are wrong. All but the wrong ones are the first persona."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from tests.support.toys import WarmClassifier

LABELS = ("junior", "senior")
PERSONA = Path(__file__).parent.parent.parent / "studies" / "avatars" / "classifiers" / "persona_v1"


@functools.cache
def _model():
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(PERSONA).eval()


def of_tensors(pixels: torch.Tensor) -> torch.Tensor:
    assert pixels.dtype == torch.float32 and pixels.shape[1] == 3 and pixels.min() >= 0 and pixels.max() <= 1
    return _model()((pixels - 0.5) / 0.5).logits


def of_pictures(pictures):
    pixels = np.stack([np.asarray(each, dtype=np.float32) / 255 for each in pictures])
    with torch.inference_mode():
        return of_tensors(torch.from_numpy(pixels).permute(0, 3, 1, 2)).tolist()


def probabilities(pictures):
    return torch.tensor(of_pictures(pictures), dtype=torch.float64).softmax(1)


def log_odds(pictures):
    logits = np.array(of_pictures(pictures))
    return logits[:, 1] - logits[:, 0]


class Module(torch.nn.Module):
    """A torch module whose output has `logits`, with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _model()

    def forward(self, pixels: torch.Tensor):
        assert not self.training
        return self.inner(pixels)


module = Module()


def raises(pictures):
    raise ValueError("no")


def scalar(pictures):
    return 1.0


def spread(outputs, labels):
    return outputs.max(axis=1) - outputs.min(axis=1)


def same(outputs, labels):
    return outputs


class LoadsLate(WarmClassifier):
    """Notes in a file when its weights would be loaded: at the first picture."""

    def __init__(self, folder, options):
        super().__init__(folder, options)
        self.notes, self.loaded = folder / "loaded.txt", False

    def __call__(self, pictures):
        if not self.loaded:
            with self.notes.open("a") as file:
                file.write("loaded\n")
        self.loaded = True
        return super().__call__(pictures)
