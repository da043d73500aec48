"""`explain(...)` without a study file and without Dagster, and the study as a Dagster component."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox
from PIL import Image

import diffex_dagster
from diffex_dagster.errors import ClassifierError, DiffExError, StudyError
from diffex_dagster.results import opened
from tests.support.toys import KnobEditor, PaintEditor, WarmClassifier, edits_made, picture, warm, write_study

TREE = [
    {"name": "Red", "prompt": "red patch", "children": ["dark red patch"]},
    {"name": "Blue", "prompt": "blue patch"},
]


def test_explain_takes_objects_and_gives_numbers_figures_and_a_page(tmp_path: Path) -> None:
    editor = PaintEditor(tmp_path, {})
    pictures = [picture(90 + 4 * i) for i in range(6)]
    settings = {"effects": {"control_prompts": ["flornip"]}, "search": {"joint_size": 1}}
    found = diffex_dagster.explain(
        pictures, warm, editor, TREE, "warm", labels=["cold", "warm"], size=16, folder=tmp_path / "kept", **settings
    )
    frame = found.to_frame()
    effects = dict(zip(frame["name"], frame["effect"], strict=True))
    assert effects["Red"] > 0.1 > 0 > effects["Blue"]
    assert found.meta["target"] == 'probability of "warm"' and found.meta["images"] == 6
    (control,) = found.meta["controls"]
    assert control["prompt"] == "flornip" and control["effect"] == found.report.controls[0].effect
    assert found.meta["margin"] == found.report.margin == 0.02
    data = json.loads(found.to_json(tmp_path / "x.json"))
    assert data["meta"]["controls"] == found.meta["controls"]
    assert [row["name"] for row in data["features"]] == frame["name"].tolist()
    assert json.loads((tmp_path / "x.json").read_text()) == data
    assert found.plot(tmp_path / "bars.svg").width > 500 and (tmp_path / "bars.svg").read_bytes().startswith(b"<?xml")
    assert "control: “flornip”" in (tmp_path / "bars.svg").read_text("utf-8")
    with pytest.raises(StudyError, match=r"figures end in \.png or \.svg"):
        found.plot(tmp_path / "bars.gif")
    for write in (found.to_json, found.plot):
        with pytest.raises(DiffExError, match=r"a\.svg: this file cannot be written \(.* is no folder\); name"):
            write(tmp_path / "x.json" / "a.svg")
    with pytest.raises(DiffExError, match=r"The report cannot be written to .*x\.json"):
        found.to_html(tmp_path / "x.json")
    assert "Red" in found.to_html(tmp_path / "page").read_text("utf-8")
    made = len(edits_made(tmp_path))
    diffex_dagster.explain(
        pictures, warm, editor, TREE, "cold", labels=["cold", "warm"], size=16, folder=tmp_path / "kept", **settings
    )
    assert len(edits_made(tmp_path)) == made  # another target costs no edit


def test_explain_takes_the_fields_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    found = diffex_dagster.explain(
        tmp_path / "images",
        {"kind": "python", "factory": "tests.support.toys:WarmClassifier"},
        {
            "kind": "python",
            "factory": "tests.support.toys:PaintEditor",
            "options": {"log": str(tmp_path / "edits.log")},
        },
        TREE,
        {"label": "warm", "measure": "logit"},
        size=16,
    )
    assert found.folder is None and found.meta["target"] == 'logit of "warm"' and found.report.images == 8
    assert [opened(each.edit).size for each in found.report.examples["red"]] == [(16, 16)] * 8
    assert "Red" in found.to_html(tmp_path / "page").read_text("utf-8")
    assert len(list((tmp_path / "temporary").iterdir())) == 1  # where these pictures are, as long as somebody has them
    report = found.report
    del found
    gc.collect()
    assert [opened(each.edit).size for each in report.examples["red"]] == [(16, 16)] * 8  # all that somebody still has
    del report
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def test_explain_checks_what_it_is_given_before_any_edit(tmp_path: Path) -> None:
    editor, images = PaintEditor(tmp_path, {}), [picture(1)]
    with pytest.raises(ClassifierError, match="no class 'hot'; it knows cold, warm"):
        diffex_dagster.explain(images, warm, editor, TREE, "hot", labels=["cold", "warm"], size=16)
    with pytest.raises(ClassifierError, match="labels: the callable has no attribute"):
        diffex_dagster.explain(images, warm, editor, TREE, "warm", size=16)
    with pytest.raises(StudyError, match=r"search\.beem: .*did you mean 'beam'"):
        diffex_dagster.explain(images, warm, editor, TREE, "warm", labels=["cold", "warm"], size=16, search={"beem": 1})
    with pytest.raises(StudyError, match="there is no picture"):
        diffex_dagster.explain([], warm, editor, TREE, "warm", labels=["cold", "warm"], size=16)
    assert edits_made(tmp_path) == []


@pytest.mark.parametrize(
    ("classifier", "said"),
    [
        ({"kind": "python", "factory": "tests.support.toys:WarmClassifier"}, "the fields of the classifier say"),
        ("someone/a-model", "the classifier 'someone/a-model' has its own class names"),
        (Path("model"), "the classifier 'model' has its own class names"),
        (WarmClassifier(Path(), {}), r"the classifier has its own class names \(cold, warm\)"),
    ],
    ids=["fields", "hub id", "folder", "object"],
)
def test_labels_beside_a_classifier_that_has_its_own_are_refused(classifier: Any, said: str, tmp_path: Path) -> None:
    parts = (PaintEditor(tmp_path, {}), TREE, "warm")
    for ask in (diffex_dagster.explain, diffex_dagster.explain_image):
        images = [picture(1)] if ask is diffex_dagster.explain else picture(1)
        with pytest.raises(StudyError, match=f"labels: {said}.*leave 'labels' out"):
            ask(images, classifier, *parts, labels=["dark", "bright"], size=16)  # type: ignore[operator]


def test_explain_image_takes_the_same_parts_and_finds_what_flips_one_picture(tmp_path: Path) -> None:
    editor, parts = PaintEditor(tmp_path, {}), {"labels": ["cold", "warm"], "size": 16}
    found = diffex_dagster.explain_image(
        picture(90), warm, editor, TREE, "warm", folder=tmp_path / "kept", progress=False, **parts
    )
    assert set(found.flips) == {("red",), ("red/dark-red-patch",)} and "becomes “warm”" in repr(found)
    assert found.to_frame()["verdict"].tolist()[0] == "raises"
    assert json.loads(found.to_json())["flips"][0]["decision"] == "the prediction becomes “warm”"
    assert "Red" in found.to_html(tmp_path / "page.html").read_text("utf-8") and "<img" in found._repr_html_()
    for write in (found.to_html, found.to_json):
        with pytest.raises(DiffExError, match=r"a\.html: this file cannot be written .*; name another one"):
            write(tmp_path / "page.html" / "a.html")
    alone = diffex_dagster.explain_image(picture(90), warm, editor, TREE, "warm", progress=False, **parts)
    assert alone.folder is None and all(isinstance(f.edit, Image.Image) for f in alone.finding.features)
    assert alone._repr_html_().count("<img") == found._repr_html_().count("<img")  # its folder is gone, it is not
    assert alone.to_html(tmp_path / "alone.html").read_text("utf-8").count("<img") > len(alone.finding.features)
    made = len(edits_made(tmp_path))
    diffex_dagster.explain_image(
        picture(90), warm, editor, TREE, "cold", folder=tmp_path / "kept", progress=False, **parts
    )
    assert len(edits_made(tmp_path)) == made
    with pytest.raises(StudyError, match="pass an editor, a corpus and a target, or study="):
        diffex_dagster.explain_image(picture(90), warm, editor)
    with pytest.raises(StudyError, match="it is of type list"):
        diffex_dagster.explain_image([1], warm, editor, TREE, "warm", progress=False, **parts)


def test_explain_image_finds_out_what_is_lacking_for_another_corpus_in_the_same_folder(tmp_path: Path) -> None:
    editor, parts = KnobEditor(tmp_path, {}), {"labels": ["cold", "warm"], "size": 16, "calibrate": True}
    kept = {"folder": tmp_path / "kept", "progress": False, **parts}
    first = diffex_dagster.explain_image(picture(90), warm, editor, TREE[:1], "warm", **kept)
    more = diffex_dagster.explain_image(picture(120), warm, editor, TREE, "warm", **kept)
    assert len(more.finding.features) > len(first.finding.features) > 0
    again = diffex_dagster.explain_image(picture(90), warm, editor, TREE[:1], "warm", **kept)
    assert again.finding.corpus_version == first.finding.corpus_version and not again.finding.edits_made


def test_explain_image_takes_a_study_and_its_images(tmp_path: Path) -> None:
    study = diffex_dagster.load_study(write_study(tmp_path))
    found = diffex_dagster.explain_image("03.png", "v1", study=study, progress=False)
    assert found.folder == study.results_folder and found.finding.file == "03.png" and found.flips
    with pytest.raises(StudyError, match="there is no 'v3'; the study has v1, v2"):
        diffex_dagster.explain_image("03.png", "v3", study=study)
    with pytest.raises(StudyError, match="a study has its own editor"):
        diffex_dagster.explain_image("03.png", "v1", "runwayml/x", study=study)


def test_importing_the_package_loads_neither_dagster_nor_torch() -> None:
    code = "import diffex_dagster, sys; print({'dagster', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_code_location_loads_nothing_heavy() -> None:
    heavy = {"torch", "diffusers", "transformers", "pandas", "scipy.stats", "matplotlib", "openai"}
    code = f"import diffex_dagster.definitions as d, sys; d.defs(); print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_study_is_a_component_of_another_dagster_project(tmp_path: Path) -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=diffex_dagster.StudyComponent, defs_path="faces")
        assert (path / "study.yaml").exists() and "study: study.yaml" in (path / "defs.yaml").read_text()
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, definitions):
            assert isinstance(component, diffex_dagster.StudyComponent)
            keys = {key.to_user_string() for key in definitions.resolve_asset_graph().materializable_asset_keys}
    assert {"faces/sample_images", "faces/level1_edits", "faces/v1/ranked_report"} <= keys
    assert isinstance(definitions, dg.Definitions)
