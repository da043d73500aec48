"""A kind of source of images is one file and one line: both are written here, and a study file can name the kind."""

from __future__ import annotations

from pathlib import Path

from tests.support.kinds import asked_of_a_package_with
from tests.support.toys import write_study

SOURCE = '''
"""Pictures with numbers for names."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from diffex_dagster.errors import StudyError
from diffex_dagster.images.sources.parts import Entry, Found, ImageSource, Where


class NumberedSource(ImageSource):
    """Pictures 00.png, 01.png, ... of a folder, up to a number."""

    source: ClassVar[str] = "numbered"
    numbered: Path | None = Field(None, description="a folder of numbered pictures")
    up_to: int = 1

    def find(self, where: Where) -> Found:
        files = [where.path(self.numbered) / f"{number:02d}.png" for number in range(self.up_to)]
        if not files[-1].is_file():
            raise StudyError(f"{where.file}: images.up_to: there is no {files[-1].name}; write a lower number")
        return Found([Entry(file.name, file) for file in files])
'''
ASK = """
from diffex_dagster.images.finding import find_images
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.settings import stage_settings, undecided
from diffex_dagster.study import Images
print(heavy, study.images.kind.source, [entry.name for entry in find_images(study.images, study.file).entries])
print(len(sample_images(at_work(study)).keys), undecided(), stage_settings(study, "sample_images"))
for section in ({"numbered": study.images.numbered, "up_to": 9}, {"numbered": "x", "glob": "y"}, {"up_to": 2}):
    try:
        find_images(Images.model_validate(section), study.file)
    except Exception as error:
        print(str(error).replace("\\n", " "))
"""


def test_a_new_kind_is_one_file_and_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "toy", 3, images={"numbered": "images", "up_to": 2, "size": 16})
    said = asked_of_a_package_with(tmp_path, "images/sources", "numbered", SOURCE, "NumberedSource", study, ASK)
    lines = said.splitlines()
    assert lines[:2] == ["[] numbered ['00.png', '01.png']", "2 [] {'images.size': 16}"]
    assert "images.up_to: there is no 08.png; write a lower number" in lines[2]
    assert "glob and numbered both say where the images are; keep one of them" in lines[3]
    assert "up_to belongs to a 'numbered'; name one or remove it" in lines[4]
