"""What a picture shows, in words: the source prompt that its edits leave alone.

LEDITS++ guides an edit by e(concept) − e(""): how the model changes its mind when it hears the concept and nothing
else. What else the picture shows it has to guess from the noise, and guesses differently with the concept than without:
an edit towards a hair style also changes the hair's colour. With a description of the picture, guidance becomes
e(description with the concept) − e(description): both sides know what else is there, and it cancels. The inversion
follows the same description, as in edit-friendly DDPM inversion (Huberman-Spiegelglas et al., CVPR 2024,
arXiv 2304.06140), which LEDITS++ extends; diffusers' pipeline calls it the source prompt. Null edits stay exact.

The description is the model's own: in each group of a vocabulary, the words that explain most of the picture, the model
being its own zero-shot classifier (`diffusion_classifier`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from diffex_dagster.editing.vocabulary import SourcePrompt, Vocabulary, prompt_of, room_of

if TYPE_CHECKING:
    import torch

    from diffex_dagster.editing.engine import Engine

LEVELS = (0.8, 0.7, 0.9, 0.6, 0.5, 0.4)  # noise levels of the draws: composition first, then details
SURE = 1.0  # at first an optional group is named when its evidence exceeds so many standard errors over the draws
AGAIN = 3  # words of each group that are looked at again, within the description


def source_prompt_of(
    engine: Engine, latents: torch.Tensor, vocabulary: Vocabulary, rows: int
) -> tuple[SourcePrompt, tuple[str, ...]]:
    """The words of a vocabulary that describe one picture.

    Twice over: first every word on its own, then, group by group, the best few again within the description so far. On
    its own a word also has to explain what it says nothing of; within a description the rest is explained already.

    Where the text encoder has no room for all that a picture shows, what explains least of it is left out: an edit that
    changes a detail which nobody named does less harm than one that changes the clothes.

    Args:
        latents: clean, (C, H, W), on the engine's device.
        rows: the largest UNet batch. It takes (1 + all words) × 6 UNet rows, and up to 3 × 6 more for each group.

    Returns:
        The description, and the words that the picture seemed to show and that there was no room for.
    """
    from diffex_dagster.editing.diffusion_classifier import errors

    words = [word for group in vocabulary.values() for word in group.candidates]
    if not words:
        return (), ()
    tokens = engine.components.tokens
    room = room_of(vocabulary, tokens, engine.components.limit - 2)
    wrong = errors(engine, latents[None], [["", *words]], LEVELS, rows)[0]
    draws = wrong[0] - wrong[1:]  # evidence
    known = dict(zip(["", *words], wrong.mean(dim=1).tolist(), strict=True))  # prompt -> error: none is asked twice
    found: dict[str, str | None] = {}
    likely: dict[str, list[str | None]] = {}
    explains: dict[str, float] = {}
    for (name, group), of_group in zip(
        vocabulary.items(), draws.split([len(group.candidates) for group in vocabulary.values()]), strict=True
    ):
        order = of_group.mean(dim=1).argsort(descending=True).tolist()
        best = of_group[order[0]]
        sure = not group.optional or bool(best.mean() > SURE * best.std() / len(LEVELS) ** 0.5)
        found[name] = group.candidates[order[0]] if sure else None
        likely[name] = [group.candidates[i] for i in order[:AGAIN]] + ([None] if group.optional else [])
        explains[name] = float(best.mean())
    cut: dict[str, str] = {}
    for name in sorted(found, key=explains.__getitem__):
        if tokens(prompt_of(_said(found))) <= room:
            break
        if (word := found[name]) is not None:
            cut[name], found[name] = word, None
    for name, words_or_none in likely.items():
        tried = {prompt_of(_said(found | {name: word})): word for word in words_or_none}
        fitting = [prompt for prompt in tried if tokens(prompt) <= room]
        if not fitting or (name in cut and len(fitting) < len(tried)):
            found[name] = None  # not whichever word is short
            continue
        if new := [prompt for prompt in fitting if prompt not in known]:
            means = errors(engine, latents[None], [new], LEVELS, rows)[0].mean(dim=1)
            known |= dict(zip(new, means.tolist(), strict=True))
        found[name] = tried[min(fitting, key=known.__getitem__)]
    return _said(found), tuple(word for name, word in cut.items() if found[name] is None)


def _said(found: Mapping[str, str | None]) -> SourcePrompt:
    return tuple((name, word) for name, word in found.items() if word is not None)
