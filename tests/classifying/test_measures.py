"""A target measure is one file and one line: both are written here, and a study file can name the measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffex_dagster.classifying.measures.base import Scored
from diffex_dagster.classifying.measures.kinds import MEASURES
from diffex_dagster.classifying.parts import Target
from tests.support.kinds import asked_of_a_package_with
from tests.support.toys import write_study

MEASURE = '''
"""How surely, in bits."""

import numpy as np

from diffex_dagster.classifying.measures.base import Measure, Scored


class Bits(Measure):
    """The logit of a class in bits."""

    name = "bits"

    def quantity(self, target):
        return f"certainty of {target.label}"

    def unit(self, target):
        return "bits"

    def values(self, scored: Scored, target):
        return scored.outputs[:, self.column(scored, target)] / np.log(2)
'''
ASK = """
import numpy as np
from diffex_dagster.classifying.target import check_labels, measure
check_labels(("dark", "warm"), study.target)
found = measure(np.log([[1.0, 8.0]]), ("dark", "warm"), study.target)
print(heavy, study.target.bounded, study.target.describe(), found.round(6).tolist())
"""


def test_a_new_measure_is_one_file_and_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "toy", 2, target={"label": "warm", "measure": "bits"})
    said = asked_of_a_package_with(tmp_path, "classifying/measures", "bits", MEASURE, "Bits", study, ASK)
    assert said == "[] False certainty of warm (bits) [3.0]"


def test_only_measures_between_0_and_1_say_that_they_are_bounded() -> None:
    scored = Scored(np.array([[-4.0, 3.0, 1.0]]), ("0", "5", "9"))
    targets = {
        "probability": Target(label="5"), "sigmoid": Target(label="5", measure="sigmoid"),
        "logit": Target(label="5", measure="logit"), "margin": Target(label="5", measure="margin", against="0"),
        "value": Target(label="5", measure="value"), "expected": Target(measure="expected"),
    }  # fmt: skip
    assert {*targets, "function"} == set(MEASURES)
    found = {name: float(target.kind.values(scored, target)[0]) for name, target in targets.items()}
    p = np.exp([-4.0, 3.0, 1.0]) / np.exp([-4.0, 3.0, 1.0]).sum()
    assert found == pytest.approx(
        {"probability": p[1], "sigmoid": 1 / (1 + np.exp(-3)), "logit": 3, "margin": 7, "value": 3,
         "expected": 5 * p[1] + 9 * p[2]}
    )  # fmt: skip
    assert {name for name, kind in MEASURES.items() if kind.bounded} == {"probability", "sigmoid"}
