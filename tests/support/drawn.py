"""A small study of a world's drawings, whose truth is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML

from diffex_dagster.study import Study, load_study
from diffex_dagster.worlds import avatars
from diffex_dagster.worlds.base import World
from tests.support.project import AVATARS, ROOT


def write_small(
    folder: Path, world: World = avatars.WORLD, categories: Sequence[Mapping[str, object]] | None = None
) -> Study:
    """Six drawings, a few groups, an exact editor and one classifier.

    Args:
        categories: of the recorded proposal; eyewear, colours of clothes and earrings unless given.
    """
    (folder / "images").mkdir()
    drawn = ROOT / "studies" / world.name / "images"
    for file in sorted(drawn.glob("*.png"))[:6]:
        shutil.copy(file, folder / "images")
    shutil.copy(drawn / "attributes.json", folder / "images")
    tree = categories or [
        {"name": "Clothing colour", "prompt": "clothing colour", "editable": False,
         "children": [{"name": "Red clothes", "prompt": "red clothes"},
                      {"name": "Blue clothes", "prompt": "blue clothes"}]},
        {"name": "Eyewear", "prompt": "eyewear", "children": [{"name": "Round glasses", "prompt": "round glasses"}]},
        {"name": "Earrings", "prompt": "earrings"},
    ]  # fmt: skip
    (folder / "proposal.json").write_text(json.dumps({"categories": tree}))
    study = {
        "name": "small", "domain": f"drawn {world.name}", "images": {"size": world.size},
        "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}},
        "editors": {"drawn": {"kind": "python", "factory": f"diffex_dagster.worlds.{world.name}:ExactEditor"}},
        "classifiers": {"colours": {"kind": "transformers", "checkpoint": str(AVATARS / "bench" / "colour_rule")}},
        "target": {"label": "yes"}, "effects": {"control_prompts": ["flornip"]},
    }  # fmt: skip
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(study, file)
    return load_study(folder)
