"""Words: what counts as the same name, which names are edits, and a prompt that stands on its own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from diffex_dagster.utils.lines import one_line

RULES = 2
"""Raised when a change of the code makes another corpus of the same answers: what is the same name, what is dropped."""

_ARTICLES = frozenset({"a", "an", "the", "some", "of", "with", "and", "or"})
_SPELLING = {
    "color": "colour", "colored": "coloured", "gray": "grey", "mustache": "moustache", "jewelry": "jewellery",
    "jewel": "jewellery", "fiber": "fibre", "blond": "blonde", "spectacle": "glass", "eyeglass": "glass",
}  # fmt: skip
_IRREGULAR = {
    "scarves": "scarf", "knives": "knife", "leaves": "leaf", "wolves": "wolf", "halves": "half", "teeth": "tooth",
    "feet": "foot", "people": "person", "children": "child", "men": "man", "women": "woman", "lens": "lens",
    "lenses": "lens", "irises": "iris", "buses": "bus", "cacti": "cactus", "sinuses": "sinus", "plexuses": "plexus",
    "nuclei": "nucleus", "fundi": "fundus", "naevi": "naevus", "nevi": "naevus", "vertebrae": "vertebra",
    "series": "series", "species": "species", "trousers": "trousers", "canvas": "canvas",
}  # fmt: skip
_UNCOUNTED = frozenset({"ss", "us", "is"})  # glass, sinus, iris: the final s is no plural

# A group with one of these as its last word names a dimension, not something to draw: "hair colour", "face shape".
_DIMENSIONS = frozenset(
    "colour colours tone tones shade shades type types style styles hairstyle hairstyles shape shapes length lengths "
    "texture textures pattern patterns size sizes expression expressions pose poses position orientation angle "
    "condition conditions density thickness material materials background backgrounds lighting setting age gender "
    "feature features attribute attributes characteristic characteristics anatomy posture marking markings health "
    "appearance season weather scene environment presentation composition other miscellaneous".split()
)
# Of these dimensions a picture may show several values at once: wrinkles and freckles are both markings.
_COLLECTIONS = frozenset(
    "feature features attribute attributes characteristic characteristics anatomy condition conditions marking "
    "markings health appearance environment presentation composition other miscellaneous texture textures".split()
)
_WORN_ONE_AT_A_TIME = frozenset(
    "eyewear glass headwear headgear hat hair hairdo haircut clothing outfit footwear shoe beard moustache".split()
)
# Everything in the picture has these already, so that adding one means nothing.
_ALWAYS_THERE = frozenset(
    "eye eyes eyebrow eyebrows nose mouth lips ear ears skin hair face head body clothing clothes outfit beak bill "
    "wing wings tail feet legs fur coat leaf leaves feathers plumage vessels".split()
)
_ADJECTIVES = frozenset(
    "black white red green blue yellow orange purple pink brown grey blonde golden silver dark light pale bright tan "
    "large small big tiny long short tall wide narrow thick thin round square oval curved straight pointed flat curly "
    "wavy striped spotted plain patterned glossy matte rough smooth wet dry open closed bushy shaggy wooden metal "
    "leather knitted floral".split()
)
_PARTS = frozenset("logo brim feather ribbon bow stripe stripes button buttons zip pocket lace print pompom".split())


def tidy(text: str) -> str:
    """One line of printable text: no control or direction-changing characters, single spaces, no list marks around it.

    Text from a model is untrusted: terminal escapes and right-to-left overrides would change how a report reads.
    """
    line = one_line(text)[:2000]  # nothing longer is a name, a prompt or a citation
    while True:  # to a fixed point, so that tidying twice is tidying once
        shorter = line.lstrip("-*•\"'`“”_,;: ").rstrip("\"'`“”*_,;: ")
        if shorter.endswith(".") and not shorter.endswith(("..", " .")) and shorter.count(".") == 1:
            shorter = shorter[:-1]
        if shorter == line:
            return line
        line = shorter


def words(text: str) -> tuple[str, ...]:
    """The content words of a name in one spelling: lower case, singular, British, without articles.

    >>> words("The Gray Mustaches")
    ('grey', 'moustache')
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(char for char in plain if not unicodedata.combining(char)).replace("'s ", " ")
    # \w rather than ASCII, so that names in other scripts keep their words
    return tuple(_singular(word) for word in re.findall(r"[^\W_]+", plain) if word not in _ARTICLES)


def same_key(text: str) -> tuple[str, ...]:
    """What two names share when they differ only in case, number, articles, spelling or word order."""
    return tuple(sorted(words(text))) or (text.casefold(),)


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")) and word not in ("moustaches", "mustaches"):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and word[-2:] not in _UNCOUNTED:
        word = word[:-1]
    return _SPELLING.get(word, word)


def names_an_edit(name: str, has_children: bool) -> bool:
    """Whether a name says what to draw ("beard") rather than a dimension ("hair colour", "eyes").

    Used only where neither the model nor a person said so.
    """
    tokens = re.findall(r"[^\W_]+", name.casefold().replace("color", "colour"))
    if not has_children or not tokens:
        return True
    return tokens[-1] not in _DIMENSIONS and not (len(tokens) == 1 and tokens[0] in _ALWAYS_THERE)


def exclude_each_other(group: str, children: Sequence[str]) -> bool:
    """Whether a picture shows at most one of a group's children: one colour of hair, but several pieces of jewellery.

    Used only where neither the model nor a person said so. It is so where the group's name is a dimension ("hair
    colour", "time of day") or something of which one is worn at a time, or most children are kinds of the same
    ("angry eyebrows", "flat eyebrows"). Where it cannot be told, it is not: a word that may be wrong of a picture does
    more harm than one that is missing.
    """
    if len(children) < 2:
        return False
    last = [named[-1] for child in children if (named := words(child))]
    if last and max(map(last.count, last)) > 2 * len(children) / 3:
        return True
    tokens = words(group.casefold().replace("color", "colour").replace("time of day", "setting"))
    listed = re.search(r"(?:\band\b|\bor\b|[&,/+])", group.casefold())
    dimension = _DIMENSIONS - _COLLECTIONS | _WORN_ONE_AT_A_TIME
    return bool(tokens) and not listed and (tokens[-1] in dimension or tokens[0] in dimension & {"colour", "style"})


def standalone_prompt(name: str, parent: str | None) -> str:
    """An edit prompt that can be read without its group: "red" under "Hat" is "red hat", "logo" is "a hat with a logo".

    Used only where neither the model nor a person wrote a prompt.
    """
    prompt = name if _has_acronym(name) else name.lower()
    if parent is None:
        return prompt
    nouns = [word for word in parent.lower().split() if word.replace("color", "colour") not in _DIMENSIONS]
    noun, mine = " ".join(nouns), set(words(prompt))
    if not noun or not mine or mine & set(words(noun)):
        return prompt
    if all(word in _ADJECTIVES for word in mine):
        return f"{prompt} {noun}"
    if mine <= _PARTS:
        return f"{_with_article(noun)} with {_with_article(prompt)}"
    return prompt


def _has_acronym(name: str) -> bool:
    return any(len(word) > 1 and word.isupper() for word in name.split())


def _with_article(noun: str) -> str:
    if noun.endswith("s") and not noun.endswith("ss"):
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun
