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
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageOps

from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.scenes_drawing import (
    COLOURLESS,
    GRID,
    HORIZON,
    PERSONS,
    TINT,
    Canvas,
    draw_heavens,
    draw_land,
    draw_path,
    styled,
    weathered,
)
from diffex_dagster.worlds.scenes_factors import COARSE, FACTORS, NONE, SYNONYMS

if TYPE_CHECKING:
    from diffex_dagster.worlds.exact import ExactEditor as _ExactEditor


class Scenes(World):
    """See the module."""

    name = "scenes"
    size = GRID
    factors = FACTORS
    coarse = COARSE
    synonyms = SYNONYMS
    resting = {  # noqa: RUF012
        **dict.fromkeys(("path", "building", "vehicle", "animal", "people", "plants", "sky", "furniture"), NONE),
        "weather": "clear", "light": "day", "season": "summer", "style": "plain",
    }  # fmt: skip
    prefixes = ("", "", "", "", "a picture of ", "a scene with ", "a drawing of ", "there is ", "a view with ")
    single = 0.4
    most = 6

    def visible(self, state: State, factor: str) -> bool:
        """Whether the picture shows the factor: nobody can tell the colour of a vehicle that is not there."""
        if factor == "vehicle_colour":
            return state["vehicle"] != NONE and state["style"] not in COLOURLESS
        if factor == "plant_count":
            return state["plants"] != NONE
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
        canvas = Canvas()
        draw_heavens(canvas, state["light"], state["weather"])
        if state["sky"] == "rainbow":
            canvas.stand("rainbow", 46 + shift["sky"], HORIZON + 2, 34)
        draw_land(canvas, state["place"], state["season"])
        if state["sky"] not in (NONE, "rainbow"):
            canvas.stand(str(values["sky"]["icon"]), 62 + shift["sky"], 23, 19)
        if state["path"] != NONE:
            draw_path(canvas, state["path"])
        if state["furniture"] == "ferris_wheel":
            canvas.stand("ferris-wheel", 46 + shift["furniture"], 52, 26)
        if state["building"] != NONE:
            side = {"office": 36, "tent": 26, "hut": 28}.get(state["building"], 32)
            canvas.stand(str(values["building"]["icon"]), 19 + shift["building"], 55, side)
        if state["plants"] != NONE:
            icon, count = str(values["plants"]["icon"]), values["plant_count"]["count"]
            for i in range(3 if count == 3 else 1):
                x, side = (56 + i * 10, 20) if count == 3 else (65, 25)
                canvas.stand(icon, x + shift["plants"], 55 + i, side)
        if state["furniture"] not in (NONE, "ferris_wheel"):
            canvas.stand(str(values["furniture"]["icon"]), 43 + shift["furniture"], 57, 19)
        if state["vehicle"] != NONE:
            side = {"bus": 27, "truck": 26, "bicycle": 22, "motorcycle": 22}.get(state["vehicle"], 25)
            icon = str(values["vehicle"]["icon"])
            canvas.stand(icon, 62 + shift["vehicle"], 75, side, state["vehicle_colour"])
        self._people(canvas, int(str(values["people"].get("count", 0))), 36 + shift["people"])
        if state["animal"] != NONE:
            canvas.stand(str(values["animal"]["icon"]), 12 + shift["animal"], 77, 19)
        picture = ImageChops.multiply(canvas.picture, Image.new("RGB", canvas.picture.size, TINT[state["light"]]))
        picture = weathered(picture, state["weather"], state["light"])
        side = size or self.size
        picture = picture.resize((side, side), Image.Resampling.BOX)
        if int(state["layout"]) % 2:
            picture = ImageOps.mirror(picture)
        return styled(picture, state["style"])

    @staticmethod
    def _people(canvas: Canvas, count: int, x: float) -> None:
        """People side by side around `x`; a crowd stands in two rows."""
        rows = [(count, 76)] if count <= 4 else [(count // 2, 70), (count - count // 2, 77)]
        number = 0
        for amount, base in rows:
            for i in range(amount):
                offset = (i - (amount - 1) / 2) * (7 if count <= 2 else 6)
                canvas.stand(PERSONS[number % len(PERSONS)], x + offset, base, 21)
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
