"""A kind of judge is one file and one line: both are written here, and a study file can name the kind."""

from __future__ import annotations

from pathlib import Path

from tests.support.kinds import asked_of_a_package_with
from tests.support.toys import write_study

JUDGE = '''
"""Judges by how light a picture is."""

from typing import Literal

import numpy as np

from diffex_dagster.errors import StudyError
from diffex_dagster.judging.parts import JudgePart, Where


class LightJudgePart(JudgePart):
    """Every concept is light."""

    kind: Literal["light"] = "light"
    gain: float = 1.0

    def build(self, where: Where, editor) -> "LightJudge":
        return LightJudge(self.gain, where.domain)

    def check(self, where: Where, to_be_loaded: bool = True) -> str:
        if self.gain < 0:
            raise StudyError(f"{where.field}.gain: it is below 0; write a number above")
        return "sees light"

    def works_on(self) -> str:
        return "cpu"


class LightJudge:
    def __init__(self, gain: float, domain: str) -> None:
        self.gain, self.fingerprint = gain, f"light {gain} {domain}"

    def evidence(self, pictures, pairs):
        yield [(pair, self.gain * float(np.asarray(pictures[pair[0]], dtype=float).mean())) for pair in pairs]
'''
ASK = """
from PIL import Image
from diffex_dagster.judging.asking import evidence_of
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.ready import check_devices, check_judge
from diffex_dagster.stages.sources import Sources
work = at_work(study)
grey = Image.new("L", (16, 16), 100)
check_devices(study)
print(heavy, check_judge(study), [*evidence_of(work.judge, {"x": grey}, [("x", "light")])])
print(Sources(work, ["v1"]).version("judge"), study.calibrates)
try:
    check_judge(study.changed(judge=study.judge.model_copy(update={"gain": -1.0})))
except Exception as error:
    print(str(error).partition(": ")[2])
"""


def test_a_new_kind_is_one_file_and_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "toy", 2, judge={"kind": "light", "gain": 2}, calibrate=True)
    said = asked_of_a_package_with(tmp_path, "judging", "light", JUDGE, "LightJudgePart", study, ASK)
    assert said.splitlines() == [
        "[] sees light [[(('x', 'light'), 200.0)]]",
        "light 2.0 grey squares True",
        "judge.gain: it is below 0; write a number above",
    ]
