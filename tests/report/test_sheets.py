from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.report.sheets import contact_sheet, data_uri, enlarge
from tests.support import material


def noise(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def opened(webp: bytes) -> Image.Image:
    return Image.open(io.BytesIO(webp))


def test_a_small_sheet_is_enlarged_without_smoothing() -> None:
    person = material.draw(material.states(1)[0], 64)
    sheet = opened(contact_sheet([("original", [person, person]), ("edit: round glasses", [person])]))
    assert sheet.format == "WEBP"
    assert sheet.width > 150 + 2 * 128
    assert enlarge(person, 130).size == (128, 128)


@pytest.mark.parametrize("max_bytes", [200_000, 40_000, 8_000])
def test_a_sheet_of_noise_shrinks_until_it_fits(max_bytes: int) -> None:
    webp = contact_sheet([(f"row {r}", [noise(r * 40 + c) for c in range(16)]) for r in range(12)], max_bytes)
    assert len(webp) <= max_bytes
    assert max(opened(webp).size) < 16_000


def test_large_pictures_are_averaged_down() -> None:
    assert max(opened(contact_sheet([("photo", [noise(1, 512)] * 8)])).size) < 1700


def test_labels_of_any_kind_are_drawn() -> None:
    contact_sheet([("x" * 400 + "\n\x00 ünïcode 眼鏡", [noise(1)])])


@pytest.mark.parametrize("rows", [[], [("empty", [])]])
def test_no_picture_is_an_error(rows: list) -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet(rows)


def test_a_size_that_nothing_fits_is_an_error() -> None:
    with pytest.raises(ValueError, match="no contact sheet fits"):
        contact_sheet([("row", [noise(1)])], max_bytes=50)


def test_data_uri() -> None:
    head, _, body = data_uri(b"RIFF").partition(",")
    assert head == "data:image/webp;base64" and base64.b64decode(body) == b"RIFF"
