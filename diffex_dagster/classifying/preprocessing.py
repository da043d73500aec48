"""From pictures to the array that a model takes, and where a model's own settings are read from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from pydantic import ValidationError
from ruamel.yaml import YAML, YAMLError

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
_NAMES = {int(value): name for name, value in _RESAMPLING.items()}


def as_array(pictures: Sequence[Image.Image], options: Preprocessing) -> np.ndarray:
    """Pictures -> float32 array, (N, C, H, W) or (N, H, W, C) as the options say; C is 1 for grey.

    Raises:
        ClassifierError: pictures of different sizes, and the options name no size to bring them to.
    """
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
        wide, high = int(width / options.crop_pct), int(height / options.crop_pct)
        factor = max(wide / picture.width, high / picture.height)
        scaled = (max(round(picture.width * factor), width), max(round(picture.height * factor), height))
        if scaled != picture.size:
            picture = picture.resize(scaled, resampling)
        left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
        return picture.crop((left, top, left + width, top + height))
    return picture if picture.size == (width, height) else picture.resize((width, height), resampling)


def read_manifest(path: Path) -> tuple[tuple[str, ...], Preprocessing | None]:
    """Labels and preprocessing that belong to a model file.

    Args:
        path: a JSON or YAML file with `labels` and `preprocessing` (the fields of `Preprocessing`), a
            `preprocessor_config.json`, or a folder that holds one and a `config.json` with `id2label`.

    Raises:
        ClassifierError: it is missing, or not one of these; the message names the file.
    """
    if path.is_dir():
        files = [path / name for name in ("config.json", "preprocessor_config.json") if (path / name).exists()]
        if not files:
            raise ClassifierError(f"{path}: manifest: the folder has no preprocessor_config.json; name a file")
    else:
        files = [path]
    labels: tuple[str, ...] = ()
    options: Preprocessing | None = None
    for file in files:
        content = _read(file)
        if "id2label" in content:
            names = {int(index): str(name) for index, name in content["id2label"].items()}
            labels = tuple(names[index] for index in sorted(names))
        if "labels" in content:
            labels = tuple(str(label) for label in content["labels"])
        if "preprocessing" in content:
            options = _validated(file, content["preprocessing"])
        elif {"image_mean", "do_resize", "do_rescale", "image_processor_type"} & content.keys():
            options = _validated(file, _of_transformers(content))
    if not labels and options is None:
        raise ClassifierError(
            f"{path}: manifest: it has neither labels nor preprocessing; write both, as docs/howto/classifier.md shows"
        )
    return labels, options


def _read(file: Path) -> dict[str, Any]:
    try:
        content = YAML(typ="safe").load(file.read_text("utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ClassifierError(f"{file}: manifest: it cannot be read ({reason}); name a JSON or YAML file") from error
    if not isinstance(content, dict):
        raise ClassifierError(f"{file}: manifest: it has no fields; write labels and preprocessing")
    return content


def _validated(file: Path, fields: Any) -> Preprocessing:
    try:
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, ("preprocessing", *problem["loc"])))
        raise ClassifierError(f"{file}: {where}: {problem['msg']}; mend it") from error


def _of_transformers(content: dict[str, Any]) -> dict[str, Any]:
    """A `preprocessor_config.json` of transformers in our words. Absent switches are on, as they are there."""
    fields: dict[str, Any] = {"scale": 1.0}
    if content.get("do_rescale", True):
        fields["scale"] = float(content.get("rescale_factor", 1 / 255))
    if content.get("do_normalize", True):
        fields["mean"], fields["std"] = content.get("image_mean", 0.5), content.get("image_std", 0.5)
    fields["interpolation"] = _NAMES.get(int(content.get("resample", 2)), "bilinear")
    size, crop = content.get("size"), content.get("crop_size")
    if content.get("do_resize", True) and size is not None:
        if isinstance(size, dict) and "height" in size:
            fields["size"] = (size["height"], size["width"])
        else:
            fields["size"] = size["shortest_edge"] if isinstance(size, dict) else size
            fields["resize"] = "crop" if isinstance(size, dict) else "stretch"
    if content.get("do_center_crop", False) and crop is not None:
        high, wide = (crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop)
        before = fields.get("size", high)
        before = before[0] if isinstance(before, tuple) else before
        fields |= {"size": (high, wide), "resize": "crop", "crop_pct": min(1.0, high / before)}
    return fields


def read_labels(labels: Sequence[str] | Path) -> tuple[str, ...]:
    """Class names as they stand, or from a file: one a line, or a JSON list.

    Raises:
        ClassifierError: the file cannot be read.
    """
    if not isinstance(labels, Path):
        return tuple(labels)
    try:
        text = labels.read_text("utf-8")
        names = json.loads(text) if labels.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise ClassifierError(
            f"{labels}: labels: the file cannot be read ({error}); write one class name a line, or a JSON list"
        ) from error
    return tuple(str(name).strip() for name in names if str(name).strip())
