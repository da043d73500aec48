"""From a request to the edit that the engine makes: every concept with its guidance and its text."""

from __future__ import annotations

from diffex_dagster.editing.edit_plan import Edit, GuidedConcept, Inversion
from diffex_dagster.editing.engine import Engine
from diffex_dagster.editing.guidance import Guidance
from diffex_dagster.editing.ledits_options import LeditsOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.editing.vocabulary import among, prompt_without


def edit_of(
    engine: Engine, inversion: Inversion, request: EditRequest, options: LeditsOptions
) -> tuple[Edit, list[str]]:
    """The edit of an inverted picture that a request asks for, and the prompts whose description was shortened."""
    skip = options.skip_of(request)
    guided = [guided_concept(engine, inversion, concept, options, skip) for concept in request.concepts]
    cut_short = [concept.prompt for concept, (_, shortened) in zip(request.concepts, guided, strict=True) if shortened]
    return Edit(inversion, tuple(concept for concept, _ in guided)), cut_short


def guided_concept(
    engine: Engine, inversion: Inversion, concept: Concept, of: LeditsOptions, skip: float
) -> tuple[GuidedConcept, bool]:
    """A concept with the text that it guides towards: its own, among what else the picture shows.

    Args:
        of: the editor's options.
        skip: how much of the noisy end the edit leaves out.

    Returns:
        The concept, and whether the text encoder had no room for all of the description around it.
    """
    options, vocabulary = of.setting(concept).after(skip, of.steps), of.vocabulary
    mask, shortened, reads = options.mask, False, engine.components.reads
    without = None
    if concept.direction == "remove":
        without = prompt_without(concept.prompt, inversion.shows, vocabulary, reads)
    if without is not None:  # towards the description without it
        text, sign = engine.text(without), 1.0
        mask = "noise" if mask in ("cross_attention", "intersection") else mask  # no word is left to attend to
    else:
        before, named, after = among(concept.prompt, inversion.shows, vocabulary, reads)
        whole = among(concept.prompt, inversion.shows, vocabulary)[0]
        shortened = before != whole or (bool(after) and not reads(", ".join([*before, named, *after])))
        text = engine.text_among(before, named, after)
        sign = 1.0 if concept.direction == "add" else -1.0
    guidance = Guidance(options.scale, options.threshold, mask, options.warmup, options.cooldown)
    return GuidedConcept(text, sign, guidance), shortened
