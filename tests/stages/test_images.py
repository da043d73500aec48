"""Reading sample images: what is prepared how, and what a bad folder says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.errors import StudyError
from diffex_dagster.stages.images import prepare, read_images, sample_images
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from tests.toys import picture


def test_pictures_become_upright_square_rgb(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 5, 20))
    assert prepare(wide, 16).size == (16, 16)
    assert prepare(wide, 16).getpixel((0, 8)) == (255, 0, 0)  # the blue edge is cropped away
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    assert prepare(clear, 16).getpixel((3, 3)) == (255, 255, 255)
    upside_down = Image.new("RGB", (16, 16), "black")
    upside_down.paste("white", (0, 0, 16, 8))
    exif = upside_down.getexif()
    exif[0x0112] = 3  # turned by 180°
    upside_down.save(tmp_path / "turned.jpg", exif=exif)
    turned = np.asarray(read_images(tmp_path, 16)["turned.jpg"])
    assert turned[:4].mean() < 10 < 245 < turned[-4:].mean()


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "CMYK", "1", "LA"])
def test_every_common_mode_is_read(tmp_path: Path, mode: str) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    Image.new(mode, (20, 20)).save(tmp_path / f"a{suffix}")
    assert read_images(tmp_path, 16)[f"a{suffix}"].mode == "RGB"


def test_a_missing_folder_an_empty_one_and_an_unreadable_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nowhere: images\.folder: there is no such folder; put"):
        read_images(tmp_path / "nowhere", 16)
    with pytest.raises(StudyError, match="there is no picture in it; put files ending in"):
        read_images(tmp_path, 16)
    picture(1).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    with pytest.raises(StudyError, match=r"2 of 3 files cannot be read as pictures \(bad\.png, cut\.png\); replace"):
        read_images(tmp_path, 16)


def test_equal_pictures_count_once_and_the_order_is_that_of_names(toy: Study, tmp_path: Path) -> None:
    picture(90).save(toy.folder / "images" / "zz_copy_of_00.png")
    store = Store(tmp_path / "r")
    names = list(sample_images(toy, store).values())
    assert names == [f"{i:02d}.png" for i in range(8)]
    assert list(store.samples("toy").values()) == names


def test_a_limit_takes_the_first(tmp_path: Path) -> None:
    for i in range(4):
        picture(i).save(tmp_path / f"{i}.png")
    assert list(read_images(tmp_path, 16, limit=2)) == ["0.png", "1.png"]
