"""The same study under two editors: what is read from both reports, and what is written of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from jsonschema import validate
from typer.testing import CliRunner

from diffex_dagster.assets.automation import Unsynced
from diffex_dagster.assets.editors import build_editors, build_under_editors
from diffex_dagster.cli.main import app
from diffex_dagster.definitions import build_studies
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import DiffExError, StudyError
from diffex_dagster.report.schema import load_schema
from diffex_dagster.report.verdict import agreement_sentences
from diffex_dagster.resources import ClassifierResource, EditorResource, ResultsResource
from diffex_dagster.stages.agreement import agreement_version, compare_editors, editors_page
from diffex_dagster.stages.context import Builders, StudyContext
from diffex_dagster.stages.report import ranked_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.setup import build_editor
from diffex_dagster.study import Study, load_study
from tests.support.toys import prepared, write_study

PAINT = {"kind": "python", "factory": "tests.support.toys:PaintEditor"}
EDITORS = {"paint": PAINT, "entangled": {**PAINT, "options": {"version": "2", "entangled": 100, "log": "second.log"}}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """v1 reacts to red; the second editor's "bright" also brings red, the first one's does not."""
    found = load_study(write_study(tmp_path_factory.mktemp("two"), 12, editors=EDITORS, second_editor="entangled"))
    prepared(found)
    for name in found.editors:
        subject = StudyContext(found.with_editor(name)).subject("v1")
        run_search(subject)
        ranked_report(subject, name, found.results_folder / "pages" / name, "diffex run two")
    return found


def test_what_does_not_depend_on_the_editor_holds_under_both(study: Study) -> None:
    found = compare_editors(StudyContext(study), "v1", ["paint", "entangled"], "diffex compare two")
    rows = {row.feature: row for row in found.features}
    red = rows["red"]
    assert red.verdict == "holds under both"
    assert [under.decision for under in red.editors if under] == ["raises", "raises"]
    assert rows["light"].verdict != "holds under both"
    assert found.features[0].verdict == "holds under both" and found.judged >= 3
    assert agreement_version(found) == agreement_version(
        compare_editors(StudyContext(study), "v1", ["paint", "entangled"], "another command")
    )


def test_each_arm_has_the_editor_that_the_work_makes_for_it(study: Study) -> None:
    made = []

    def builder(of: Study) -> Editor:
        made.append(of.editor_name)
        return build_editor(of)

    work = StudyContext(study, Builders(editor=builder))
    compare_editors(work.to_read(), "v1", ["paint", "entangled"], "diffex compare two")
    assert made == ["paint", "entangled"]  # the one in use is made once


def test_the_version_is_that_of_all_that_is_shown(study: Study) -> None:
    found = compare_editors(StudyContext(study), "v1", ["paint", "entangled"], "diffex compare two")
    first = found.features[0]
    under = [each for each in first.editors if each]
    others = [
        replace(first, name="Crimson"),
        replace(first, editors=(replace(under[0], edit_success=0.123), under[1])),
        replace(first, editors=(replace(under[0], picture=None), under[1])),
    ]
    versions = {agreement_version(replace(found, features=(each, *found.features[1:]))) for each in (first, *others)}
    assert len(versions) == 4 and agreement_version(found) in versions


def test_the_page_and_its_data_say_the_same(study: Study) -> None:
    found, folder = editors_page(StudyContext(study), "v1", ["paint", "entangled"], "diffex compare two")
    page = (folder / "index.html").read_text("utf-8")
    data = json.loads((folder / "editors.json").read_text("utf-8"))
    validate(data, load_schema("editors-1"))
    published = Path(__file__).parents[1] / "report" / "published" / "editors-1.schema.json"
    validate(data, json.loads(published.read_text("utf-8")))
    with (folder / "editors.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["verdict"] for row in table] == [row["verdict"] for row in data["features"]]
    assert len(table) == len(found.features) and table[0]["decision paint"] == "raises"
    assert data["verdict"][0].startswith(("1 effect on", "2 effects on", "3 effects on", "4 effects on"))
    assert page.count("data:image/webp") >= 4 and "holds under both" in page


def test_the_command_prints_it(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    told = CliRunner().invoke(app, ["compare", str(study.folder), "v1", "--editors", "paint,entangled"])
    assert told.exit_code == 0, told.output
    assert "holds under both" in told.output and "index.html" in told.output


def test_the_asset_stands_below_the_reports_of_both_editors(study: Study) -> None:
    root = study.folder.parent / "project"
    (root / "studies").mkdir(parents=True)
    (root / "studies" / "two").symlink_to(study.folder)
    graph = build_studies(root).resolve_asset_graph()
    key = dg.AssetKey(["toy", "editor_comparison"])
    assert {parent.to_user_string() for parent in graph.get(key).parent_keys} == {
        f"{arm}/{name}/ranked_report" for arm in ("toy", "toy_entangled") for name in study.classifiers
    }
    assert all(graph.get(parent).is_materializable for parent in graph.get(key).parent_keys)
    condition = graph.get(key).automation_condition
    assert condition and any(isinstance(each, Unsynced) for each in _parts(condition))
    one = study.changed(classifiers={"v1": study.classifiers["v1"]})
    sensor = build_under_editors(one).resolve_sensor_def(
        "toy_editors_automation"
    )  # Dagster's own knows no such condition
    assert sensor.asset_selection and sensor.asset_selection.resolve(graph) == {key}
    asset = build_editors(one)
    places = {"diffex_results": ResultsResource(), "diffex_editor": EditorResource()}
    made = dg.materialize([asset], resources={**places, "diffex_classifiers": ClassifierResource()})
    (event,) = made.get_asset_materialization_events()
    told = event.materialization.metadata
    assert "under both" in str(told["verdict v1"].value) and told["contradicted"].value == 0
    assert Path(str(told["page v1"].value)).is_file()


def _parts(condition: dg.AutomationCondition[Any]) -> list[object]:
    return [condition, *(part for child in condition.children for part in _parts(child))]


def test_what_is_missing_is_one_sentence(study: Study) -> None:
    work = StudyContext(study)
    with pytest.raises(DiffExError, match="v2 has no report under the editor paint yet; run `diffex run"):
        compare_editors(work, "v2", ["paint", "entangled"], "")
    with pytest.raises(DiffExError, match="name two different ones to compare, of paint, entangled; got paint"):
        compare_editors(work, "v1", ["paint", "paint"], "")


def test_a_report_of_other_weights_or_another_corpus_is_not_compared(study: Study) -> None:
    editors = ["paint", "entangled"]
    retrained = study.changed(classifiers={**study.classifiers, "v1": study.classifiers["v2"]})
    with pytest.raises(DiffExError, match="v1 under the editor paint was made with other weights, code or target than"):
        compare_editors(StudyContext(retrained), "v1", editors, "")


def test_what_both_claim_is_bounded_by_fwer_alone(study: Study) -> None:
    by = study.changed(effects=study.effects.model_copy(update={"error_rate": "fdr-by"}))
    said = [
        " ".join(agreement_sentences(compare_editors(StudyContext(each), "v1", ["paint", "entangled"], "")))
        for each in (study, by)
    ]
    assert ["among those that both make it may be higher" in each for each in said] == [False, True]


def test_a_component_has_both_editors_too(study: Study) -> None:
    key = dg.AssetKey(["toy", "editor_comparison"])
    graph = build_under_editors(study, ["v1"]).resolve_asset_graph()
    assert {parent.to_user_string() for parent in graph.get(key).parent_keys} == {
        "toy/v1/ranked_report", "toy_entangled/v1/ranked_report"
    }  # fmt: skip


def test_the_second_editor_is_another_than_the_one_in_use(tmp_path: Path) -> None:
    of = {"editors": EDITORS, "editor": "entangled"}
    assert load_study(write_study(tmp_path / "a", 2, **of, second_editor="paint")).second_editor == "paint"
    with pytest.raises(StudyError, match=r"second_editor 'entangled' is not another one of editors \(others: paint\)"):
        load_study(write_study(tmp_path / "b", 2, **of, second_editor="entangled"))


def test_the_second_editor_is_another_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="second_editor 'paint' is not another one of editors"):
        load_study(write_study(tmp_path, 2, second_editor="paint"))
