"""`diffex init` and `diffex doctor`: from a folder of odd files and an exported model to a report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from diffex_dagster.cli import doctor
from diffex_dagster.cli.init import Wishes, json_schema, judge_of, study_text
from diffex_dagster.cli.setting_up import SchemaName
from diffex_dagster.judging.clip import missing_of_clip
from diffex_dagster.report.schema import DOCUMENTS, load_schema
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import load_study
from diffex_dagster.worlds.avatars import WORLD as AVATARS
from tests.support.odd_images import BROKEN, write_odd_images
from tests.support.onnx_models import save
from tests.support.toys import write_study

ROOT = Path(__file__).parent.parent
LEDITS = {"kind": "ledits", "checkpoint": str(ROOT / "studies" / "avatars" / "editor")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFEX_ROOT", raising=False)
    return tmp_path


WARM = ("--classifier", "python:tests.support.toys:warm", "--labels", "cold,warm", "--starter", "faces")
PAINT = ("--editor", "python:tests.support.toys:PaintEditor", "--size", "16")


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
    assert load_study(folder / "study.yaml").search.interactions == 3 and "# beam: 6" in text
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
            "--classifier 'magic:x': write KIND:VALUE, where KIND is one of clip, http, ",
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


def test_a_model_without_a_word_of_its_preparation_gets_one_at_every_step(here: Path, diffex) -> None:
    write_study(here / "other")
    save(here / "model.onnx", "Softmax")
    labels = ("--labels", "cold,warm", "--starter", "faces", "--label", "warm", *PAINT)
    status, out, err = diffex("init", "bare", "--images", "other/images", "--classifier", "model.onnx", *labels)
    assert status == 0, err
    hint = "nor the model says how pixels become its input: it gets RGB from 0 to 1"
    assert hint in out and re.search(r"^predicted: (cold|warm) \d", out, re.MULTILINE)
    file = here / "studies" / "bare" / "study.yaml"
    line = next(line for line in file.read_text().splitlines() if line.startswith("  v1:"))
    assert '"outputs": "probabilities"' in line and "add preprocessing: {mean: [0.485" in line
    status, out, _ = diffex("doctor", "bare")
    assert status == 0 and f"note    classifier: v1: Neither the study, nor a file beside the model, {hint}" in out, out
    assert "v1 predicts of " in out
    file.write_text(file.read_text().replace('"outputs":', '"preprocessing": {"mean": 0, "std": 1}, "outputs":'))
    assert hint not in diffex("doctor", "bare")[1]


def test_the_side_of_the_pictures_is_that_of_the_checkpoint(here: Path, diffex) -> None:
    write_study(here / "other")
    ledits = ("--editor", f"ledits:{LEDITS['checkpoint']}")
    assert diffex("init", "small", "--images", "other/images", *WARM, *ledits)[0] == 0
    file = here / "studies" / "small" / "study.yaml"
    assert load_study(file).images.size == 64
    assert load_study(file).editors["ledits"].model_fields_set == {"kind", "checkpoint"}  # no option of its own
    assert "was trained on" not in diffex("doctor", "small")[1]
    file.write_text(file.read_text().replace('"size": 64', '"size": 512'))
    assert "was trained on 64 pixels, and images.size is 512: set images.size: 64" in diffex("doctor", "small")[1]


def test_an_existing_study_is_kept(here: Path, diffex) -> None:
    write_study(here / "studies" / "toy")
    before = (here / "studies" / "toy" / "study.yaml").read_bytes()
    status, _, err = diffex("init", "toy", "--images", "studies/toy/images", *WARM, *PAINT)
    assert status == 1 and "there is a study already; edit it, or choose another name" in err
    assert (here / "studies" / "toy" / "study.yaml").read_bytes() == before


def test_the_schema_accepts_good_studies_and_refuses_wrong_ones(diffex) -> None:
    schema = json.loads(diffex("schema")[1])
    assert schema == json.loads(json.dumps(json_schema()))
    of_files = {name.value: json.loads(diffex("schema", name.value)[1]) for name in list(SchemaName)[1:]}
    assert of_files == {name: json.loads(json.dumps(load_schema(name))) for name in DOCUMENTS}
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
    assert "TOY_KEY is set" in out
    assert "problem vlm: cannot be reached (ConnectError: " in out and "): start it, or correct base_url" in out
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


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("no driver"), OSError(5, "Input/output error"), ZeroDivisionError("z"),
              AttributeError("a"), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")]
)  # fmt: skip
@pytest.mark.parametrize("look", ["_packages", "_device", "_memory", "_hub", "_disk", "study_findings", "_proxies"])
def test_doctor_goes_on_whatever_a_look_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str, error: Exception
) -> None:
    def fail(*args: object) -> object:
        raise error

    monkeypatch.setattr(doctor, look, fail)
    if look != "study_findings":
        monkeypatch.setattr(doctor, "study_findings", lambda study: [doctor.Finding(True, "the last look", "")])
    found = list(doctor.examine(write_study(tmp_path, 2), hub="http://127.0.0.1:9"))
    failed = [each for each in found if each.fine is False and "cannot be looked at" in each.found]
    assert len(failed) == 1 and "\n" not in failed[0].found
    assert found[-1].what == ("study" if look == "study_findings" else "the last look")


def test_doctor_finds_what_a_run_would_need(here: Path, diffex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = here / "studies" / "toy"
    write_study(folder, 2)
    (folder / "corpus.yaml").write_text("remove: [No such feature]\n")
    (folder / "my_model.py").write_text("import sys\nsys.exit('usage')\n")
    study = YAML(typ="safe").load((folder / "study.yaml").read_text())
    study["classifiers"] = {"v1": {"python": "my_model:scores", "labels": ["cold", "warm"]}}
    study["editors"] = {"sd": {"kind": "ledits", "checkpoint": "nobody/no-such-model"}}
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(study, file)
    status, out, err = diffex("doctor", "toy")
    assert status == 1 and not err
    problems = [line for line in out.splitlines() if line.startswith("problem")]
    for word in ("corpus: ", "No such feature", "SystemExit: usage",
                 "nobody/no-such-model is not on this machine, and HF_HUB_OFFLINE is set"):  # fmt: skip
        assert any(word in line for line in problems), (word, out)
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results").rename(folder / "old")
    (folder / "results").write_text("a file")
    status, out, _ = diffex("doctor", "toy")
    assert status == 1 and "problem results: " in out and "results: it is a file; name a folder" in out


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"judge": {"kind": "clip", "checkpoint": "nowhere"}}, "problem judge: .*nowhere holds no model"),
        ({"judge": {"kind": "clip", "checkpoint": "nobody/no-clip"}}, "problem judge: .*nobody/no-clip is not on this"),
        ({"judge": {"kind": "clip", "checkpoint": "images"}}, r"problem judge: .*holds no model \(config.json\)"),
        ({"editors": {"sd": {**LEDITS, "checkpoint": "a/b", "loras": [{"checkpoint": "gone.safetensors"}]}}},
         "problem editor: there is no LoRA .*gone.safetensors"),
        ({"target": {"measure": "function", "function": "nowhere:score"}}, "problem classifier: .*no module 'nowhere'"),
        ({"truth": "nowhere:truth"}, "problem truth: .*there is no module 'nowhere'"),
        ({"editors": {"sd": {**LEDITS, "device": "tpu"}}}, "problem devices: .*is no device"),
        ({"editors": {"sd": {**LEDITS, "device": "cuda:64"}}}, "problem devices: .*editors.sd.device: 'cuda:64'"),
        ({"editors": {"sd": {**LEDITS, "checkpoint": "/nowhere/none"}}}, "problem editor: .*/nowhere/none"),
        ({"editors": {"sd": LEDITS}}, ""),
        ({"classifiers": {"v1": {"kind": "onnx", "file": "m.onnx", "labels": ["cold", "warm"]}}}, "no such model file"),
    ],
)  # fmt: skip
def test_doctor_exits_with_1_where_a_run_would_fail_late(
    here: Path, diffex, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], told: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_study(here / "studies" / "toy", 2, **changes)
    status, out, _ = diffex("doctor", "toy")
    assert status == bool(told) and re.search(told, out), out


def test_doctor_finds_the_files_that_options_name(here: Path, diffex) -> None:
    folder, exact = here / "studies" / "toy", {"kind": "python", "factory": "diffex_dagster.worlds.avatars:ExactEditor"}
    study = write_study(folder, 2, editors={"exact": exact}, truth="diffex_dagster.worlds.redrawing:study_truth")
    status, out, _ = diffex("doctor", "toy")
    assert status == 1 and re.search(r"problem editor: .*images/attributes\.json: .*cannot be read", out), out
    assert re.search(r"problem truth: .*images/attributes\.json: .*cannot be read .*training\.samples", out), out
    assert "truth: " in diffex("run", "toy", "--editor", "exact")[2] and not (folder / "results").exists()
    state = {factor: next(iter(values)) for factor, values in AVATARS.factors.items()}
    (folder / "images" / "attributes.json").write_text(json.dumps({"00.png": state}))
    status, out, _ = diffex("doctor", "toy")
    assert re.search(r"problem editor: .*image \w+ was not drawn from any of its states", out), out
    assert "it does not say from which state 01.png was drawn" in out
    (folder / "images" / "attributes.json").write_text("{}")
    write_study(folder, 2, editors={"exact": exact})
    text = study.read_text().replace(
        "editors:", "editors:\n  paint: {kind: python, factory: 'tests.support.toys:PaintEditor'}"
    )
    study.write_text(text)
    status, out, _ = diffex("doctor", "toy")
    assert status == 0 and "note    editor: not in use, and diffex run --editor exact would fail: " in out, out


def test_a_clip_judge_is_whole_before_anything_is_edited(tmp_path: Path) -> None:
    def add(name: str, text: str = "{}") -> str:
        (tmp_path / name).write_text(text)
        return missing_of_clip(tmp_path)

    assert missing_of_clip(tmp_path) == "model (config.json)"
    assert add("config.json") == "weights model.safetensors"
    assert "pytorch_model.bin can run code" in add("pytorch_model.bin")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    assert "weights model-1.safetensors" in add("model.safetensors.index.json", json.dumps(index))
    assert "weights model-2.safetensors" in add("model-1.safetensors")
    assert "weights model-2.safetensors" in add("model-2.safetensors", "")  # cut off
    assert "image processor" in add("model-2.safetensors")
    assert "tokenizer" in add("preprocessor_config.json")
    assert "tokenizer" in add("vocab.json")
    assert add("merges.txt", "a b") == ""


def test_doctor_looks_at_homes_and_results_without_taking_them_for_broken(
    here: Path, diffex, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "studies" / "toy"
    study = load_study(write_study(folder, 2))
    build_store(study).rows("SELECT 1")
    assert diffex("doctor", "toy")[0] == 0  # a run was interrupted before it had read the images
    (here / "copy").mkdir()
    (here / "copy" / "study.yaml").write_text((folder / "study.yaml").read_text())
    build_store(study).claim("toy", here / "copy" / "study.yaml")
    home = here / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("storage: {nonsense: 1}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    status, out, _ = diffex("doctor", "toy")
    assert status == 1 and "results: they are those of another study named 'toy'" in out
    assert re.search(r"problem dagster home: .*cannot be opened .*correct its dagster\.yaml", out)
    build_store(study).path.write_bytes(b"no database")
    _, out, _ = diffex("doctor", "toy")
    assert out.count("diffex.duckdb: ") == 1 and "problem results: " in out and "ok      classifier: v1 scores" in out


def test_doctor_counts_edits_that_another_tool_has_not_made(here: Path, diffex) -> None:
    folder = here / "studies" / "toy"
    write_study(folder, 2, editors={"e": {"kind": "precomputed", "folder": "edits"}}, effects={"control_prompts": []})
    for prompt in ("red patch", "blue patch"):
        (folder / "edits" / prompt).mkdir(parents=True)
        for name in ("00.png", "01.png"):
            if (prompt, name) != ("blue patch", "01.png"):
                (folder / "edits" / prompt / name).write_bytes((folder / "images" / name).read_bytes())
    status, out, _ = diffex("doctor", "toy")
    assert status == 1 and "edits of level 1 are not there, first add" in out


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks://127.0.0.1:9"])
def test_doctor_survives_proxies_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    found = {each.what: each for each in doctor.examine(hub="http://hub.invalid")}
    assert found["proxy"].fine is None and found["proxy"].remedy
    assert found["model hub"].fine is None and "ALL_PROXY" in found["model hub"].remedy


@pytest.mark.parametrize(
    ("options", "judge", "said"),
    [
        (("--vlm", "good-vlm"), "vlm", "`diffex plan` counts them"),
        (("--vlm", "good-vlm", "--judge", "none"), "none", ""),
        (("--vlm", "good-vlm", "--judge", "clip:openai/clip-vit-base-patch32"), "clip", ""),
        (("--starter", "faces"), "diffusion", "# Nobody judges whether these edits show their attribute."),
    ],
)
def test_edits_of_an_editor_without_a_judge_get_one_that_is_there(
    tmp_path: Path, options: tuple[str, ...], judge: str, said: str
) -> None:
    """The model that names the attributes, where the study has one; else the file says how to name one."""
    wished = dict(zip((name[2:] for name in options[::2]), options[1::2], strict=True))
    wishes = Wishes("x", "photos", "m", editor="precomputed:edits", **wished)
    fields = {
        "name": "x", "domain": "x", "images": {"folder": "."}, "corpus": {}, "target": {"label": "a"},
        "editors": {"precomputed": {"kind": "precomputed", "folder": "edits"}},
        "classifiers": {"v1": {"kind": "transformers", "checkpoint": "m"}},
    }  # fmt: skip
    if part := judge_of(wishes, "precomputed", tmp_path):
        fields["judge"] = part
    text = study_text(fields)
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    assert study.judge.kind == judge and said in text
    assert study.search.interactions == 0  # pairs that nobody has edited cannot be had
    assert judge_of(wishes, "ledits", tmp_path) == (part if "judge" in wished else None)  # it has one of its own
