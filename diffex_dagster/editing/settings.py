"""Options of single concepts: as the text that an edit is asked for with, and those that are worth trying.

LEDITS++ leaves scale, threshold, mask, warm-up and skip to whoever edits, and what is right differs by prompt. Where
the values come from:

- scale 10, threshold 0.75, skip 0.1, 50 steps: the authors' example for Stable Diffusion 1.5, and the code that the
  authors of DiffEx released.
- scale 5, threshold 0.9, skip 0.15, 30 steps: diffusers' pipeline. Ours are its scale and threshold with 20 steps, of
  which each costs as much as any other, and skip 0.1, which lets larger changes through.
- no mask, scale 1: the model's own answer to the prompt with no exaggeration, for small pictures, whose latents have no
  room for a mask, and for what fills the picture.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
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


class Setting(ConceptOptions):
    """The options of one concept of an edit, and how much of the noisy end its edit leaves out."""

    skip: float = Field(0.1, ge=0, lt=1)

    @property
    def text(self) -> str:
        """As `Concept.setting` has it: the same text for the same options."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)

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


_WHOLE = re.compile(r"\b(whole|entire|everywhere|all over|global|overall|background|scene|sky|full (image|frame))\b")


def worth_trying(own: Setting, steps: int, region: str | None = None, skips: bool = True) -> list[Setting]:
    """The settings that calibration tries, the editor's own first, so that any beginning of the list is a fair choice.

    First how hard and where (scale and mask) as the editor's own skip has it, gentle and hard in turn; then the same
    with no skip and with much, and with a later start.

    Args:
        own: what the editor was made with.
        steps: that an edit takes.
        region: where the attribute shows: what fills the picture needs no narrow mask, what has a place no wide one.
        skips: whether skip may differ: not where null edits depend on it.
    """
    masked = [(5.0, 0.9), (10.0, 0.75), (3.0, 0.9), (10.0, 0.9), (5.0, 0.75), (15.0, 0.9), (3.0, 0.5), (5.0, 0.5)]
    free = [1.0, 3.0, 2.0, 5.0]
    if region is not None and _WHOLE.search(region.casefold()):
        masked = [(s, t) for s, t in masked if t <= 0.75]
    elif region is not None:
        masked, free = [(s, t) for s, t in masked if t >= 0.75], [1.0, 3.0, 2.0]

    def place(scale: float, threshold: float | None) -> Setting:
        where = {"mask": "none"} if threshold is None else {"mask": "intersection", "threshold": threshold}
        return own.model_copy(update={"scale": scale, "warmup": 0, "cooldown": None, **where})

    def cores() -> Iterator[Setting]:
        yield own
        for i in range(max(len(masked), len(free))):
            yield from [place(s, None) for s in free[i : i + 1]]
            yield from [place(s, t) for s, t in masked[i : i + 1]]

    core = list(cores())
    found = [*core]
    if skips:
        found += [each.model_copy(update={"skip": skip}) for skip in (0.0, 0.3) for each in core]
    found += [each.model_copy(update={"warmup": max(1, steps // 5)}) for each in core]
    return list(dict.fromkeys(found))
