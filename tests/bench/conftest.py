"""A small study with known truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from diffex_dagster.study import Study, load_study
from tests.support.project import AVATARS


@pytest.fixture
def small(tmp_path: Path) -> Study:
    """Six drawn avatars, two groups, an exact editor and one classifier."""
    (tmp_path / "images").mkdir()
    for i in range(6):
        shutil.copy(AVATARS / "images" / f"avatar_{i:02d}.png", tmp_path / "images")
    shutil.copy(AVATARS / "images" / "attributes.json", tmp_path / "images")
    tree = [
        {"name": "Clothing colour", "prompt": "clothing colour", "editable": False,
         "children": [{"name": "Red clothes", "prompt": "red clothes"},
                      {"name": "Blue clothes", "prompt": "blue clothes"}]},
        {"name": "Eyewear", "prompt": "eyewear", "children": [{"name": "Round glasses", "prompt": "round glasses"}]},
        {"name": "Earrings", "prompt": "earrings"},
    ]  # fmt: skip
    (tmp_path / "proposal.json").write_text(json.dumps({"categories": tree}))
    study = {
        "name": "small", "domain": "drawn avatars", "images": {"size": 64},
        "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}},
        "editors": {"drawn": {"kind": "python", "factory": "diffex_dagster.worlds.avatars:ExactEditor"}},
        "classifiers": {"colours": {"kind": "transformers", "checkpoint": str(AVATARS / "bench" / "colour_rule")}},
        "target": {"label": "yes"}, "effects": {"control_prompts": ["flornip"]},
    }  # fmt: skip
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(study, file)
    return load_study(tmp_path)
