"""Every YAML example of the how-to pages is a valid part of a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from diffex_dagster.study import study_of

PAGES = sorted((Path(__file__).parent.parent / "docs" / "howto").glob("*.md"))
BASE: dict[str, Any] = {
    "name": "s", "domain": "d", "corpus": {"starter": "face"}, "target": {"label": "a"},
    "editors": {"e": {"kind": "python", "factory": "tests.toys:PaintEditor"}},
    "classifiers": {"v1": {"kind": "clip", "labels": ["a"]}},
}  # fmt: skip


def examples() -> list[tuple[str, str]]:
    """(page, YAML) of each block; of each line where the lines of a block are alternatives to each other."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), flags=re.S):
            lines = block.splitlines()
            alternatives = len({line.partition(":")[0] for line in lines}) == 1 and len(lines) > 1
            found += [(page.name, line) for line in lines] if alternatives else [(page.name, block)]
        inline = re.findall(
            r"`((?:search|effects|corpus|target|tree|images): [{\[][^`]*[}\]])`", page.read_text("utf-8")
        )
        found += [(page.name, each) for each in inline if not each.startswith("tree")]
    return found


@pytest.mark.parametrize(("page", "text"), examples())
def test_an_example_is_valid(page: str, text: str, tmp_path: Path) -> None:
    study_of({**BASE, **YAML(typ="safe").load(text)}, tmp_path / "study.yaml")


def test_there_are_examples_on_every_page() -> None:
    assert len(examples()) >= 15 and {page for page, _ in examples()} == {page.name for page in PAGES}
