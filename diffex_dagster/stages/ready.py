"""What a run needs and meets late: the judge's checkpoint, a device, the grader. Looked at before all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from diffex_dagster.editing.protocol import Concept, Editor, EditRequest
from diffex_dagster.errors import DiffExError, EditorError, StudyError, in_words
from diffex_dagster.study import Study
from diffex_dagster.study.building import judge_where, placed_editor
from diffex_dagster.utils.devices import device_problem
from diffex_dagster.utils.imports import load_object
from diffex_dagster.utils.secrets import logger

log = logger(__name__)


def check_ready(study: Study) -> None:
    """Raise StudyError for a judge or a truth that cannot be found. Loads no model.

    What a run whose edits and scores are all there does without (a device, a download) is not looked at.
    """
    check_judge(study, to_be_loaded=False)
    check_truth(study)


def check_pins(study: Study, editor: Editor) -> None:
    """Raise StudyError for options of a single prompt that the editor refuses, before anything else is tried.

    Args:
        editor: of the study. Its checkpoint is looked at, and no model is loaded.
    """
    check: Callable[[Sequence[EditRequest]], None] | None = getattr(editor, "check_settings", None)
    if check is None:
        return
    pinned = study.editor_part.pinned()
    try:
        check([EditRequest("", (Concept(prompt, setting=setting),)) for prompt, setting in pinned.items()])
    except EditorError as error:
        raise StudyError(f"{study.file}: editors.{study.editor_name}.{error}") from error


def check_truth(study: Study, images: Sequence[str] = ()) -> None:
    """Raise DiffExError where the grader of the explanations cannot be imported, or says that a file is missing.

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
    wanted[f"editors.{study.editor_name}.device"] = placed_editor(study).works_on()
    place = study.deployment.classifiers.device
    wanted |= {f"classifiers.{name}.device": place or each.device for name, each in study.classifiers.items()}
    wanted["judge.device"] = study.judge.works_on()
    for field, device in wanted.items():
        if problem := device_problem(device or "auto"):
            raise StudyError(f"{study.file}: {field}: {device!r} {problem}; write auto, or a device that is here")


def check_judge(study: Study, to_be_loaded: bool = True) -> str:
    """What has been found of the judge of edits, in words.

    Raises:
        StudyError: it lacks what it needs (of a download: where it is `to_be_loaded`).
    """
    try:
        where = judge_where(study)
        if study.second_judge.judges:
            study.second_judge.check(replace(where, field="second_judge"), to_be_loaded)
        return study.judge.check(where, to_be_loaded)
    except StudyError as error:
        raise StudyError(f"{study.file}: {error}") from error
