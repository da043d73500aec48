from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import jsonschema
import pytest
from PIL import Image

from diffex_dagster.errors import DiffExError
from diffex_dagster.report import schema
from diffex_dagster.report.files import MARK, effects_csv, write_atomically, write_comparison, write_report
from diffex_dagster.report.rows import COLUMNS, flat_rows
from diffex_dagster.results import Comparison, Report
from tests.support import material


def test_a_report_is_seven_files(report_folder: Path) -> None:
    names = {"index.html", "report.json", "effects.csv", "effects.parquet", "effects.svg", "effects.png", "images.csv"}
    assert {path.name for path in report_folder.iterdir()} == names | {MARK}  # and no temporary one
    assert (report_folder / "index.html").stat().st_size < 5_000_000


def test_report_json_is_valid_and_comes_back(report_folder: Path, explanation: Report) -> None:
    data = json.loads((report_folder / "report.json").read_text("utf-8"))
    jsonschema.validate(data, schema.load_schema("report-1"))
    back = schema.report_from_json(data)
    assert back.attributions[0] == replace(explanation.attributions[0], example=None)
    assert explanation.completeness
    least = tuple(replace(each, picture=None) for each in explanation.completeness.least_explained)
    assert back == replace(
        explanation,
        examples={},
        per_image=(),
        gallery=None,
        joint=back.joint,
        attributions=back.attributions,
        completeness=replace(explanation.completeness, least_explained=least),
    )
    assert explanation.joint and back.joint == replace(explanation.joint, examples=())
    assert data["examples"][explanation.features[0].feature][0].keys() >= {"image", "effect", "flipped"}


def test_another_version_of_the_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=r"diffex\.report/1"):
        schema.report_from_json({"schema": "diffex.report/99"})


def test_what_is_no_number_is_null_in_json(explanation: Report) -> None:
    broken = replace(explanation.features[0], effect=float("nan"), p_value=float("inf"))
    data = schema.report_as_json(replace(explanation, features=(broken,)))
    json.dumps(data, allow_nan=False)
    jsonschema.validate(data, schema.load_schema("report-1"))
    assert data["features"][0]["effect"] is None and data["features"][0]["p_value"] is None


def test_a_report_json_from_before_side_effects_is_read(explanation: Report) -> None:
    data = schema.report_as_json(explanation)
    del data["side_effects"]
    for row in data["features"]:
        del row["confounded_with"]
    jsonschema.validate(data, schema.load_schema("report-1"))
    back = schema.report_from_json(data)
    assert back.side_effects == () and not any(f.confounded_with for f in back.features)


def test_side_effects_without_an_end_are_null_in_json_and_come_back(explanation: Report) -> None:
    endless = replace(explanation.side_effects[0], direct_low=-math.inf, direct_high=math.inf)
    data = json.loads(json.dumps(schema.report_as_json(replace(explanation, side_effects=(endless,))), allow_nan=False))
    jsonschema.validate(data, schema.load_schema("report-1"))
    (back,) = schema.report_from_json(data).side_effects
    assert back.leak == endless.leak and math.isnan(back.direct_high)


def test_comparison_json_is_valid(comparison_folder: Path) -> None:
    data = json.loads((comparison_folder / "comparison.json").read_text("utf-8"))
    jsonschema.validate(data, schema.load_schema("comparison-1"))
    assert (
        (comparison_folder / "comparison.csv")
        .read_text("utf-8")
        .startswith("feature,name,group,level,effect persona_v1")
    )


def test_csv_and_parquet_hold_the_same_rows(report_folder: Path, explanation: Report) -> None:
    with (report_folder / "effects.csv").open(encoding="utf-8", newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = duckdb.sql(f"FROM '{report_folder}/effects.parquet' ORDER BY rank").fetchall()
    assert [dict(zip(COLUMNS, row, strict=True)) for row in from_parquet] == flat_rows(explanation.features)
    assert [float(row["effect"]) for row in from_csv] == [f.effect for f in explanation.features]
    (borrowed,) = [row for row in from_csv if row["confounded_with"]]
    assert (borrowed["name"], borrowed["confounded_with"]) == ("Grey hair", "facial-hair/majestic-beard")
    assert (borrowed["leak"], borrowed["direct_low"]) == ("0.62", "-0.031")


def test_a_spreadsheet_runs_no_name_as_a_formula(explanation: Report) -> None:
    bad = replace(explanation.features[0], name='=HYPERLINK("http://e.vil")', effect=-0.5)
    text = effects_csv(flat_rows([bad]))
    assert "'=HYPERLINK" in text and ",-0.5," in text


def test_a_report_of_nothing_has_headings(explanation: Report, tmp_path: Path) -> None:
    write_report(replace(explanation, features=(), examples={}, joint=None), tmp_path)
    assert (tmp_path / "effects.csv").read_text("utf-8") == ",".join(COLUMNS) + "\n"
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/effects.parquet'").fetchall() == [(0,)]


def test_figures_are_for_print_and_the_same_every_time(report_folder: Path, explanation: Report) -> None:
    from diffex_dagster.report.figures import ranked_bars

    assert Image.open(report_folder / "effects.png").width >= 1500
    again = ranked_bars(explanation.features, explanation.target, explanation.noise_floor)
    assert again["svg"] == (report_folder / "effects.svg").read_bytes()
    assert b"Round glasses" in again["svg"]  # text stays text


def test_hostile_names_are_text_in_every_file(tmp_path: Path) -> None:
    write_report(material.hostile(), tmp_path)
    svg = (tmp_path / "effects.svg").read_text("utf-8")
    assert "<script" not in svg and "<img" not in svg
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["title"] == material.HOSTILE


def test_a_dollar_sign_is_no_formula(explanation: Report, tmp_path: Path) -> None:
    write_report(replace(explanation, features=(replace(explanation.features[0], name=r"$\frac{$ hat"),)), tmp_path)


def test_a_folder_that_cannot_be_written_is_one_clear_sentence(explanation: Report, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DiffExError, match=r"cannot be written to .*taken.*choose a folder"):
        write_report(replace(explanation, examples={}), tmp_path / "taken")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, b"old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_again_replaces(comparison: Comparison, tmp_path: Path) -> None:
    bare = replace(comparison, features=tuple(replace(f, examples=()) for f in comparison.features))
    first = write_comparison(bare, tmp_path)
    assert write_comparison(bare, tmp_path) == first
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "comparison.json", "comparison.csv", MARK}


def test_a_report_that_says_the_same_is_left_as_it_is(
    explanation: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_report(explanation, tmp_path, keep_same=True)
    before = {file: file.read_bytes() for file in files}

    def kept(later: Report) -> bool:
        write_report(later, tmp_path, keep_same=True)
        same = (tmp_path / "index.html").read_bytes() == before[tmp_path / "index.html"]
        write_report(explanation, tmp_path)  # what was asked for without `keep_same` is always written
        assert all(file.is_file() for file in files)
        return same

    later = replace(explanation, created=explanation.created + timedelta(days=1))
    assert kept(later)  # only the date would change
    assert not kept(replace(later, baseline=explanation.baseline + 0.25))
    files[1].unlink()
    assert not kept(later)  # not all there
    monkeypatch.setattr("diffex_dagster.report.files._code", lambda: "other code")
    assert not kept(later)


def test_a_report_that_was_cut_off_is_no_report(
    explanation: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(explanation, tmp_path, keep_same=True)
    other = replace(explanation, baseline=explanation.baseline + 0.25)
    with monkeypatch.context() as cut:
        cut.setattr("diffex_dagster.report.files.render_report", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_report(other, tmp_path, keep_same=True)
    (tmp_path / "index.html").write_text("half", "utf-8")
    write_report(explanation, tmp_path, keep_same=True)
    assert (tmp_path / "index.html").read_text("utf-8") != "half"
