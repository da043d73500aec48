"""Train the exam's classifiers, each on a random rule of its own (`worlds/rules.py`), for whichever world.

Those of the avatars are committed. Another world's are trained when its exam is first asked for, and kept among the
study's results: the same seed gives the same rule, and the same pictures to learn it from.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.utils.hashing import digest
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.rules import Rule, draw_rule, training_set, worlds

LABELS = ("no", "yes")
COUNT = 40  # classifiers of an exam: the seeds from 0 on
POOL_SEED, HELD_OUT_SEED = 401, 402  # seeds that nothing else draws pictures with
_DRAWN_AT_ONCE = 100


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes:
        pool: pictures that a rule's training pictures are chosen from; the same for all rules of a world.
        held_out: pictures that it is measured on.
        pictures: of the pool, that one classifier is trained on.
        steps, batch: of the optimiser.
    """

    pool: int = 16_000
    held_out: int = 2000
    pictures: int = 12_000
    steps: int = 1500
    batch: int = 64


def build(architecture: str, size: int) -> Any:
    """An untrained classifier of at most 50,000 parameters for pictures of `size` pixels a side."""
    import transformers as t

    config: Any
    names: dict[str, Any] = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {name: i for i, name in enumerate(LABELS)},
    }
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


def _draw(world_name: str, states: list[State]) -> NDArray[np.uint8]:
    world = worlds()[world_name]
    return np.stack([np.asarray(world.draw(state)) for state in states])


def pool(world: World, count: int, seed: int, cache: Path, processes: int = 1) -> tuple[NDArray[np.uint8], list[State]]:
    """Pictures (count, size, size, 3) of a seed's states, drawn on the first call and read from `cache` afterwards."""
    rng = random.Random(seed)
    states = [world.sample_state(rng) for _ in range(count)]
    drawn_with = digest(*world.drawn_with())[:12]
    file = cache / f"exam_{world.name}_{drawn_with}_{seed}_{count}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        chunks = [states[i : i + _DRAWN_AT_ONCE] for i in range(0, count, _DRAWN_AT_ONCE)]
        draw = partial(_draw, world.name)
        if processes == 1:
            pixels = np.concatenate([draw(chunk) for chunk in chunks])
        else:
            with ProcessPoolExecutor(processes) as workers:
                pixels = np.concatenate(list(workers.map(draw, chunks)))
        np.save(file.with_suffix(".tmp.npy"), pixels)
        file.with_suffix(".tmp.npy").replace(file)
    return np.load(file, mmap_mode="r"), states


def train(rule: Rule, out: Path, cache: Path, recipe: Recipe | None = None) -> dict[str, Any]:
    """Train one classifier on one thread and save it in half precision, below `out`.

    Args:
        cache: of drawings (see `pool`).

    Returns:
        What is stored in its `rule.json`, which is written last.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _trained_on_one_thread(rule, out, cache, recipe)
    finally:
        torch.set_num_threads(threads)


def _trained_on_one_thread(rule: Rule, out: Path, cache: Path, recipe: Recipe | None) -> dict[str, Any]:
    import torch
    from torch import nn

    recipe, world = recipe or Recipe(), worlds()[rule.world]
    torch.manual_seed(rule.seed)
    pixels, states = pool(world, recipe.pool, POOL_SEED, cache)
    positions, labels = training_set(rule, world, states, recipe.pictures, rule.seed)
    images = torch.from_numpy(pixels[positions]).permute(0, 3, 1, 2)
    targets = torch.tensor(labels)
    model = build(rule.architecture, world.size).train()
    rate = 1.5e-3 if rule.architecture == "vit" else 3e-3
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, recipe.steps)
    generator = torch.Generator().manual_seed(rule.seed)
    order, start = torch.randperm(recipe.pictures, generator=generator), 0
    for _ in range(recipe.steps):
        if start + recipe.batch > recipe.pictures:
            order, start = torch.randperm(recipe.pictures, generator=generator), 0
        index, start = order[start : start + recipe.batch], start + recipe.batch
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
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n", "utf-8")
    found = agreement(rule, world, model.float(), cache, recipe.held_out)
    facts = {**rule.as_json(), **found, "steps": recipe.steps, "batch": recipe.batch}
    (folder / "rule.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return facts


def agreement(rule: Rule, world: World, model: Any, cache: Path, held_out: int) -> dict[str, float]:
    """On pictures as the world draws them (no shortcut): rank correlation of the network's log-odds with the rule's.

    Not accuracy: many states have log-odds of exactly 0, for which neither class is the right one.
    """
    import torch
    from scipy.stats import spearmanr

    pixels, states = pool(world, held_out, HELD_OUT_SEED, cache)
    x = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = torch.cat([model(chunk.float() / 127.5 - 1).logits for chunk in x.split(250)])
    wanted = np.array([rule.log_odds(world, state) for state in states])
    found = float(spearmanr((logits[:, 1] - logits[:, 0]).numpy(), wanted).statistic)
    return {"rank_correlation": round(found, 4), "share_of_yes": round(float((wanted > 0).mean()), 4)}


def trained(
    world: World, folder: Path, count: int, recipe: Recipe | None = None, say: Callable[[str], None] = lambda text: None
) -> list[Path]:
    """The folders of a world's first classifiers, those that are not there yet trained now.

    Args:
        folder: keeps them, one folder for each recipe and version of the drawings, and the drawings while they are
            trained. A run that is killed has kept those that are finished.
        say: is told what is being trained, which takes minutes each.
    """
    recipe = recipe or Recipe()
    here = folder / digest(asdict(recipe), world.drawn_with())[:12]
    rules = [draw_rule(world, seed) for seed in range(count)]
    missing = [rule for rule in rules if not (here / rule.name / "rule.json").is_file()]
    for i, rule in enumerate(missing, 1):
        say(f"training {rule.name} of the {world.name} ({i} of {len(missing)})")
        train(rule, here, here / "drawings", recipe)
    if missing:  # hundreds of megabytes, and drawn in minutes
        for file in (here / "drawings").glob("*.npy"):
            file.unlink()
    return [here / rule.name for rule in rules]
