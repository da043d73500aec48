"""Study files: what is accepted, and the sentence that a mistake gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from diffex_dagster.assets.build import build_study
from diffex_dagster.cli import main as cli
from diffex_dagster.corpus.starters import load_starter
from diffex_dagster.errors import StudyError
from diffex_dagster.study import Study, find_study, load_study
from tests.support.toys import edits_made, write_study

ROOT = Path(__file__).parent.parent


def test_the_shipped_study_is_valid_and_knows_its_files() -> None:
    study = load_study(ROOT / "studies" / "avatars")
    assert study.name == "avatars"
    assert study.path(study.corpus.overrides).exists()
    assert study.prefix == "avatars"
    assert study.with_editor("exact").prefix == "avatars_exact"


def classifier(**fields: Any) -> dict[str, Any]:
    return {"classifiers": {"v1": fields}}


def sd(**fields: Any) -> dict[str, Any]:
    return {"editors": {"e": {"kind": "ledits", "checkpoint": "x", **fields}}}


MISTAKES: list[tuple[dict[str, Any], str]] = [
    # keys and names
    ({"nmae": "x"}, r"line \d+: nmae: there is no such field; did you mean 'name'\?"),
    ({"effects": {"nonsense": ["x"]}}, r"effects.nonsense: it is called 'control_prompts' now; rename it"),
    ({"probe": {"kind": "none"}}, r"probe: it is called 'judge' now; rename it"),
    ({"corpus": {"starter": "face", "edits": "mine.yaml"}}, r"corpus.edits: it is called 'overrides' now; rename it"),
    ({"xyzzy": 1}, r"xyzzy: there is no such field; use one of .*domain.*, or remove it"),
    ({"domain": None}, r"line \d+: domain: .*string"),
    ({"name": "my study"}, r"name: use only letters, digits and underscores.*got 'my study'"),
    # target
    ({"target": {"label": "warm", "measure": "margin"}}, r"target: a margin needs 'against'"),
    ({"target": {"measure": "logit"}}, r"target: a logit needs 'label', the class that is explained; add it"),
    ({"target": {"label": "warm", "measure": "function"}}, r"target: measure: function needs 'function'"),
    ({"target": {"label": "warm", "measure": "odds"}}, r"target\.measure: .*'probability', 'sigmoid'"),
    ({"target": {"lable": "warm"}}, r"target\.lable: .*did you mean 'label'"),
    # images
    ({"images": {"size": 4}}, r"line \d+: images\.size: .*greater than or equal to 16 \(got 4\)"),
    ({"images": {"sise": 64}}, r"images\.sise: .*did you mean 'size'"),
    ({"images": {"folder": "a", "glob": "*"}}, r"images: folder and glob both say where the images are; keep one"),
    ({"images": {"stratify": True}}, r"images: stratify needs 'sample'"),
    ({"images": {"path_column": "p"}}, r"images: path_column belongs to a 'dataset' or a 'table'"),
    ({"images": {"label_column": "kind"}}, r"images: label_column belongs to a 'dataset' or a 'table'"),
    ({"images": {"background": "whitte"}}, r"images: background: 'whitte' is no colour; write a name or #rrggbb"),
    ({"images": {"fit": "squash"}}, r"images\.fit: .*'crop', 'pad' or 'stretch'"),
    ({"images": {"predicted": {"classifier": "v9"}}}, r"images\.predicted\.classifier 'v9' is not one of classifiers"),
    # search and effects
    ({"search": {"beam": 0}}, r"search\.beam: .*1"),
    ({"search": {"gate": "loud"}}, r"search\.gate: .*'magnitude', 'signed' or 'absolute'"),
    ({"effects": {"margin": -1}}, r"effects\.margin: .*greater than 0"),
    # editors
    ({"editors": {}}, r"editors: .*at least 1"),
    ({"editors": {"e": {"checkpoint": "x"}}}, r"editors\.e: 'kind' is missing; .*\(instruct, ledits, "),
    ({"editors": {"e": {"kind": "magic"}}}, r"editors\.e: kind: there is no kind 'magic'; .*ledits, .*python"),
    ({"editors": {"e": {"kind": "ledits", "checkpoint": "x", "steps": 0}}}, r"line \d+: editors\.e\.steps: .*1"),
    (
        {"editors": {"e": {"kind": "ledits", "checkpoint": "x", "setps": 5}}},
        r"editors\.e\.setps: .*did you mean 'steps'",
    ),
    ({"editor": "other"}, r"editor 'other' is not one of editors \(paint\)"),
    (
        sd(config="models/sd15"),
        r"line \d+: editors\.e: config belongs to a checkpoint that is a single \.safetensors file",
    ),
    (sd(compile=True, offload=True), r"editors\.e: compile needs the UNet to stay .*; keep one of them"),
    (sd(attention="flash"), r"editors\.e\.attention: .*'sdpa' or 'xformers'"),
    (sd(attention="xformers", device="cpu"), r"editors\.e: attention: xformers needs a CUDA device .*use sdpa"),
    (sd(dtype="fp16"), r"editors\.e\.dtype: .*'float16'"),
    (sd(loras=[{"checkpoint": "a", "scael": 1}]), r"editors\.e\.loras\.0\.scael: .*did you mean 'scale'"),
    (sd(loras=[{"scale": 1}]), r"editors\.e\.loras\.0\.checkpoint: the field is missing; add it"),
    # classifiers
    ({"classifiers": {"corpus": {"kind": "transformers", "checkpoint": "x"}}}, r"that is the name of a stage"),
    (classifier(kind="onx", file="a.onnx"), r"classifiers\.v1: kind: there is no kind 'onx'; did you mean 'onnx'\?"),
    (classifier(file="a.onnx"), r"classifiers\.v1: 'kind' is missing; .*clip, http, onnx, .*transformers"),
    (classifier(kind="onnx"), r"classifiers\.v1\.file: the field is missing; add it"),
    (classifier(kind="onnx", file="a", preprocesing={}), r"v1\.preprocesing: .*did you mean 'preprocessing'"),
    (classifier(kind="onnx", file="a", preprocessing={"means": 0}), r"v1\.preprocessing\.means: .*did you mean 'mean'"),
    (classifier(kind="onnx", file="a", outputs="softmax"), r"v1\.outputs: .*'logits' or 'probabilities'"),
    (classifier(kind="clip", labels=[]), r"v1\.labels: .*at least 1"),
    (classifier(kind="clip", labels=["a"], template="a photo"), r"v1\.template: write a sentence with \{\} where"),
    (classifier(kind="http", url="localhost", labels=["a"]), r"v1\.url: write an address that begins with http"),
    (classifier(kind="python", factory="no colon"), r"classifiers\.v1\.factory: write module:attribute"),
    (classifier(kind="python"), r"classifiers\.v1: name either 'callable' .* or 'factory'"),
    # corpus
    ({"corpus": {"vlm": {"kind": "recorded", "file": "a"}, "starter": "face"}}, r"name a vlm or a starter, not both"),
    ({"corpus": {"vlm": {"kind": "openai"}}}, r"corpus\.vlm\.model: the field is missing; add it"),
]


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES)
def test_a_mistake_names_file_field_and_remedy(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    file = write_study(tmp_path, **changes)
    with pytest.raises(StudyError, match=sentence) as caught:
        load_study(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["diffex", "run", str(tmp_path)])
        cli.main()
    assert edits_made(tmp_path) == [] and not (tmp_path / "results").exists()


def test_the_line_is_that_of_the_field(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    lines = file.read_text().splitlines()
    row = next(i for i, line in enumerate(lines) if line.strip() == "label: warm")
    lines[row] = "  lable: warm"
    file.write_text("\n".join(lines))
    with pytest.raises(StudyError, match=rf"line {row + 1}: target\.lable"):
        load_study(file)


def test_a_classifier_has_a_short_form(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, **classifier(python="tests.support.toys:warm", labels=["cold", "warm"])))
    part = study.classifiers["v1"]
    assert part.kind == "python" and part.callable == "tests.support.toys:warm" and part.labels == ("cold", "warm")


def test_several_classes_are_several_reports_on_the_same_edits(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, target={"label": ["warm", "cold"]}))
    assert list(study.classifiers) == ["v1_warm", "v1_cold", "v2_warm", "v2_cold"]
    assert study.target.label == "warm" and study.labels == ("warm", "cold")
    assert study.comparable == ("v1_warm", "v2_warm")
    assert study.for_classifier("v1_cold").target.label == "cold"
    assert study.for_classifier("v1_cold").file == study.file
    assert study.for_classifier("v1_cold").subject("f") != study.for_classifier("v1_warm").subject("f")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no such study file"):
        load_study(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text("name: [unclosed")
    with pytest.raises(StudyError, match=r"not valid YAML.*line 1"):
        load_study(tmp_path)
    (tmp_path / "study.yaml").write_text("just words")
    with pytest.raises(StudyError, match="has no fields"):
        load_study(tmp_path)


def test_an_unknown_study_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="one of avatars"):
        find_study("birds", ROOT)


def test_a_checkpoint_is_a_folder_beside_the_study_or_a_hub_id(toy: Study) -> None:
    assert (
        toy.checkpoint("stable-diffusion-v1-5/stable-diffusion-v1-5") == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    assert toy.checkpoint("images") == str(toy.folder / "images")
    # "images" is a folder here, so a missing "images/v2" is a missing folder, not somebody's hub repository.
    assert toy.checkpoint("images/v2") == str(toy.folder / "images" / "v2")
    assert toy.checkpoint("./missing") == str(toy.folder / "missing")


@pytest.mark.parametrize("name", ["face_age", "cat_dog", "urban_rural", "plant_health"])
def test_the_examples_are_valid_and_stay_out_of_the_demo(name: str) -> None:
    """They need the model hub, so that they are not run: what can be known without it is checked."""
    study = load_study(ROOT / "studies" / "examples" / name)
    assert study.name == name and study.path(study.images.folder or study.images.dataset).is_dir()
    assert load_starter(study.corpus.starter).groups
    for part in study.classifiers.values():
        assert part.checkpoint.count("/") == 1 and study.checkpoint(part.checkpoint) == part.checkpoint  # a hub id
    assert find_study(f"examples/{name}", ROOT) == ROOT / "studies" / "examples" / name
    demo = {file.parent.name for file in (ROOT / "studies").glob("*/study.yaml")}
    assert name not in demo and "avatars" in demo


def test_a_folder_where_a_file_should_be_is_one_sentence(tmp_path: Path) -> None:
    from diffex_dagster.corpus.overrides_file import read_overrides
    from diffex_dagster.errors import CorpusError
    from diffex_dagster.stages.corpus import overrides_version

    (tmp_path / "folder" / "study.yaml").mkdir(parents=True)
    with pytest.raises(StudyError, match="it cannot be read"):
        load_study(tmp_path / "folder" / "study.yaml" / "..")
    study = load_study(write_study(tmp_path / "s", 2, corpus={"starter": "face", "overrides": "images"}))
    with pytest.raises(CorpusError, match=r"images cannot be read .*folder.*name a corpus file"):
        read_overrides(study.path(study.corpus.overrides))
    assert overrides_version(study) == "broken"


def numbers(kind: Any) -> set[Any]:
    """The number types that a field's annotation holds."""
    return {kind} & {int, float} | {number for part in get_args(kind) for number in numbers(part)}


def parts_of(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [part for each in get_args(kind) for part in parts_of(each)]


def test_every_number_of_a_study_has_a_least_value_and_none_may_be_infinite() -> None:
    of_any_sign = {
        ("Lora", "scale"), ("InstructEditorPart", "guidance"), ("InstructEditorPart", "image_guidance"),
        ("Target", "threshold"), ("Target", "values"), ("Preprocessing", "mean"), ("SearchPart", "delta"),
        ("SearchPart", "joint_gain"),
    }  # fmt: skip
    waiting: list[type[BaseModel]] = [Study]
    seen: set[type[BaseModel]] = set()
    unbound: set[tuple[str, str]] = set()
    while waiting:
        part = waiting.pop()
        if part in seen:
            continue
        seen.add(part)
        assert part.model_config.get("allow_inf_nan") is False, part
        for name, field in part.model_fields.items():
            waiting += parts_of(field.annotation)
            if numbers(field.annotation) and not any(word in repr(field) for word in ("Ge(", "Gt(", "ge=", "gt=")):
                unbound.add((part.__name__, name))
    assert unbound == of_any_sign and len(seen) > 20


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"seed": 10**30}, "seed: Input should be less than"),
        ({"effects": {"minimum_effect": float("inf")}}, "effects.minimum_effect: Input should be a finite number"),
        ({"search": {"racing_growth": 1e300}}, "racing_growth: Input should be less than or equal to 100"),
        ({"editors": {"e": {"kind": "ledits", "checkpoint": "x", "steps": 10**9}}}, "editors.e.steps: .* 1000"),
        ({"classifiers": {"v": {"kind": "onnx", "file": "m", "preprocessing": {"std": [0, 1, 1]}}}}, "greater than 0"),
        ({"classifiers": {"v": {"kind": "onnx", "file": "m", "preprocessing": {"size": 0}}}}, "size: .* equal to 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused_with_their_line(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=rf"line \d+: .*{told}"):
        load_study(write_study(tmp_path, 1, **changes))


def test_a_changed_section_names_fields_that_there_are(toy: Study) -> None:
    # Under a name that is no field, pydantic's copy would say nothing and be as it was.
    with pytest.raises(TypeError, match="CorpusPart has no field 'edits'"):
        toy.corpus.model_copy(update={"edits": Path("none.yaml")})
    with pytest.raises(TypeError, match="Study has no field 'beam'"):
        toy.changed(beam=2)


def test_a_classifier_that_a_study_lacks_is_one_sentence(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "toy", 2))
    for ask in (study.for_classifier, lambda name: build_study(study, [name])):
        with pytest.raises(StudyError, match=r"study.yaml: classifiers: there is no 'v9'; the study has v1, v2$"):
            ask("v9")
