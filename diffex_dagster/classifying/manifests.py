"""What the files beside a model say of its classes, preprocessing and outputs. Each key is read or refused."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError
from ruamel.yaml import YAMLError

from diffex_dagster.classifying.labels import names_of, read_text
from diffex_dagster.classifying.outputs import Outputs
from diffex_dagster.classifying.parts import Preprocessing
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.mistakes import first_fault
from diffex_dagster.utils.text import load_yaml

BESIDE = ("manifest.json", "manifest.yaml", "config.json", "preprocessor_config.json")
"""What is looked for beside a model file, and in a folder that is named as a manifest; a later one wins."""

_OWN = ("labels", "preprocessing", "outputs")
# What other tools call what we read under another name: refused where our own name is not there, never passed over.
_CALLED = {
    "labels": (
        "classes", "class_names", "names", "categories", "class_to_idx", "idx_to_class", "label2id", "label_map",
    ),
    "preprocessing": (
        "transforms", "transform", "preprocess", "mean", "std", "image_std", "normalize", "normalise", "normalization",
        "normalisation", "rescale", "rescale_factor", "scale", "size", "input_size", "image_size", "img_size", "resize",
        "crop", "crop_size", "crop_pct", "interpolation", "resample", "channels", "channel_order", "color_mode",
        "layout", "data_format",
    ),
    "outputs": ("activation", "output_type", "output_activation", "final_activation"),
}  # fmt: skip
_TASKS: dict[Any, Literal["labels", "values"]] = {"multi_label_classification": "labels", "regression": "values"}
_OF_OTHERS = ("config.json", "preprocessor_config.json")  # their other keys are about other things
_INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's number

# Keys of a transformers image processor that change no pixel of a picture which is RGB already.
_HARMLESS = {
    "image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "data_format", "device",
    "input_data_format", "return_tensors", "model_input_names", "default_to_square", "disable_grouping", "auto_map",
    "do_reduce_labels", "reduce_labels", "num_channels", "backend", "_name_or_path", "transformers_version",
    "model_type", "name", "pad_size",
}  # fmt: skip
_READ = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std", "do_flip_channel_order",
}  # fmt: skip
_BICUBIC = {"Beit", "Bit", "Blip", "CLIP", "ChineseCLIP", "ConvNext", "DeiT", "EfficientNet", "Levit", "MobileViT",
            "PoolFormer", "Pvt", "Siglip"}  # fmt: skip
_CENTRED = {"Bit", "CLIP", "ChineseCLIP", "DeiT", "Levit", "MobileNetV1", "MobileNetV2", "MobileViT", "PoolFormer"}
_HIDDEN = {"Perceiver", "DPT", "Siglip2", "ImageGPT", "Owlv2", "Vilt", "Flava"}  # they do what their keys do not say


@dataclass(frozen=True)
class Manifest:
    """What is said of a model beside it; empty where nothing is."""

    labels: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)  # only the fields that are said
    outputs: Outputs | None = None
    file: Path | None = None  # where the outputs are said
    task: Literal["labels", "values"] | None = None  # multi-label or a regression, where a configuration says so

    def options(self) -> Preprocessing | None:
        """The preprocessing, where there is one."""
        return Preprocessing.model_validate(self.preprocessing) if self.preprocessing else None


def read_manifest(path: Path) -> tuple[tuple[str, ...], Preprocessing | None]:
    """Labels and preprocessing that belong to a model file; see `load_manifest`."""
    found = load_manifest(path)
    return found.labels, found.options()


def load_manifest(path: Path) -> Manifest:
    """What a file or a folder says of a model.

    Args:
        path: a JSON or YAML file with `labels`, `preprocessing` (the fields of `Preprocessing`) and `outputs`; a
            `preprocessor_config.json` of transformers; a configuration of timm; or a folder with these and a
            `config.json` with `id2label`.

    Raises:
        ClassifierError: it is missing, or not one of these; or it says something that is not understood. The message
            names the file and the key.
    """
    files = [path / name for name in BESIDE if (path / name).exists()] if path.is_dir() else [path]
    if not files:
        raise ClassifierError(f"{path}: manifest: the folder has no preprocessor_config.json; name a file")
    found = _merged(files)
    if not found.labels and not found.preprocessing and not found.outputs:
        raise ClassifierError(
            f"{path}: manifest: it has neither labels nor preprocessing; write both, as docs/howto/classifier.md shows"
        )
    return found


def manifest_beside(model: Path) -> Manifest:
    """What lies beside a model file; a configuration that is about something else is passed over.

    Raises:
        ClassifierError: as `load_manifest`.
    """
    return _merged([model.parent / name for name in BESIDE if (model.parent / name).is_file()])


def _merged(files: list[Path]) -> Manifest:
    labels: tuple[str, ...] = ()
    fields: dict[str, Any] = {}
    outputs: Outputs | None = None
    told: Path | None = None
    task: Literal["labels", "values"] | None = None
    for file in files:
        content = _load(file)
        task = _TASKS.get(content.get("problem_type"), task)
        labels = _labels(file, content) or labels
        fields |= _preprocessing(file, content)
        if "outputs" in content and file.name not in _OF_OTHERS:
            outputs, told = _outputs(file, content["outputs"]), file
    _validated(files[0] if files else Path(), fields)
    return Manifest(labels, fields, outputs, told, task)


def _labels(file: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    if "labels" in content:
        return names_of(content["labels"], f"{file}: labels")
    if content.get("id2label"):
        return labels_of_config(content, file)
    names = content.get("label_names") or (content.get("pretrained_cfg") or {}).get("label_names")
    return names_of(names, f"{file}: label_names") if names else ()


def labels_of_config(content: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """The class names of a transformers configuration.

    Raises:
        ClassifierError: a number is missing in `id2label`, or `label2id` gives a class another number.
    """
    names = names_of(content["id2label"], f"{file}: id2label")
    backwards = content.get("label2id")
    for name, number in backwards.items() if isinstance(backwards, Mapping) else ():
        if name in names and names.count(name) == 1 and str(names.index(name)) != str(number).strip():
            raise ClassifierError(
                f"{file}: label2id: {name!r} is number {number} there and {names.index(name)} in id2label; correct the "
                "one that is wrong"
            )
    return names


def _preprocessing(file: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    if "preprocessing" in content:
        own = content["preprocessing"]
        if not isinstance(own, Mapping):
            raise ClassifierError(f"{file}: preprocessing: it must be a mapping, e.g. {{size: 64, mean: 0.5}}; mend it")
        _validated(file, own)
        return dict(own)
    if isinstance(content.get("pretrained_cfg"), Mapping):
        return of_timm(content["pretrained_cfg"], file)
    if content.get("architecture") and {"input_size", "mean", "std"} <= content.keys():  # of timm's earlier versions
        return of_timm(content, file)
    of_processor = {"image_mean", "do_resize", "do_rescale", "do_normalize", "image_processor_type"}
    if (of_processor | (_READ if file.name == "preprocessor_config.json" else set())) & content.keys():
        return of_transformers(content, file)
    return {}


def _outputs(file: Path, said: Any) -> Outputs:
    if said not in get_args(Outputs):
        raise ClassifierError(f"{file}: outputs: there is no {said!r}; write one of {', '.join(get_args(Outputs))}")
    outputs: Outputs = said
    return outputs


def _load(file: Path) -> dict[str, Any]:
    text = read_text(file, "manifest", "name a JSON or YAML file")
    try:
        content = _parsed(text)
    except (YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ClassifierError(f"{file}: manifest: it cannot be read ({reason}); name a JSON or YAML file") from error
    if not isinstance(content, dict):
        raise ClassifierError(f"{file}: manifest: it has no fields; write labels and preprocessing")
    if file.name not in _OF_OTHERS:
        for key in content:
            near = difflib.get_close_matches(str(key), _OWN, 1, cutoff=0.75)
            if near and key not in _OWN:
                raise ClassifierError(f"{file}: manifest: there is no field {key!r}; did you mean {near[0]!r}?")
        _called_otherwise(file, content)
    return content


_EXAMPLES = {
    "labels": '"labels": ["cat", "dog"]',
    "preprocessing": '"preprocessing": {"size": 224, "mean": 0.5, "std": 0.5}',
    "outputs": '"outputs": "probabilities"',
}


def _called_otherwise(file: Path, content: Mapping[str, Any]) -> None:
    """Raise ClassifierError for what belongs under one of our fields, and stands under a name of another tool."""
    of_processor = {"image_mean", "image_processor_type", "feature_extractor_type", "pretrained_cfg", "architecture"}
    for own, names in _CALLED.items():
        read = own in content or (own == "labels" and "id2label" in content)
        if read or (own == "preprocessing" and of_processor & content.keys()):
            continue
        for name in names:
            if name in content and not (own == "labels" and isinstance(content[name], int)):
                raise ClassifierError(
                    f"{file}: manifest: {name!r} is not read here; write it as {_EXAMPLES[own]}, or remove it"
                )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return load_yaml(text)


def _validated(file: Path, fields: Any) -> Preprocessing:
    try:
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        fault = first_fault(error)
        where = ".".join(filter(None, ("preprocessing", fault.field)))
        raise ClassifierError(f"{file}: {where}: {fault.what}; mend it") from error


def of_timm(configuration: Mapping[str, Any], file: Path | str = "timm") -> dict[str, Any]:
    """timm's pretrained configuration in our words, as timm prepares pictures for evaluation.

    Raises:
        ClassifierError: it names no input size, mean or std, or a crop mode that is not known.
    """
    missing = [key for key in ("input_size", "mean", "std") if not configuration.get(key)]
    if missing:
        raise ClassifierError(f"{file}: pretrained_cfg has no {missing[0]}; write the preprocessing in the study")
    modes = {"center": "crop", "squash": "stretch", "border": "pad"}
    mode = configuration.get("crop_mode") or "center"
    if mode not in modes:
        raise ClassifierError(f"{file}: crop_mode: there is no {mode!r}; write the preprocessing in the study")
    channels, height, width = configuration["input_size"]
    fields = {
        "size": (height, width),
        "resize": modes[mode],
        "crop_pct": configuration.get("crop_pct") or 1.0,
        "interpolation": configuration.get("interpolation") or "bicubic",
        "mean": _each(configuration["mean"], file, "mean"),
        "std": _each(configuration["std"], file, "std"),
    }
    return fields | ({"channels": "grey"} if channels == 1 else {})


def of_transformers(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A `preprocessor_config.json` of transformers in our words. Absent switches are on, as they are there.

    Raises:
        ClassifierError: a key that changes pixels and cannot be followed here; the message names it.
    """
    kind = str(content.get("image_processor_type") or content.get("feature_extractor_type") or "")
    for ending in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    for name, why in _not_followed(content, kind):
        raise ClassifierError(
            f"{file}: {name}: {why}; prepare pictures as it does in a python classifier, or remove the key where it "
            "does nothing"
        )
    fields: dict[str, Any] = {"scale": 1.0}
    if content.get("do_rescale", True):
        factor = content.get("rescale_factor")
        fields["scale"] = 1 / 255 if factor is None else float(factor)
    if content.get("do_normalize", kind != "MobileViT"):
        for key, name in (("image_mean", "mean"), ("image_std", "std")):
            if content.get(key) is None and (key in content or kind in _BICUBIC - {"Siglip", "ConvNext"}):
                raise ClassifierError(
                    f"{file}: {key}: do_normalize is on and no {key} is given; write it, or turn it off"
                )
            fields[name] = _each(content.get(key, 0.5), file, key)
    resample = content.get("resample", 3 if kind in _BICUBIC else 2)
    fields["interpolation"] = _interpolation(2 if resample is None else resample, file)
    fields |= _resizing(content, kind, file)
    if content.get("do_flip_channel_order", kind == "MobileViT"):
        fields["channels"] = "bgr"
    return fields


def _not_followed(content: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    if kind in _HIDDEN:
        yield "image_processor_type", f"what a {kind}ImageProcessor does is not known here"
    if kind == "EfficientNet" and content.get("include_top", True) and content.get("do_normalize", True):
        yield "include_top", "EfficientNet normalises once more with it, which is not known here"
    for key, value in content.items():
        if key not in _READ | _HARMLESS | {"id2label", "label2id", "include_top"} and value not in (
            None,
            False,
            {},
            [],
        ):
            yield str(key), "the key is not known here, and may change what the classifier sees"


def _resizing(content: Mapping[str, Any], kind: str, file: Path) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    size, crop = content.get("size"), content.get("crop_size")
    if content.get("do_resize", True) and size is not None:
        fields = _sized(size, file, "size")
        percent = {"ConvNext": 224 / 256, "PoolFormer": 0.9, "Levit": 224 / 256}.get(kind)
        percent = content.get("crop_pct") or percent
        edge = fields["size"] if isinstance(fields["size"], int) else fields["size"][0]
        if kind == "ConvNext" or (percent and kind not in ("PoolFormer", "Levit")):
            # Below 384 pixels: the shorter edge to size / crop_pct, then the centre; from there on stretched.
            return {"size": edge, "resize": "crop", "crop_pct": float(percent or 1)} if edge < 384 else {
                "size": edge, "resize": "stretch"}  # fmt: skip
        if percent and fields["resize"] == "crop":
            fields["size"] = int(edge / float(percent))  # before the centre is cut out
    if content.get("do_center_crop", kind in _CENTRED) and crop is not None:
        cut = _sized(crop, file, "crop_size")["size"]
        high, wide = (cut, cut) if isinstance(cut, int) else cut
        before = fields.get("size", high)
        before = before if isinstance(before, int) else before[0]
        if before < high:
            raise ClassifierError(
                f"{file}: crop_size: {high} is more than the {before} pixels that pictures are resized to, and the "
                "black border that this makes cannot be made here; correct it"
            )
        if not fields:
            raise ClassifierError(
                f"{file}: do_resize: it is off and do_center_crop on, which depends on the pictures' own size; write "
                "the preprocessing in the study"
            )
        fields |= {"size": (high, wide), "resize": "crop", "crop_pct": min(1.0, high / before)}
    return fields


def _sized(size: Any, file: Path, key: str) -> dict[str, Any]:
    """A size in any form of transformers; a study's pictures are square, so that an edge is a side."""
    if isinstance(size, int) and not isinstance(size, bool):
        return {"size": size, "resize": "stretch"}
    if isinstance(size, list | tuple) and len(size) == 2:
        return {"size": (int(size[0]), int(size[1])), "resize": "stretch"}
    if isinstance(size, Mapping):
        given = {name: value for name, value in size.items() if value is not None}
        if given.keys() == {"height", "width"}:
            return {"size": (given["height"], given["width"]), "resize": "stretch"}
        if given.keys() == {"shortest_edge"}:
            return {"size": given["shortest_edge"], "resize": "crop"}
        if given.keys() == {"longest_edge"}:
            return {"size": given["longest_edge"], "resize": "pad"}
        if given.keys() == {"shortest_edge", "longest_edge"} and given["shortest_edge"] <= given["longest_edge"]:
            return {"size": given["shortest_edge"], "resize": "crop"}
    raise ClassifierError(f"{file}: {key}: {size!r} is not understood; write {{height: …, width: …}}")


def _each(values: Any, file: Path | str, key: str) -> Any:
    """A number, or three: one for each channel."""
    if isinstance(values, list | tuple) and len(values) == 1:
        return float(values[0])
    if isinstance(values, list | tuple):
        if len(values) != 3:
            raise ClassifierError(f"{file}: {key}: it has {len(values)} numbers; pictures have 3 channels")
        return tuple(float(value) for value in values)
    return float(values)


def _interpolation(resample: Any, file: Path) -> str:
    if isinstance(resample, int) and 0 <= resample < len(_INTERPOLATIONS):
        return _INTERPOLATIONS[resample]
    if isinstance(resample, str) and resample.lower() in _INTERPOLATIONS:
        return resample.lower()
    raise ClassifierError(f"{file}: resample: there is no {resample!r}; write one of Pillow's numbers, 0 to 5")
