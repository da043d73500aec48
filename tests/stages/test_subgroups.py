"""Effects by predicted class, by confidence and by columns of the image table, from the study file to the page."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.errors import StudyError
from diffex_dagster.report.page import render_report
from diffex_dagster.report.schema import report_as_json, report_from_json
from diffex_dagster.stages.sample_images import images_version, samples_version
from diffex_dagster.stages.setup import build_store, reports_folder
from diffex_dagster.stages.subgroups import subgroups_of
from diffex_dagster.study import Study, load_study
from tests.support.explaining import explained
from tests.support.measuring import measured
from tests.support.toys import write_study


def with_table(folder: Path, **changes: object) -> Study:
    """Fourteen pictures, the first half of them taken at sea."""
    effects = {"control_prompts": ["flornip", "quazzle"], "subgroups": ["place"]} | changes
    file = write_study(folder, 14, images={"table": "table.csv", "size": 16}, effects=effects)
    rows = [f"images/{i:02d}.png,{'sea' if i < 7 else 'land'}" for i in range(14)]
    (folder / "table.csv").write_text("\n".join(["file,place", *rows]) + "\n")
    return load_study(file)


def test_a_column_of_the_table_divides_the_images(tmp_path: Path) -> None:
    study = with_table(tmp_path)
    report = explained(study, "v1")
    of_red = {row.value: row for row in report.subgroups if row.feature == "red" and row.column == "place"}
    assert {value: (row.images, row.decision) for value, row in of_red.items()} == {
        "sea": (7, "raises"), "land": (7, "raises"),
    }  # fmt: skip
    columns = {row.column for row in report.subgroups}
    assert "place" in columns and "predicted class" not in columns  # grey pictures are all taken for one class
    assert not any(row.feature == "light/unknown-thing" for row in report.subgroups)  # of it nothing is said
    assert report_from_json(report_as_json(report)).subgroups == report.subgroups
    assert "By subgroup of the images" in render_report(report)
    with (reports_folder(study, "v1") / "subgroups.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(report.subgroups)
    store = build_store(study)
    assert len(store.query("SELECT feature FROM subgroups")) == len(report.subgroups)

    before = images_version(study), samples_version(store.samples(study.name), store.image_columns(study.name))
    table = (tmp_path / "table.csv").read_text().replace("00.png,sea", "00.png,land")
    (tmp_path / "table.csv").write_text(table)
    again = {row.value: row.images for row in explained(study, "v1").subgroups if row.feature == "red"}
    assert (again["sea"], again["land"]) == (6, 8)
    after = images_version(study), samples_version(store.samples(study.name), store.image_columns(study.name))
    assert before[0] != after[0] and before[1] != after[1]


def test_a_column_called_as_what_reports_divide_by_already_is_refused(tmp_path: Path) -> None:
    for column in ("confidence", "Predicted class", "score before any edit"):
        with pytest.raises(StudyError, match=rf"effects\.subgroups: .*{column!r} already.*another name"):
            with_table(tmp_path, subgroups=["place", column])


def test_subgroups_count_what_left_a_race_and_reach_as_far_as_their_own_images(tmp_path: Path) -> None:
    study = with_table(tmp_path)
    low = np.arange(24) < 12
    null = np.where(low, 0.05, 0.6)
    columns = {"half": ["low" if each else "high" for each in low]}
    hat, still = Feature("hat", "Hat", "a hat"), Feature("still", "Still", "still")
    edits = {hat: null + np.linspace(0.3, 0.35, 24), still: null}
    ranked: list[Any] = [SimpleNamespace(feature=f, decision="raises") for f in ("hat", "still")]
    rows = {(row.feature, row.value): row for row in subgroups_of(measured(study, null, edits), ranked, columns)}
    assert rows["hat", "low"].decision == "raises"
    assert rows["still", "low"].ci_low == pytest.approx(-0.05) and rows["still", "high"].ci_low < -0.1
    left = [f"left{i}" for i in range(200)]
    rows = {(r.feature, r.value): r for r in subgroups_of(measured(study, null, edits, left=left), ranked, columns)}
    assert rows["hat", "low"].decision == "inconclusive"  # 404 tests, of 12 images each


def test_a_column_that_is_not_there_is_named_before_anything_is_made(tmp_path: Path) -> None:
    study = with_table(tmp_path, subgroups=["plaice"])
    with pytest.raises(
        StudyError, match=r"effects\.subgroups: there is no column 'plaice'; the columns are file, place"
    ):
        explained(study, "v1")
    with pytest.raises(StudyError, match=r"'place' is a column of images\.table or images\.dataset"):
        load_study(write_study(tmp_path, effects={"subgroups": ["place"]}))
