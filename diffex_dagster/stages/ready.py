"""What a run needs and meets late: the judge's checkpoint, a device, who grades. Looked at before all else."""

from __future__ import annotations

import os
import re
from pathlib import Path

from diffex_dagster.errors import StudyError
from diffex_dagster.stages.setup import placed_editor
from diffex_dagster.study import ClipProbePart, InstructEditorPart, LeditsEditorPart, Study
from diffex_dagster.utils.devices import device_problem
from diffex_dagster.utils.imports import load_object


def check_ready(study: Study) -> None:
    """Raise StudyError for a judge or a truth that cannot be found. Loads no model.

    What a run whose edits and scores are all there does without (a device, a download) is not looked at.
    """
    check_probe(study, to_be_loaded=False)
    if study.truth is not None:
        load_object(study.truth, study.folder, "truth")


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
        if not (folder / "config.json").is_file():
            raise StudyError(
                f"{study.file}: probe.checkpoint: {folder} holds no model (config.json); name a folder that "
                "save_pretrained wrote, or a hub id"
            )
    elif to_be_loaded and hub_is_off() and not on_this_machine(name, "config.json"):
        raise StudyError(
            f"{study.file}: probe.checkpoint: {name} is not on this machine, and HF_HUB_OFFLINE is set; unset it, or "
            "name the checkpoint's folder"
        )


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
