"""The scenes world: several things in a place, under a sky, in some light, weather, season and style.

Unlike a face, a scene is composed: a building, a vehicle, an animal, people, plants and street furniture are there or
not; light, weather, season and style change the whole picture. Every factor is sampled independently of the others, so
that a tractor in a city is as likely as on a farm, and no classifier can lean on what usually goes together unless a
training set plants it.

Things are Fluent Emoji (flat style) by Microsoft, MIT licence, in `icons/`; land, sky, light, weather and styles are
drawn here. `layout` is a factor without words: where things stand, and whether the picture is mirrored.
"""

from __future__ import annotations

import functools
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from diffex_dagster.worlds.base import Named, State, Value, World

if TYPE_CHECKING:
    from diffex_dagster.worlds.exact import ExactEditor as _ExactEditor

UNIT = 2  # pictures are drawn this many times larger and averaged down
GRID = 80  # the coordinates below are pixels of a picture of this side

Colour = tuple[int, int, int]
Point = tuple[float, float]


def _says(*phrases: str, weight: float = 1.0) -> Value:
    return Value(phrases=phrases, weight=weight)


def _icon(name: str, *phrases: str, weight: float = 1.0) -> Value:
    return Value({"icon": name}, phrases, weight)


_NONE = "none"

FACTORS: dict[str, dict[str, Value]] = {
    "place": {
        "city": _says("a city street", "an urban street", "a city skyline"),
        "farm": _says("a farm", "farmland", "a ploughed field"),
        "beach": _says("a beach", "a sandy beach", "the seaside"),
        "mountains": _says("mountains", "a mountain range", "snowy peaks"),
        "forest": _says("a forest", "woods", "woodland"),
        "desert": _says("a desert", "sand dunes"),
    },
    "path": {
        _NONE: _says(weight=2.0),
        "road": _says("a paved road", "an asphalt road"),
        "track": _says("a dirt track", "a dirt road"),
        "river": _says("a river", "a stream"),
    },
    "building": {
        _NONE: _says(weight=4.0),
        "house": _icon("house", "a house", "a family home"),
        "office": _icon("office-building", "an office building", "a tall office block"),
        "church": _icon("church", "a church", "a chapel"),
        "castle": _icon("castle", "a castle", "a fortress"),
        "factory": _icon("factory", "a factory", "an industrial plant"),
        "hut": _icon("hut", "a straw hut", "a thatched hut"),
        "mosque": _icon("mosque", "a mosque", "a building with domes"),
        "tent": _icon("tent", "a tent", "a camping tent"),
    },
    "vehicle": {
        _NONE: _says(weight=3.5),
        "car": _icon("automobile", "a car", "an automobile"),
        "bus": _icon("bus", "a bus", "a coach"),
        "truck": _icon("delivery-truck", "a truck", "a delivery truck", "a lorry"),
        "tractor": _icon("tractor", "a tractor", "a farm tractor"),
        "motorcycle": _icon("motorcycle", "a motorcycle", "a motorbike"),
        "bicycle": _icon("bicycle", "a bicycle", "a bike"),
    },
    "vehicle_colour": {
        "red": _says("a red vehicle", "a vehicle painted red"),
        "blue": _says("a blue vehicle", "a vehicle painted blue"),
        "yellow": _says("a yellow vehicle", "a vehicle painted yellow"),
        "green": _says("a green vehicle", "a vehicle painted green"),
    },
    "animal": {
        _NONE: _says(weight=4.0),
        "dog": _icon("dog", "a dog", "a puppy"),
        "cat": _icon("cat", "a cat", "a kitten"),
        "cow": _icon("cow", "a cow", "a dairy cow"),
        "horse": _icon("horse", "a horse", "a pony"),
        "sheep": _icon("ewe", "a sheep", "a woolly sheep"),
        "rooster": _icon("rooster", "a rooster", "a chicken"),
        "pig": _icon("pig", "a pig", "a piglet"),
    },
    "people": {
        _NONE: _says("no people", "nobody", weight=2.0),
        "one": Value({"count": 1}, ("one person", "a single person", "a lone pedestrian")),
        "two": Value({"count": 2}, ("two people", "a couple of people")),
        "four": Value({"count": 4}, ("four people", "a small group of people")),
        "crowd": Value({"count": 9}, ("a crowd", "a crowd of people", "many people")),
    },
    "plants": {
        _NONE: _says(weight=2.5),
        "leafy": _icon("deciduous-tree", "leafy trees", "broadleaf trees"),
        "pine": _icon("evergreen-tree", "pine trees", "fir trees"),
        "palm": _icon("palm-tree", "palm trees", "coconut palms"),
        "cactus": _icon("cactus", "cacti", "desert cactus plants"),
        "sunflower": _icon("sunflower", "sunflowers", "tall yellow flowers"),
    },
    "plant_count": {
        "one": Value({"count": 1}, ("a single plant", "one plant")),
        "row": Value({"count": 3}, ("a row of plants", "several plants")),
    },
    "weather": {
        "clear": _says("clear weather", "a clear sky", weight=2.5),
        "clouds": _says("cloudy weather", "clouds in the sky"),
        "rain": _says("rainy weather", "falling rain", "rain"),
        "snowfall": _says("snowfall", "falling snow", "snowflakes in the air"),
        "fog": _says("fog", "foggy weather", "mist"),
        "storm": _says("a thunderstorm", "lightning", "stormy weather"),
    },
    "light": {
        "day": _says("daylight", "daytime", weight=2.0),
        "sunset": _says("a sunset", "evening light", "an orange evening sky"),
        "night": _says("night", "a dark night", "night time"),
    },
    "season": {
        "summer": _says("summer", "a summer day", weight=1.5),
        "autumn": _says("autumn", "fall", "fallen leaves on the ground"),
        "winter": _says("winter", "snow on the ground", "snowy ground"),
        "spring": _says("spring", "spring flowers", "flowers on the ground"),
    },
    "style": {
        "plain": _says("a colour drawing", "a flat colour drawing", weight=6.0),
        "grey": _says("a black and white picture", "black and white", "a monochrome picture"),
        "sepia": _says("a sepia picture", "sepia tones", "an old photograph"),
        "sketch": _says("a pencil sketch", "a pencil drawing", "a line drawing"),
        "pixel": _says("pixel art", "a pixelated picture", "blocky pixels"),
    },
    "sky": {
        _NONE: _says(weight=4.0),
        "airplane": _icon("small-airplane", "an airplane", "a small plane"),
        "helicopter": _icon("helicopter", "a helicopter", "a chopper"),
        "parachute": _icon("parachute", "a parachute", "a parachutist"),
        "kite": _icon("kite", "a kite", "a flying kite"),
        "bird": _icon("eagle", "a flying bird", "an eagle"),
        "rainbow": _icon("rainbow", "a rainbow", "a colourful rainbow"),
    },
    "furniture": {
        _NONE: _says(weight=4.0),
        "traffic_light": _icon("vertical-traffic-light", "a traffic light", "a stoplight"),
        "stop_sign": _icon("stop-sign", "a stop sign", "a red road sign"),
        "postbox": _icon("postbox", "a postbox", "a mailbox"),
        "fountain": _icon("fountain", "a fountain", "a water fountain"),
        "parasol": _icon("umbrella-on-ground", "a beach umbrella", "a parasol"),
        "ferris_wheel": _icon("ferris-wheel", "a ferris wheel", "a big wheel"),
        "snowman": _icon("snowman-without-snow", "a snowman", "a snow figure"),
    },
    "layout": {str(i): Value() for i in range(8)},
}
"""factor -> value -> how to draw and say it."""


def _others(factor: str, *without: str) -> tuple[str, ...]:
    return tuple(value for value in FACTORS[factor] if value not in (_NONE, *without))


COARSE: dict[str, Named] = {
    "a road": ("path", ("road", "track")),
    "a building": ("building", _others("building", "tent")),
    "a place of worship": ("building", ("church", "mosque")),
    "a vehicle": ("vehicle", _others("vehicle")),
    "a two-wheeler": ("vehicle", ("motorcycle", "bicycle")),
    "an animal": ("animal", _others("animal")),
    "a pet": ("animal", ("dog", "cat")),
    "a farm animal": ("animal", ("cow", "horse", "sheep", "rooster", "pig")),
    "people": ("people", _others("people")),
    "plants": ("plants", _others("plants")),
    "trees": ("plants", ("leafy", "pine", "palm")),
    "bad weather": ("weather", ("rain", "snowfall", "fog", "storm")),
    "an aircraft": ("sky", ("airplane", "helicopter")),
    "something in the sky": ("sky", _others("sky")),
    "street furniture": ("furniture", ("traffic_light", "stop_sign", "postbox", "fountain")),
}
"""A coarse phrase names any of several values of one factor."""

SYNONYMS: dict[str, Named] = {
    phrase: (factor, values)
    for (factor, *values_of), phrases in {  # (factor, values) -> what other people call them
        ("place", "city"): (
            "a downtown street",
            "a city",
        ),
        ("place", "farm"): ("crop fields",),
        ("place", "beach"): (
            "a sandy shore",
            "the ocean",
        ),
        ("place", "mountains"): (
            "mountain peaks",
            "a mountain landscape",
        ),
        ("place", "forest"): (
            "a forest background",
            "dense woods",
        ),
        ("place", "desert"): (
            "a sandy desert",
            "desert dunes",
        ),
        ("path", "road"): (
            "a highway",
            "a tarmac road",
        ),
        ("path", "track"): (
            "a dirt path",
            "an unpaved road",
        ),
        ("path", "river"): (
            "a canal",
            "a creek",
        ),
        ("building", "house"): (
            "a cottage",
            "a residential house",
        ),
        ("building", "office"): (
            "a skyscraper",
            "a high-rise building",
        ),
        ("building", "church"): ("a church building",),
        ("building", "castle"): (
            "a medieval castle",
            "a palace",
        ),
        ("building", "factory"): (
            "an industrial building",
            "factory chimneys",
        ),
        ("building", "hut"): (
            "a hut",
            "a wooden hut",
        ),
        ("building", "mosque"): ("a domed building",),
        ("building", "tent"): ("a green tent",),
        ("vehicle", "car"): (
            "a passenger car",
            "a parked car",
        ),
        ("vehicle", "bus"): (
            "a city bus",
            "a school bus",
        ),
        ("vehicle", "truck"): ("a cargo truck",),
        ("vehicle", "tractor"): ("an agricultural tractor",),
        ("vehicle", "motorcycle"): ("a scooter",),
        ("vehicle", "bicycle"): ("a parked bicycle",),
        ("animal", "dog"): ("a pet dog",),
        ("animal", "cat"): (
            "a pet cat",
            "an orange cat",
        ),
        ("animal", "cow"): (
            "a grazing cow",
            "cattle",
        ),
        ("animal", "horse"): ("a brown horse",),
        ("animal", "sheep"): ("a lamb",),
        ("animal", "rooster"): ("a hen",),
        ("animal", "pig"): ("a pink pig",),
        ("people", "none"): ("an empty scene without people",),
        ("people", "one"): ("a person standing",),
        ("people", "two"): ("a pair of people",),
        ("people", "four"): ("a few people",),
        ("people", "crowd"): (
            "a large crowd",
            "a large group of people",
        ),
        ("plants", "leafy"): (
            "deciduous trees",
            "green leafy trees",
        ),
        ("plants", "pine"): (
            "evergreen trees",
            "conifers",
        ),
        ("plants", "palm"): ("tropical palm trees",),
        ("plants", "cactus"): (
            "a cactus",
            "cactus plants",
        ),
        ("plants", "sunflower"): ("large sunflowers",),
        ("plant_count", "one"): ("a lone plant",),
        ("plant_count", "row"): ("many plants",),
        ("weather", "clear"): (
            "a cloudless sky",
            "sunny weather",
        ),
        ("weather", "clouds"): (
            "an overcast sky",
            "grey clouds",
        ),
        ("weather", "rain"): ("heavy rain",),
        ("weather", "snowfall"): (
            "snowy weather",
            "a snowstorm",
        ),
        ("weather", "fog"): (
            "thick fog",
            "a hazy atmosphere",
        ),
        ("weather", "storm"): ("lightning bolts",),
        ("light", "day"): ("bright daylight",),
        ("light", "sunset"): (
            "sunset light",
            "a sunset sky",
        ),
        ("light", "night"): (
            "a night sky",
            "a starry night",
        ),
        ("season", "summer"): ("a summer scene",),
        ("season", "autumn"): (
            "autumn leaves",
            "an autumn scene",
        ),
        ("season", "winter"): (
            "a winter scene",
            "snow-covered ground",
        ),
        ("season", "spring"): (
            "a spring scene",
            "blooming flowers",
        ),
        ("style", "plain"): ("a colourful cartoon",),
        ("style", "grey"): (
            "a black and white photo",
            "greyscale",
        ),
        ("style", "sepia"): ("a vintage sepia photo",),
        ("style", "sketch"): (
            "a sketch",
            "a hand-drawn sketch",
        ),
        ("style", "pixel"): ("a pixel art style",),
        ("sky", "airplane"): ("an airplane in the sky",),
        ("sky", "helicopter"): ("a helicopter in the sky",),
        ("sky", "parachute"): ("a colourful parachute",),
        ("sky", "kite"): ("a kite in the sky",),
        ("sky", "bird"): ("a bird in the sky",),
        ("furniture", "traffic_light"): ("traffic lights",),
        ("furniture", "stop_sign"): ("a traffic sign",),
        ("furniture", "postbox"): ("a red postbox",),
        ("furniture", "fountain"): ("a stone fountain",),
        ("furniture", "parasol"): ("a sun umbrella",),
        ("furniture", "ferris_wheel"): ("a fairground wheel",),
        ("furniture", "snowman"): ("a snowman with a hat",),
        ("vehicle", "motorcycle", "bicycle"): ("a two-wheeled vehicle",),
        ("people", "four", "crowd"): ("several people", "a group of people"),
        ("weather", "rain", "storm"): ("wet weather",),
        ("building", "church", "castle", "mosque"): ("a historic building",),
        ("building", "house", "hut"): ("a small house",),
    }.items()
    for values in (tuple(values_of),)
    for phrase in phrases
}
"""What a vision-language model calls the world's attributes, where no caption does: for grading, not for training."""

_COLOURLESS = ("grey", "sepia", "sketch")
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
_PERSONS = (
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


class _Canvas:
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
_HORIZON = 38.0


@functools.cache
def _sky(light: str, dull: bool) -> Image.Image:
    """The sky's gradient, with grey mixed in under clouds."""
    top, bottom = _SKIES[light]
    height = _u(_HORIZON) + 8
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


def _land(canvas: _Canvas, place: str, season: str) -> None:
    """What lies behind the horizon, the ground, and what the season strews on it."""
    snow = season == "winter"
    ground = _mixed(_GROUND[place], *_SEASON[season])
    if place == "city":
        for left, width, height, tone in (
            (0, 11, 17, 0), (11, 9, 26, 1), (20, 12, 13, 2), (32, 8, 22, 0), (40, 11, 30, 1),
            (51, 9, 16, 2), (60, 8, 24, 0), (68, 12, 19, 1),
        ):  # fmt: skip
            wall = ((112, 122, 146), (94, 104, 130), (128, 136, 158))[tone]
            canvas.rectangle(left, _HORIZON + 4 - height, left + width, _HORIZON + 4, wall)
            if snow:
                canvas.rectangle(left, _HORIZON + 4 - height, left + width, _HORIZON + 5.5 - height, (250, 252, 255))
            for row in range(2, height - 4, 4):
                for column in range(2, width - 2, 4):
                    x, y = left + column, _HORIZON + 4 - height + row
                    canvas.rectangle(x, y, x + 1.5, y + 2, (240, 226, 150))
    elif place == "mountains":
        for x, height, width, tone in ((14, 26, 44, 0), (40, 33, 52, 1), (67, 24, 42, 0)):
            rock = ((116, 118, 134), (98, 102, 122))[tone]
            top = _HORIZON + 4 - height
            canvas.polygon([(x - width / 2, _HORIZON + 4), (x, top), (x + width / 2, _HORIZON + 4)], rock)
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
    canvas.rectangle(0, _HORIZON, GRID, GRID, ground)
    if place == "farm":
        for i in range(-5, 14):
            canvas.line(
                [(40 + (i - 4) * 5, _HORIZON), (40 + (i - 4) * 17, GRID)], _mixed(ground, (96, 66, 30), 0.45), 1.6
            )
        canvas.rectangle(0, _HORIZON - 2, GRID, _HORIZON, _mixed((70, 120, 50), *_SEASON[season]))
    elif place == "beach":
        canvas.rectangle(0, _HORIZON - 4, GRID, _HORIZON + 9, (40, 142, 206))
        for y in (_HORIZON - 1, _HORIZON + 3, _HORIZON + 7):
            for x in range(int(y) % 7, GRID, 14):
                canvas.line([(x, y), (x + 6, y)], (190, 226, 244), 0.8)
        canvas.rectangle(0, _HORIZON + 9, GRID, _HORIZON + 10.5, (238, 248, 252))
    elif place == "forest":
        for row, (base, side) in enumerate(((_HORIZON + 2, 17), (_HORIZON + 6, 14))):
            for i in range(-1, 10):
                leaf = _mixed(((36, 92, 48), (50, 112, 58))[row], _SEASON[season][0], 0.55 * bool(_SEASON[season][1]))
                x = i * 9 + 5 * row
                canvas.polygon([(x - 6, base), (x, base - side), (x + 6, base)], leaf)
    elif place == "desert":
        for x, y, width in ((16, _HORIZON + 6, 64), (62, _HORIZON + 9, 78)):
            canvas.ellipse(x, y, width, 22, _mixed((214, 160, 92), *_SEASON[season]))
        canvas.rectangle(0, _HORIZON + 8, GRID, GRID, ground)
    strewn, nearest = random.Random(season + place), 12 if place == "beach" else 3
    for i in range(54 if season in _SPECKS else 0):
        where = strewn.uniform(0, GRID), strewn.uniform(_HORIZON + nearest, GRID)
        canvas.ellipse(*where, 2.6, 2.2, _SPECKS[season][i % 3])


_PATHS: dict[str, tuple[Colour, Colour]] = {
    "road": ((74, 76, 84), (250, 250, 250)),
    "track": ((150, 104, 62), (124, 84, 48)),
    "river": ((58, 150, 224), (186, 224, 250)),
}


def _path(canvas: _Canvas, path: str) -> None:
    fill, mark = _PATHS[path]
    canvas.rectangle(0, 55, GRID, 64, fill)
    for x in range(2, GRID, 12):
        canvas.rectangle(x, 59, x + 6, 60.2, mark)


def _heavens(canvas: _Canvas, light: str, weather: str) -> None:
    """Sky, stars, sun or moon, clouds, lightning."""
    dull = weather in ("clouds", "rain", "snowfall", "storm")
    canvas.picture.paste(_sky(light, dull), (0, 0))
    if light == "night" and not dull:
        rng = random.Random("stars")
        for _ in range(40):
            canvas.ellipse(rng.uniform(0, GRID), rng.uniform(0, _HORIZON), 1.2, 1.2, (255, 255, 230))
    if not dull:
        icon, y = {"day": ("sun", 17), "sunset": ("sun", 34), "night": ("full-moon", 17)}[light]
        canvas.stand(icon, 11, y, 13)
    if dull:
        for x, y, side in ((12, 16, 20), (37, 12, 22), (64, 17, 21)):
            canvas.stand("cloud", x, y, side)
    if weather == "storm":
        canvas.stand("high-voltage", 20, 33, 19)
        canvas.stand("high-voltage", 50, 29, 16)


_TINT: dict[str, Colour] = {"day": (255, 255, 255), "sunset": (255, 206, 172), "night": (112, 122, 178)}


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
        far = 1 - min(1.0, abs(y / UNIT - _HORIZON) / 46)
        column.putpixel((0, y), round(255 * (0.38 + 0.34 * far)))
    return column.resize((GRID * UNIT, GRID * UNIT))


def _weathered(picture: Image.Image, weather: str, light: str) -> Image.Image:
    if weather == "fog":
        grey = {"day": (226, 230, 234), "sunset": (232, 206, 190), "night": (92, 98, 122)}[light]
        return Image.composite(Image.new("RGB", picture.size, grey), picture, _mist())
    if weather in ("rain", "storm", "snowfall"):
        colour = (255, 255, 255) if weather == "snowfall" else (200, 222, 250)
        kind = "snowfall" if weather == "snowfall" else "rain"
        return Image.composite(Image.new("RGB", picture.size, colour), picture, _falling(kind))
    return picture


def _styled(picture: Image.Image, style: str) -> Image.Image:
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


class Scenes(World):
    """See the module."""

    name = "scenes"
    size = GRID
    factors = FACTORS
    coarse = COARSE
    synonyms = SYNONYMS
    resting = {  # noqa: RUF012
        **dict.fromkeys(("path", "building", "vehicle", "animal", "people", "plants", "sky", "furniture"), _NONE),
        "weather": "clear", "light": "day", "season": "summer", "style": "plain",
    }  # fmt: skip
    prefixes = ("", "", "", "", "a picture of ", "a scene with ", "a drawing of ", "there is ", "a view with ")
    single = 0.4
    most = 6

    def visible(self, state: State, factor: str) -> bool:
        """Whether the picture shows the factor: nobody can tell the colour of a vehicle that is not there."""
        if factor == "vehicle_colour":
            return state["vehicle"] != _NONE and state["style"] not in _COLOURLESS
        if factor == "plant_count":
            return state["plants"] != _NONE
        return True

    def draw(self, state: State, size: int | None = None) -> Image.Image:
        """Draw a state: an RGB picture of `size` × `size` pixels (80 unless said), the same for the same state.

        Raises:
            KeyError: a factor is missing or has no such value.
        """
        values = {factor: FACTORS[factor][state[factor]].options for factor in FACTORS}
        rng = random.Random(int(state["layout"]) // 2)
        shift = {
            f: rng.uniform(-2.5, 2.5) for f in ("building", "vehicle", "animal", "people", "plants", "furniture", "sky")
        }
        canvas = _Canvas()
        _heavens(canvas, state["light"], state["weather"])
        if state["sky"] == "rainbow":
            canvas.stand("rainbow", 46 + shift["sky"], _HORIZON + 2, 34)
        _land(canvas, state["place"], state["season"])
        if state["sky"] not in (_NONE, "rainbow"):
            canvas.stand(str(values["sky"]["icon"]), 62 + shift["sky"], 23, 19)
        if state["path"] != _NONE:
            _path(canvas, state["path"])
        if state["furniture"] == "ferris_wheel":
            canvas.stand("ferris-wheel", 46 + shift["furniture"], 52, 26)
        if state["building"] != _NONE:
            side = {"office": 36, "tent": 26, "hut": 28}.get(state["building"], 32)
            canvas.stand(str(values["building"]["icon"]), 19 + shift["building"], 55, side)
        if state["plants"] != _NONE:
            icon, count = str(values["plants"]["icon"]), values["plant_count"]["count"]
            for i in range(3 if count == 3 else 1):
                x, side = (56 + i * 10, 20) if count == 3 else (65, 25)
                canvas.stand(icon, x + shift["plants"], 55 + i, side)
        if state["furniture"] not in (_NONE, "ferris_wheel"):
            canvas.stand(str(values["furniture"]["icon"]), 43 + shift["furniture"], 57, 19)
        if state["vehicle"] != _NONE:
            side = {"bus": 27, "truck": 26, "bicycle": 22, "motorcycle": 22}.get(state["vehicle"], 25)
            icon = str(values["vehicle"]["icon"])
            canvas.stand(icon, 62 + shift["vehicle"], 75, side, state["vehicle_colour"])
        self._people(canvas, int(str(values["people"].get("count", 0))), 36 + shift["people"])
        if state["animal"] != _NONE:
            canvas.stand(str(values["animal"]["icon"]), 12 + shift["animal"], 77, 19)
        picture = ImageChops.multiply(canvas.picture, Image.new("RGB", canvas.picture.size, _TINT[state["light"]]))
        picture = _weathered(picture, state["weather"], state["light"])
        side = size or self.size
        picture = picture.resize((side, side), Image.Resampling.BOX)
        if int(state["layout"]) % 2:
            picture = ImageOps.mirror(picture)
        return _styled(picture, state["style"])

    @staticmethod
    def _people(canvas: _Canvas, count: int, x: float) -> None:
        """People side by side around `x`; a crowd stands in two rows."""
        rows = [(count, 76)] if count <= 4 else [(count // 2, 70), (count - count // 2, 77)]
        number = 0
        for amount, base in rows:
            for i in range(amount):
                offset = (i - (amount - 1) / 2) * (7 if count <= 2 else 6)
                canvas.stand(_PERSONS[number % len(_PERSONS)], x + offset, base, 21)
                number += 1

    def versions(self) -> list[str]:
        """A digest of a sample of drawings: whatever changes a drawing changes it."""
        return [_sample_digest()]


@functools.cache
def _sample_digest() -> str:
    rng, total = random.Random("versions"), hashlib.sha256()
    for _ in range(64):
        total.update(WORLD.draw(WORLD.sample_state(rng)).tobytes())
    return total.hexdigest()[:16]


WORLD = Scenes()
PHRASES = WORLD.phrases


def ExactEditor(folder: Path, options: Mapping[str, str]) -> _ExactEditor:
    """The factory of `exact.ExactEditor` for this world, as study files name it."""
    from diffex_dagster.worlds.exact import ExactEditor

    return ExactEditor(WORLD, folder, options)
