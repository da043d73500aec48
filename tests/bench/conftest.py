"""A small study with known truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from diffex_dagster.bench import truth
from diffex_dagster.study import Study, load_study
from tests.support.project import AVATARS

SCOPE = truth.Scope(population=12, resamples=3)


@pytest.fixture
def small(tmp_path: Path) -> Study:
    """Six drawn avatars, two groups, an exact editor and one classifier."""
    return write_small(tmp_path)


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, truth.Benchmark]:
    """Such a study, and the marks of its classifier under the exact editor."""
    study = write_small(tmp_path_factory.mktemp("graded"))
    return study, truth.grade_all(study, truth.editors(study, "exact"), truth.subjects(study), SCOPE)


def write_small(folder: Path) -> Study:
    """See `small`."""
    (folder / "images").mkdir()
    for i in range(6):
        shutil.copy(AVATARS / "images" / f"avatar_{i:02d}.png", folder / "images")
    shutil.copy(AVATARS / "images" / "attributes.json", folder / "images")
    tree = [
        {"name": "Clothing colour", "prompt": "clothing colour", "editable": False,
         "children": [{"name": "Red clothes", "prompt": "red clothes"},
                      {"name": "Blue clothes", "prompt": "blue clothes"}]},
        {"name": "Eyewear", "prompt": "eyewear", "children": [{"name": "Round glasses", "prompt": "round glasses"}]},
        {"name": "Earrings", "prompt": "earrings"},
    ]  # fmt: skip
    (folder / "proposal.json").write_text(json.dumps({"categories": tree}))
    study = {
        "name": "small", "domain": "drawn avatars", "images": {"size": 64},
        "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}},
        "editors": {"drawn": {"kind": "python", "factory": "diffex_dagster.worlds.avatars:ExactEditor"}},
        "classifiers": {"colours": {"kind": "transformers", "checkpoint": str(AVATARS / "bench" / "colour_rule")}},
        "target": {"label": "yes"}, "effects": {"control_prompts": ["flornip"]},
    }  # fmt: skip
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(study, file)
    return load_study(folder)
