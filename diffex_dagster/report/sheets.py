"""Contact sheets: rows of small pictures in one WebP, small enough for an asset's metadata."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from diffex_dagster.report.wording import plain
from diffex_dagster.results import Picture, opened

_PAPER, _INK, _SOFT = "#fbfaf7", "#1b1d21", "#5c6068"
_GAP = 4
_LABEL = 150  # width of the label column, in pixels
_LADDER = ((128, 90), (128, 80), (96, 80), (64, 80), (64, 65), (48, 65), (32, 60))
"""(side of a picture, WebP quality), tried in turn before rows and columns are left out."""

Row = tuple[str, Sequence[Picture]]


def contact_sheet(rows: Sequence[Row], max_bytes: int = 200_000) -> bytes:
    """Pictures in labelled rows, as one WebP of at most `max_bytes`.

    Small pictures are enlarged by whole numbers without smoothing, so that their pixels stay crisp. When the sheet is
    too large, pictures become smaller, then columns are left out, then rows; what was left out is said on the sheet.

    Args:
        rows: (label, pictures) for each row. Rows may differ in length.
        max_bytes: the largest size of the result. In a data URI it grows by a third.

    Raises:
        ValueError: there is no picture, or not even one fits.
    """
    rows = [(plain(label, 60), list(pictures)) for label, pictures in rows if pictures]
    if not rows:
        raise ValueError("a contact sheet needs at least one picture")
    widest, columns, height = max(len(pictures) for _, pictures in rows), 0, len(rows)
    columns = widest
    while True:
        for side, quality in _LADDER:
            if side > 64 and columns * side > 1600:
                continue  # wider than any screen that shows it
            sheet = _draw(rows[:height], columns, side, left_out=(len(rows) - height, widest - columns))
            if max(sheet.size) > 16_000:  # WebP ends at 16,383
                continue
            webp = _webp(sheet, quality)
            if len(webp) <= max_bytes:
                return webp
        if columns > 4:
            columns = max(4, columns // 2)
        elif height > 1:
            height = max(1, height * 2 // 3)
        elif columns > 1:
            columns -= 1
        else:
            raise ValueError(f"no contact sheet fits into {max_bytes:,} bytes")


def strip(together: Sequence[Sequence[Picture]], side: int, quality: int) -> bytes:
    """Pictures in a row, as one WebP: those that belong together touch, the others stand apart.

    Args:
        together: pictures that belong together (before and after); at least one.
        side: of each picture, in pixels.
        quality: of the WebP, 0 to 100.
    """
    width = sum(map(len, together)) * side + (len(together) - 1) * 2 * _GAP
    sheet, left = Image.new("RGB", (width, side), _PAPER), 0
    for some in together:
        for picture in some:
            tile = enlarge(opened(picture), side)
            sheet.paste(tile, (left + (side - tile.width) // 2, (side - tile.height) // 2))
            left += side
        left += 2 * _GAP
    return _webp(sheet, quality)


def data_uri(webp: bytes) -> str:
    """A WebP as a `data:` address, for a Markdown image in an asset's metadata."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")


def enlarge(picture: Image.Image, side: int) -> Image.Image:
    """A picture fitted into a square: by whole numbers and unsmoothed when it grows, averaged when it shrinks."""
    picture = picture.convert("RGB")
    times = side // max(picture.size)
    if times >= 1:
        size = (picture.width * times, picture.height * times)
        return picture if times == 1 else picture.resize(size, Image.Resampling.NEAREST)
    shrink = side / max(picture.size)
    size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _webp(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _draw(rows: Sequence[Row], columns: int, side: int, left_out: tuple[int, int]) -> Image.Image:
    font = ImageFont.load_default(13)
    note = _left_out(*left_out)
    width = _LABEL + columns * (side + _GAP) + _GAP
    height = len(rows) * (side + _GAP) + _GAP + (20 if note else 0)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for r, (label, pictures) in enumerate(rows):
        top = _GAP + r * (side + _GAP)
        lines = _wrap(label, font, _LABEL - 16)[: max(1, side // 16)]
        y = top + (side - 16 * len(lines)) // 2
        for line in lines:
            pen.text((8, y), line, fill=_INK, font=font)
            y += 16
        for c, picture in enumerate(pictures[:columns]):
            tile = enlarge(opened(picture), side)
            left = _LABEL + c * (side + _GAP)
            sheet.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    if note:
        pen.text((8, height - 19), note, fill=_SOFT, font=font)
    return sheet


def _left_out(rows: int, columns: int) -> str:
    parts = [f"{n} more {what}" for n, what in ((rows, "rows"), (columns, "columns")) if n]
    return f"not shown: {' and '.join(parts)}" if parts else ""


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break text into lines that fit, cutting a word that is too long on its own."""
    lines: list[str] = []
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        while word and font.getlength(word) > width:
            cut = max(1, next((n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width), 1))
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    return lines
