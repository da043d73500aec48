"""A kind of classifier is one file and one line: both are written here, and a study file can name the kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import diffex_dagster
from diffex_dagster.classifying.kinds import KINDS, SHORT_FORMS
from tests.support.toys import write_study

PACKAGE = Path(diffex_dagster.__file__).parent
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
LINE = "from diffex_dagster.classifying.shade_adapter import ShadePart as ShadePart\n"
ASK = """
import sys
from pathlib import Path
from diffex_dagster.study import load_study
study = load_study(Path(sys.argv[1]))
heavy = {"torch", "duckdb", "dagster", "transformers", "diffusers"} & set(sys.modules)
from PIL import Image
from diffex_dagster.stages.setup import build_classifier
grey = Image.new("L", (16, 16), 200)
print(sorted(heavy), study.classifiers["v1"].kind, build_classifier(study, "v1")([grey]).tolist())
"""


def test_a_new_kind_is_one_file_and_one_line(tmp_path: Path) -> None:
    package = tmp_path / "source" / "diffex_dagster"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "classifying" / "shade_adapter.py").write_text(ADAPTER)
    kinds = package / "classifying" / "kinds.py"
    before, after = kinds.read_text("utf-8").split("\nKINDS", 1)
    kinds.write_text(f"{before}{LINE}\nKINDS{after}", "utf-8")
    study = write_study(tmp_path / "toy", 2, classifiers={"v1": {"shade": 120}})
    paths = os.pathsep.join([str(tmp_path / "source"), str(PACKAGE.parent)])
    said = subprocess.run(
        [sys.executable, "-c", ASK, str(study)],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert said.stdout.strip() == "[] shade [[-80.0, 80.0]]", said.stderr


def test_every_kind_says_what_its_short_form_stands_for() -> None:
    assert all(part.short in part.model_fields for part in KINDS)
    assert SHORT_FORMS == {
        "python": "callable", "transformers": "checkpoint", "clip": "checkpoint", "onnx": "file", "torchscript": "file",
        "torch_export": "file", "timm": "model", "http": "url",
    }  # fmt: skip
