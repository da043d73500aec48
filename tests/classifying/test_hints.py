"""What looks wrong about a classifier's scores: said, never guessed at, and silent where all is well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from diffex_dagster.classifying.hints import hints_of_scores, predictions_in_words, unsaid_preparation
from diffex_dagster.classifying.onnx_adapter import OnnxClassifier
from diffex_dagster.classifying.parts import Preprocessing, Target
from diffex_dagster.classifying.target import measure
from tests.support.onnx_models import save

LABELS = ("cold", "warm")
WARM = Target(label="warm")


def test_a_model_of_which_nobody_says_how_its_pixels_are_made_is_named(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", "Softmax")
    assert "RGB from 0 to 1" in unsaid_preparation(OnnxClassifier(file, LABELS))
    assert unsaid_preparation(OnnxClassifier(file, LABELS, preprocessing=Preprocessing(size=16)))
    for said in (Preprocessing(mean=0.5, std=0.5), Preprocessing(mean=0.0), Preprocessing(scale=1.0)):
        assert not unsaid_preparation(OnnxClassifier(file, LABELS, preprocessing=said))
    (tmp_path / "manifest.json").write_text('{"preprocessing": {"mean": 0.5, "std": 0.5}}')
    assert not unsaid_preparation(OnnxClassifier(file, LABELS))


def test_a_graph_that_normalises_or_takes_bytes_says_it_itself(tmp_path: Path) -> None:
    own = save(tmp_path / "own.onnx", normalises=True)
    whole = save(tmp_path / "bytes.onnx", dtype=TensorProto.UINT8, shape=("N", 16, 16, 3))
    assert not unsaid_preparation(OnnxClassifier(own, LABELS)) and not unsaid_preparation(OnnxClassifier(whole, LABELS))


def test_a_classifier_that_prepares_pictures_itself_needs_no_word() -> None:
    assert unsaid_preparation(object()) == ""  # type: ignore[arg-type]


def logits(probabilities: list[float]) -> np.ndarray:
    rows = np.array(probabilities)
    return np.log(np.stack([1 - rows, rows], axis=1))


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        ([0.40, 0.41, 0.42, 0.43], "nearly the same on all 4 images, 0.40 to 0.43: check that its preprocessing"),
        ([0.4] * 5, "The classifier says the same of all 5 images, to the last digit"),
        ([0.001, 0.002, 0.003, 0.0001], 'On none of the 4 images is the probability of "warm" above 0.003.'),
        ([0.995, 0.999, 0.9999, 0.998], "0.995 or more, so that no edit can raise it: measure the logit"),
        ([0.1, 0.2, 0.9, 0.5], None),
        ([0.4, 0.41], None),  # two pictures may be alike
    ],
)
def test_scores_that_cannot_show_an_effect_are_told(probabilities: list[float], said: str | None) -> None:
    outputs = logits(probabilities)
    found = hints_of_scores(outputs, measure(outputs, LABELS, WARM), WARM)
    assert [said in sentence for sentence in found] == ([True] if said else []) if said else not found, found


def test_values_have_no_limits_but_may_hardly_vary() -> None:
    target = Target(measure="value", name="age", unit="years")
    values = np.array([[40.0], [40.01], [40.02], [40.005]])
    (said,) = hints_of_scores(values, values[:, 0], target)
    assert said.startswith("The age (years) is nearly the same on all 4 images, 40 to 40.02: check")
    spread = np.array([[20.0], [30.0], [40.0], [60.0]])
    assert hints_of_scores(spread, spread[:, 0], target) == []


def test_predictions_are_counted_the_most_frequent_first() -> None:
    assert predictions_in_words(logits([0.9, 0.8, 0.2]), LABELS) == "warm 2, cold 1"
    assert predictions_in_words(np.eye(7), list("abcdefg")) == "a 1, b 1, c 1, d 1, e 1, 2 more classes"
