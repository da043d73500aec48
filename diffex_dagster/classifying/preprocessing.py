"""From pictures to the array that a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from diffex_dagster.classifying.labels import read_labels
from diffex_dagster.classifying.manifests import read_manifest
from diffex_dagster.classifying.parts import Preprocessing
from diffex_dagster.errors import ClassifierError

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

__all__ = ["as_array", "as_type", "merged", "read_labels", "read_manifest"]


def as_array(pictures: Sequence[Image.Image], options: Preprocessing) -> np.ndarray:
    """Pictures -> float32 array, (N, C, H, W) or (N, H, W, C) as the options say; C is 1 for grey.

    Raises:
        ClassifierError: pictures of different sizes, and the options name no size to bring them to; or `scale` and
            `mean` or `std` belong to pixels of different ranges.
    """
    if problem := _of_two_ranges(options):
        raise ClassifierError(f"preprocessing: {problem}")
    arrays = [np.asarray(_resized(picture.convert("RGB"), options)) for picture in pictures]
    if len({array.shape for array in arrays}) > 1:
        raise ClassifierError(
            "preprocessing.size: the pictures have different sizes; say which size the classifier was trained on"
        )
    batch = np.stack(arrays).astype(np.float32) * np.float32(options.scale)
    if options.channels == "bgr":
        batch = batch[..., ::-1]
    elif options.channels == "grey":  # the same weights as Pillow's "L"
        batch = np.matmul(batch, np.array([[0.299], [0.587], [0.114]], dtype=np.float32))
    mean, std = (np.asarray(values, dtype=np.float32) for values in (options.mean, options.std))
    batch = ((batch - mean) / std).astype(np.float32)
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2) if options.layout == "nchw" else batch)


def _of_two_ranges(options: Preprocessing) -> str:
    """Why mean and std cannot be of the pixels that scale makes; "" where they can."""
    most = 255 * options.scale
    mean, std = float(np.abs(options.mean).max()), float(np.min(options.std))
    if most <= 2 and mean > 2:
        return f"mean {mean:g} is of pixels from 0 to 255, and scale makes them 0 to {most:.3g}; write scale: 1 with it"
    if most > 100 and std < 1:
        return f"std {std:g} is of pixels from 0 to 1, and scale makes them 0 to {most:.3g}; write scale: {1 / 255:.8f}"
    return ""


def _resized(picture: Image.Image, options: Preprocessing) -> Image.Image:
    if options.size is None:
        return picture
    height, width = (options.size, options.size) if isinstance(options.size, int) else options.size
    resampling = _RESAMPLING[options.interpolation]
    if options.resize == "pad":
        return ImageOps.pad(picture, (width, height), resampling)
    if options.resize == "crop":
        # As torchvision does: the shorter side first, then the centre. One resampling with a fractional box would be
        # finer, and not what the model was trained with.
        # The millionth: a share that stands for whole pixels (224 of 248) must give them back.
        wide, high = int(width / options.crop_pct + 1e-6), int(height / options.crop_pct + 1e-6)
        factor = max(wide / picture.width, high / picture.height)
        scaled = (max(round(picture.width * factor), width), max(round(picture.height * factor), height))
        if scaled != picture.size:
            picture = picture.resize(scaled, resampling)
        left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
        return picture.crop((left, top, left + width, top + height))
    return picture if picture.size == (width, height) else picture.resize((width, height), resampling)


def merged(*parts: Mapping[str, Any] | Preprocessing | None) -> Preprocessing:
    """Preprocessing field by field, a later part before an earlier one; what nobody says is the default."""
    fields: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Preprocessing):
            fields |= {name: getattr(part, name) for name in part.model_fields_set}
        elif part:
            fields |= part
    return Preprocessing.model_validate(fields)


def as_type(array: np.ndarray, dtype: Any, options: Preprocessing, name: str) -> np.ndarray:
    """An array in the number type that a model takes.

    Whole numbers must be able to hold what the options make of pixels.

    Raises:
        ClassifierError: they cannot: numbers between 0 and 1 would all become 0, others would wrap around.
    """
    wanted = np.dtype(dtype)
    if wanted.kind in "iu":
        low, high = (np.asarray((end * options.scale - np.asarray(options.mean)) / options.std) for end in (0.0, 255.0))
        limits = np.iinfo(wanted)
        if (high - low).min() < 200 or low.min() < limits.min - 0.5 or high.max() > limits.max + 0.5:
            raise ClassifierError(
                f"{name}: preprocessing: the model takes whole numbers ({wanted}), and preprocessing would make "
                f"{low.min():.4g} to {high.max():.4g} of pixels; write scale: 1, mean: "
                + ("128" if limits.min == -128 else "0")
                + " and std: 1"
            )
        array = np.rint(array)
    elif wanted.kind != "f":
        raise ClassifierError(f"{name}: file: the model takes {wanted}, and pictures are numbers; export it again")
    return array.astype(wanted)
