"""Thirty image files as people have them: every mode and format, and three that are broken.

Each shows the same: the left half dark, the right half bright.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

BROKEN = ("broken_cut.jpg", "broken_empty.png", "broken_text.png")


def base(width: int = 48, height: int = 40, dark: int = 40, bright: int = 210) -> Image.Image:
    """Left half dark, right half bright."""
    made = Image.new("RGB", (width, height), (dark, dark, dark))
    made.paste((bright, bright, bright), (width // 2, 0, width, height))
    return made


def write_odd_images(folder: Path) -> None:
    """Write the files; pictures differ a little, so that none counts as a copy of another."""
    folder.mkdir(parents=True)
    shade = iter(range(30, 60))

    def new(width: int = 48, height: int = 40) -> Image.Image:
        return base(width, height, dark=next(shade))

    for suffix in ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm"):
        new().save(folder / f"format.{suffix}")
    for mode in ("L", "P", "1", "LA", "RGBA"):
        made = new()
        converted = made.quantize(8) if mode == "P" else made.convert(mode)  # a palette of its own
        converted.save(folder / f"mode_{mode}.png")
    new().convert("CMYK").save(folder / "mode_CMYK.jpg", quality=95)
    new().convert("CMYK").save(folder / "mode_CMYK.tif")
    new().convert("YCbCr").save(folder / "mode_YCbCr.jpg", quality=95)
    deep = np.asarray(new().convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep_16.png")
    Image.fromarray(np.asarray(new().convert("L")).astype(np.uint16) * 257).save(folder / "deep_16.tif")
    Image.fromarray((np.asarray(new().convert("L")) / 255).astype(np.float32)).save(folder / "deep_float.tif")
    turned = new().rotate(90, expand=True)  # the flag says: turn by 90° clockwise to see it upright
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "exif_turned.jpg", exif=exif, quality=95)
    first, second = new(), base().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    first.save(folder / "animated.gif", save_all=True, append_images=[second], duration=100)
    first = new()
    first.save(folder / "animated.webp", save_all=True, append_images=[second], duration=100, lossless=True)
    new(4000, 3000).save(folder / "huge.jpg", quality=80)
    clear = new().convert("RGBA")  # bright where it is transparent: on white, the same picture
    clear.putalpha(Image.fromarray(np.where(np.asarray(clear.convert("L")) > 128, 0, 255).astype(np.uint8)))
    clear.save(folder / "transparent.png")
    new(60, 8).save(folder / "wide_with_ümlaut and space.png")
    new(8, 60).save(folder / "TALL.PNG")
    (folder / BROKEN[0]).write_bytes((folder / "huge.jpg").read_bytes()[:2000])
    (folder / BROKEN[1]).write_bytes(b"")
    (folder / BROKEN[2]).write_text("this is not a picture")
