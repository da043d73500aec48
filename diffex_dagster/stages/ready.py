"""What a run needs and meets late: the judge's checkpoint, a device, who grades. Looked at before all else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffex_dagster.errors import DiffExError, StudyError, in_words
from diffex_dagster.stages.setup import placed_editor
from diffex_dagster.study import ClipProbePart, InstructEditorPart, LeditsEditorPart, Study
from diffex_dagster.utils.devices import device_problem
from diffex_dagster.utils.imports import load_object
from diffex_dagster.utils.secrets import logger
from diffex_dagster.utils.weights import check_weights

log = logger(__name__)


def check_ready(study: Study) -> None:
    """Raise StudyError for a judge or a truth that cannot be found. Loads no model.

    What a run whose edits and scores are all there does without (a device, a download) is not looked at.
    """
    check_probe(study, to_be_loaded=False)
    check_truth(study)


def check_truth(study: Study, images: Sequence[str] = ()) -> None:
    """Raise DiffExError where who grades the explanations cannot be imported, or says that a file is missing.

    It is asked about no feature, which costs nothing; what another function than the worlds' makes of that is its own.

    Args:
        images: file names of the sample images, where they are known.
    """
    if study.truth is None:
        return
    truth_of = load_object(study.truth, study.folder, "truth")

    def nothing(pictures: Sequence[object]) -> np.ndarray:
        return np.zeros(len(pictures))

    try:
        truth_of(study.folder, [], nothing, list(images), None)
    except DiffExError as error:
        raise StudyError(f"{study.file}: truth: {error}") from error
    except OSError as error:
        raise StudyError(
            f"{study.file}: truth: {study.truth} cannot read what it needs ({in_words(error)}); put it there, or leave "
            "truth out"
        ) from error
    except Exception as error:  # of a function that grades at least one feature
        log.debug("%s was asked about no feature: %s", study.truth, error)


def check_devices(study: Study) -> None:
    """Raise StudyError where editor, classifiers or judge are to work on a device that is not here."""
    wanted: dict[str, str | None] = {}
    part = placed_editor(study)
    if isinstance(part, LeditsEditorPart | InstructEditorPart):
        wanted[f"editors.{study.editor_name}.device"] = part.device
    place = study.deployment.classifiers.device
    wanted |= {f"classifiers.{name}.device": place or each.device for name, each in study.classifiers.items()}
    if isinstance(study.probe, ClipProbePart):
        wanted["probe.device"] = study.probe.device
    for field, device in wanted.items():
        if problem := device_problem(device or "auto"):
            raise StudyError(f"{study.file}: {field}: {device!r} {problem}; write auto, or a device that is here")


def check_probe(study: Study, to_be_loaded: bool = True) -> None:
    """Raise StudyError where the CLIP model that judges edits is not in its folder, or is on a hub that is out of reach
    (where it is `to_be_loaded`).
    """
    if not isinstance(study.probe, ClipProbePart):
        return
    name = study.probe.checkpoint
    folder = Path(study.checkpoint(name))
    if not is_hub_id(study, name):
        if absent := missing_of_clip(folder):
            raise StudyError(
                f"{study.file}: probe.checkpoint: {folder} holds no {absent}; name a folder that save_pretrained of "
                "model and processor wrote, or a hub id"
            )
        check_weights(folder, StudyError)
    elif to_be_loaded and hub_is_off():
        absent = missing_of_clip(cached) if (cached := cached_folder(name)) else "config.json"
        if absent:
            raise StudyError(
                f"{study.file}: probe.checkpoint: {name} is not on this machine ({absent} is missing), and "
                "HF_HUB_OFFLINE is set; unset it, or name the checkpoint's folder"
            )


def missing_of_clip(folder: Path) -> str:
    """What a folder lacks of a CLIP model with its processor, in words; "" where all is there. Loads nothing."""

    def there(*names: str) -> bool:
        return all((folder / name).is_file() and (folder / name).stat().st_size > 0 for name in names)

    if not there("config.json"):
        return "model (config.json)"
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not there("model.safetensors"):
        try:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return f"list of weights that can be read ({index.name})"
        if absent := sorted(shard for shard in shards if not there(str(shard))):
            return f"weights {absent[0]}, which {index.name} names"
    elif not there("model.safetensors"):
        other = " (pytorch_model.bin can run code and is not read)" if there("pytorch_model.bin") else ""
        return f"weights model.safetensors{other}"
    if not there("preprocessor_config.json") and not there("processor_config.json"):
        return "image processor (preprocessor_config.json)"
    if not there("tokenizer.json") and not there("vocab.json", "merges.txt"):
        return "tokenizer (tokenizer.json, or vocab.json with merges.txt)"
    return ""


def is_hub_id(study: Study, name: str) -> bool:
    """Whether a checkpoint is one of the hub's, and no folder."""
    return study.checkpoint(name) == name and bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name))


def hub_is_off() -> bool:
    """Whether nothing may be downloaded."""
    return os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def on_this_machine(name: str, file: str) -> bool:
    """Whether a file of a hub checkpoint has been downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, file), str)


def cached_folder(name: str) -> Path | None:
    """Where a hub checkpoint lies that has been downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None
