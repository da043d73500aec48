"""LPIPS: how different two pictures look to a network (Zhang et al. 2018, arXiv 1801.03924).

The `lpips` package is an extra. It holds its own small weights; those of the backbone come from torchvision's hub the
first time, or from the folder that torch keeps them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from diffex_dagster.errors import DiffExError, first_line
from diffex_dagster.utils.devices import made_in_batches

Backbone = Literal["alex", "vgg", "squeeze"]
SMALLEST = 64  # pixels to a side that the backbones are made for: smaller pictures are enlarged
_BATCH = 32


class Lpips:
    """Loads at the first question.

    Args:
        backbone: "alex" is the authors' choice for comparing pictures.
        device: "auto", "cpu", "cuda" or "mps".
        options: further arguments of `lpips.LPIPS`, such as `pnet_rand=True` for a backbone with random weights.
    """

    def __init__(self, backbone: Backbone, device: str = "auto", **options: Any) -> None:
        self.backbone, self.device, self._options = backbone, device, options
        self._model: Any = None
        self._at_once = _BATCH  # pairs: halved where memory does not suffice

    def __call__(self, pairs: Sequence[tuple[Image.Image, Image.Image]]) -> list[float]:
        """The distance of each pair, >= 0; 0 for equal pictures.

        Args:
            pairs: pictures of one size, at least 64 pixels to a side, or enlarged to it.

        Raises:
            DiffExError: the package is missing, or the weights cannot be had.
        """
        import torch

        model, device = self._loaded()

        def asked(batch: Sequence[tuple[Image.Image, Image.Image]]) -> list[float]:
            sides = zip(*batch, strict=True)
            first, second = (torch.from_numpy(np.stack([_pixels(p) for p in side])).to(device) for side in sides)
            with torch.inference_mode():
                distances: list[float] = model(first, second).flatten().tolist()
            return distances

        too_large = "report.lpips: one pair alone does not fit into the device's memory: take it out of the study file"
        found: list[float] = []
        for _, distances, at_once in made_in_batches(pairs, self._at_once, asked, device, too_large, DiffExError):
            self._at_once = at_once
            found += distances
        return found

    def _loaded(self) -> tuple[Any, str]:
        from diffex_dagster.utils.devices import pick_device

        device = pick_device(self.device)
        if self._model is None:
            try:
                import lpips
            except ImportError as error:
                raise DiffExError(
                    f"report.lpips needs the package lpips and torchvision ({first_line(error)}): run "
                    "`pip install diffex-dagster[lpips]`, or take report.lpips out of the study file"
                ) from error
            try:
                model = lpips.LPIPS(net=self.backbone, verbose=False, **self._options)
            except (OSError, RuntimeError, ValueError) as error:
                raise DiffExError(
                    f"report.lpips: the weights of the backbone {self.backbone!r} cannot be loaded "
                    f"({first_line(error)}); run once where torchvision can fetch them, or copy them into the folder "
                    "`hub/checkpoints` of TORCH_HOME"
                ) from error
            self._model = model.eval().to(device)
        return self._model, device


def _pixels(picture: Image.Image) -> np.ndarray:
    """(3, height, width) float32 in [−1, 1], at least SMALLEST to a side."""
    rgb = picture.convert("RGB")
    if min(rgb.size) < SMALLEST:
        factor = SMALLEST / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * factor), round(rgb.height * factor)), Image.Resampling.BICUBIC)
    return np.asarray(rgb, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
