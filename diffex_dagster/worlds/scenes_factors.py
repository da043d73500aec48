"""What a scene can show: its factors with their values and words, coarser words for them, and synonyms."""

from __future__ import annotations

from diffex_dagster.worlds.base import Named, Value


def _says(*phrases: str, weight: float = 1.0) -> Value:
    return Value(phrases=phrases, weight=weight)


def _icon(name: str, *phrases: str, weight: float = 1.0) -> Value:
    return Value({"icon": name}, phrases, weight)


NONE = "none"


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
        NONE: _says(weight=2.0),
        "road": _says("a paved road", "an asphalt road"),
        "track": _says("a dirt track", "a dirt road"),
        "river": _says("a river", "a stream"),
    },
    "building": {
        NONE: _says(weight=4.0),
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
        NONE: _says(weight=3.5),
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
        NONE: _says(weight=4.0),
        "dog": _icon("dog", "a dog", "a puppy"),
        "cat": _icon("cat", "a cat", "a kitten"),
        "cow": _icon("cow", "a cow", "a dairy cow"),
        "horse": _icon("horse", "a horse", "a pony"),
        "sheep": _icon("ewe", "a sheep", "a woolly sheep"),
        "rooster": _icon("rooster", "a rooster", "a chicken"),
        "pig": _icon("pig", "a pig", "a piglet"),
    },
    "people": {
        NONE: _says("no people", "nobody", weight=2.0),
        "one": Value({"count": 1}, ("one person", "a single person", "a lone pedestrian")),
        "two": Value({"count": 2}, ("two people", "a couple of people")),
        "four": Value({"count": 4}, ("four people", "a small group of people")),
        "crowd": Value({"count": 9}, ("a crowd", "a crowd of people", "many people")),
    },
    "plants": {
        NONE: _says(weight=2.5),
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
        NONE: _says(weight=4.0),
        "airplane": _icon("small-airplane", "an airplane", "a small plane"),
        "helicopter": _icon("helicopter", "a helicopter", "a chopper"),
        "parachute": _icon("parachute", "a parachute", "a parachutist"),
        "kite": _icon("kite", "a kite", "a flying kite"),
        "bird": _icon("eagle", "a flying bird", "an eagle"),
        "rainbow": _icon("rainbow", "a rainbow", "a colourful rainbow"),
    },
    "furniture": {
        NONE: _says(weight=4.0),
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
    return tuple(value for value in FACTORS[factor] if value not in (NONE, *without))


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
