"""From a picture to what a diffusion model reads."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    import torch


def picture_tensor(picture: Image.Image, side: int) -> torch.Tensor:
    """(3, side, side) float32 in [−1, 1]; a picture that is not square loses its longer sides' ends."""
    import numpy as np
    import torch

    rgb = picture.convert("RGB")
    if rgb.size != (side, side):
        rgb = ImageOps.fit(rgb, (side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(rgb, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def picture_digest(picture: Image.Image) -> str:
    """SHA-256 of a picture's size and RGB pixels."""
    rgb = picture.convert("RGB")
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()
