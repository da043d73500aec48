"""Counting how right the smallest sets are."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from diffex_dagster.bench.flips import SEED, _Redrawn, as_json, as_markdown, mark_flips
from diffex_dagster.study import Study
from diffex_dagster.worlds import redrawing
from diffex_dagster.worlds.redrawing import sample_states
from tests.support.toys import WarmClassifier


def test_what_is_counted() -> None:
    true = {"a": {"x", "y"}, "b": {"x"}, "c": {"x"}, "d": set(), "e": set()}
    found: dict[str, Sequence[tuple[str, ...]]] = {
        "a": [("y",)],  # right
        "b": [("z",), ("x",)],  # as small, and the first of it does not flip the picture
        "c": [("x", "y")],  # larger than need be
        "d": [("x",)],  # claimed of a picture that nothing flips alone
        "e": [],
    }
    marks = mark_flips("exact", "v1", true, found)
    assert (marks.pictures, marks.flippable, marks.as_small, marks.truly) == (5, 3, 2, 1)
    assert (marks.other, marks.claimed) == (2, 1)
    assert as_json([marks])[0]["share"] == 2 / 3
    assert "| exact | `v1` | 5 | 3 | 2 (67%) | 1 (50%) | 2 | 1 (50%) |" in as_markdown([marks])


def test_what_is_true_is_asked_of_the_classifier(toy: Study) -> None:
    grey, red = Image.new("RGB", (16, 16), (90, 90, 90)), Image.new("RGB", (16, 16), (200, 40, 90))
    drawn = _Redrawn(grey, (("red", red), ("same", grey)))
    assert drawn.flips(WarmClassifier(toy.folder, {}), toy) == {"red"}
    assert _Redrawn(grey, ()).flips(WarmClassifier(toy.folder, {}), toy) == set()


def test_its_pictures_are_its_own() -> None:
    assert SEED not in {1, 2, 3, redrawing.SEED, 601, 602}
    assert sample_states(3, SEED) != sample_states(3, redrawing.SEED)
