"""Train the exam's classifiers: each follows a random rule of its own (`diffex_dagster/worlds/rules.py`).

Run `python -m training.exam --world avatars`. The seeds 0 to 39 are the exam; nothing of the method is chosen on them.
Seeds from 100 on are for development. A classifier is at most 100 kB, so that weights are committed beside their seeds.
One process trains one classifier at a time on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.rules import Rule, draw_rule, training_set, worlds
from training import common

LABELS = ("no", "yes")
STUDIES = Path(__file__).parent.parent / "studies"
CACHE = Path(__file__).parent / ".cache"
POOL, POOL_SEED, HELD_OUT, HELD_OUT_SEED = 16_000, 401, 2000, 402  # seeds that nothing else draws pictures with
PICTURES = 12_000  # of the pool, that one classifier is trained on


def build(architecture: str, size: int) -> nn.Module:
    """An untrained classifier of at most 50,000 parameters for pictures of `size` pixels a side."""
    import transformers as t

    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    if architecture == "resnet":
        config = t.ResNetConfig(
            embedding_size=12, hidden_sizes=[12, 24, 48], depths=[1, 1, 1], layer_type="basic", **names
        )
        return t.ResNetForImageClassification(config)
    if architecture == "convnext":
        config = t.ConvNextConfig(
            num_stages=3,
            hidden_sizes=[16, 32, 48],
            depths=[1, 1, 1],
            image_size=size,
            layer_scale_init_value=0.1,
            **names,
        )
        return t.ConvNextForImageClassification(config)
    config = t.ViTConfig(
        hidden_size=36, num_hidden_layers=3, num_attention_heads=4, intermediate_size=72, image_size=size, patch_size=8,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **names,
    )  # fmt: skip
    return t.ViTForImageClassification(config)


def _draw(world_name: str, states: list[State]) -> np.ndarray:
    world = worlds()[world_name]
    return np.stack([np.asarray(world.draw(state)) for state in states])


def pool(world: World, count: int, seed: int, processes: int) -> tuple[np.ndarray, list[State]]:
    """Pictures (count, size, size, 3) uint8 of a seed's states, drawn on the first call and read afterwards."""
    rng = random.Random(seed)
    states = [world.sample_state(rng) for _ in range(count)]
    file = CACHE / f"exam_{world.name}_{seed}_{count}.npy"
    if not file.exists():
        CACHE.mkdir(exist_ok=True)
        with ProcessPoolExecutor(processes) as workers:
            chunks = [states[i : i + 100] for i in range(0, count, 100)]
            pixels = np.concatenate(list(workers.map(partial(_draw, world.name), chunks)))
        np.save(file.with_suffix(".tmp.npy"), pixels)
        file.with_suffix(".tmp.npy").replace(file)
    return np.load(file, mmap_mode="r"), states


def train(rule: Rule, out: Path, steps: int, batch: int) -> dict[str, object]:
    """Train one classifier and save it in half precision; returns what is stored in its `rule.json`."""
    torch.set_num_threads(1)
    world = worlds()[rule.world]
    torch.manual_seed(rule.seed)
    pixels, states = pool(world, POOL, POOL_SEED, 1)
    positions, labels = training_set(rule, world, states, PICTURES, rule.seed)
    images = torch.from_numpy(pixels[positions]).permute(0, 3, 1, 2)
    targets = torch.tensor(labels)
    model = build(rule.architecture, world.size).train()
    rate = 1.5e-3 if rule.architecture == "vit" else 3e-3
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps)
    generator = torch.Generator().manual_seed(rule.seed)
    for index in common.batches(PICTURES, batch, steps, generator):
        x = images[index].float() / 127.5 - 1
        x = x + 0.03 * torch.randn(x.shape, generator=generator)
        loss = nn.functional.cross_entropy(model(x).logits, targets[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    model.eval()
    folder = out / rule.name
    model.half().save_pretrained(folder)
    side = {"height": world.size, "width": world.size}
    processor = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": side, "resample": 2,
                 "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
                 "image_std": [0.5] * 3}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")
    facts = {**rule.as_json(), **agreement(rule, world, model.float()), "steps": steps, "batch": batch}
    (folder / "rule.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return facts


@torch.no_grad()
def agreement(rule: Rule, world: World, model: nn.Module) -> dict[str, float]:
    """On pictures as the world draws them (no shortcut): rank correlation of the network's log-odds with the rule's.

    Not accuracy: many states have log-odds of exactly 0, for which neither class is the right one.
    """
    from scipy.stats import spearmanr

    pixels, states = pool(world, HELD_OUT, HELD_OUT_SEED, 1)
    x = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    logits = torch.cat([model(chunk.float() / 127.5 - 1).logits for chunk in x.split(250)])
    wanted = np.array([rule.log_odds(world, state) for state in states])
    found = float(spearmanr((logits[:, 1] - logits[:, 0]).numpy(), wanted).statistic)
    return {"rank_correlation": round(found, 4), "share_of_yes": round(float((wanted > 0).mean()), 4)}


def describe(out: Path) -> None:
    """Measure the classifiers below `out` again and write what was found into their `rule.json`."""
    from transformers import AutoModelForImageClassification

    for file in sorted(out.glob("rule_*/rule.json")):
        facts = json.loads(file.read_text("utf-8"))
        world = worlds()[facts["world"]]
        model = AutoModelForImageClassification.from_pretrained(file.parent, dtype=torch.float32).eval()
        rule = draw_rule(world, facts["seed"])
        kept = {key: facts[key] for key in ("steps", "batch")}
        facts = {**rule.as_json(), **agreement(rule, world, model), **kept}
        file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(json.dumps(facts, ensure_ascii=False), flush=True)


def _train_seed(seed: int, world: str, out: Path, steps: int, batch: int) -> dict[str, object]:
    return train(draw_rule(worlds()[world], seed), out, steps, batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="avatars")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
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
    for count, seed in ((POOL, POOL_SEED), (HELD_OUT, HELD_OUT_SEED)):
        pool(worlds()[asked.world], count, seed, asked.processes)
    job = partial(_train_seed, world=asked.world, out=folder, steps=asked.steps, batch=asked.batch)
    with ProcessPoolExecutor(asked.processes) as workers:
        for facts in workers.map(job, range(asked.first, asked.first + asked.count)):
            print(json.dumps(facts, ensure_ascii=False), flush=True)
