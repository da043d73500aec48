"""`diffex init` and `diffex doctor`: from a folder of odd files and an exported model to a report."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from diffex_dagster.cli import doctor
from diffex_dagster.cli.init import json_schema
from diffex_dagster.study import load_study
from tests.odd_images import BROKEN, write_odd_images
from tests.toys import write_study

ROOT = Path(__file__).parent.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFEX_ROOT", raising=False)
    return tmp_path


WARM = ("--classifier", "python:tests.toys:warm", "--labels", "cold,warm", "--starter", "faces")
PAINT = ("--editor", "python:tests.toys:PaintEditor", "--size", "16")


def test_a_folder_of_odd_files_goes_from_init_to_a_report(here: Path, diffex) -> None:
    write_odd_images(here / "photos")
    status, out, err = diffex("init", "odd", "--images", "photos", *WARM, *PAINT, "--label", "warm")
    assert status == 0, err
    folder = here / "studies" / "odd"
    assert "27 images; left out: 3 unreadable" in out and all(name in out for name in BROKEN)
    assert out.count("(0.") + out.count("(1.00)") >= 3 and "explaining: probability of" in out
    assert "next: diffex doctor odd, then diffex run odd" in out and "edits at level 1" in out
    text = (folder / "study.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=study.schema.json\n")
    (folder / "corpus.yaml").write_text("tree: [{name: Red, prompt: red patch, children: [dark red patch]}]\n")
    fields = YAML(typ="safe").load(text)
    fields["corpus"] = {}
    fields["search"] = {"joint_size": 1}
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(fields, file)
    status, out, err = diffex("doctor", "odd")
    assert status == 0 and "problem" not in out, out
    assert "27 images; left out: 3 unreadable (broken_cut.jpg" in out and "v1 scores a picture; 2 classes" in out
    status, out, err = diffex("run", "odd")
    assert status == 0, err
    assert (folder / "results" / "reports" / "v1" / "index.html").exists()
    rows = json.loads(diffex("show", "odd", "v1", "--format", "json")[1])
    assert rows[0]["name"] == "Red" and rows[0]["effect"] > 0.1 and rows[0]["images"] == 27


def test_the_class_is_the_one_predicted_most_often_when_none_is_named(here: Path, diffex) -> None:
    write_study(here / "other")
    status, out, err = diffex("init", "grey", "--images", "other/images", *WARM, *PAINT)
    assert status == 0, err
    study = load_study(here / "studies" / "grey")
    assert list(study.editors) == ["python"] and study.corpus.starter == "face"
    assert study.target.label == "cold" and "00.png: cold (0.50)" in out
    assert study.path(study.images.folder) == here / "other" / "images"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--images": "nowhere"}, "--images nowhere: there is no such folder; name a folder, a pattern"),
        (
            {"--classifier": "magic:x"},
            "--classifier 'magic:x': write KIND:VALUE, where KIND is one of python, transformers, ",
        ),
        ({"--classifier": "none.onnx"}, "HERE/none.onnx: file: there is no such model file"),
        ({"--classifier": "none", "--labels": ""}, "HERE/none: there is no classifier in this folder (no config.json)"),
        ({"--classifier": "some/vit"}, "--labels: some/vit names its classes itself; leave --labels out"),
        ({"--label": "hot"}, "--label: the classifier has no class 'hot'; it knows cold, warm"),
        ({"--starter": "dragons"}, "dragons"),
        ({"--editor": "ledits"}, "--editor 'ledits': write KIND:VALUE"),
    ],
)
def test_a_wish_that_cannot_be_met_writes_nothing(here: Path, diffex, change: dict[str, str], sentence: str) -> None:
    write_study(here / "other")
    flags = dict(zip(WARM[::2], WARM[1::2], strict=True)) | dict(zip(PAINT[::2], PAINT[1::2], strict=True))
    flags |= {"--images": "other/images", **change}
    status, _, err = diffex("init", "new", *(part for flag in flags.items() for part in flag))
    assert status == 1 and sentence.replace("HERE", str(here)) in err, err
    assert not (here / "studies").exists()


def test_an_existing_study_is_kept(here: Path, diffex) -> None:
    write_study(here / "studies" / "toy")
    before = (here / "studies" / "toy" / "study.yaml").read_bytes()
    status, _, err = diffex("init", "toy", "--images", "studies/toy/images", *WARM, *PAINT)
    assert status == 1 and "there is a study already; edit it, or choose another name" in err
    assert (here / "studies" / "toy" / "study.yaml").read_bytes() == before


def test_the_schema_accepts_good_studies_and_refuses_wrong_ones(diffex) -> None:
    schema = json.loads(diffex("schema")[1])
    assert schema == json.loads(json.dumps(json_schema()))
    good = [YAML(typ="safe").load(file.read_text()) for file in ROOT.glob("studies/**/study.yaml")]
    assert len(good) >= 5
    for study in good:
        jsonschema.validate(study, schema)
    callable = {"classifiers": {"v1": {"python": "my.module:callable", "labels": ["a", "b"]}}}
    jsonschema.validate({**good[0], **callable}, schema)
    for wrong in ({"nmae": "x"}, {"images": {"size": 4}}, {"search": {"gate": "loud"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good[0], **wrong}, schema)


def test_doctor_names_each_problem_with_its_remedy(here: Path, diffex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", "s3cret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vlm = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "key_env": "TOY_KEY"}
    write_study(here / "studies" / "toy", target={"label": "hot"}, corpus={"vlm": vlm}, images={"folder": "gone"})
    status, out, _ = diffex("doctor", "toy")
    assert status == 1
    assert "problem images:" in out and "there is no such folder" in out
    assert "problem classifier:" in out and "no class 'hot'" in out
    assert (
        "TOY_KEY is set" in out
        and "problem vlm: cannot be reached (ConnectError): start it, or correct base_url" in out
    )
    assert "HF_HUB_OFFLINE is set" in out and "s3cret" not in out
    (here / "studies" / "toy" / "study.yaml").write_text("nmae: x")
    status, out, _ = diffex("doctor", "toy")
    assert status == 1 and "did you mean 'name'?" in out


def test_doctor_without_a_study_looks_at_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    found = {each.what: each for each in doctor.examine(hub="http://127.0.0.1:9")}
    assert {"python", "torch", "diffusers", "device", "memory", "disk", "model hub"} <= found.keys()
    assert found["torch"].fine and found["model hub"].fine is None
    assert found["model hub"].remedy == "name checkpoints by folder, or set HF_ENDPOINT"
