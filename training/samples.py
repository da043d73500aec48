"""Draw the sample images of a world's study, with the states they were drawn from.

Run `python -m training.samples --world avatars`. Seed 3, which no training script uses. Three in four avatars wear
nothing on their eyes, as in most portraits: an effect of adding something is best seen where it is not there yet.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.rules import worlds

STUDIES = Path(__file__).parent.parent / "studies"
SEED, COUNT = 3, 32


def samples(world: World) -> dict[str, State]:
    """File name -> state."""
    rng = random.Random(SEED)
    states = {f"{world.name.removesuffix('s')}_{i:02d}.png": world.sample_state(rng) for i in range(COUNT)}
    if world.name == "avatars":
        for i, state in enumerate(states.values()):
            if i % 4:
                state["eyewear"] = "none"
    return states


def main() -> None:
    """Write `avatar_00.png` ... and `attributes.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=sorted(worlds()), default="avatars")
    world = worlds()[parser.parse_args().world]
    folder = STUDIES / world.name / "images"
    folder.mkdir(parents=True, exist_ok=True)
    states = samples(world)
    for name, state in states.items():
        world.draw(state).save(folder / name)
    (folder / "attributes.json").write_text(json.dumps(states, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
