"""From any image file to the square RGB picture that an editor works on."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from diffex_dagster.errors import in_words

Fit = Literal["crop", "pad", "stretch"]

SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .webp .bmp .gif .tif .tiff .avif .heic .heif .hif .ppm .pgm .pbm".split()
)
"""Endings of files that are taken for pictures, whatever their case."""

# Raster formats only, by their content: Pillow would hand a PostScript file named x.png to Ghostscript.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "PPM", "HEIF")
LARGEST_FILE = 512 * 2**20  # bytes; a photograph has a hundredth of it
_HEIF = b"heic heix hevc hevx heim heis mif1 msf1".split()
_NO_HEIF = "a HEIC picture, which needs pillow-heif: pip install 'diffex-dagster[heic]'"


def why_no_sample(path: Path, root: Path | None = None) -> str | None:
    """Why a file that is found in a folder is no sample picture; None where it is one.

    Hidden files (also `._IMG_1.jpg`, which a Mac leaves beside IMG_1.jpg), what is in a hidden folder or in `__MACOSX`,
    files with another ending, and what is no regular file.

    Args:
        path: the file.
        root: the folder that was searched: only what is below it counts as hidden.
    """
    parts = path.relative_to(root).parts if root is not None else (path.name,)
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return path.suffix.lower() or "no ending"
    if not path.is_file():
        return "no regular file"
    return None


def why_unreadable(error: BaseException) -> str:
    """Why a file cannot be read as a picture, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    return in_words(error, 120)


@contextmanager
def open_picture(file: Path | bytes) -> Iterator[Image.Image]:
    """Open a picture file for reading: regular files of the raster formats only, whatever their names say.

    Raises:
        Exception: of any kind that Pillow's decoders know, for a file that is none or is broken; `why_unreadable` puts
            it into words.
    """
    if isinstance(file, Path):
        if not file.is_file() and file.exists():
            raise OSError("it is a folder" if file.is_dir() else "it is no regular file")
        if file.stat().st_size > LARGEST_FILE:
            raise OSError(f"it is larger than {LARGEST_FILE // 2**20} MB")
    with file.open("rb") if isinstance(file, Path) else io.BytesIO(file) as stream:
        beginning = stream.read(32)
        stream.seek(0)
        heif = beginning[4:8] == b"ftyp" and (beginning[8:12] in _HEIF or beginning[16:20] in _HEIF)
        if heif and beginning[8:12] not in (b"avif", b"avis") and not _reads_heif():
            raise OSError(_NO_HEIF)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures (beyond twice Pillow's bound it is an error), odd EXIF
            try:
                picture = Image.open(stream, formats=_formats())
            except Exception:
                if not beginning.startswith(b"\xff\xd8"):
                    raise
                stream.seek(0)  # a JPEG of which Pillow's reading of the EXIF block failed, not of the pixels
                picture = Image.open(io.BytesIO(_without_exif(stream.read())), formats=["JPEG"])
            with picture:
                yield picture


def _formats() -> list[str]:
    _reads_heif()
    Image.init()  # registers the rest of Pillow's formats; opens nothing
    return [name for name in FORMATS if name in Image.OPEN]


@functools.cache
def _reads_heif() -> bool:
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except Exception:  # not installed, or a build that does not load
        return False
    return True


def _without_exif(jpeg: bytes) -> bytes:
    """A JPEG file without its application blocks, but with an orientation in place of the EXIF block that had one."""
    kept, at, orientation = [jpeg[:2]], 2, None
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        block = jpeg[at : at + length]
        if block[4:10] == b"Exif\0\0":
            orientation = orientation or _orientation_of(block[4:])
        elif not 0xE1 <= jpeg[at + 1] <= 0xEF or jpeg[at + 1] == 0xEE:  # Adobe's block says how colours are kept
            kept.append(block)
        at += length
    if orientation:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        block = exif.tobytes()
        kept.insert(1, b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block)
    return b"".join([*kept, jpeg[at:]])


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def _orientation_of(block: bytes) -> int | None:
    exif = Image.Exif()
    try:
        exif.load(block)
        return _as_turn(exif.get(_ORIENTATION))
    except Exception:  # a broken EXIF block says nothing
        return None


def _as_turn(value: object) -> int | None:
    try:
        turn = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return turn if turn in _TURNS and turn == value else None


def upright(picture: Image.Image) -> Image.Image:
    """Turned by its EXIF flag; the rest of the EXIF block, which may be broken in any way, is not looked at."""
    try:
        turn = _as_turn(picture.getexif().get(_ORIENTATION))
    except Exception:
        turn = None
    return picture.transpose(_TURNS[turn]) if turn else picture


MORE = "more pictures follow"
"""Key of a prepared picture's `info`: whether its file holds more pictures than this one."""


def read_picture(file: Path | bytes | BinaryIO, size: int, fit: Fit = "crop", background: str = "white") -> Image.Image:
    """Decode a file and prepare it; the first frame of an animation, which is marked with `MORE` then.

    Raises:
        Exception: of any kind; see `open_picture`.
    """
    if not isinstance(file, Path | bytes):
        file.seek(0)
        file = file.read()
    with open_picture(file) as picture:
        # A huge JPEG is decoded at a fraction of its size, never below what is needed (fit may use one side only).
        picture.draft("RGB", (4 * size, 4 * size))
        picture.load()
        prepared = prepare(picture, size, fit, background)
        prepared.info[MORE] = _has_more(picture)
        return prepared


def _has_more(picture: Image.Image) -> bool:
    """Whether pictures follow a file's first: an animation, the pages of a TIFF. A phone's MPO is one photograph."""
    try:
        return picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
    except Exception:  # a decoder's, of any kind: the first picture could be read
        return False


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
    turned = _eight_bits(upright(picture))
    if "A" in turned.getbands() or "a" in turned.getbands() or "transparency" in turned.info:
        turned = _laid_on(turned, colour)
    rgb = turned.convert("RGB")
    if fit == "pad":
        return ImageOps.pad(rgb, (size, size), Image.Resampling.LANCZOS, color=colour)
    if fit == "stretch":
        return rgb.resize((size, size), Image.Resampling.LANCZOS)
    return ImageOps.fit(rgb, (size, size), Image.Resampling.LANCZOS)


STRIP = 2**22  # pixels that are worked on at once: 170 million of them are a small file, and would be gigabytes


def _laid_on(picture: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """A picture with transparency on a background, as RGB."""
    width, height = picture.size
    flat, rows = Image.new("RGB", picture.size), max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height))).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, colour), strip).convert("RGB"), (0, top))
    return flat


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
