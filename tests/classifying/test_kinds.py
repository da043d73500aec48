"""A kind of classifier is one file and one line: both are written here, and a study file can name the kind."""

from __future__ import annotations

from pathlib import Path

from diffex_dagster.classifying.kinds import KINDS, SHORT_FORMS
from tests.support.kinds import asked_of_a_package_with
from tests.support.toys import write_study

ADAPTER = '''
"""Classes by how light a picture is."""

from typing import ClassVar, Literal

import numpy as np

from diffex_dagster.classifying.parts import ClassifierPart, Where


class ShadePart(ClassifierPart):
    """Two classes by the mean grey."""

    short: ClassVar[str] = "limit"
    kind: Literal["shade"] = "shade"
    limit: float

    def build(self, where: Where) -> "Shade":
        return Shade(self.limit)


class Shade:
    labels = ("dark", "warm")

    def __init__(self, limit: float) -> None:
        self.limit, self.fingerprint = limit, f"shade {limit}"

    def __call__(self, pictures):
        light = [np.asarray(each.convert("L"), dtype=float).mean() - self.limit for each in pictures]
        return np.array([[-x, x] for x in light])
'''
ASK = """
from PIL import Image
from diffex_dagster.stages.setup import build_classifier
grey = Image.new("L", (16, 16), 200)
print(heavy, study.classifiers["v1"].kind, build_classifier(study, "v1")([grey]).tolist())
"""


def test_a_new_kind_is_one_file_and_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "toy", 2, classifiers={"v1": {"shade": 120}})
    said = asked_of_a_package_with(tmp_path, "classifying", "shade_adapter", ADAPTER, "ShadePart", study, ASK)
    assert said == "[] shade [[-80.0, 80.0]]"


def test_every_kind_says_what_its_short_form_stands_for() -> None:
    assert all(part.short in part.model_fields for part in KINDS)
    assert SHORT_FORMS == {
        "python": "callable", "transformers": "checkpoint", "clip": "checkpoint", "onnx": "file", "torchscript": "file",
        "torch_export": "file", "timm": "model", "http": "url",
    }  # fmt: skip
