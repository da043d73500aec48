"""A row is defined once: JSON, Schema, tables and database follow, and reports of earlier days are read."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from diffex_dagster.api import Explanation as Explained
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.rows import PAIRS, PER_IMAGE, comparison_columns, comparison_flat_rows
from diffex_dagster.report.schema import (
    DOCUMENTS,
    comparison_as_json,
    load_schema,
    report_as_json,
    report_from_json,
)
from diffex_dagster.results import Comparison, Report

WIDENED = """
import csv, importlib, io, json, sys
from dataclasses import replace
from pathlib import Path
from diffex_dagster import results
from diffex_dagster.results import report as module

source = Path(module.__file__).read_text("utf-8")
before = "    citation: Annotated["
assert source.count(before) == 1
field = '    novelty: Annotated[Maybe, Says("how new it is", minimum=0), Column(listed=True)] = None\\n'
exec(compile(source.replace(before, field + before), module.__file__, "exec"), module.__dict__)
importlib.reload(results)

from diffex_dagster.assets.report import _table
from diffex_dagster.report.files import _parquet, effects_csv
from diffex_dagster.report.rows import COLUMNS, flat_rows, rows
from diffex_dagster.report.schema import report_from_json, load_schema, report_as_json
from diffex_dagster.results import RankedFeature
from diffex_dagster.store import Store
import duckdb

row = RankedFeature(
    rank=1, feature="hat", name="Hat", group="Hat", level=1, direction="add", prompt="a hat", effect=0.25, ci_low=0.125,
    ci_high=0.5, flip_rate=0.0, images=8, decision="raises", magnitude=0.25, sign_agreement=1.0, novelty=0.75,
)
folder = Path(sys.argv[1])
old = json.loads((folder / "report.json").read_text("utf-8"))
report = report_from_json(old)
told = report_as_json(replace(report, features=(row,)))
(folder / "effects.parquet").write_bytes(_parquet(flat_rows([row])))
store = Store(folder / "results")
identity = dict(study="s", classifier_name="v1", classifier="c", editor="e", corpus_version="1", run="r")
store.put_report(identity, [row], [], [])
table = _table(RankedFeature, rows([row]))
(from_csv,) = csv.DictReader(io.StringIO(effects_csv(flat_rows([row]), COLUMNS)))
print(json.dumps({
    "json": told["features"][0]["novelty"],
    "back": report_from_json(told).features[0].novelty,
    "schema": load_schema("report-1")["$defs"]["RankedFeature"]["properties"]["novelty"],
    "csv": from_csv["novelty"],
    "parquet": duckdb.sql(f"SELECT novelty FROM '{folder}/effects.parquet'").fetchall()[0][0],
    "listed": {column.name: column.type for column in table.schema.columns}["novelty"],
    "record": table.records[0].data["novelty"],
    "database": store.latest_ranking("s", "v1", "e")[0].novelty,
    "old": report.caveats[-1],
}))
"""


def test_a_new_field_of_a_row_is_everywhere(explanation: Report, tmp_path: Path) -> None:
    """One line at the class of the row, and JSON, Schema, CSV, Parquet, metadata and database have it."""
    (tmp_path / "report.json").write_text(json.dumps(report_as_json(explanation)), "utf-8")
    ran = subprocess.run([sys.executable, "-c", WIDENED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["schema"] == {
        "type": ["number", "null"],
        "default": None,
        "minimum": 0,
        "description": "how new it is",
    }
    assert found["listed"] == "float" and found["csv"] == "0.75"
    assert [found[place] for place in ("json", "back", "parquet", "record", "database")] == [0.75] * 5
    assert "which did not say: features.novelty." in found["old"]  # and a report from before it says so


def published(name: str) -> dict[str, Any]:
    """The schema of a file as it was first published."""
    text = (Path(__file__).parent / "published" / f"{name}.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_was_once_published_is_still_said(name: str) -> None:
    """Every field of the first Schema of a version is in that of now, at its place."""

    def paths(schema: dict[str, Any], of: dict[str, Any], at: str = "") -> set[str]:
        of = schema["$defs"][of["$ref"].rsplit("/", 1)[-1]] if "$ref" in of else of
        found = set()
        for some in (of, *of.get("anyOf", ())):
            some = schema["$defs"][some["$ref"].rsplit("/", 1)[-1]] if "$ref" in some else some
            for field, inner in some.get("properties", {}).items():
                found |= {f"{at}.{field}"} | paths(schema, inner, f"{at}.{field}")
            for inner in (some.get("items"), some.get("additionalProperties")):
                found |= paths(schema, inner, f"{at}[]") if isinstance(inner, dict) else set()
        return found

    now, then = load_schema(name), published(name)
    jsonschema.Draft202012Validator.check_schema(now)
    assert paths(then, then) - paths(now, now) == set()
    assert (now["title"], now["properties"]["schema"]["const"]) == (then["title"],) * 2


def test_what_is_written_now_is_valid_under_the_first_schema(explanation: Report, comparison: Comparison) -> None:
    for name, data in (("report-1", report_as_json(explanation)), ("comparison-1", comparison_as_json(comparison))):
        jsonschema.validate(data, published(name))
        jsonschema.validate(data, load_schema(name))


def test_an_early_report_is_read_and_says_what_it_lacks(explanation: Report, tmp_path: Path) -> None:
    data = report_as_json(explanation)
    early = {
        name: value
        for name, value in data.items()
        if name not in ("controls", "judge", "hints", "attributions", "unit", "bounded")
    }
    early |= {"looks": data["attributions"], "features": [{**row} for row in data["features"]]}
    for row in early["features"]:
        del row["prevalence"], row["citation"]
    (tmp_path / "report.json").write_text(json.dumps(early), "utf-8")
    back = Explained.read(tmp_path).report
    assert back.caveats[:-1] == explanation.caveats
    assert back.caveats[-1] == (
        "This report was made by an earlier version, which did not say: features.prevalence, features.citation, "
        "hints, controls, judge."
    )
    assert (back.target, back.unit, back.bounded) == ('probability of "senior"', "", True)
    assert [row.effect for row in back.features] == [row.effect for row in explanation.features]
    assert back.attributions[0].after == explanation.attributions[0].after and back.judge is None
    assert len(Explained.read(tmp_path).to_frame()) == len(explanation.features)


@pytest.mark.parametrize(
    ("target", "unit", "bounded"),
    [
        ("age (years)", "years", False),
        ('margin of "cat" over "dog" (logits)', "logits", False),
        ('probability of "cat" (sigmoid)', "", True),
        ('logit of "cat (tabby)"', "", False),
        ("age", "", False),
    ],
)
def test_the_words_of_an_early_report_say_its_unit(explanation: Report, target: str, unit: str, bounded: bool) -> None:
    """What a measure gives now, and nothing else, is guessed from words: of reports that lack it alone."""
    data = report_as_json(replace(explanation, target=target))
    assert report_from_json(data).bounded  # as it says
    early = {name: value for name, value in data.items() if name not in ("unit", "bounded")}
    back = report_from_json(early)
    assert (back.unit, back.bounded) == (unit, bounded) and back.caveats == explanation.caveats


def test_a_file_that_is_no_report_is_one_sentence(explanation: Report, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with pytest.raises(DiffExError, match=r"report\.json cannot be read .*name the folder of a report"):
        Explained.read(tmp_path)
    file.write_text("{", "utf-8")
    with pytest.raises(DiffExError, match=r"report\.json is not JSON"):
        Explained.read(tmp_path)
    data = report_as_json(explanation)
    data["features"][1]["images"] = "many"
    file.write_text(json.dumps(data), "utf-8")
    with pytest.raises(DiffExError, match=r"report\.json: diffex\.report/1: features\.1\.images: .*integer"):
        Explained.read(tmp_path)
    file.write_text('{"schema": "diffex.report/99"}', "utf-8")
    with pytest.raises(DiffExError, match=r"expected schema 'diffex\.report/1', found 'diffex\.report/99'"):
        Explained.read(tmp_path)


def test_numbers_without_an_end_come_back_as_such(explanation: Report) -> None:
    row = replace(explanation.features[0], ci_low=-math.inf, ci_high=math.inf)
    (back,) = report_from_json(report_as_json(replace(explanation, features=(row,)))).features
    assert math.isnan(back.ci_low) and math.isnan(back.ci_high) and back.effect == row.effect


def test_tables_have_headings_without_rows_and_a_column_for_each_version(comparison: Comparison) -> None:
    headings = comparison_columns(replace(comparison, features=()))
    assert headings[:6] == ["feature", "name", "group", "level", "effect persona_v1", "effect persona_v2"]
    assert [list(row) for row in comparison_flat_rows(comparison)] == [headings] * len(comparison.features)
    assert {"p_value", "prevalence", "reliance persona_v1", "becomes persona_v2"} <= set(headings)
    assert PER_IMAGE[:4] == ("feature", "name", "image", "file")
    assert {"one", "other", "name_one", "name_other", "of_the_curve"} <= set(PAIRS) and "names" not in PAIRS
