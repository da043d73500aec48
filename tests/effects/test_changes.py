"""What an edit changed: toy pictures whose answer is known, and the smallest attributes of the drawn avatars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.effects.edit_metrics import measure_edit, pixel_change, share_inside, similarity, strength
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


def test_the_share_inside_a_mask_counts_change_not_pixels() -> None:
    edit, null = painted((slice(0, 8), slice(0, 64)), 100)
    change = pixel_change(edit, null)
    change[32:40] = 0.25 * change[0, 0]  # as many places outside the mask, a quarter as strong
    mask = Image.fromarray(np.repeat([[255], [255], [0], [0]], 4, axis=1).astype(np.uint8))  # the upper half, 4×4
    assert share_inside(change, mask) == (pytest.approx(0.8), 0.5)
    assert share_inside(np.zeros((64, 64)), mask) == (None, 0.5)


def test_similarity_is_one_for_equal_pictures_and_falls_with_the_change() -> None:
    rng = np.random.default_rng(0)
    null = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    small, large = null.copy(), null.copy()
    small.paste((0, 0, 0), (0, 0, 8, 8))
    large.paste((0, 0, 0), (0, 0, 32, 32))
    assert similarity(null, null) == pytest.approx(1.0)
    assert 1.0 > similarity(small, null) > similarity(large, null) > 0.5


@pytest.mark.parametrize("side", [3, 4, 6, 7, 16])
def test_similarity_takes_pictures_smaller_than_its_window(side: int) -> None:
    pictures = [Image.new("RGB", (side, side + 5), (level, level, level)) for level in (60, 200)]
    assert similarity(pictures[0], pictures[0]) == pytest.approx(1.0)
    means, c1 = (60 / 255, 200 / 255), 0.01**2  # flat pictures: only the luminance term is left (Wang et al., eq. 6)
    expected = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    assert similarity(*pictures) == pytest.approx(expected, abs=1e-4)


def test_an_edit_is_measured_with_and_without_a_mask() -> None:
    edit, null = painted((slice(0, 8), slice(0, 8)), 255)
    whole = measure_edit(edit, null)
    assert (whole.inside, whole.area, whole.lpips) == (None, None, None) and whole.strength == pytest.approx(1.0)
    masked = measure_edit(edit, null, Image.new("L", (2, 2), 255))
    assert (masked.inside, masked.area) == (1.0, 1.0) and masked.ssim == whole.ssim < 1.0
