"""Choose a demo editor's scale and threshold: `python -m training.tune`.

Sweeps a grid on pictures of seed 4 (neither trained on, nor held out for the model card, nor in the study) and prints,
for every attribute group, the share of edits that took, the share of other groups that kept their value, and how far
the edits are from the exact drawings (0: the same, 1: no nearer than the picture itself). Where one scale does not suit
all, the study gives some prompts options of their own.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict

from diffex_dagster.editing.ledits import LeditsEditor
from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.rules import worlds
from training import common
from training.evaluate import edits, features, mean, probe_file, study_options
from training.probe import load

TUNING_SEED = 4


def by_factor(world: World, table: dict[str, dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """Factor -> (share that took, share of other factors kept, what is left to the exact edit)."""
    parts: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for phrase, row in table.items():
        parts[world.phrases[phrase][0]][phrase] = row
    return {factor: (mean(part, "took"), mean(part, "kept"), mean(part, "left")) for factor, part in parts.items()}


def main() -> None:
    """Print one line for each setting and factor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=sorted(worlds()), default="avatars")
    parser.add_argument("--factors", nargs="*", default=[], help="of the world, that are edited; all without")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--scales", type=float, nargs="*", default=[1.0, 1.2, 1.7, 2.5])
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.0], help="with a mask only")
    parser.add_argument("--mask", default="none", choices=("none", "noise", "cross_attention", "intersection"))
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--skip", type=float, default=0.0)
    parser.add_argument("--warmup", type=int, default=0)
    arguments = parser.parse_args()
    common.setup(0)
    world = worlds()[arguments.world]
    if unknown := set(arguments.factors) - set(world.factors):
        parser.error(f"{world.name} has no {', '.join(sorted(unknown))}; it has {', '.join(world.factors)}")
    probe = load(probe_file(world), world)
    among = [each for each in features(world) if not arguments.factors or world.phrases[each][0] in arguments.factors]
    for scale, threshold in itertools.product(arguments.scales, arguments.thresholds):
        options = study_options(
            world,
            scale=scale,
            threshold=threshold,
            mask=arguments.mask,
            steps=arguments.steps,
            skip=arguments.skip,
            warmup=arguments.warmup,
            prompts={},
        )
        table, seconds = edits(
            LeditsEditor(options), probe, arguments.images, arguments.each, TUNING_SEED, world, among
        )
        print(
            f"scale {scale:g} threshold {threshold:g}: took {mean(table, 'took'):.2f} kept {mean(table, 'kept'):.2f} "
            f"left {mean(table, 'left'):.2f} ({seconds:.2f} s an edit)  "
            + "  ".join(
                f"{f} {took:.2f}/{kept:.2f}/{left:.2f}" for f, (took, kept, left) in by_factor(world, table).items()
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
