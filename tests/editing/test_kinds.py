"""A kind of editor is one file and one line: both are written here, and a study file can name the kind."""

from __future__ import annotations

from pathlib import Path

from tests.support.kinds import asked_of_a_package_with
from tests.support.toys import write_study

EDITOR = '''
"""Lightens pictures, a strength for each prompt."""

from typing import ClassVar, Literal

from diffex_dagster.editing.parts import EditorPart, Where


class LighterPart(EditorPart):
    """Adds to every pixel."""

    calibrated: ClassVar[frozenset[str]] = frozenset({"by"})

    kind: Literal["lighter"] = "lighter"
    by: int = 40
    at: str = "cpu"

    def build(self, where: Where) -> "Lighter":
        return Lighter(self.by, where)

    def method(self) -> str:
        return f"Every picture is made lighter by {self.by}."

    def placed(self, where: Where) -> "LighterPart":
        return self.model_copy(update={"at": where.place.get("device", self.at)})

    def works_on(self) -> str:
        return self.at

    def calibrates(self, asked: bool | None) -> bool:
        return "by" not in self.model_fields_set if asked is None else asked


class Lighter:
    def __init__(self, by: int, where: Where) -> None:
        self.by, self.where, self.fingerprint = by, where, f"lighter {by}"

    def judge(self, draws: int):
        return None

    def edit(self, images, requests):
        yield [(each, images[each.image].point(lambda x: x + self.by)) for each in requests]
'''
ASK = """
from PIL import Image
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.ready import check_devices
work = at_work(study.deployed(editor={"device": "cuda:77"}))
grey = Image.new("L", (16, 16), 100)
(((_, made),),) = work.editor.edit({"x": grey}, [EditRequest("x")])
print(heavy, made.getpixel((0, 0)), work.editor.where.field, work.editor.where.place, study.calibrates)
print(study.editor_part.method())
try:
    check_devices(work.study)
except Exception as error:
    print(str(error).partition(": ")[2].split()[:2])
"""


def test_a_new_kind_is_one_file_and_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "toy", 2, editors={"mine": {"kind": "lighter"}})
    said = asked_of_a_package_with(tmp_path, "editing", "lighter", EDITOR, "LighterPart", study, ASK)
    assert said.splitlines() == [
        "[] 140 editors.mine {'device': 'cuda:77'} True",
        "Every picture is made lighter by 40.",
        "['editors.mine.device:', \"'cuda:77'\"]",
    ]
