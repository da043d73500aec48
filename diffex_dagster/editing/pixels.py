"""From a picture to what a diffusion model reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from diffex_dagster.errors import EditorError
from diffex_dagster.utils.hashing import picture_digest

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


class Pictures:
    """The pictures to edit, as square tensors and by content."""

    def __init__(self, images: Mapping[str, Image.Image], side: int, multiple: int) -> None:
        """Raises: EditorError: `side` (pixels) is no multiple of what the checkpoint works in."""
        if side % multiple:
            raise EditorError(f"resolution {side} does not fit the checkpoint: use a multiple of {multiple}")
        self._images, self._side = images, side
        self._digests: dict[str, str] = {}

    def digest(self, key: str) -> str:
        """See `picture_digest`; computed once."""
        if key not in self._digests:
            self._digests[key] = picture_digest(self._images[key])
        return self._digests[key]

    def tensor(self, key: str) -> torch.Tensor:
        """See `picture_tensor`."""
        return picture_tensor(self._images[key], self._side)
