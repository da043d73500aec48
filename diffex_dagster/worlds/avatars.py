"""The avatars world: faces drawn from attributes, so that every true effect is known.

A *state* names one value for each factor (eyewear, facial hair, ...). `draw` turns it into a picture, `caption` into a
sentence, and changing one factor before drawing again gives the exact counterfactual, hence the true causal concept
effect (CaCE, Goyal et al. 2019).

Pictures are the Avataaars style by Pablo Stanley (free for personal and commercial use) as packaged by DiceBear.
Nothing here is imported by the pipeline's stages: training, tests, the benchmark and `--editor exact` use it.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from diffex_dagster.worlds.base import Named, State, Value, World

if TYPE_CHECKING:
    from diffex_dagster.worlds.exact import ExactEditor as _ExactEditor


def _top(variant: str, *phrases: str, weight: float = 1.0, hat: str | None = None) -> Value:
    options: dict[str, object] = {"topVariant": [variant]}
    if hat:
        options["hatColor"] = [hat]
    return Value(options, phrases, weight)


def _worn(component: str, variant: str | None, *phrases: str, weight: float = 1.0) -> Value:
    if variant is None:
        return Value({f"{component}Probability": 0}, phrases, weight)
    return Value({f"{component}Probability": 100, f"{component}Variant": [variant]}, phrases, weight)


def _variant(component: str, variant: str, *phrases: str, weight: float = 1.0) -> Value:
    return Value({f"{component}Variant": [variant]}, phrases, weight)


def _colour(names: Sequence[str], colour: str, *phrases: str, weight: float = 1.0) -> Value:
    return Value({f"{name}Color": [colour] for name in names}, phrases, weight)


_HAIR = ("hair", "facialHair")  # one colour for both, as on most people

FACTORS: dict[str, dict[str, Value]] = {
    "top": {
        "short": _top("shortFlat", "short hair", "a short haircut", weight=2.0),
        "bob": _top("bob", "a bob haircut", "bobbed hair"),
        "bun": _top("bun", "a hair bun", "hair in a bun"),
        "curly": _top("curly", "curly hair", "big curls"),
        "dreads": _top("dreads", "long dreadlocks", "dreadlocks"),
        "afro": _top("fro", "an afro", "afro hair"),
        "straight": _top("straight02", "long straight hair", "straight hair"),
        "shaggy": _top("shaggy", "shaggy hair", "messy hair"),
        "bald": _top("sides", "a bald head", "a balding head"),
        "hat": _top("hat", "a wide hat", "a brimmed hat", weight=0.8, hat="#a0522d"),
        "hijab": _top("hijab", "a hijab", "a headscarf", weight=0.8, hat="#7b4fa3"),
        "turban": _top("turban", "a turban", "a wrapped turban", weight=0.8, hat="#f2c230"),
        "beanie": _top("winterHat03", "a beanie", "a knitted cap", weight=0.8, hat="#e8452c"),
        "earflaps": _top("winterHat1", "a winter hat", "a hat with ear flaps", weight=0.8, hat="#1f8a70"),
    },
    "hair_colour": {
        "black": _colour(_HAIR, "#2c1b18", "black hair"),
        "brown": _colour(_HAIR, "#8a5030", "brown hair"),
        "blonde": _colour(_HAIR, "#e3bf6a", "blonde hair", "blond hair"),
        "red": _colour(_HAIR, "#c93305", "red hair", "ginger hair"),
        "grey": _colour(_HAIR, "#d5d5da", "grey hair", "gray hair"),
    },
    "facial_hair": {
        "none": _worn("facialHair", None, "a clean shaven face", weight=4.5),
        "light_beard": _worn("facialHair", "beardLight", "a light beard", "a short beard"),
        "medium_beard": _worn("facialHair", "beardMedium", "a medium beard", "a trimmed beard"),
        "majestic_beard": _worn("facialHair", "beardMajestic", "a majestic beard", "a long full beard"),
        "fancy_moustache": _worn("facialHair", "moustacheFancy", "a fancy moustache", "a curled moustache"),
        "magnum_moustache": _worn("facialHair", "moustacheMagnum", "a magnum moustache", "a thick moustache"),
    },
    "eyewear": {
        "none": _worn("accessories", None, weight=4.5),
        "eyepatch": _worn("accessories", "eyepatch", "an eyepatch", "a pirate eyepatch"),
        "round": _worn("accessories", "round", "round glasses", "round eyeglasses"),
        "square": _worn("accessories", "prescription02", "square glasses", "square eyeglasses"),
        "sunglasses": _worn("accessories", "wayfarers", "wayfarer sunglasses", "wayfarers"),
        "shades": _worn("accessories", "kurt", "black shades", "oversized sunglasses"),
    },
    "skin": {
        "pale": _colour(("skin",), "#ffdbb4", "pale skin", "light skin"),
        "tan": _colour(("skin",), "#e0a070", "tan skin", "tanned skin"),
        "brown": _colour(("skin",), "#ae5d29", "brown skin"),
        "dark": _colour(("skin",), "#614335", "dark skin"),
    },
    "mouth": {
        "neutral": _variant("mouth", "default", weight=2.0),
        "smile": _variant("mouth", "smile", "a smile", "a smiling mouth"),
        "sad": _variant("mouth", "sad", "a sad mouth", "a frown"),
        "serious": _variant("mouth", "serious", "a serious mouth", "a closed mouth"),
        "tongue": _variant("mouth", "tongue", "a tongue out", "a tongue sticking out"),
        "grimace": _variant("mouth", "grimace", "clenched teeth", "a grimace"),
    },
    "eyes": {
        "open": _variant("eyes", "default", weight=2.0),
        "closed": _variant("eyes", "closed", "closed eyes", "shut eyes"),
        "hearts": _variant("eyes", "hearts", "heart eyes", "hearts for eyes"),
        "surprised": _variant("eyes", "surprised", "surprised eyes", "wide open eyes"),
        "crossed": _variant("eyes", "xDizzy", "dizzy eyes", "crossed out eyes"),
    },
    "eyebrows": {
        "default": _variant("eyebrows", "default", weight=2.0),
        "angry": _variant("eyebrows", "angry", "angry eyebrows"),
        "worried": _variant("eyebrows", "sadConcerned", "worried eyebrows", "sad eyebrows"),
        "flat": _variant("eyebrows", "flatNatural", "flat eyebrows", "thick straight eyebrows"),
    },
    "clothes": {
        "tshirt": _variant("clothes", "shirtCrewNeck", "a t-shirt", "a plain shirt", weight=2.0),
        "vneck": _variant("clothes", "shirtVNeck", "a v-neck shirt"),
        "blazer": _variant("clothes", "blazerAndShirt", "a blazer", "a suit jacket"),
        "hoodie": _variant("clothes", "hoodie", "a hoodie", "a hooded sweatshirt"),
        "overalls": _variant("clothes", "overall", "overalls", "dungarees"),
        "collar": _variant("clothes", "collarAndSweater", "a white collar", "a collared sweater"),
    },
    "clothes_colour": {
        "black": _colour(("clothes",), "#262e33", "black clothes"),
        "white": _colour(("clothes",), "#fafafa", "white clothes"),
        "red": _colour(("clothes",), "#e8343c", "red clothes"),
        "blue": _colour(("clothes",), "#3a6fd8", "blue clothes"),
        "green": _colour(("clothes",), "#3fae5a", "green clothes"),
        "pink": _colour(("clothes",), "#ff8fb8", "pink clothes"),
    },
    "background": {
        "grey": _colour(("background",), "#eceff1", "a grey background", "a gray background"),
        "blue": _colour(("background",), "#b5dcf5", "a blue background", "a sky blue background"),
        "yellow": _colour(("background",), "#fbe7a1", "a yellow background"),
        "green": _colour(("background",), "#c4e8c2", "a green background"),
    },
}
"""factor -> value -> how to draw and say it."""

HEADWEAR = ("hat", "hijab", "turban", "beanie", "earflaps")
HAIRSTYLES = tuple(value for value in FACTORS["top"] if value not in HEADWEAR)
BEARDS = ("light_beard", "medium_beard", "majestic_beard")
MOUSTACHES = ("fancy_moustache", "magnum_moustache")
DARK_LENSES = ("sunglasses", "shades")

COARSE: dict[str, Named] = {
    "eyewear": ("eyewear", ("eyepatch", "round", "square", "sunglasses", "shades")),
    "glasses": ("eyewear", ("round", "square")),
    "sunglasses": ("eyewear", DARK_LENSES),
    "facial hair": ("facial_hair", BEARDS + MOUSTACHES),
    "a beard": ("facial_hair", BEARDS),
    "a moustache": ("facial_hair", MOUSTACHES),
    "headwear": ("top", HEADWEAR),
    "a hat": ("top", ("hat", "beanie", "earflaps")),
    "long hair": ("top", ("dreads", "straight", "curly")),
    "light clothes": ("clothes_colour", ("white", "pink")),
}
"""A coarse phrase names any of several values of one factor."""

SYNONYMS: dict[str, Named] = {
    phrase: (factor, values)
    for (factor, *values_of), phrases in {  # (factor, values) -> what other people call them
        ("eyewear", "round"): ("circular glasses", "circular frames"),
        ("eyewear", "square"): ("rectangular glasses", "rectangular frames"),
        ("eyewear", "round", "square"): ("spectacles", "reading glasses", "eyeglasses"),
        ("eyewear", "sunglasses", "shades"): ("dark sunglasses", "black sunglasses", "aviator sunglasses"),
        ("eyewear", "eyepatch"): ("an eye patch", "a black eye patch"),
        ("facial_hair", "light_beard"): ("stubble", "light stubble"),
        ("facial_hair", "medium_beard"): ("a short boxed beard", "a neatly trimmed beard"),
        ("facial_hair", "majestic_beard"): ("a full beard", "a long bushy beard", "a long flowing beard"),
        ("facial_hair", "fancy_moustache"): ("a handlebar mustache", "a curled mustache"),
        ("facial_hair", "magnum_moustache"): ("a bushy mustache", "a walrus mustache"),
        ("facial_hair", "fancy_moustache", "magnum_moustache"): ("a mustache",),
        ("top", "hat"): ("a fedora", "a wide-brimmed sun hat"),
        ("top", "beanie"): ("a knit beanie", "a woolly hat"),
        ("top", "earflaps"): ("a trapper hat",),
        ("top", "turban"): ("a head wrap",),
        ("top", *HEADWEAR): ("something worn on the head",),
        ("top", "bald"): ("no hair on top", "a receding hairline"),
        ("top", "short"): ("cropped hair",),
        ("top", "bun"): ("a top knot", "hair tied in a bun"),
        ("top", "bob"): ("a chin-length bob",),
        ("top", "curly"): ("curls",),
        ("top", "afro"): ("an afro hairstyle",),
        ("top", "straight"): ("straight long hair",),
        ("top", "shaggy"): ("tousled hair",),
        ("hair_colour", "red"): ("auburn hair",),
        ("hair_colour", "brown"): ("dark brown hair",),
        ("hair_colour", "black"): ("jet black hair",),
        ("mouth", "smile"): ("a smiling face", "a happy expression"),
        ("mouth", "sad"): ("a sad expression",),
        ("mouth", "serious"): ("a neutral expression",),
        ("mouth", "tongue"): ("a cheeky tongue out",),
        ("mouth", "grimace"): ("gritted teeth",),
        ("eyes", "closed"): ("eyes shut",),
        ("eyes", "surprised"): ("wide eyes", "a surprised expression"),
        ("eyes", "hearts"): ("heart-shaped eyes",),
        ("eyes", "crossed"): ("x-shaped eyes", "a dizzy look"),
        ("eyebrows", "angry"): ("furrowed brows", "an angry expression"),
        ("eyebrows", "worried"): ("raised eyebrows", "a worried look"),
        ("eyebrows", "flat"): ("thick eyebrows",),
        ("skin", "pale"): ("fair skin", "a pale complexion"),
        ("skin", "tan"): ("olive skin", "a tanned complexion"),
        ("skin", "brown"): ("dark brown skin", "a brown complexion"),
        ("skin", "dark"): ("very dark skin", "a deep dark complexion"),
        ("clothes", "tshirt"): ("a crew neck t-shirt", "a plain t-shirt"),
        ("clothes", "vneck"): ("a v-neck top",),
        ("clothes", "blazer"): ("a business jacket", "formal wear"),
        ("clothes", "hoodie"): ("a casual hoodie",),
        ("clothes", "overalls"): ("denim overalls", "work overalls"),
        ("clothes", "collar"): ("a collared shirt", "a sweater over a collared shirt"),
        ("clothes_colour", "red"): ("a red top", "bright red clothes", "red clothing"),
        ("clothes_colour", "blue"): ("a navy blue top",),
        ("clothes_colour", "green"): ("a green top",),
        ("clothes_colour", "pink"): ("a pink top", "pastel pink clothes"),
        ("clothes_colour", "white"): ("a white top",),
        ("clothes_colour", "black"): ("a black top", "all black clothes"),
        ("background", "blue"): ("a light blue background", "a plain blue backdrop"),
        ("background", "yellow"): ("a pale yellow background",),
        ("background", "green"): ("a mint green background",),
        ("background", "grey"): ("a light gray background",),
    }.items()
    for values in (tuple(values_of),)
    for phrase in phrases
}
"""What a vision-language model calls the world's attributes, where no caption does: for grading, not for training."""

RESTING: dict[str, str] = {"facial_hair": "none", "eyewear": "none", "mouth": "neutral", "eyes": "open",
                           "eyebrows": "default", "clothes": "tshirt", "top": "short"}  # fmt: skip
"""What a factor falls back to when a feature of it is removed."""


def visible(state: State, factor: str) -> bool:
    """Whether the picture of `state` shows which value `factor` has (dark lenses hide eyes, a hat hides hair)."""
    if factor == "hair_colour":
        return state["top"] in HAIRSTYLES
    if factor == "eyes":
        return state["eyewear"] not in DARK_LENSES
    return True


@functools.cache
def _versions() -> tuple[str, ...]:  # each is read from a package's metadata, for every drawing that is looked up
    return tuple(version(name) for name in ("dicebear-styles", "dicebear-core", "resvg-py"))


@functools.cache
def _style() -> Any:  # dicebear's Style; imported late, since it parses a 300 KB file
    from dicebear import Style

    return Style(json.loads((files("dicebear_styles") / "avataaars.json").read_text("utf-8")))


def draw(state: State, size: int = 64, supersampling: int = 2) -> Image.Image:
    """Draw a state.

    Args:
        state: one value name for each factor of `FACTORS`.
        size: side of the square picture, in pixels.
        supersampling: how many times larger it is rasterised before averaging down.

    Returns:
        An RGB picture of `size` × `size` pixels, the same for the same state.

    Raises:
        KeyError: a factor is missing or has no such value.
    """
    import resvg_py
    from dicebear import Avatar

    options: dict[str, object] = {"seed": "avatars", "topProbability": 100, "accessoriesColor": ["#262e33"]}
    for factor, values in FACTORS.items():
        options.update(values[state[factor]].options)
    side = size * supersampling
    png = resvg_py.svg_to_bytes(
        svg_string=Avatar(_style(), options).to_string(), width=side, height=side, skip_system_fonts=True
    )
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    return picture.resize((size, size), Image.Resampling.BOX)


_PREFIXES = ("", "", "", "a person with ", "a face with ", "an avatar with ", "a drawing of a person with ")


class Avatars(World):
    """See the module."""

    name = "avatars"
    size = 64
    factors = FACTORS
    coarse = COARSE
    synonyms = SYNONYMS
    resting = RESTING
    prefixes = _PREFIXES

    def draw(self, state: State, size: int | None = None) -> Image.Image:
        """See `draw`."""
        return draw(state, size or self.size)

    def visible(self, state: State, factor: str) -> bool:
        """See `visible`."""
        return visible(state, factor)

    def versions(self) -> list[str]:
        """Of the style, and of what rasterises it."""
        return list(_versions())


WORLD = Avatars()
PHRASES = WORLD.phrases
sample_state, set_feature, has_feature = WORLD.sample_state, WORLD.set_feature, WORLD.has_feature
caption, name_of = WORLD.caption, WORLD.name_of


def ExactEditor(folder: Path, options: Mapping[str, str]) -> _ExactEditor:
    """The factory of `exact.ExactEditor` for this world, as study files name it."""
    from diffex_dagster.worlds.exact import ExactEditor

    return ExactEditor(WORLD, folder, options)
