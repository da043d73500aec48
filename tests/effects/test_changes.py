"""What an edit changed: toy pictures whose answer is known, and the smallest attributes of the drawn avatars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.effects.changes import pixel_change, strength
from diffex_dagster.study import EffectsPart
from diffex_dagster.worlds.avatars import draw, set_feature

AVATARS = Path(__file__).parent.parent.parent / "studies" / "avatars" / "images" / "attributes.json"


def painted(region: tuple[slice, slice], level: int, side: int = 64) -> tuple[Image.Image, Image.Image]:
    """A black picture, and the same with a square of one grey level."""
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    null = Image.fromarray(pixels.copy())
    pixels[region] = level
    return Image.fromarray(pixels), null


def test_a_window_that_changed_wholly_counts_as_much_as_a_picture_that_did() -> None:
    small = pixel_change(*painted((slice(30, 38), slice(7, 15)), 51))
    whole = pixel_change(*painted((slice(None), slice(None)), 51))
    assert small.mean() == pytest.approx(0.2 / 64)
    assert strength(small) == strength(whole) == pytest.approx(0.2)


def test_a_change_at_the_edge_or_smaller_than_a_window_is_not_overrated() -> None:
    assert strength(pixel_change(*painted((slice(0, 8), slice(60, 64)), 255))) == pytest.approx(0.5)
    assert strength(pixel_change(*painted((slice(63, 64), slice(63, 64)), 255))) == pytest.approx(1 / 64)


def test_no_change_is_zero_whatever_the_size_and_one_colour_of_three_is_a_third() -> None:
    for side in (5, 16, 100):
        assert strength(pixel_change(*painted((slice(0), slice(0)), 255, side))) == 0.0
    edit, null = painted((slice(None), slice(None)), 0, 16)
    edit.putdata([(255, 0, 0)] * 256)
    assert strength(pixel_change(edit, null)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("phrase", ["worried eyebrows", "flat eyebrows", "angry eyebrows", "a sad mouth"])
def test_the_smallest_exact_edits_happened_by_the_default(phrase: str) -> None:
    """Over the whole picture they change less than 0.005, which an editor reaches without drawing anything."""
    states = list(json.loads(AVATARS.read_text("utf-8")).values())
    changes = [pixel_change(draw(set_feature(state, phrase)), draw(state)) for state in states]
    assert np.mean([change.mean() for change in changes]) < 0.005
    assert np.mean([strength(change) for change in changes]) > 1.5 * EffectsPart().min_edit_strength
