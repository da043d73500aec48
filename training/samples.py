"""Draw the sample images of the avatars study, with the states they were drawn from.

Run `python -m training.samples`. Seed 3, which no training script uses. Three in four wear nothing on their eyes, as in
most portraits: an effect of adding something is best seen where it is not there yet.
"""

from __future__ import annotations

import json
from pathlib import Path

from diffex_dagster.worlds import avatars
from training import data

OUT = Path(__file__).parent.parent / "studies" / "avatars" / "images"
SEED, COUNT = 3, 32


def main() -> None:
    """Write `avatar_00.png` ... and `attributes.json`."""
    OUT.mkdir(parents=True, exist_ok=True)
    states = {f"avatar_{i:02d}.png": state for i, state in enumerate(data.states(SEED, COUNT))}
    for i, state in enumerate(states.values()):
        if i % 4:
            state["eyewear"] = "none"
    for name, state in states.items():
        avatars.draw(state).save(OUT / name)
    (OUT / "attributes.json").write_text(json.dumps(states, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
