"""Train the exam's classifiers: each follows a random rule of its own (`diffex_dagster/worlds/rules.py`).

Run `python -m training.exam --world avatars`. The seeds 0 to 39 are the exam; nothing of the method is chosen on them.
Seeds from 100 on are for development. A classifier is at most 100 kB, so that weights are committed beside their seeds.
One process trains one classifier at a time on one thread (`diffex_dagster/bench/exam_classifiers.py`, which also trains
those of a world that has none committed).
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from diffex_dagster.bench.exam_classifiers import COUNT, HELD_OUT_SEED, POOL_SEED, Recipe, agreement, pool, train
from diffex_dagster.worlds.rules import draw_rule, worlds

STUDIES = Path(__file__).parent.parent / "studies"
CACHE = Path(__file__).parent / ".cache"


def describe(out: Path) -> None:
    """Measure the classifiers below `out` again and write what was found into their `rule.json`."""
    from transformers import AutoModelForImageClassification

    for file in sorted(out.glob("rule_*/rule.json")):
        facts = json.loads(file.read_text("utf-8"))
        world = worlds()[facts["world"]]
        model = AutoModelForImageClassification.from_pretrained(file.parent, dtype=torch.float32).eval()
        rule = draw_rule(world, facts["seed"])
        kept = {key: facts[key] for key in ("steps", "batch")}
        facts = {**rule.as_json(), **agreement(rule, world, model, CACHE, Recipe().held_out), **kept}
        file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(json.dumps(facts, ensure_ascii=False), flush=True)


def _train_seed(seed: int, world: str, out: Path, recipe: Recipe) -> dict[str, object]:
    return train(draw_rule(worlds()[world], seed), out, CACHE, recipe)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="avatars")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--describe", action="store_true", help="only measure again how the classifiers follow their rules"
    )
    asked = parser.parse_args()
    folder = asked.out or STUDIES / asked.world / "exam"
    if asked.describe:
        describe(folder)
        raise SystemExit
    recipe = Recipe(steps=asked.steps, batch=asked.batch)
    for count, seed in ((recipe.pool, POOL_SEED), (recipe.held_out, HELD_OUT_SEED)):
        pool(worlds()[asked.world], count, seed, CACHE, asked.processes)
    job = partial(_train_seed, world=asked.world, out=folder, recipe=recipe)
    with ProcessPoolExecutor(asked.processes) as workers:
        for facts in workers.map(job, range(asked.first, asked.first + asked.count)):
            print(json.dumps(facts, ensure_ascii=False), flush=True)
