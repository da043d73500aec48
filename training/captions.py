"""Captions as edits use them: lists of words, group by group."""

from __future__ import annotations

import random

from diffex_dagster.worlds.base import State, World


def description(world: World, state: State, rng: random.Random) -> list[str]:
    """What an edit under a source prompt asks for: words for several groups, one of them sometimes a coarse one.

    Half of the descriptions name the groups in the world's order and half in any; most leave some groups out, since an
    unnamed group is not an empty one.
    """
    factors = world.nameable(state)
    if rng.random() < 0.7:
        factors = sorted(rng.sample(factors, rng.randint(min(3, len(factors)), len(factors))), key=factors.index)
    if rng.random() < 0.5:
        rng.shuffle(factors)
    coarse = rng.choice(factors) if rng.random() < 0.6 else None
    return [world.name_of(state, factor, rng, 0.4 if factor == coarse else 0.0) for factor in factors]
