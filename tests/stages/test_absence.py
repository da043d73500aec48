"""The edit the other way: which features it is made of, and that it costs no more than a tenth of the search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffex_dagster.editing.protocol import Concept
from diffex_dagster.stages.absence import chosen_features, other_way
from diffex_dagster.study import Study, load_study
from tests.support.toys import write_study

HALF = np.arange(24) < 12
FEW = np.arange(24) < 2
NONE = np.ones(24, dtype=bool)
WITHOUT = {"weak": HALF, "strong": HALF, "failed": HALF, "common": FEW, "absent": NONE}
EFFECTS = {
    "weak": np.full(24, 0.1), "strong": np.full(24, -0.4), "failed": np.full(24, 0.9), "common": np.full(24, 0.0),
    "absent": np.full(24, 0.3),
}  # fmt: skip
SUCCESS = {"weak": 1.0, "strong": 1.0, "failed": 0.2, "common": 0.0, "absent": 1.0}


def test_the_strongest_come_first_then_what_nearly_every_picture_shows(toy: Study) -> None:
    assert chosen_features(toy, EFFECTS, WITHOUT, SUCCESS, 10_000) == ["strong", "weak", "common"]
    one = toy.changed(effects=toy.effects.model_copy(update={"absence": 1}))
    assert chosen_features(one, EFFECTS, WITHOUT, SUCCESS, 10_000) == ["strong", "common"]
    none = toy.changed(effects=toy.effects.model_copy(update={"absence": 0}))
    assert chosen_features(none, EFFECTS, WITHOUT, SUCCESS, 10_000) == []


@pytest.mark.parametrize("edits", [0, 119, 120, 239, 240, 460])
def test_no_more_than_a_tenth_of_the_searchs_edits(toy: Study, edits: int) -> None:
    chosen = chosen_features(toy, EFFECTS, WITHOUT, SUCCESS, edits)
    assert sum(int((~WITHOUT[f]).sum()) for f in chosen) <= edits / 10


def test_edits_of_another_tool_are_not_asked_for(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, editors={"given": {"kind": "precomputed", "folder": "given"}}))
    assert chosen_features(study, EFFECTS, WITHOUT, SUCCESS, 10_000) == []


def test_what_is_removed_is_added() -> None:
    assert other_way((Concept("a"), Concept("b", "remove"))) == (Concept("a", "remove"), Concept("b"))
