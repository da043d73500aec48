"""Grad-CAM maps laid over their pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRENGTH = 0.75  # of the colour where the map is highest; the picture stays visible under it


def overlay(picture: Image.Image, heat: NDArray[np.float64], highest: float) -> Image.Image:
    """A picture, greyed, with its map in colour over it: from nothing (0) to yellow (`highest` and above).

    Args:
        heat: shape (height, width) of the picture, >= 0.
        highest: the value of the brightest colour, so that two maps can be compared.
    """
    from matplotlib import colormaps

    scaled = np.clip(heat / highest, 0.0, 1.0) if highest > 0 else np.zeros_like(heat)
    colour = colormaps["inferno"](scaled)[..., :3] * 255
    grey = np.asarray(picture.convert("L"), dtype=np.float64)[..., None]
    weight = (STRENGTH * np.sqrt(scaled))[..., None]
    return Image.fromarray(np.round(grey * (1 - weight) + colour * weight).astype(np.uint8))
