"""Simulated studies in which features do or do not act only together.

`python -m tests.support.interacting` prints how often an interaction is claimed (about five minutes on one core).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.effects.interactions import Interaction, PairScores, interactions
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """How edits move a measure.

    Attributes:
        base, spread: of the images' logits.
        noise: standard deviation that every edit adds, in logits.
        drift: what every edit adds, whatever it is towards.
        effects: of the first features, in logits; the others have none.
        together: what the first two add when edited together.
        probability: measure the sigmoid; else the logit itself, where effects that add up add up.
    """

    base: float = -3.0
    spread: float = 1.5
    noise: float = 1.5
    drift: float = 0.0
    effects: tuple[float, ...] = ()
    together: float = 0.0
    probability: bool = True


SETTINGS = {
    "placebo": Setting(),
    "placebo, every edit drifts": Setting(drift=0.3),
    "effects that add up": Setting(0.0, noise=0.5, drift=0.3, effects=(1.0,) * 6, probability=False),
    "effects that add up, weak": Setting(0.0, noise=0.5, drift=0.3, effects=(0.3,) * 15, probability=False),
    "effects that add up, much noise": Setting(0.0, drift=0.3, effects=(1.0,) * 6, probability=False),
    "additive with drift": Setting(0.0, noise=0.3, drift=0.5, effects=(1.0,) * 6, probability=False),
    "log-odds that add up": Setting(noise=0.3, drift=0.1, effects=(2.0,) * 4),
    "an interaction": Setting(noise=0.3, drift=0.1, effects=(1.5, 1.5), together=3.0),
    "an interaction, noise": Setting(noise=1.0, drift=0.1, effects=(1.5, 1.5), together=3.0),
}


def study(
    rng: np.random.Generator, of: Setting, images: int, control: bool = True, features: int = 30, top: int = 4,
    adjusted: bool = True,
) -> list[Interaction]:  # fmt: skip
    """One study as a report makes it: the strongest by mean |D| in pairs."""

    def f(z: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-z)) if of.probability else z)

    def edit(z: Array, more: float = 0.0) -> Array:
        return f(z + rng.normal(0.0, of.noise, images) + of.drift + more)

    effects = np.zeros(features)
    effects[: len(of.effects)] = of.effects
    z = rng.normal(of.base, of.spread, images)
    null, words = f(z), [edit(z) for _ in range(2)]
    alone, base = [edit(z, effect) for effect in effects], np.mean(words, axis=0)
    limits = Reach(1.0, -float(base.mean()), 1.0 - float(base.mean())) if of.probability else Reach(8.0)
    options = DecisionOptions(flips=999, margin=0.02 if of.probability else 0.1)
    strongest = sorted(range(features), key=lambda j: -float(np.abs(alone[j] - base).mean()))[:top]
    pairs, every = {}, np.ones(images, dtype=bool)
    for i, one in enumerate(strongest):
        for other in strongest[i + 1 :]:
            more = effects[one] + effects[other] + (of.together if {one, other} == {0, 1} else 0.0)
            pairs[str(one), str(other)] = PairScores(null, alone[one], alone[other], edit(z, more), base, every)
    in_a_pair = PairScores(null, words[0], words[1], edit(z), base, every) if control else None
    pairs = {pair: replace(of, control=in_a_pair) for pair, of in pairs.items()}
    return interactions(
        pairs,
        options,
        reach=limits,
        probability=of.probability,
        possible=features * (features - 1) // 2 if adjusted else 0,
    )


def claimed_rate(setting: str, images: int, studies: int, control: bool = True, adjusted: bool = True) -> float:
    """Share of studies in which any pair without an interaction is said to have one."""
    rng, of = np.random.default_rng(1), SETTINGS[setting]
    found = [study(rng, of, images, control, adjusted=adjusted) for _ in range(studies)]
    false = [[x for x in pairs if x.found and not (of.together and {x.one, x.other} == {"0", "1"})] for pairs in found]
    return float(np.mean([bool(each) for each in false]))


def found_rate(images: int, studies: int, setting: str = "an interaction") -> float:
    """Share of studies in which the pair that acts together is found, with its sign, and not put down to the curve."""
    rng, of = np.random.default_rng(2), SETTINGS[setting]

    def right(x: Interaction) -> bool:
        return {x.one, x.other} == {"0", "1"} and x.decision == "above the sum" and not x.of_the_curve

    return float(np.mean([any(map(right, study(rng, of, images))) for _ in range(studies)]))


def curve_rate(images: int, studies: int) -> tuple[float, float]:
    """Of log-odds that add up: share of studies that find a pair, and that find one beyond the curve."""
    rng, of = np.random.default_rng(1), SETTINGS["log-odds that add up"]
    found = [[x for x in study(rng, of, images) if x.found] for _ in range(studies)]
    return float(np.mean([bool(x) for x in found])), float(np.mean([any(not y.of_the_curve for y in x) for x in found]))


if __name__ == "__main__":
    for n in (24, 48):
        for name in list(SETTINGS)[:6]:
            print(
                n,
                name,
                f"{claimed_rate(name, n, 400):.3f}",
                f"family of six: {claimed_rate(name, n, 400, adjusted=False):.3f}",
            )
        print(n, "no control pair, drift", f"{claimed_rate('additive with drift', n, 200, control=False):.3f}")
        print(n, "log-odds that add up: found, beyond the curve", curve_rate(n, 400))
        print(n, "found", f"{found_rate(n, 200):.3f}", f"with noise {found_rate(n, 200, 'an interaction, noise'):.3f}")
