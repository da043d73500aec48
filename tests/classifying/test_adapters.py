"""Every kind of classifier gives the scores of the torch original, from a file that is exported here."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffex_dagster.classifying import torch_file_adapter
from diffex_dagster.classifying.http_adapter import HttpClassifier, HttpPart
from diffex_dagster.classifying.parts import Target, Where
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.python_adapter import CallableClassifier
from diffex_dagster.classifying.target import flips, measure
from diffex_dagster.errors import ClassifierError
from diffex_dagster.study import Study, study_of
from tests.support.services import Answer, Sent, Service, served

ROOT = Path(__file__).parent.parent.parent
PERSONA = ROOT / "studies" / "avatars" / "classifiers" / "persona_v1"
PREPROCESSING = {"size": 64, "mean": 0.5, "std": 0.5}
LABELS = ["junior", "senior"]


class Logits(torch.nn.Module):
    """The persona as a module from tensors to logits, as people export them."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels).logits


@pytest.fixture(scope="module")
def persona() -> torch.nn.Module:
    from transformers import AutoModelForImageClassification

    return Logits(AutoModelForImageClassification.from_pretrained(PERSONA)).eval()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted((ROOT / "studies/avatars/images").glob("*.png"))[:7]]


def tensor(pictures: list[Image.Image]) -> torch.Tensor:
    pixels = np.stack([np.asarray(each) for each in pictures]).astype(np.float32) / 255
    return torch.from_numpy((pixels - 0.5) / 0.5).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def truth(persona: torch.nn.Module, pictures: list[Image.Image]) -> np.ndarray:
    """What the torch original says."""
    with torch.inference_mode():
        return persona(tensor(pictures)).double().numpy()


@pytest.fixture(scope="module")
def exported(persona: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the persona in every format."""
    folder = tmp_path_factory.mktemp("exported")
    example = torch.rand(2, 3, 64, 64)
    batch = ({0: torch.export.Dim.DYNAMIC},)
    torch.jit.trace(persona, example).save(folder / "persona.ts")
    torch.export.save(torch.export.export(persona, (example,), dynamic_shapes=batch), folder / "persona.pt2")
    torch.export.save(torch.export.export(persona, (example,)), folder / "fixed.pt2")
    torch.onnx.export(
        persona, (example,), folder / "persona.onnx", dynamic_shapes=batch, external_data=False, verbose=False
    )
    torch.onnx.export(persona, (example,), folder / "fixed.onnx", external_data=False, verbose=False)
    (folder / "alone").mkdir()
    shutil.copy(folder / "persona.onnx", folder / "alone")  # with nothing beside it
    (folder / "labels.txt").write_text("junior\nsenior\n")
    (folder / "manifest.json").write_text(json.dumps({"labels": LABELS, "preprocessing": PREPROCESSING}))
    return folder


def classifier(folder: Path, **part: Any) -> Classifier:
    """A classifier as a study file in this folder would name it."""
    study = a_study(folder, part)
    return study.classifiers["v1"].build(Where(study.folder, study.checkpoint, "classifiers.v1"))


@pytest.mark.parametrize("takes", ["pictures", "tensor"])
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("Failed to allocate memory for requested")],
)
def test_a_batch_that_does_not_fit_is_halved_and_the_scores_stay(
    takes: Any, error: RuntimeError, pictures: list[Image.Image]
) -> None:
    sizes, most = [], [2]

    def small(given: Any) -> Any:
        sizes.append(len(given))
        if len(given) > most[0]:
            raise error
        brightness = [float(np.asarray(each).mean()) for each in given]
        return np.array([[each, -each] for each in brightness])

    made = CallableClassifier(small, LABELS, takes, device="cpu")
    scores = made(pictures)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1] and scores.shape == (7, 2)
    assert np.array_equal(scores, CallableClassifier(small, LABELS, takes, device="cpu", batch_size=2)(pictures))
    sizes.clear()
    assert made(pictures[:2]).shape == (2, 2) and sizes == [1, 1]  # what did not fit is not tried again
    most[0] = 0
    with pytest.raises(ClassifierError, match="small: one picture alone does not fit into the device's memory"):
        made(pictures)


@pytest.mark.parametrize(
    "part",
    [
        {"kind": "transformers", "checkpoint": str(PERSONA)},
        {"kind": "onnx", "file": "persona.onnx", "manifest": "manifest.json"},
        {"kind": "torchscript", "file": "persona.ts", "manifest": "manifest.json"},
        {"kind": "torch_export", "file": "persona.pt2", "manifest": "manifest.json"},
    ],
    ids=lambda part: part["kind"],
)
def test_whatever_runs_the_model_its_batch_is_halved(
    part: dict[str, Any], exported: Path, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, sizes = classifier(exported, **part), []
    whole = made(pictures)

    error: Exception = torch.OutOfMemoryError("CUDA out of memory")
    if part["kind"] == "onnx":  # a kind of its own, which is no RuntimeError
        from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

        error = RuntimeException("Failed to allocate memory for requested buffer of size 4096")

    def short_of_memory(count: int) -> None:
        sizes.append(count)
        if count > 3:
            raise error

    def run_torch(module: Any, array: np.ndarray, device: str) -> Any:
        short_of_memory(len(array))
        return run(module, array, device)

    run = torch_file_adapter.run_torch
    monkeypatch.setattr(torch_file_adapter, "run_torch", run_torch)
    if part["kind"] == "transformers":
        given = made._model.register_forward_pre_hook
        given(lambda module, _, named: short_of_memory(len(named["pixel_values"])), with_kwargs=True)
    if part["kind"] == "onnx":
        session = made._session

        class Session:
            get_inputs = session.get_inputs

            def run(self, names: Any, arrays: dict[str, np.ndarray]) -> Any:
                short_of_memory(len(next(iter(arrays.values()))))
                return session.run(names, arrays)

        made._session = Session()
    assert np.allclose(made(pictures), whole, atol=1e-4)
    assert sizes == [7, 3, 3, 1]


def a_study(folder: Path, part: dict[str, Any]) -> Study:
    fields = {
        "name": "s", "domain": "avatars", "corpus": {"starter": "face"}, "target": {"label": "senior"},
        "editors": {"e": {"kind": "python", "factory": "tests.support.toys:PaintEditor"}}, "classifiers": {"v1": part},
    }  # fmt: skip
    return study_of(fields, folder / "study.yaml")


@pytest.mark.parametrize(
    "part",
    [
        {"kind": "transformers", "checkpoint": str(PERSONA)},
        {"kind": "onnx", "file": "persona.onnx", "labels": LABELS, "preprocessing": PREPROCESSING},
        {"kind": "onnx", "file": "persona.onnx", "labels": "labels.txt", "preprocessing": PREPROCESSING},
        {"kind": "onnx", "file": "persona.onnx", "manifest": "manifest.json"},
        {"kind": "onnx", "file": "persona.onnx", "manifest": str(PERSONA)},  # config.json, preprocessor_config.json
        {"kind": "onnx", "file": "fixed.onnx", "manifest": "manifest.json"},
        {"kind": "torchscript", "file": "persona.ts", "manifest": "manifest.json"},
        {"kind": "torch_export", "file": "persona.pt2", "manifest": "manifest.json"},
        {"kind": "torch_export", "file": "fixed.pt2", "manifest": "manifest.json"},
        {"python": "tests.support.callables:of_pictures", "labels": LABELS},
        {"python": "tests.support.callables:of_tensors", "labels": LABELS, "takes": "tensor"},
        {"python": "tests.support.callables:probabilities", "labels": LABELS, "outputs": "probabilities"},
        {"python": "tests.support.callables:log_odds", "labels": LABELS},
        {
            "python": "tests.support.callables:module",
            "takes": "tensor",
            "labels": LABELS,
            "preprocessing": {"mean": 0.5, "std": 0.5},
        },
    ],
    ids=lambda part: "-".join(str(value).rpartition(":")[2] for value in list(part.values())[:2]),
)
def test_the_scores_are_those_of_the_torch_original(
    exported: Path, pictures: list[Image.Image], truth: np.ndarray, part: dict[str, Any]
) -> None:
    made = classifier(exported, batch_size=3, **part)
    assert made.labels == ("junior", "senior")
    outputs = made(pictures)
    target = Target(label="senior")
    expected = measure(truth, LABELS, target)
    assert np.abs(measure(outputs, made.labels, target) - expected).max() < 1e-4
    assert np.ptp(expected) > 0.2  # a test that a constant would not pass
    assert made([]).shape == (0, 2)
    again = classifier(exported, batch_size=2, **part)
    assert again.fingerprint == made.fingerprint and len(made.fingerprint) == 16


def avatars_effects(classifier: Any, target: Any, labels: tuple[str, ...] = ()) -> dict[str, float]:
    """The effects that an explanation of a few avatars finds, by feature."""
    from diffex_dagster import explain

    avatars = ROOT / "studies" / "avatars"
    images = {"folder": str(avatars / "images"), "limit": 4}
    attributes = {"attributes": str(avatars / "images" / "attributes.json")}
    editor = {"kind": "python", "factory": "diffex_dagster.worlds.avatars:ExactEditor", "options": attributes}
    tree = [{"name": "Eyewear", "editable": False, "children": ["sunglasses", "round glasses"]},
            {"name": "Hair", "editable": False, "children": ["grey hair"]}]  # fmt: skip
    settings: dict[str, Any] = {"size": 64, "search": {"joint_size": 1}, "effects": {"control_prompts": ["flornip"]}}
    settings |= {"labels": labels}
    frame = explain(images, classifier, editor, tree, target, **settings).to_frame()
    return dict(zip(frame["feature"], frame["effect"], strict=True))


@pytest.mark.slow
def test_the_avatars_study_has_the_same_effects_wherever_the_classifier_is(
    exported: Path, persona: torch.nn.Module
) -> None:
    def answer(body: dict[str, Any], number: int) -> tuple[int, Any]:
        with torch.inference_mode():
            return 200, {"outputs": persona(tensor(decoded(body["images"]))).softmax(1).tolist()}

    files = {"onnx": "persona.onnx", "torchscript": "persona.ts", "torch_export": "persona.pt2"}
    parts: list[dict[str, Any]] = [{"kind": "transformers", "checkpoint": str(PERSONA)}]
    parts += [{"kind": kind, "file": str(exported / file), "manifest": str(exported / "manifest.json")}
              for kind, file in files.items()]  # fmt: skip
    parts.append({"python": "tests.support.callables:of_pictures", "labels": LABELS})
    with serving(answer) as (url, _):
        parts.append({"kind": "http", "url": url, "labels": LABELS})
        effects = [avatars_effects(part, "senior") for part in parts]
    assert len(effects) == 6 and len(effects[0]) == 3 and max(map(abs, effects[0].values())) > 0.1
    for other in effects[1:]:
        assert other == pytest.approx(effects[0], abs=1e-4)


# HTTP


@contextmanager
def serving(answer: Callable[[dict[str, Any], int], tuple[int, Any]]) -> Iterator[tuple[str, Service]]:
    """A classifier's service: its address, with a token in it, and what it got. `answer` gets body and number."""

    def reply(sent: Sent, number: int) -> Answer:
        status, content = answer(sent.body, number + 1)
        return Answer(content, status, {"Retry-After": "0"} if status == 429 else {})

    with served(reply) as service:
        yield f"{service.url}/predict?token=in-the-address", service


def decoded(images: list[Any]) -> list[Image.Image]:
    texts = [each["b64"] if isinstance(each, dict) else each for each in images]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in texts]


@pytest.mark.parametrize("format", ["plain", "kserve", "labelled"])
def test_a_service_gives_the_same_scores_and_is_asked_again_when_it_stumbles(
    persona: torch.nn.Module,
    pictures: list[Image.Image],
    truth: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
) -> None:
    monkeypatch.setenv("SERVICE_KEY", "s3cret")

    def answer(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if number in (1, 3):
            return (429 if number == 1 else 503), {"error": "busy"}
        sent, received = ("instances", "predictions") if format == "kserve" else ("images", "outputs")
        assert body["model"] == "persona" and len(body[sent]) <= 4
        with torch.inference_mode():
            rows = persona(tensor(decoded(body[sent]))).softmax(1).tolist()
        if format == "labelled":
            rows = [[{"label": "senior", "score": s}, {"label": "junior", "score": j}] for j, s in rows]
        return 200, {received: rows}

    with serving(answer) as (url, service):
        part = HttpPart(
            url=url, labels=LABELS, format="kserve" if format == "kserve" else "plain", key_env="SERVICE_KEY",
            batch_size=4, parameters={"model": "persona"},
        )  # fmt: skip
        made = HttpClassifier(part)
        outputs = made(pictures)
    target = Target(label="senior")
    assert np.abs(measure(outputs, LABELS, target) - measure(truth, LABELS, target)).max() < 1e-4
    assert len(service.got) == 4  # two batches, each asked for twice
    assert {sent.headers["Authorization"] for sent in service.got} == {"Bearer s3cret"}
    assert (
        "in-the-address" not in made.name
        and made.fingerprint != HttpClassifier(HttpPart(url=url, labels=LABELS, version="2")).fingerprint
    )


@pytest.mark.parametrize(
    ("status", "content", "sentence"),
    [
        (401, {"error": "bad key"}, "answered with status 401 .*bad key.*check url, key_env"),
        (500, {}, "answered with status 500"),
        (200, b"<html>", "the answer is not JSON; check the url"),
        (200, {"scores": []}, 'must hold "outputs" with one row for each of 1 pictures, and holds none'),
        (200, {"outputs": [[0.5, 0.5]] * 2}, "holds 2 rows"),
        (200, {"error": "model is loading"}, "holds none .*model is loading"),
        (200, [[{"label": "x", "score": 1.0}]], "holds none"),
        (
            200,
            {"outputs": [[{"label": "Junior", "score": 1.0}]]},
            "no score for 'junior'; it has Junior: write labels as",
        ),
        (200, {"outputs": [["a", "b"]]}, "neither numbers nor a list of label and score"),
        (200, {"outputs": [[3.0, -1.0]]}, r"returned -1 to 3, which are no probabilities; write outputs: logits"),
        (200, {"outputs": [[0.2, 0.3, 0.5]]}, "returns 3 outputs but 2 classes are named"),
        (200, {"outputs": [[float("nan"), 0.5]]}, "not finite"),
    ],
)
def test_a_bad_answer_is_one_sentence(
    status: int, content: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_KEY", "s3cret")
    with serving(lambda body, number: (status, content)) as (url, _):
        made = HttpClassifier(HttpPart(url=url, labels=LABELS, retries=0, key_env="SERVICE_KEY"))
        with pytest.raises(ClassifierError, match=sentence) as caught:
            made([Image.new("RGB", (8, 8))])
    assert "s3cret" not in str(caught.value) and "in-the-address" not in str(caught.value)


def test_a_service_that_is_not_there_and_a_key_that_is_not_set() -> None:
    made = HttpClassifier(HttpPart(url="http://127.0.0.1:9/predict", labels=LABELS, retries=0))
    with pytest.raises(ClassifierError, match=r"the service cannot be reached .*start it, or correct the url"):
        made([Image.new("RGB", (8, 8))])
    with pytest.raises(ClassifierError, match="the environment variable NO_SUCH_KEY is not set; export it"):
        HttpClassifier(HttpPart(url="http://127.0.0.1:9", labels=LABELS, key_env="NO_SUCH_KEY"))(
            [Image.new("RGB", (8, 8))]
        )


# CLIP


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights, saved as the hub's are."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "studies/avatars/editor/tokenizer")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**small, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": 0}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def test_clip_is_the_scaled_cosine_of_picture_and_sentence(clip: Path, pictures: list[Image.Image]) -> None:
    from transformers import CLIPModel, CLIPProcessor

    labels = ["a person with glasses", "a person with a beard", "a hat"]
    made = classifier(clip, kind="clip", checkpoint=str(clip), labels=labels, template="a drawing of {}", batch_size=3)
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)
    sentences = [f"a drawing of {label}" for label in labels]
    inputs = processor(text=sentences, images=pictures, return_tensors="pt", padding=True)
    with torch.inference_mode():
        out = model(**inputs)
        cosine = torch.nn.functional.cosine_similarity(out.image_embeds[:, None], out.text_embeds[None], dim=-1)
        expected = (model.logit_scale.exp() * cosine).double().numpy()
    assert made.labels == tuple(labels)
    assert np.abs(made(pictures) - expected).max() < 1e-4
    assert np.ptp(expected) > 1e-3
    other = classifier(clip, kind="clip", checkpoint=str(clip), labels=labels, template="a photo of {}")
    assert other.fingerprint != made.fingerprint


def test_clip_explains_the_avatars_as_the_torch_original_does(clip: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    labels = ("a person with glasses", "a person with a beard")
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)

    def zero_shot(pictures: list[Image.Image]) -> np.ndarray:
        inputs = processor(text=[f"a drawing of {label}" for label in labels], images=pictures, return_tensors="pt",
                           padding=True)  # fmt: skip
        with torch.inference_mode():
            return model(**inputs).logits_per_image.double().numpy()

    target = {"label": labels[0], "measure": "margin", "against": labels[1]}
    part = {"kind": "clip", "checkpoint": str(clip), "labels": list(labels), "template": "a drawing of {}"}
    effects, expected = avatars_effects(part, target), avatars_effects(zero_shot, target, labels)
    assert effects == pytest.approx(expected, abs=1e-4) and max(map(abs, effects.values())) > 1e-3


# timm imports torchvision, which the base install does not have


def test_timm_says_what_it_needs_where_it_cannot_be_imported(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    made = classifier(exported, kind="timm", model="resnet10t", labels=LABELS)
    with pytest.raises(
        ClassifierError, match=r"timm cannot be imported .*pip install diffex-dagster\[timm\].*torchvision"
    ):
        made([Image.new("RGB", (8, 8))])


@pytest.mark.slow
def test_timm_gives_the_scores_of_the_torch_original(tmp_path: Path) -> None:
    """In a process of its own, with a stand-in for the one torchvision class that timm's layers name."""
    import importlib.util

    if importlib.util.find_spec("timm") is None:
        pytest.skip(
            "timm is not installed (`pip install timm`): it needs torchvision, which the base install does not have"
        )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "timm_parity.py"), str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < 1e-4


# What goes wrong


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (
            {"kind": "onnx", "file": "nowhere.onnx", "labels": LABELS},
            r"nowhere\.onnx: file: there is no such model file",
        ),
        ({"kind": "onnx", "file": "labels.txt", "labels": LABELS}, "onnxruntime cannot load the model"),
        ({"kind": "onnx", "file": "alone/persona.onnx"}, "labels: a model file does not say what its outputs are"),
        ({"kind": "onnx", "file": "persona.onnx", "labels": ["a", "b", "c"]}, "returns 2 outputs but 3 classes"),
        (
            {"kind": "onnx", "file": "persona.onnx", "labels": LABELS, "preprocessing": {"channels": "grey"}},
            r"the model takes tensor\(float\) of shape .* was given \(1, 1, 64, 64\).*set preprocessing",
        ),
        ({"kind": "onnx", "file": "persona.onnx", "labels": LABELS, "output": "probs"}, r"no 'probs'; it has \w+"),
        ({"kind": "onnx", "file": "persona.onnx", "labels": "none.txt"}, r"none\.txt: labels: the file cannot be read"),
        ({"kind": "onnx", "file": "persona.onnx", "manifest": "labels.txt"}, "manifest: it has no fields"),
        ({"kind": "torchscript", "file": "persona.onnx", "labels": LABELS}, "cannot load it .*torch.jit.save"),
        ({"kind": "torch_export", "file": "persona.ts", "labels": LABELS}, "cannot load it .*torch.export.save"),
        (
            {"kind": "torchscript", "file": "persona.ts", "labels": LABELS, "preprocessing": {"layout": "nhwc"}},
            r"was given float32 of shape \(1, 64, 64, 3\) and failed",
        ),
        ({"python": "tests.support.callables:raises", "labels": LABELS}, "failed on 1 pictures .*ValueError: no"),
        ({"python": "tests.support.callables:scalar", "labels": LABELS}, r"array of shape \(\) for 1 pictures"),
        ({"python": "tests.support.callables:of_pictures"}, "labels: the callable has no attribute `labels`"),
        ({"python": "tests.support.callables:LABELS", "labels": LABELS}, "it cannot be called"),
        (
            {"python": "tests.support.callables:of_pictures", "labels": LABELS, "files": ["gone.bin"]},
            r"gone\.bin: files: there is no such file",
        ),
    ],
)
def test_a_classifier_that_cannot_be_used_is_one_sentence(exported: Path, part: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ClassifierError, match=sentence) as caught:
        made = classifier(exported, **part)
        made.fingerprint, made([Image.new("RGB", (64, 64))])
    assert "\n" not in str(caught.value)


def test_a_fingerprint_changes_with_weights_and_preprocessing(exported: Path, tmp_path: Path) -> None:
    part = {"kind": "onnx", "labels": LABELS, "preprocessing": PREPROCESSING}
    first = classifier(exported, file="persona.onnx", **part).fingerprint
    assert classifier(exported, file="fixed.onnx", **part).fingerprint != first
    other = {**part, "preprocessing": {**PREPROCESSING, "mean": 0.4}}
    assert classifier(exported, file="persona.onnx", **other).fingerprint != first
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"1")
    own = {"python": "tests.support.callables:of_pictures", "labels": LABELS, "files": ["w.bin"]}
    before = classifier(tmp_path, **own).fingerprint
    weights.write_bytes(b"22")
    assert classifier(tmp_path, **own).fingerprint != before


# Targets


def test_every_measure_on_numbers_worked_out_by_hand() -> None:
    outputs = np.array([[0.0, np.log(3.0)], [2.0, 0.0]])
    labels = ("a", "b")
    assert measure(outputs, labels, Target(label="b"))[0] == pytest.approx(0.75)
    assert measure(outputs, labels, Target(label="a", measure="sigmoid"))[0] == pytest.approx(0.5)
    assert measure(outputs, labels, Target(label="a", measure="logit")).tolist() == [0.0, 2.0]
    assert measure(outputs, labels, Target(label="a", measure="margin", against="b"))[1] == pytest.approx(2.0)
    assert measure(outputs[:, :1], ("age",), Target(measure="value")).tolist() == [0.0, 2.0]
    own = Target(measure="function", function="tests.support.callables:spread")
    assert measure(outputs, labels, own)[1] == pytest.approx(2.0)
    with pytest.raises(ClassifierError, match=r"returned an array of shape \(2, 2\) for 2 pictures"):
        measure(outputs, labels, Target(measure="function", function="tests.support.callables:same"))


def test_flips_follow_the_class_or_the_threshold() -> None:
    before, after = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[2.0, 1.0], [0.5, 1.0]])
    labels = ("a", "b")
    assert flips(before, after, labels, Target(label="a"), Path()).tolist() == [True, False]
    assert flips(before, after, labels, Target(label="a", measure="sigmoid"), Path()).tolist() == [True, True]
    ages = np.array([[20.0], [40.0]]), np.array([[35.0], [45.0]])
    assert flips(*ages, ("age",), Target(measure="value", threshold=30.0), Path()).tolist() == [True, False]
    assert flips(*ages, ("age",), Target(measure="value"), Path()).tolist() == [False, False]
