"""What a calibration shows of its choices outside its page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from PIL import Image

from diffex_dagster.assets.running import prepare_study
from diffex_dagster.editing.calibration import Try, in_words
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.report.sheets import contact_sheet
from diffex_dagster.results import opened
from diffex_dagster.stages.calibration import calibrate
from diffex_dagster.stages.calibration_page import chosen_edits, page_of
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.store import StoredPicture
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from tests.support.toys import write_study

KNOB = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}


def metadata_of(study: Study) -> dict[str, Any]:
    return prepare_study(study, "editor_calibration", silent).metadata["editor_calibration"]


def stored(work: StudyContext, tried: Try) -> tuple[Image.Image, Image.Image]:
    """The null edit and the edit of a try, as the store has them."""
    concept = Concept(tried.wanted.prompt, tried.wanted.direction, tried.setting)
    requests = [EditRequest(tried.image, concepts, work.study.seed) for concepts in ((), (concept,))]
    files = work.store.stored_edits(requests, work.editor.fingerprint)
    null, edit = (opened(StoredPicture(work.store.pictures, files[request])) for request in requests)
    return null, edit


def test_the_asset_shows_the_null_edit_and_the_chosen_edit_of_a_prompt_of_each_group(tmp_path: Path) -> None:
    file = write_study(tmp_path, 24, editors={"paint": KNOB}, calibrate=True, calibration={"budget": 1.0})
    study = load_study(file)
    kind, _, data = metadata_of(study)["null_and_chosen_edits"].removesuffix(")").partition(",")
    work = StudyContext(study)
    found = calibrate(work)
    rows = chosen_edits(page_of(work, found))
    assert [label.split(": ")[0] for label, _ in rows] == ["red patch", "blue patch", "bright"]  # a group each
    for label, (null, chosen) in rows:
        prompt, options = label.split(": ")
        setting = found.choices[prompt, "add"].setting
        tries = [each for each in found.tries if (each.wanted.prompt, each.setting) == (prompt, setting)]
        assert (opened(null), opened(chosen)) in [stored(work, each) for each in tries]
        assert options == in_words(setting) and opened(null) != opened(chosen)
    sheet = base64.b64decode(data)
    assert kind == "![contact sheet](data:image/webp;base64" and len(sheet) <= 140_000
    assert sheet == contact_sheet(rows, 140_000)


def test_the_asset_shows_no_pictures_where_nothing_was_tried(tmp_path: Path) -> None:
    file = write_study(tmp_path, 2, editors={"paint": KNOB}, calibrate=True, calibration={"budget": 0.01})
    said = metadata_of(load_study(file))
    assert "too few" in said["note"] and "null_and_chosen_edits" not in said
