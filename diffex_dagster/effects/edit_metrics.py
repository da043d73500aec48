"""How much an edit changed its picture, against the null edit of the same picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WINDOWS = 8  # windows of the strength to a side of the picture


@dataclass(frozen=True)
class EditMetrics:
    """What one edit did to its picture, against the null edit of the same picture and seed.

    Attributes:
        strength: see `strength`.
        ssim: structural similarity of the two, 1 where they are the same; see `similarity`.
        inside: share of the change that lies inside the editor's mask; None without a mask or a change.
        area: share of the picture that the mask covers; None without a mask.
        lpips: perceptual distance, 0 where they are the same (`effects.perceptual`); None where it was not asked for.
    """

    strength: float
    ssim: float
    inside: float | None = None
    area: float | None = None
    lpips: float | None = None


def measure_edit(edit: Image.Image, null: Image.Image, mask: Image.Image | None = None) -> EditMetrics:
    """Everything but LPIPS, which goes through a model.

    Args:
        edit, null: of one size.
        mask: where the edit was allowed to change the picture, of any size: stretched over it; 0 where it was not.
    """
    change = pixel_change(edit, null)
    inside, area = (None, None) if mask is None else share_inside(change, mask)
    return EditMetrics(strength(change), similarity(edit, null), inside, area)


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


def similarity(edit: Image.Image, null: Image.Image) -> float:
    """Structural similarity (SSIM; Wang et al. 2004) by scikit-image, the mean over the colours and the 7×7 windows.

    Args:
        edit, null: of one size, at least 3 pixels to a side; the window shrinks to fit.

    Returns:
        In [−1, 1]; 1 where the pictures are the same.
    """
    from skimage.metrics import structural_similarity  # a second: not before a report

    pixels = [np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in (edit, null)]
    shortest = min(pixels[0].shape[:2])
    window = min(7, shortest - 1 + shortest % 2)  # odd
    return float(structural_similarity(pixels[0], pixels[1], win_size=window, channel_axis=2, data_range=1.0))


def share_inside(change: NDArray[np.float64], mask: Image.Image) -> tuple[float | None, float]:
    """The share of a change that lies inside a mask, and the share of the picture that the mask covers.

    Args:
        change: shape (height, width), >= 0.
        mask: mode L, stretched over the picture without smoothing; not 0 inside.

    Returns:
        (share in [0, 1], None where nothing changed; area in [0, 1]).
    """
    height, width = change.shape
    places = np.asarray(mask.convert("L").resize((width, height), Image.Resampling.NEAREST)) > 0
    inside, outside = float(change[places].sum()), float(change[~places].sum())
    return (inside / (inside + outside) if inside + outside > 0.0 else None), float(places.mean())
