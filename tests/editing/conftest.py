"""A tiny Stable Diffusion checkpoint with random weights: it edits to nonsense, but by the same arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support.checkpoints import build_checkpoint, noisy_pictures


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def images() -> dict[str, Image.Image]:
    return noisy_pictures()
