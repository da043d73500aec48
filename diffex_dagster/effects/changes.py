"""How much an edit changed its picture, against the null edit of the same picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WINDOWS = 8  # windows of the strength to a side of the picture


def pixel_change(edit: Image.Image, null: Image.Image) -> NDArray[np.float64]:
    """Mean absolute change of the three colours, in [0, 1]; shape (height, width), which both pictures share."""
    after, before = (np.asarray(picture.convert("RGB"), dtype=np.int16) for picture in (edit, null))
    change: NDArray[np.float64] = np.abs(after - before) @ np.full(3, 1 / (3 * 255))
    return change


def strength(change: NDArray[np.float64]) -> float:
    """The mean change in the most changed window of an eighth of the picture's height and width.

    Not the mean over the picture: a mouth covers a hundredth of a face, and an edit that draws it exactly would be
    weaker than one that shifts every pixel by a level or two.

    Args:
        change: shape (height, width), in [0, 1].

    Returns:
        In [0, 1].
    """
    from scipy.ndimage import uniform_filter  # see effects.paired

    sides = [max(1, side // WINDOWS) for side in change.shape]
    # Outside nothing changed, so that a window that hangs over an edge is never above the same one moved inside.
    return float(uniform_filter(change, sides, mode="constant").max(initial=0.0))
