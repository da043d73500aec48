"""A tiny Stable Diffusion checkpoint with random weights: it edits to nonsense, but by the same arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffex_dagster.bench.random_weights import write_checkpoint

SIDE = 64  # pixels; latents are 16×16 and the default mask 4×4


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build_checkpoint(folder: Path, prediction_type: str = "epsilon", size: str = "tiny") -> Path:
    """Write a random checkpoint of a size of `bench.random_weights`, whose masks say something."""
    return write_checkpoint(folder, size, dtype=torch.float32, prediction_type=prediction_type, steady=True)


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
