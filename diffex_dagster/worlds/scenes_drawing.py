"""How a scene is drawn: sprites on a canvas, sky and land, weather and style."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

UNIT = 2  # pictures are drawn this many times larger and averaged down
GRID = 80  # the coordinates below are pixels of a picture of this side
Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURLESS = ("grey", "sepia", "sketch")
_PAINT: dict[str, tuple[str, str]] = {  # of a vehicle: its body, its shade
    "red": ("#f8312f", "#b01c2e"),
    "blue": ("#2f6bf8", "#1b3fa8"),
    "yellow": ("#ffc61a", "#c98a00"),
    "green": ("#12a150", "#0a6b34"),
}
_PAINTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # fills of an icon: of the body, of its shade
    "automobile": (("#f8312f",), ("#ca0b4a",)),
    "bus": (("#ffb02e", "#f92f60"), ("#fff478",)),
    "delivery-truck": (("#fcd53f",), ("#ff822d",)),
    "tractor": (("#00f397",), ("#008463",)),
    "motorcycle": (("#f92f60",), ("#ca0b4a", "#fcd53f")),
    "bicycle": (("#f92f60",), ("#f9c23c",)),
}
PERSONS = (
    "man-standing", "woman-standing", "person-standing", "man-walking", "woman-walking", "person-walking",
    "man-standing-dark", "woman-standing-medium", "man-standing-medium-light",
)  # fmt: skip


@functools.cache
def _sprite(name: str, side: int, paint: str | None = None) -> Image.Image:
    """An icon as an RGBA picture of `side` × `side` pixels."""
    import resvg_py

    svg = (files("diffex_dagster.worlds") / "icons" / f"{name}.svg").read_text("utf-8")
    if paint:
        for fills, colour in zip(_PAINTED[name], _PAINT[paint], strict=True):
            for fill in fills:
                svg = svg.replace(fill, colour)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side * 4, height=side * 4, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA").resize((side, side), Image.Resampling.BOX)


def _u(value: float) -> int:
    return round(value * UNIT)


class Canvas:
    """A picture being drawn, in coordinates of the grid."""

    def __init__(self) -> None:
        self.picture = Image.new("RGB", (GRID * UNIT, GRID * UNIT))
        self.pen = ImageDraw.Draw(self.picture)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.pen.rectangle((_u(left), _u(top), _u(right) - 1, _u(bottom) - 1), fill=colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.pen.polygon([(_u(x), _u(y)) for x, y in points], fill=colour)

    def ellipse(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        self.pen.ellipse((_u(x - width / 2), _u(y - height / 2), _u(x + width / 2), _u(y + height / 2)), fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        self.pen.line([(_u(x), _u(y)) for x, y in points], fill=colour, width=max(1, _u(width)))

    def stand(self, icon: str, x: float, base: float, side: float, paint: str | None = None) -> None:
        """Put an icon with the middle of its lower edge at (x, base)."""
        sprite = _sprite(icon, _u(side), paint)
        self.picture.paste(sprite, (_u(x) - sprite.width // 2, _u(base) - sprite.height), sprite)


_SKIES: dict[str, tuple[Colour, Colour]] = {
    "day": ((92, 168, 240), (196, 228, 250)),
    "sunset": ((98, 74, 140), (255, 158, 84)),
    "night": ((10, 14, 44), (34, 44, 92)),
}


_GREY_SKY: Colour = (136, 144, 156)
HORIZON = 38.0


@functools.cache
def _sky(light: str, dull: bool) -> Image.Image:
    """The sky's gradient, with grey mixed in under clouds."""
    top, bottom = _SKIES[light]
    height = _u(HORIZON) + 8
    column = Image.new("RGB", (1, height))
    for y in range(height):
        share = y / (height - 1)
        colour = [a + (b - a) * share for a, b in zip(top, bottom, strict=True)]
        if dull:
            dim = 0.35 if light == "night" else 1.0
            colour = [0.35 * c + 0.65 * dim * grey for c, grey in zip(colour, _GREY_SKY, strict=True)]
        column.putpixel((0, y), (round(colour[0]), round(colour[1]), round(colour[2])))
    return column.resize((GRID * UNIT, height))


_GROUND: dict[str, Colour] = {
    "city": (150, 152, 158),
    "farm": (128, 176, 74),
    "beach": (240, 214, 150),
    "mountains": (116, 168, 92),
    "forest": (84, 138, 66),
    "desert": (226, 178, 108),
}
_SEASON: dict[str, tuple[Colour, float]] = {  # what a season lays on the ground, and how thickly
    "summer": ((120, 176, 70), 0.0),
    "autumn": ((200, 128, 50), 0.45),
    "winter": ((244, 248, 255), 0.85),
    "spring": ((150, 206, 100), 0.35),
}
_SPECKS: dict[str, tuple[Colour, ...]] = {
    "autumn": ((196, 70, 24), (232, 150, 30), (150, 60, 20)),
    "spring": ((255, 120, 190), (255, 255, 255), (255, 226, 70)),
}


def _mixed(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def draw_land(canvas: Canvas, place: str, season: str) -> None:
    """What lies behind the horizon, the ground, and what the season strews on it."""
    snow = season == "winter"
    ground = _mixed(_GROUND[place], *_SEASON[season])
    if place == "city":
        for left, width, height, tone in (
            (0, 11, 17, 0), (11, 9, 26, 1), (20, 12, 13, 2), (32, 8, 22, 0), (40, 11, 30, 1),
            (51, 9, 16, 2), (60, 8, 24, 0), (68, 12, 19, 1),
        ):  # fmt: skip
            wall = ((112, 122, 146), (94, 104, 130), (128, 136, 158))[tone]
            canvas.rectangle(left, HORIZON + 4 - height, left + width, HORIZON + 4, wall)
            if snow:
                canvas.rectangle(left, HORIZON + 4 - height, left + width, HORIZON + 5.5 - height, (250, 252, 255))
            for row in range(2, height - 4, 4):
                for column in range(2, width - 2, 4):
                    x, y = left + column, HORIZON + 4 - height + row
                    canvas.rectangle(x, y, x + 1.5, y + 2, (240, 226, 150))
    elif place == "mountains":
        for x, height, width, tone in ((14, 26, 44, 0), (40, 33, 52, 1), (67, 24, 42, 0)):
            rock = ((116, 118, 134), (98, 102, 122))[tone]
            top = HORIZON + 4 - height
            canvas.polygon([(x - width / 2, HORIZON + 4), (x, top), (x + width / 2, HORIZON + 4)], rock)
            reach = 0.55 if snow else 0.3
            canvas.polygon(
                [
                    (x - width / 2 * reach, top + height * reach),
                    (x, top),
                    (x + width / 2 * reach, top + height * reach),
                    (x + width / 6 * reach, top + height * reach * 0.8),
                    (x - width / 6 * reach, top + height * reach * 1.15),
                ],
                (246, 249, 255),
            )  # fmt: skip
    canvas.rectangle(0, HORIZON, GRID, GRID, ground)
    if place == "farm":
        for i in range(-5, 14):
            canvas.line(
                [(40 + (i - 4) * 5, HORIZON), (40 + (i - 4) * 17, GRID)], _mixed(ground, (96, 66, 30), 0.45), 1.6
            )
        canvas.rectangle(0, HORIZON - 2, GRID, HORIZON, _mixed((70, 120, 50), *_SEASON[season]))
    elif place == "beach":
        canvas.rectangle(0, HORIZON - 4, GRID, HORIZON + 9, (40, 142, 206))
        for y in (HORIZON - 1, HORIZON + 3, HORIZON + 7):
            for x in range(int(y) % 7, GRID, 14):
                canvas.line([(x, y), (x + 6, y)], (190, 226, 244), 0.8)
        canvas.rectangle(0, HORIZON + 9, GRID, HORIZON + 10.5, (238, 248, 252))
    elif place == "forest":
        for row, (base, side) in enumerate(((HORIZON + 2, 17), (HORIZON + 6, 14))):
            for i in range(-1, 10):
                leaf = _mixed(((36, 92, 48), (50, 112, 58))[row], _SEASON[season][0], 0.55 * bool(_SEASON[season][1]))
                x = i * 9 + 5 * row
                canvas.polygon([(x - 6, base), (x, base - side), (x + 6, base)], leaf)
    elif place == "desert":
        for x, y, width in ((16, HORIZON + 6, 64), (62, HORIZON + 9, 78)):
            canvas.ellipse(x, y, width, 22, _mixed((214, 160, 92), *_SEASON[season]))
        canvas.rectangle(0, HORIZON + 8, GRID, GRID, ground)
    strewn, nearest = random.Random(season + place), 12 if place == "beach" else 3
    for i in range(54 if season in _SPECKS else 0):
        where = strewn.uniform(0, GRID), strewn.uniform(HORIZON + nearest, GRID)
        canvas.ellipse(*where, 2.6, 2.2, _SPECKS[season][i % 3])


_PATHS: dict[str, tuple[Colour, Colour]] = {
    "road": ((74, 76, 84), (250, 250, 250)),
    "track": ((150, 104, 62), (124, 84, 48)),
    "river": ((58, 150, 224), (186, 224, 250)),
}


def draw_path(canvas: Canvas, path: str) -> None:
    fill, mark = _PATHS[path]
    canvas.rectangle(0, 55, GRID, 64, fill)
    for x in range(2, GRID, 12):
        canvas.rectangle(x, 59, x + 6, 60.2, mark)


def draw_heavens(canvas: Canvas, light: str, weather: str) -> None:
    """Sky, stars, sun or moon, clouds, lightning."""
    dull = weather in ("clouds", "rain", "snowfall", "storm")
    canvas.picture.paste(_sky(light, dull), (0, 0))
    if light == "night" and not dull:
        rng = random.Random("stars")
        for _ in range(40):
            canvas.ellipse(rng.uniform(0, GRID), rng.uniform(0, HORIZON), 1.2, 1.2, (255, 255, 230))
    if not dull:
        icon, y = {"day": ("sun", 17), "sunset": ("sun", 34), "night": ("full-moon", 17)}[light]
        canvas.stand(icon, 11, y, 13)
    if dull:
        for x, y, side in ((12, 16, 20), (37, 12, 22), (64, 17, 21)):
            canvas.stand("cloud", x, y, side)
    if weather == "storm":
        canvas.stand("high-voltage", 20, 33, 19)
        canvas.stand("high-voltage", 50, 29, 16)


TINT: dict[str, Colour] = {"day": (255, 255, 255), "sunset": (255, 206, 172), "night": (112, 122, 178)}


@functools.cache
def _falling(weather: str) -> Image.Image:
    """How much of rain or snow each pixel shows, as a mask."""
    mask = Image.new("L", (GRID * UNIT, GRID * UNIT))
    pen, rng = ImageDraw.Draw(mask), random.Random(weather)
    for i in range(70 if weather == "snowfall" else 90):
        x, y = rng.uniform(-4, GRID), (i * 7.3) % GRID
        if weather == "snowfall":
            side = 1.2 + 0.8 * (i % 3) / 2
            pen.ellipse((_u(x), _u(y), _u(x + side), _u(y + side)), fill=235)
        else:
            pen.line((_u(x + 2), _u(y), _u(x), _u(y + 6)), fill=165, width=1)
    return mask


@functools.cache
def _mist() -> Image.Image:
    """How thick the fog is: thickest at the horizon."""
    column = Image.new("L", (1, GRID * UNIT))
    for y in range(GRID * UNIT):
        far = 1 - min(1.0, abs(y / UNIT - HORIZON) / 46)
        column.putpixel((0, y), round(255 * (0.38 + 0.34 * far)))
    return column.resize((GRID * UNIT, GRID * UNIT))


def weathered(picture: Image.Image, weather: str, light: str) -> Image.Image:
    if weather == "fog":
        grey = {"day": (226, 230, 234), "sunset": (232, 206, 190), "night": (92, 98, 122)}[light]
        return Image.composite(Image.new("RGB", picture.size, grey), picture, _mist())
    if weather in ("rain", "storm", "snowfall"):
        colour = (255, 255, 255) if weather == "snowfall" else (200, 222, 250)
        kind = "snowfall" if weather == "snowfall" else "rain"
        return Image.composite(Image.new("RGB", picture.size, colour), picture, _falling(kind))
    return picture


def styled(picture: Image.Image, style: str) -> Image.Image:
    """The finished picture, at its final size, in another style."""
    if style == "plain":
        return picture
    if style == "pixel":
        side = picture.width // 2
        small = picture.resize((side, side), Image.Resampling.BOX).quantize(16).convert("RGB")
        return small.resize(picture.size, Image.Resampling.NEAREST)
    grey = ImageOps.autocontrast(picture.convert("L"), cutoff=1)
    if style == "grey":
        return grey.convert("RGB")
    if style == "sepia":
        return ImageOps.colorize(grey, (52, 28, 10), (255, 242, 212), mid=(164, 118, 70))
    # A pencil leaves lines where a picture is darker than its surroundings, and light shading elsewhere.
    tone, around = (np.asarray(each, dtype=np.float32) for each in (grey, grey.filter(ImageFilter.GaussianBlur(1.5))))
    lines = np.minimum(1.0, (tone + 24) / (around + 24)) ** 1.6
    return Image.fromarray(np.uint8(lines * (196 + tone * 59 / 255))).convert("RGB")
