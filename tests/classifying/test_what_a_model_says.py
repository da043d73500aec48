"""What a model says of itself is applied, or contradicts the study and is refused; it is never guessed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image
from scipy.special import expit, softmax

from diffex_dagster.classifying.asking import made_up_pictures, try_out
from diffex_dagster.classifying.labels import read_labels
from diffex_dagster.classifying.manifests import load_manifest, manifest_beside, read_manifest
from diffex_dagster.classifying.onnx_adapter import OnnxClassifier
from diffex_dagster.classifying.outputs import rows_of, sums_to_one
from diffex_dagster.classifying.parts import Preprocessing, Target, Where
from diffex_dagster.classifying.preprocessing import as_array, merged
from diffex_dagster.classifying.python_adapter import CallableClassifier
from diffex_dagster.classifying.target import becomes, check_labels, flips, measure
from diffex_dagster.errors import ClassifierError, StudyError
from diffex_dagster.study import study_of
from tests.support.checkpoints import save_random_vit
from tests.support.onnx_models import WEIGHTS, save

PICTURES = made_up_pictures(16, 5)
LABELS = ("cold", "warm")
MEANS = np.stack([np.asarray(each, np.float64).mean(axis=(0, 1)) for each in PICTURES]) / 255
LOGITS = MEANS @ WEIGHTS
APART = WEIGHTS * np.array([1.0, 0.3], np.float32)  # two labels whose probabilities do not sum to 1


# Outputs: the graph's last operator, then the numbers


@pytest.mark.parametrize("ending", ["Softmax", "written out"])
def test_a_softmax_in_the_graph_makes_the_outputs_probabilities(tmp_path: Path, ending: str) -> None:
    file = save(tmp_path / "m.onnx", ending)
    made = OnnxClassifier(file, LABELS)
    assert made.outputs == "probabilities"
    expected = softmax(LOGITS, axis=1)[:, 1]
    assert measure(made(PICTURES), LABELS, Target(label="warm")) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.3
    said = OnnxClassifier(file, LABELS, outputs="probabilities")
    assert said.fingerprint == made.fingerprint
    with pytest.raises(ClassifierError, match=r"outputs: the model's last operator is a softmax, and the study says "
                       "outputs: logits; write outputs: probabilities"):  # fmt: skip
        OnnxClassifier(file, LABELS, outputs="logits").fingerprint


@pytest.mark.parametrize("ending", ["", "LogSoftmax"])
def test_logits_and_their_log_softmax_stay_logits(tmp_path: Path, ending: str) -> None:
    made = OnnxClassifier(save(tmp_path / "m.onnx", ending), LABELS)
    assert made.outputs == "logits"
    assert measure(made(PICTURES), LABELS, Target(label="warm")) == pytest.approx(
        softmax(LOGITS, axis=1)[:, 1], abs=1e-5
    )


def test_sigmoids_are_labels_that_do_not_compete(tmp_path: Path) -> None:
    made = OnnxClassifier(save(tmp_path / "m.onnx", "Sigmoid", weights=APART), LABELS)
    assert made.outputs == "sigmoid"
    with pytest.raises(ClassifierError, match=r"labels do not compete .*write measure: sigmoid"):
        try_out(made, 16, Target(label="warm"))
    target = Target(label="warm", measure="sigmoid")
    assert measure(made(PICTURES), LABELS, target) == pytest.approx(expit(MEANS @ APART)[:, 1], abs=1e-5)
    with pytest.raises(ClassifierError, match="last operator is a sigmoid.*write outputs: sigmoid"):
        OnnxClassifier(tmp_path / "m.onnx", LABELS, outputs="logits").outputs
    with pytest.raises(ClassifierError, match="rows sum to .*write outputs: sigmoid"):
        OnnxClassifier(tmp_path / "m.onnx", LABELS, outputs="probabilities")(PICTURES)


def test_one_sigmoid_for_two_classes_is_the_probability_of_the_second(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", "Sigmoid", weights=WEIGHTS[:, 1:])
    for outputs in (None, "probabilities", "sigmoid"):
        made = OnnxClassifier(file, LABELS, outputs=outputs)
        found = measure(try_out(made, 16, Target(label="warm")), LABELS, Target(label="warm"))
        assert found == pytest.approx(expit(LOGITS[:4, 1]), abs=1e-5)


def test_a_class_number_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"returns the number of the class \(ArgMax\)"):
        OnnxClassifier(save(tmp_path / "m.onnx", "ArgMax"), LABELS).outputs


def test_numbers_that_sum_to_one_are_no_logits_whoever_returns_them() -> None:
    def probabilities(pictures: list[Image.Image]) -> np.ndarray:
        means = np.stack([np.asarray(each, np.float64).mean(axis=(0, 1)) for each in pictures]) / 255
        return softmax(means @ WEIGHTS, axis=1).astype(np.float16)

    for outputs in (None, "logits"):
        with pytest.raises(ClassifierError, match="0 or more and sum to 1.*write outputs: probabilities"):
            CallableClassifier(probabilities, LABELS, outputs=outputs)(PICTURES)
    said = CallableClassifier(probabilities, LABELS, outputs="probabilities")
    assert measure(said(PICTURES), LABELS, Target(label="warm")) == pytest.approx(
        softmax(LOGITS, axis=1)[:, 1], abs=1e-2
    )


def test_numbers_between_zero_and_one_are_asked_about() -> None:
    def scores(pictures: list[Image.Image]) -> np.ndarray:
        means = np.stack([np.asarray(each, np.float64).mean(axis=(0, 1)) for each in pictures]) / 255
        return expit(means @ APART)

    with pytest.raises(ClassifierError, match="between 0 and 1, .*write outputs: sigmoid or outputs: logits"):
        try_out(CallableClassifier(scores, LABELS), 16, Target(label="warm"))
    said = CallableClassifier(scores, LABELS, outputs="sigmoid")
    found = measure(said(PICTURES), LABELS, Target(label="warm", measure="sigmoid"))
    assert found == pytest.approx(expit(MEANS @ APART)[:, 1])
    with pytest.raises(ClassifierError, match=r"rows sum to .* write outputs: sigmoid"):
        CallableClassifier(scores, LABELS, outputs="probabilities")(PICTURES)


def test_percent_and_quantised_scores_are_named() -> None:
    percent = CallableClassifier(lambda pictures: [[25.0, 75.0]] * len(pictures), LABELS, outputs="probabilities")
    with pytest.raises(ClassifierError, match="they look like percent: let it divide by 100"):
        percent(PICTURES)
    with pytest.raises(ClassifierError, match="whole numbers .*quantised scores"):
        rows_of(np.zeros((3, 2), np.uint8), 3, 2, "m")
    with pytest.raises(ClassifierError, match="whole numbers .*class numbers"):
        rows_of(np.zeros(3, np.int64), 3, 2, "m")


# The forms of what models return


class Named:
    logits = np.array([[1.0, 2.0]] * 3)


SCORES, FEATURES = np.arange(6.0).reshape(3, 2), np.zeros((3, 512))


@pytest.mark.parametrize(
    "returned",
    [
        SCORES, SCORES.tolist(), SCORES[:, :, None, None], SCORES[:, None, :], SCORES[None], {"scores": SCORES},
        {"logits": SCORES, "features": FEATURES}, {"out": SCORES, "features": FEATURES}, (SCORES, None),
        (SCORES, FEATURES), [SCORES], [FEATURES, SCORES], list(SCORES), tuple(SCORES),
    ],
    ids=str,
)  # fmt: skip
def test_every_form_of_the_same_scores_is_the_same(returned: Any) -> None:
    assert rows_of(returned, 3, 2, "m").tolist() == SCORES.tolist()
    assert rows_of(returned, 3, 2, "m").dtype == np.float64


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ({"a": SCORES, "b": SCORES}, r"returned a dict with a \(3, 2\), b \(3, 2\); which one .* call it logits"),
        ((SCORES, SCORES), r"returned a tuple with 0 \(3, 2\), 1 \(3, 2\)"),
        (np.zeros((1, 2)), r"array of shape \(1, 2\) for 3 pictures.*set batch_size: 1"),
        (np.zeros((3, 2, 4, 4)), r"array of shape \(3, 2, 4, 4\) for 3 pictures"),
        ([[1.0, 2.0], [1.0]], "row of numbers for each picture"),
        ("warm", "row of numbers for each picture"),
        ([{"label": "warm"}] * 3, "row of numbers for each picture"),
    ],
)
def test_a_form_that_cannot_be_told_is_refused(returned: Any, sentence: str) -> None:
    with pytest.raises(ClassifierError, match=sentence):
        rows_of(returned, 3, 2, "m")


def test_the_output_that_can_be_the_scores_is_read(tmp_path: Path) -> None:
    made = OnnxClassifier(save(tmp_path / "m.onnx", further=True), LABELS)
    assert made(PICTURES) == pytest.approx(LOGITS, abs=1e-4)
    with pytest.raises(ClassifierError, match=r"the model has no 'x'; it has mean, scores"):
        OnnxClassifier(tmp_path / "m.onnx", LABELS, output="x")(PICTURES)
    three = save(tmp_path / "three.onnx", weights=np.eye(3, dtype=np.float32), further=True)
    with pytest.raises(ClassifierError, match=r"2 outputs .*mean, scores can be the scores of 3 classes; name one"):
        OnnxClassifier(three, ("r", "g", "b"))(PICTURES)
    assert OnnxClassifier(save(tmp_path / "pool.onnx", "1x1"), LABELS)(PICTURES) == pytest.approx(LOGITS, abs=1e-4)


# Inputs: number type, layout and size


@pytest.mark.parametrize(
    ("dtype", "shape", "preprocessing"),
    [
        (TensorProto.UINT8, ("N", 16, 16, 3), {}),
        (TensorProto.UINT8, ("N", 16, 16, 3), {"size": 16, "layout": "nhwc", "scale": 1.0}),
        (TensorProto.INT32, ("N", "h", "w", 3), {"scale": 1.0}),
        (TensorProto.DOUBLE, ("N", 3, 16, 16), {"scale": 1.0}),
        (TensorProto.FLOAT16, (4, 3, 16, 16), {"scale": 1.0}),
    ],
)
def test_pictures_are_given_in_the_form_that_the_file_asks_for(
    tmp_path: Path, dtype: int, shape: tuple[Any, ...], preprocessing: dict[str, Any]
) -> None:
    file = save(tmp_path / "m.onnx", dtype=dtype, shape=shape, weights=WEIGHTS / 255)
    made = OnnxClassifier(file, LABELS, Preprocessing(**preprocessing))
    assert made(PICTURES) == pytest.approx(LOGITS, abs=2e-2 if dtype == TensorProto.FLOAT16 else 1e-3)


def test_the_size_comes_from_the_file_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", shape=("N", 3, 8, 8))
    made = OnnxClassifier(file, LABELS)
    assert made.preprocessing.size == (8, 8) and made(PICTURES).shape == (5, 2)
    with pytest.raises(ClassifierError, match="takes pictures of 8 × 8 pixels, and size says 224 × 224"):
        OnnxClassifier(file, LABELS, Preprocessing(size=224))(PICTURES)
    with pytest.raises(ClassifierError, match="which axis holds the colours cannot be told"):
        OnnxClassifier(save(tmp_path / "three.onnx", shape=("N", 3, 3, 3)), LABELS)(PICTURES)
    with pytest.raises(ClassifierError, match="pictures have 3 channels"):
        OnnxClassifier(save(tmp_path / "four.onnx", shape=("N", 4, 8, 8)), LABELS)(PICTURES)


def test_whole_numbers_get_no_fractions_of_pixels(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", dtype=TensorProto.UINT8)
    with pytest.raises(ClassifierError, match="takes whole numbers .*write scale: 1, mean: 0 and std: 1"):
        OnnxClassifier(file, LABELS, Preprocessing(scale=1 / 255))(PICTURES)
    signed = save(tmp_path / "s.onnx", dtype=TensorProto.INT8, weights=WEIGHTS / 255)
    with pytest.raises(ClassifierError, match="mean: 128"):
        OnnxClassifier(signed, LABELS, Preprocessing(scale=1.0))(PICTURES)
    shifted = OnnxClassifier(signed, LABELS, Preprocessing(scale=1.0, mean=128.0))(PICTURES)
    assert shifted == pytest.approx(LOGITS - 128 / 255 * WEIGHTS.sum(axis=0), abs=1e-3)


def test_preprocessing_is_put_together_field_by_field(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx")
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": LABELS, "preprocessing": {"mean": 0.5, "std": 0.25}}))
    made = OnnxClassifier(file, preprocessing=Preprocessing(std=0.5))
    assert made.labels == LABELS
    assert (made.preprocessing.mean, made.preprocessing.std, made.preprocessing.size) == (0.5, 0.5, (16, 16))
    assert made(PICTURES) == pytest.approx((MEANS - 0.5) / 0.5 @ WEIGHTS, abs=1e-4)
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": LABELS, "outputs": "probabilities"}))
    assert OnnxClassifier(file).outputs == "probabilities"
    (tmp_path / "manifest.json").write_text(json.dumps({"lables": LABELS}))
    with pytest.raises(ClassifierError, match="there is no field 'lables'; did you mean 'labels'"):
        OnnxClassifier(file).labels


# Class names


FORMS: dict[str, Any] = {
    "bom.txt": "\ufeffcold\r\nwarm\r\n".encode(),
    "utf16.txt": "cold\nwarm\n".encode("utf-16"),
    "numbered.txt": b"1 warm\n0 cold\n",
    "colon.txt": b"0: cold\n1: warm\n",
    "behind.txt": b"warm,1\ncold,0\n",
    "id2label.json": {"0": "cold", "1": "warm"},
    "class_to_idx.json": {"warm": 1, "cold": 0},
    "text_numbers.json": {"warm": "1", "cold": "0"},
    "imagenet.json": {"0": ["n01", "cold"], "1": ["n02", "warm"]},
    "coco.json": {"categories": [{"id": 1, "name": "warm"}, {"id": 0, "name": "cold"}]},
    "config.json": {"model_type": "vit", "label2id": {"warm": 1, "cold": 0}},
    "list.json": ["cold", "warm"],
    "names.yaml": b"names: {1: warm, 0: cold}\n",
    "table.csv": b"index,label\n1,warm\n0,cold\n",
    "column.csv": b"label\ncold\nwarm\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_class_names_are_read_in_every_form(tmp_path: Path, name: str) -> None:
    content = FORMS[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert read_labels(tmp_path / name) == LABELS
    if not isinstance(content, bytes):
        (tmp_path / "m.json").write_text(json.dumps({"labels": content, "preprocessing": {"size": 16}}))
        assert read_manifest(tmp_path / "m.json")[0] == LABELS


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gap.json", {"1": "cold", "2": "warm"}, r"none has the number 0 \(they start at 1\)"),
        ("hole.json", {"0": "cold", "2": "warm"}, "there are 2 classes and none has the number 1"),
        ("twice.json", {"cold": 0, "warm": 0}, "the number 0 belongs to two classes"),
        ("swap.json", {"0": 1, "1": 0}, "maps numbers to numbers"),
        ("other.json", {"cold": "warm"}, "does not say which class is which output"),
        ("text.json", "cold warm", "does not say which class is which output"),
        ("latin.txt", "kühl\nwarm\n".encode("latin-1"), "neither UTF-8 nor UTF-16.*save it as UTF-8"),
        ("one.txt", b"1 cold\n2 warm\n", "numbered from 1, and outputs from 0"),
        ("empty.txt", b"\n", "the file names no class"),
        ("broken.json", b"[cold", "the file cannot be read"),
    ],
)
def test_class_names_that_cannot_be_told_are_refused(tmp_path: Path, name: str, content: Any, sentence: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ClassifierError, match=sentence) as caught:
        read_labels(tmp_path / name)
    assert name in str(caught.value)


def test_names_that_only_look_numbered_stay_as_they_are(tmp_path: Path) -> None:
    for lines in (
        ["0", "1", "2"],
        ["7 up", "1 euro"],
        ["digit 0", "digit 1"],
        ["n01440764 tench", "n01443537 goldfish"],
    ):
        (tmp_path / "l.txt").write_text("\n".join(lines))
        assert read_labels(tmp_path / "l.txt") == tuple(lines)


def test_numbers_in_a_study_file_are_the_text_that_they_were_written_as(tmp_path: Path) -> None:
    def study(labels: Any, label: Any) -> Any:
        return study_of(
            {"name": "s", "domain": "digits", "corpus": {"starter": "face"}, "target": {"label": label},
             "editors": {"e": {"kind": "python", "factory": "tests.support.toys:PaintEditor"}},
             "classifiers": {"v1": {"kind": "onnx", "file": "m.onnx", "labels": labels}}}, tmp_path / "study.yaml",
        )  # fmt: skip

    made = study([0, 1, 7], 7)
    assert made.target.label == "7" and made.classifiers["v1"].labels == ("0", "1", "7")
    assert study({1: "warm", 0: "cold"}, "warm").classifiers["v1"].labels == LABELS
    for labels, label in (([True, False], "a"), (["a"], True), ({1: "a", 2: "b"}, "a"), (3.5, "a"), ([None], "a")):
        with pytest.raises(StudyError) as caught:
            study(labels, label)
        assert "[" not in str(caught.value).split("(got")[0].replace(str(tmp_path), ""), caught.value


# transformers


def test_a_checkpoint_says_what_its_outputs_are_for(tmp_path: Path) -> None:
    folder = save_random_vit(tmp_path / "vit", LABELS, side=16)
    config = json.loads((folder / "config.json").read_text())

    def made(**changes: Any) -> Any:
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        study = study_of(
            {"name": "s", "domain": "x", "corpus": {"starter": "face"}, "target": {"label": "warm"},
             "editors": {"e": {"kind": "python", "factory": "tests.support.toys:PaintEditor"}},
             "classifiers": {"v1": {"transformers": "vit"}}}, tmp_path / "study.yaml",
        )  # fmt: skip
        return study.classifiers["v1"].build(Where(study.folder, study.checkpoint))

    check_labels(made().labels, Target(label="warm"), made().task)
    several = made(problem_type="multi_label_classification")
    with pytest.raises(ClassifierError, match="write measure: sigmoid"):
        check_labels(several.labels, Target(label="warm"), several.task)
    check_labels(several.labels, Target(label="warm", measure="sigmoid"), several.task)
    with pytest.raises(ClassifierError, match="regression.*write measure: value"):
        check_labels(LABELS, Target(label="warm"), made(problem_type="regression").task)
    with pytest.raises(ClassifierError, match=r"config\.json: id2label: .*none has the number 0"):
        made(id2label={"1": "cold", "2": "warm"}).labels
    with pytest.raises(ClassifierError, match=r"label2id: 'cold' is number 1 there and 0 in id2label"):
        made(label2id={"cold": 1, "warm": 0}).labels
    assert made(label2id={"LABEL_0": 0, "LABEL_1": 1}).labels == LABELS
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ClassifierError, match="weights cannot be loaded .*damaged or cut off: get it again"):
        made()(PICTURES)


def test_half_precision_weights_are_used_in_float32(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    from diffex_dagster.classifying.transformers_adapter import TransformersClassifier

    names = {"id2label": dict(enumerate(LABELS)), "label2id": {"cold": 0, "warm": 1}}
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **names)
    model = ResNetForImageClassification(config).half()
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    made = TransformersClassifier(str(tmp_path), device="cpu")
    pixels = made._prepared(PICTURES)
    assert made(PICTURES) == pytest.approx(model.float().eval()(pixels).logits.detach().numpy(), abs=1e-5)


def test_a_torchvision_that_does_not_fit_torch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from diffex_dagster.utils.devices import torchvision_problem

    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    assert "operator torchvision::nms does not exist" in torchvision_problem()
    assert "pip uninstall torchvision" in torchvision_problem()


# Preprocessor configurations


BASE = {"do_resize": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}


def config(folder: Path, **content: Any) -> Path:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**BASE, "size": {"height": 16, "width": 16}, **content}))
    return file


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"resample": None}, {"interpolation": "bilinear"}),
        ({"size": {"longest_edge": 16}}, {"size": 16}),
        ({"size": {"shortest_edge": 16, "longest_edge": 20}}, {"size": 16}),
        ({"size": None}, {"size": None}),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, {"size": 224, "resize": "crop", "crop_pct": 0.875}),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, {"size": 384, "resize": "stretch"}),
        ({"size": 20, "do_center_crop": True, "crop_size": 16}, {"size": (16, 16), "crop_pct": 0.8}),
        ({"do_resize": None}, {"size": None}),
        ({"do_rescale": False}, {"scale": 1.0}),
        ({"do_normalize": False}, {"mean": 0.0, "std": 1.0}),
        ({"do_flip_channel_order": True}, {"channels": "bgr"}),
        ({"pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}},
         {"size": (32, 32), "crop_pct": 0.9, "interpolation": "bicubic"}),
    ],
    ids=str,
)  # fmt: skip
def test_every_key_of_a_preprocessor_is_read(tmp_path: Path, content: dict[str, Any], expected: dict[str, Any]) -> None:
    options = merged(load_manifest(config(tmp_path, **content)).preprocessing)
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"image_mean": None}, "image_mean: do_normalize is on and no image_mean is given"),
        ({"do_thumbnail": True}, "do_thumbnail: the key is not known here"),
        ({"size_divisor": 32}, "size_divisor: the key is not known here"),
        (
            {"image_processor_type": "PerceiverImageProcessor"},
            "image_processor_type: what a PerceiverImageProcessor does",
        ),
        ({"size": {"max_height": 3}}, "size: .*is not understood"),
        ({"image_mean": [0.5, 0.5]}, "image_mean: it has 2 numbers"),
        ({"resample": 9}, "resample: there is no 9"),
        ({"do_center_crop": True, "crop_size": 32}, "crop_size: 32 is more than the 16 pixels"),
    ],
)
def test_a_key_that_cannot_be_followed_is_refused_by_name(
    tmp_path: Path, content: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ClassifierError, match=sentence):
        load_manifest(config(tmp_path, **content))


@pytest.mark.parametrize("kind", ["ConvNextImageProcessorPil", "LevitImageProcessorPil", "CLIPImageProcessorPil",
                                  "PoolFormerImageProcessorPil", "MobileViTImageProcessorPil"])  # fmt: skip
def test_pictures_are_prepared_as_transformers_does(tmp_path: Path, kind: str) -> None:
    import transformers

    processor = getattr(transformers, kind)(size={"shortest_edge": 288 if "MobileViT" in kind else 224})
    processor.save_pretrained(tmp_path)
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    picture = Image.fromarray(
        np.stack([np.tile(ramp, (300, 1)), np.tile(ramp[:, None], 300), np.full((300, 300), 90, np.uint8)], -1)
    )
    expected = np.asarray(processor(images=[picture], return_tensors="np")["pixel_values"])[0]
    options = merged(load_manifest(tmp_path / "preprocessor_config.json").preprocessing)
    found = as_array([picture], options)[0]
    assert found.shape == expected.shape
    assert (
        np.abs(found - expected).max() < 0.03 and np.ptp(expected) > 0.8
    )  # resampled from bytes here, from floats there


# Targets


def test_several_classes_are_explained_as_one() -> None:
    target = Target(labels=("zebra", "horse"))
    outputs, labels = np.log([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]), ("zebra", "horse", "cat")
    assert measure(outputs, labels, target).tolist() == pytest.approx([0.5, 0.2])
    assert target.label == "zebra + horse" and target.describe() == 'probability of "zebra + horse"'
    assert Target(labels=("a", "b"), name="equids").label == "equids"
    assert Target.model_validate(target.model_dump()) == target
    with pytest.raises(ClassifierError, match=r"target\.labels: the classifier has no class 'mule'"):
        check_labels(labels, Target(labels=("zebra", "mule")))


def test_an_expected_value_is_the_mean_of_ordered_classes() -> None:
    outputs = np.log([[0.5, 0.25, 0.25]])
    target = Target(measure="expected", values={"0-9": 5, "10-19": 15, "20+": 25}, name="age", unit="years")
    assert measure(outputs, ("0-9", "10-19", "20+"), target)[0] == pytest.approx(12.5)
    assert target.describe() == "expected age (years)"
    assert measure(outputs, ("1", "2", "3"), Target(measure="expected"))[0] == pytest.approx(1.75)
    with pytest.raises(ClassifierError, match=r"target\.values: the classes a, b, c are no numbers"):
        check_labels(("a", "b", "c"), Target(measure="expected"))
    with pytest.raises(ClassifierError, match="the class '20\\+' has no value"):
        check_labels(("0-9", "10-19", "20+"), Target(measure="expected", values={"0-9": 5, "10-19": 15}))


def test_a_function_and_a_value_see_what_the_classifier_returns() -> None:
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4]])
    own = Target(measure="function", function="tests.support.callables:spread", name="confidence", unit="points")
    assert own.describe() == "confidence (points)"
    assert measure(np.log(probabilities), LABELS, own, said="probabilities").tolist() == pytest.approx([0.6, 0.2])
    value = Target(label="warm", measure="value")
    assert measure(np.log(probabilities), LABELS, value, said="probabilities").tolist() == pytest.approx([0.8, 0.4])
    log_odds = Target(label="warm", measure="logit")
    expected = np.log([0.8 / 0.2, 0.4 / 0.6])
    assert measure(np.log(probabilities), LABELS, log_odds, said="probabilities") == pytest.approx(expected)


def test_becoming_the_explained_class_is_told_from_a_change_between_others() -> None:
    labels = ("zebra", "horse", "cat")
    before = np.eye(3)[[1, 1, 0, 2]]
    after = np.eye(3)[[0, 2, 1, 2]]
    target = Target(label="zebra")
    became, left = becomes(before, after, labels, target)
    assert became.tolist() == [True, False, False, False] and left.tolist() == [False, False, True, False]
    assert flips(before, after, labels, target, Path()).tolist() == [True, True, True, False]
    both = Target(labels=("zebra", "horse"))
    assert [each.tolist() for each in becomes(before, after, labels, both)] == [
        [False] * 4,
        [False, True, False, False],
    ]
    ages = np.array([[20.0], [70.0]]), np.array([[65.0], [50.0]])
    old = Target(measure="value", threshold=60.0)
    assert [each.tolist() for each in becomes(*ages, ("age",), old)] == [[True, False], [False, True]]
    assert not np.any(becomes(*ages, ("age",), Target(measure="value")))


@pytest.mark.parametrize("kind", ["probability", "margin"])
def test_a_measure_that_is_the_same_for_every_picture_is_refused(kind: str) -> None:
    further = {"against": "age"} if kind == "margin" else {}
    with pytest.raises(ClassifierError, match="one output, 'age', .*write measure: value for a regression"):
        check_labels(("age",), Target(label="age", measure=kind, **further))


def test_the_first_of_two_classes_with_one_output_has_no_logit() -> None:
    made = CallableClassifier(lambda pictures: [4 * np.asarray(each).mean() / 255 - 2 for each in pictures], LABELS)
    with pytest.raises(ClassifierError, match="one output, the log-odds of 'warm'.*explain 'warm'"):
        try_out(made, 16, Target(label="cold", measure="logit"))
    assert np.ptp(measure(try_out(made, 16, Target(label="cold")), LABELS, Target(label="cold"))) > 0.1


def test_a_class_name_that_two_outputs_have_is_refused() -> None:
    with pytest.raises(ClassifierError, match=r"calls several classes 'crane' \(numbers 0 and 2\)"):
        check_labels(("crane", "cat", "crane"), Target(label="crane"))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("what", ["pipe", "folder", "laughs", "deep"])
@pytest.mark.parametrize("name", ["labels.yaml", "manifest.json"])
def test_names_and_manifests_that_are_no_ordinary_files_end_at_once(tmp_path: Path, what: str, name: str) -> None:
    file = tmp_path / name
    if what == "pipe":
        os.mkfifo(file)  # whoever opens it waits for ever
    elif what == "folder":
        file.mkdir()
    else:
        file.write_text(BOMB if what == "laughs" else "[" * 100_000)
    with pytest.raises(ClassifierError, match=re.escape(str(file))) as caught:
        read_labels(file) if name == "labels.yaml" else load_manifest(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


# What other tools write beside a model, or into it


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"transforms": [{"Normalize": {"mean": [0.4], "std": [0.2]}}]}, "'transforms' is not read here; write it as "),
        ({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, "'mean' is not read here; write it as "),
        ({"input_size": 224}, "'input_size' is not read here"),
        ({"labels": None, "class_names": ["cold", "warm"]}, "'class_names' is not read here; write it as \"labels\""),
        ({"activation": "softmax"}, '\'activation\' is not read here; write it as "outputs": "probabilities"'),
    ],
)
def test_a_manifest_in_the_words_of_another_tool_is_not_passed_over(
    tmp_path: Path, content: dict[str, object], said: str
) -> None:
    written = {key: value for key, value in {"labels": ["cold", "warm"], **content}.items() if value is not None}
    (tmp_path / "manifest.json").write_text(json.dumps(written))
    with pytest.raises(ClassifierError, match=re.escape(said)):
        manifest_beside(tmp_path / "m.onnx")


def test_what_is_no_preprocessing_may_stand_in_a_manifest(tmp_path: Path) -> None:
    more = {"labels": ["cold", "warm"], "classes": 2, "version": "1.2", "licence": "MIT", "trained_on": "photos"}
    (tmp_path / "manifest.json").write_text(json.dumps(more))
    assert manifest_beside(tmp_path / "m.onnx").labels == ("cold", "warm")


def test_configurations_of_timm_and_short_ones_of_transformers_are_read(tmp_path: Path) -> None:
    flat = {"architecture": "resnet50", "input_size": [3, 32, 32], "mean": [0.4] * 3, "std": [0.2] * 3, "crop_pct": 0.9}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    found = manifest_beside(tmp_path / "m.onnx").preprocessing
    assert (found["mean"], found["crop_pct"], found["size"]) == ((0.4, 0.4, 0.4), 0.9, (32, 32))
    (tmp_path / "config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"crop_size": 224, "rescale_factor": 1 / 127.5}))
    assert manifest_beside(tmp_path / "m.onnx").preprocessing["scale"] == 1 / 127.5


@pytest.mark.parametrize(
    ("problem_type", "remedy"),
    [("multi_label_classification", "write measure: sigmoid"), ("regression", "write measure: value")],
)
def test_a_configuration_beside_a_model_file_says_what_its_outputs_are_for(
    tmp_path: Path, problem_type: str, remedy: str
) -> None:
    names = {"0": "cold", "1": "warm"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names, "problem_type": problem_type}))
    made = OnnxClassifier(save(tmp_path / "m.onnx"))
    with pytest.raises(ClassifierError, match=remedy):
        try_out(made, 16, Target(label="warm"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Preprocessing(mean=(123.7, 116.3, 103.5), std=58.0), "mean 123.7 is of pixels from 0 to 255"),
        (Preprocessing(scale=1.0, mean=0.485, std=0.229), "std 0.229 is of pixels from 0 to 1"),
    ],
)
def test_means_and_pixels_of_two_ranges_contradict_each_other(
    tmp_path: Path, options: Preprocessing, said: str
) -> None:
    with pytest.raises(ClassifierError, match=said):
        OnnxClassifier(save(tmp_path / "m.onnx"), LABELS, options)(PICTURES)


@pytest.mark.parametrize(
    "options",
    [
        Preprocessing(scale=1.0, mean=(103.9, 116.8, 123.7), channels="bgr"),  # caffe
        Preprocessing(scale=1 / 127.5, mean=1.0),  # Keras: from -1 to 1
        Preprocessing(mean=0.5, std=0.5),
        Preprocessing(scale=1.0, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4)),
    ],
)
def test_the_usual_ways_to_prepare_pixels_are_taken(tmp_path: Path, options: Preprocessing) -> None:
    assert OnnxClassifier(save(tmp_path / "m.onnx"), LABELS, options)(PICTURES).shape == (len(PICTURES), 2)


def test_class_names_in_the_metadata_of_an_onnx_file_are_its_own(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx")
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {"names": "{0: 'cold', 1: 'warm'}", "imgsz": "[16, 16]"})
    onnx.save(model, str(file))
    assert OnnxClassifier(file).labels == LABELS == OnnxClassifier(file, LABELS).labels
    assert OnnxClassifier(file, ("kalt", "warm")).labels == ("kalt", "warm")  # a translation
    with pytest.raises(ClassifierError, match="itself has them in another order"):
        OnnxClassifier(file, ("warm", "cold")).labels


def test_a_file_of_class_names_in_a_format_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "map.pbtxt").write_text("item {\n  id: 1\n  name: 'cat'\n}\n")
    with pytest.raises(ClassifierError, match="is no class name .*write one name a line"):
        read_labels(tmp_path / "map.pbtxt")


def test_the_logarithms_of_a_log_softmax_and_halves_of_a_softmax_are_what_they_are(tmp_path: Path) -> None:
    logs = OnnxClassifier(save(tmp_path / "log.onnx", "LogSoftmax"), LABELS)
    assert logs.outputs == "logits"
    assert softmax(logs(PICTURES), axis=1) == pytest.approx(softmax(LOGITS, axis=1), abs=1e-5)
    rows = np.array([[0.499, 0.5], [0.2, 0.799], [0.7, 0.3005], [0.9, 0.0995]], np.float16)
    assert sums_to_one(rows.astype(np.float64)).all()
