"""Options of single concepts: as the text that an edit is asked for with, and those that are worth trying.

LEDITS++ leaves scale, threshold, mask, warm-up and skip to the caller, and what is right differs by prompt. Where
the values come from:

- scale 10, threshold 0.75, skip 0.1, 50 steps: the authors' example for Stable Diffusion 1.5, and the code that the
  authors of DiffEx released.
- scale 5, threshold 0.9, skip 0.15, 30 steps: diffusers' pipeline. Ours are its scale and threshold with 20 steps, of
  which each costs as much as any other, and skip 0.1, which lets larger changes through.
- no mask, scale 1: the model's own answer to the prompt with no exaggeration, for small pictures, whose latents have no
  room for a mask, and for what fills the picture, which is edited without a mask only. It comes with no skip: an edit
  that is not pushed draws what the model expects from the noise that it starts at, and what the steps that are left out
  decide stays as it was.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffex_dagster.errors import EditorError

Mask = Literal["noise", "cross_attention", "intersection", "none"]


class ConceptOptions(BaseModel):
    """How strongly and where a concept is edited. The defaults suit Stable Diffusion 1.5; calibration finds others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: float = Field(5.0, gt=0)  # how hard the edit is pushed (the paper's s)
    threshold: float = Field(0.9, ge=0, le=1)  # share of the picture that stays as it is (λ)
    mask: Mask = "intersection"  # what finds the place: the guidance, the words' attention, both, or nothing
    warmup: int = Field(0, ge=0)  # noisiest steps left without guidance: more keeps the composition
    cooldown: int | None = Field(None, ge=0)  # step from which guidance ends; None for never


class PromptOptions(ConceptOptions):
    """The options that a study names for one prompt: those that calibration chooses among, and no others.

    Where null edits depend on them, `skip` and `described` are the editor's: `LeditsEditor.edit` says so.
    """

    skip: float | None = Field(
        None, ge=0, lt=1
    )  # share of extra noisy steps left out; None: as much as the editor does
    described: bool = True  # whether the edit follows the words that the picture is described in

    def identity(self) -> dict[str, object]:
        """As fingerprints have it: without what is not named, which fingerprints of before did not know."""
        unnamed = {
            name for name in ("skip", "described") if getattr(self, name) == type(self).model_fields[name].default
        }
        return self.model_dump(mode="json", exclude=unnamed)


class Setting(ConceptOptions):
    """The options of one concept of an edit, how much of the noisy end its edit leaves out, and what it is told."""

    skip: float = Field(0.1, ge=0, lt=1)
    described: bool = True  # in the words that the picture is described in; else as by an editor without such words

    @property
    def text(self) -> str:
        """As `Concept.setting` has it: the same text for the same options."""
        options = self.model_dump(mode="json", exclude_none=True, exclude={"described"} if self.described else None)
        return json.dumps(options, sort_keys=True)

    def after(self, skip: float, steps: int) -> Setting:
        """The same options in an edit that starts earlier, as a joint edit does whose other concept skips less.

        The concept sets in where it would have set in alone: at the same noise.

        Args:
            skip: of the edit, at most the setting's own.
            steps: that an edit takes, whatever it skips.
        """
        if skip == self.skip:
            return self
        finer = (1 + skip) / (1 + self.skip)  # the same steps are spread over more noise
        start = math.ceil(steps * (1 - finer) - 1e-9)
        until = None if self.cooldown is None else start + round(self.cooldown * finer)
        return self.model_copy(update={"skip": skip, "warmup": start + round(self.warmup * finer), "cooldown": until})


def read_setting(text: str) -> Setting:
    """The options that a text stands for.

    Raises:
        EditorError: it was not written by this kind of editor.
    """
    try:
        return Setting.model_validate_json(text)
    except ValidationError as error:
        raise EditorError(f"an edit asks for the options {text!r}, which are none of LEDITS++: {error}") from error


Kind = Literal["style", "background", "colour", "object", "face part"]
"""What an attribute is, as far as its edits ask for other options: the kinds that the authors' demo has presets for,
what lies behind everything, and colours, which fill a thing up to its edges."""

_PICTURE = "(picture|image|photo|photograph|frame|scene|view|canvas|drawing|painting)"
_WHOLE = re.compile(
    rf"\b(whole|entire|full|overall|all (over|of) the|across the|throughout the) {_PICTURE}\b|\b{_PICTURE}-wide\b"
    r"|^(whole|everywhere|global|overall|throughout)$"
)
_BEHIND = re.compile(r"\b(background|backdrop|scene|sky)\b")
_FACE = re.compile(
    r"\b(face|facial|head|hair|eyes?|eyelids?|(eye)?brows?|eyelash(es)?|nose|mouth|lips?|teeth|ears?|cheeks?|chin|jaw|forehead)\b"
)
_COLOUR = re.compile(r"\b(colou?rs?|tones?|hues?)\b")

UNPUSHED = 1.0  # the scale up to which an edit without a mask is the model's own answer, not pushed beyond it

# (scale, threshold) under a mask, and scales without one, in the order in which they are tried. A threshold is the
# share of the picture that stays as it is: most where a part of a face changes, less where a thing does or the colour
# of one, least where what lies behind everything does. A style fills the picture: no part of it may stay.
_PRESETS: Mapping[Kind | None, tuple[Sequence[tuple[float, float]], Sequence[float]]] = {
    None: (
        [(5.0, 0.9), (10.0, 0.75), (3.0, 0.9), (10.0, 0.9), (5.0, 0.75), (15.0, 0.9), (3.0, 0.5), (5.0, 0.5)],
        [1.0, 3.0, 2.0, 5.0],
    ),
    "style": ([], [1.0, 3.0, 2.0, 5.0]),
    "background": ([(5.0, 0.5), (10.0, 0.75), (3.0, 0.5), (5.0, 0.75)], [1.0, 3.0, 2.0, 5.0]),
    "colour": ([(10.0, 0.75), (5.0, 0.75), (5.0, 0.5), (3.0, 0.5), (10.0, 0.9), (5.0, 0.9)], [1.0, 3.0, 2.0]),
    "object": ([(10.0, 0.75), (5.0, 0.9), (5.0, 0.75), (10.0, 0.9), (3.0, 0.9), (15.0, 0.9)], [1.0, 3.0, 2.0]),
    "face part": ([(5.0, 0.9), (10.0, 0.9), (3.0, 0.9), (10.0, 0.75), (15.0, 0.9), (5.0, 0.75)], [1.0, 3.0, 2.0]),
}


def kind_of(region: str | None, group: str | None = None) -> Kind | None:
    """What kind of attribute a corpus says that it is; None where it says nothing.

    Args:
        region: where in the picture it shows, as the corpus has it (`Feature.region`).
        group: id or name of its group; one that is named after a colour holds colours.
    """
    if not region:
        return None
    if _WHOLE.search(region.casefold()):
        return "style"
    if _BEHIND.search(region.casefold()):
        return "background"
    if group and _COLOUR.search(re.sub(r"[^a-z]", " ", group.casefold())):
        return "colour"
    return "face part" if _FACE.search(region.casefold()) else "object"


def _pushed(setting: Setting) -> bool:
    """Whether an edit goes beyond the model's own answer."""
    return setting.mask != "none" or setting.scale > UNPUSHED


def worth_trying(
    own: Setting, steps: int, kind: Kind | None = None, skips: bool = True, words: bool = False
) -> list[Setting]:
    """The settings that calibration tries, the editor's own first, so that any beginning of the list is a fair choice.

    What fills the picture (a style, the weather) is tried without a mask only: a mask leaves part of the picture as it
    is, and the gentlest setting that shows a trace of it there would else be chosen.
    First how hard and where (scale and mask), gentle and hard in turn, with the editor's own skip. Then the same
    without a skip, with much, and with a later start. What is not pushed has no skip and no later start: it draws what
    the model expects from the noise that it starts at.

    Args:
        own: what the editor was made with.
        steps: that an edit takes.
        kind: of attribute, whose presets come first; every kind's where it is not known.
        skips: whether skip may differ: not where null edits depend on it.
        words: whether pictures are described; some prompts do better without, such as those of two groups that exclude
            each other, which nothing in a corpus tells. Not where null edits depend on the inversion either.
    """
    masked, free = _PRESETS[kind]

    def place(scale: float, threshold: float | None) -> Setting:
        where = {"mask": "none"} if threshold is None else {"mask": "intersection", "threshold": threshold}
        placed = own.model_copy(update={"scale": scale, "warmup": 0, "cooldown": None, **where})
        return placed.model_copy(update={"skip": 0.0}) if skips and not _pushed(placed) else placed

    def cores() -> Iterator[Setting]:
        if masked or own.mask == "none":
            yield own
        for i in range(max(len(masked), len(free))):
            yield from [place(s, None) for s in free[i : i + 1]]
            yield from [place(s, t) for s, t in masked[i : i + 1]]

    core = list(cores())
    found, pushed = [*core], [each for each in core if _pushed(each)]
    if skips:
        found += [each.model_copy(update={"skip": skip}) for skip in (0.0, own.skip, 0.3) for each in pushed]
    found += [each.model_copy(update={"warmup": max(1, steps // 5)}) for each in pushed]
    found += [each.model_copy(update={"described": False}) for each in core if words]
    return list(dict.fromkeys(found))
