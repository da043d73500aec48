"""docs/corpus.md and the README show what the code sends and gives now."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from diffex_dagster.corpus.vlm.proposer import OpenAIVLM
from diffex_dagster.study import CorpusPart

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "make_corpus_page.py"


def test_the_page_shows_the_prompts_and_the_tree_as_they_are() -> None:
    page = (ROOT / "docs" / "corpus.md").read_text("utf-8")
    assert page == runpy.run_path(str(SCRIPT))["updated"](page), f"run `python {SCRIPT.relative_to(ROOT)}`"


@pytest.mark.parametrize("page", ["README.md", "docs/corpus.md"])
def test_every_line_for_a_server_is_a_valid_part_of_a_study(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    section = text[text.index("## Use your own VLM") :]
    lines = re.findall(r"^ *(vlm: \{kind: openai.*)$", section, re.MULTILINE)
    parts = [CorpusPart.model_validate(YAML(typ="safe").load(line)).vlm for line in lines]
    addresses = [part.base_url for part in parts if isinstance(part, OpenAIVLM)]
    keys = [part.key_env for part in parts if isinstance(part, OpenAIVLM)]
    assert keys[:3] == ["OPENAI_API_KEY", None, None]
    assert addresses[:3] == [None, "http://localhost:8000/v1", "http://localhost:11434/v1"]
