"""Draw the training pictures once and keep them, with their states, as one compressed file.

Run `python -m training.data --count 30000`. Every other training script reads what this one wrote.
"""

from __future__ import annotations

import argparse
import json
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from diffex_dagster.worlds import avatars

CACHE = Path(__file__).parent / ".cache"
TRAIN_SEED, HELD_OUT_SEED = 1, 2  # the study's own images come from seed 3


def states(seed: int, count: int) -> list[avatars.State]:
    """The first `count` states of a seed's stream."""
    rng = random.Random(seed)
    return [avatars.sample_state(rng) for _ in range(count)]


def _pixels(chunk: list[avatars.State]) -> np.ndarray:
    return np.stack([np.asarray(avatars.draw(state)) for state in chunk])


def drawings(count: int = 30_000, seed: int = TRAIN_SEED) -> tuple[np.ndarray, list[avatars.State]]:
    """Pictures of shape (count, 64, 64, 3), uint8, with their states; drawn on the first call, read afterwards."""
    wanted = states(seed, count)
    path = CACHE / f"drawings_{seed}_{count}.npz"
    if path.exists():
        stored = np.load(path)
        if json.loads(str(stored["states"])) == wanted:
            return stored["pixels"], wanted
    CACHE.mkdir(exist_ok=True)
    chunks = [wanted[i : i + 250] for i in range(0, count, 250)]
    with ProcessPoolExecutor() as pool:
        pixels = np.concatenate(list(pool.map(_pixels, chunks)))
    np.savez_compressed(path, pixels=pixels, states=json.dumps(wanted))
    return pixels, wanted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30_000)
    print(drawings(parser.parse_args().count)[0].shape)
