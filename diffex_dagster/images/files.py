"""From any image file to the square RGB picture that an editor works on."""

from __future__ import annotations

import warnings
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageColor, ImageOps

Fit = Literal["crop", "pad", "stretch"]

# What Pillow raises for files that are cut off, empty, too large, or of no format it knows.
UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, OverflowError, EOFError, Image.DecompressionBombError)


def read_picture(file: BinaryIO, size: int, fit: Fit = "crop", background: str = "white") -> Image.Image:
    """Decode a file and prepare it; the first frame of an animation.

    Raises:
        One of UNREADABLE.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large; beyond twice that it is an error
        with Image.open(file) as picture:
            # A huge JPEG is decoded at a fraction of its size, never below what is needed (fit may use one side only).
            picture.draft("RGB", (4 * size, 4 * size))
            picture.load()
            return prepare(picture, size, fit, background)


def prepare(picture: Image.Image, size: int, fit: Fit = "crop", background: str = "white") -> Image.Image:
    """Turn by the EXIF flag, put transparency on a background, and make a square of `size` pixels.

    Args:
        picture: of any mode; 16 and 32 bits a channel are brought to 8 without clipping.
        size: side in pixels.
        fit: "crop" cuts the centre out, "pad" adds bars, "stretch" changes the aspect ratio.
        background: colour under transparency and of the bars.

    Returns:
        An RGB picture of size × size.
    """
    colour = ImageColor.getrgb(background)[:3]
    upright = _eight_bits(ImageOps.exif_transpose(picture))
    if "A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, colour), rgba)
    rgb = upright.convert("RGB")
    if fit == "pad":
        return ImageOps.pad(rgb, (size, size), Image.Resampling.LANCZOS, color=colour)
    if fit == "stretch":
        return rgb.resize((size, size), Image.Resampling.LANCZOS)
    return ImageOps.fit(rgb, (size, size), Image.Resampling.LANCZOS)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey pictures of 16 or 32 bits as 8 bits; Pillow's own conversion would clip them at 255."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0.0, neginf=0.0)
    highest = values.max(initial=0.0)
    if picture.mode.startswith("I;16"):
        white = 65535.0
    elif picture.mode == "F":
        white = 1.0 if highest <= 1.0 else 255.0 if highest <= 255.0 else highest
    else:  # "I": 16 bits in a wider type, unless the values say otherwise
        white = 255.0 if highest <= 255.0 else max(65535.0, highest)
    return Image.fromarray(np.clip(values / white * 255.0, 0, 255).round().astype(np.uint8))
