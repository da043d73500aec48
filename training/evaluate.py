"""Measure a world's demo editor on pictures that no training script has seen, with the attribute probe as the judge.

Run `python -m training.evaluate --world avatars --write` after `training.assemble` and `training.probe`. It measures
reconstruction, prompts obeyed by text-to-image, and LEDITS++ edits: does the edit show the feature that was absent, and
do the other factors keep their value? With `--write` the figures go into `studies/WORLD/editor/evaluation.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from diffex_dagster.editing.ledits import LeditsEditor, LeditsEditorPart, LeditsOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.study import load_study
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.rules import worlds
from training import common, data
from training.assemble import OUT
from training.probe import Probe, load
from training.vae import psnr

STUDIES = OUT.parent.parent
PROBE = Path(__file__).parent / "probe" / "probe.safetensors"
AVATARS = worlds()["avatars"]
PICTURES_A_PROMPT = 8  # that are drawn from words alone


def probe_file(world: World) -> Path:
    """The weights of a world's attribute probe."""
    return PROBE if world.name == "avatars" else PROBE.with_name(f"{world.name}.safetensors")


def features(world: World) -> list[str]:
    """The first words of every value that something is drawn for."""
    found = [v.phrases[0] for values in world.factors.values() for v in values.values() if v.phrases]
    return [phrase for phrase in found if world.phrases[phrase][1] != ("none",)]


def states(world: World, seed: int, count: int) -> list[State]:
    """The first states of a seed's stream."""
    rng = random.Random(seed)
    return [world.sample_state(rng) for _ in range(count)]


def text_to_image(world: World, folder: Path, probe: Probe, each: int) -> dict[str, float]:
    """Share of pictures drawn from each single-attribute prompt that show it."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    shares = {}
    for phrase in features(world):
        made = pipe(
            [phrase] * each, num_inference_steps=20, guidance_scale=4.0, height=world.size, width=world.size,
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip
        factor, values = world.phrases[phrase]
        shares[phrase] = float(np.mean([state[factor] in values for state in probe.read(made)]))
    return shares


def pairs(
    world: World, pictured: Sequence[State], each: int, seed: int = 0, among: Collection[str] = ()
) -> list[tuple[int, str]]:
    """(image, feature) pairs in which the feature is absent and the world could show it: `each` for an image, or all.

    Args:
        among: phrases that these may be; without any, the first words of every value.
    """
    rng, chosen = random.Random(seed), []
    for i, state in enumerate(pictured):
        absent = [
            phrase
            for phrase in among or features(world)
            if not world.has_feature(state, phrase) and world.has_feature(world.set_feature(state, phrase), phrase)
        ]
        chosen += [(i, phrase) for phrase in rng.sample(absent, min(each, len(absent)))]
    return chosen


def kept_factors(world: World, state: State, phrase: str, read: State) -> list[bool]:
    """For every other factor that shows before and after the exact edit: does the edited picture keep its value?"""
    exact = world.set_feature(state, phrase)
    changed = world.phrases[phrase][0]
    return [
        read[factor] == state[factor]
        for factor in world.factors
        if factor != changed and world.visible(state, factor) and world.visible(exact, factor)
    ]


def edits(
    editor: LeditsEditor,
    probe: Probe,
    count: int,
    each: int,
    seed: int = data.HELD_OUT_SEED,
    world: World = AVATARS,
    among: Collection[str] = (),
) -> tuple[dict[str, dict[str, float]], float]:
    """Per feature: pairs, share of edits that took, mean share of other factors kept, and what is left to do.

    `left` is the distance (root of the mean squared pixel difference) from the edit to the exact drawing of it, as a
    share of the distance from the picture: 0 is the exact edit, 1 is no better than none. Also returns seconds an edit.
    """
    pictured = states(world, seed, count)
    images = {str(i): world.draw(state) for i, state in enumerate(pictured)}
    wanted = pairs(world, pictured, each, among=among)
    requests = {EditRequest(str(i), (Concept(phrase),)): (i, phrase) for i, phrase in wanted}
    start = time.monotonic()
    made = [edit for batch in editor.edit(images, list(requests)) for edit in batch]
    seconds = (time.monotonic() - start) / len(made)
    took, kept, left = defaultdict(list), defaultdict(list), defaultdict(list)
    for (request, picture), read in zip(made, probe.read([picture for _, picture in made]), strict=True):
        i, phrase = requests[request]
        factor, values = world.phrases[phrase]
        took[phrase].append(read[factor] in values)
        kept[phrase].append(np.mean(kept_factors(world, pictured[i], phrase, read)))
        exact = world.draw(world.set_feature(pictured[i], phrase))
        left[phrase].append(distance(picture, exact) / distance(images[request.image], exact))
    table = {
        phrase: {"pairs": len(took[phrase])}
        | {name: float(np.mean(of[phrase])) for name, of in (("took", took), ("kept", kept), ("left", left))}
        for phrase in among or features(world)
        if took[phrase]
    }
    return table, seconds


def distance(a: Image.Image, b: Image.Image) -> float:
    """Root of the mean squared difference of two pictures' values."""
    return float(np.sqrt(np.mean((np.asarray(a, dtype=float) - np.asarray(b, dtype=float)) ** 2)))


def null_kept(editor: LeditsEditor, probe: Probe, count: int, world: World = AVATARS) -> float:
    """Share of visible factors that the probe still reads from null edits (its own errors included)."""
    pictured = states(world, data.HELD_OUT_SEED, count)
    images = {str(i): world.draw(state) for i, state in enumerate(pictured)}
    made = [e for b in editor.edit(images, [EditRequest(key) for key in images]) for e in b]
    order = {request.image: picture for request, picture in made}
    reads = probe.read([order[key] for key in images])
    return float(
        np.mean([r[f] == s[f] for s, r in zip(pictured, reads, strict=True) for f in s if world.visible(s, f)])
    )


def mean(table: dict[str, dict[str, float]], column: str) -> float:
    """Mean over all pairs."""
    return sum(row[column] * row["pairs"] for row in table.values()) / sum(row["pairs"] for row in table.values())


def study_options(world: World = AVATARS, **changes: object) -> LeditsOptions:
    """The editor options of a world's study, with some changed."""
    folder = STUDIES / world.name
    part = load_study(folder).editors["diffusion"]
    assert isinstance(part, LeditsEditorPart)
    values = part.model_dump(exclude={"kind"}) | {"checkpoint": str(folder / "editor")} | changes
    return LeditsOptions(**values)


def contact_sheet(
    options: LeditsOptions, path: Path, phrases: Sequence[str], count: int = 6, world: World = AVATARS
) -> None:
    """Originals in the first row, then a row for each feature: to look at."""
    pictured = states(world, data.HELD_OUT_SEED, count)
    images = {str(i): world.draw(state) for i, state in enumerate(pictured)}
    requests = [EditRequest(key, (Concept(phrase),)) for phrase in phrases for key in images]
    made = {request: picture for batch in LeditsEditor(options).edit(images, requests) for request, picture in batch}
    sheet = Image.new("RGB", (count * world.size, world.size * (1 + len(phrases))))
    for column, key in enumerate(images):
        sheet.paste(images[key], (column * world.size, 0))
        for row, phrase in enumerate(phrases, 1):
            sheet.paste(made[EditRequest(key, (Concept(phrase),))], (column * world.size, row * world.size))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Print (and with --write, keep) the figures of the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=sorted(worlds()), default="avatars")
    parser.add_argument("--images", type=int, default=120, help="held-out pictures that are edited")
    parser.add_argument("--each", type=int, default=6, help="features tried on each")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    common.setup(0)
    world = worlds()[arguments.world]
    out = STUDIES / world.name / "editor"
    probe = load(probe_file(world), world)
    options = study_options(world)
    editor = LeditsEditor(options)  # one, so that every picture is described and inverted once
    table, seconds = edits(editor, probe, arguments.images, arguments.each, world=world)
    kept = json.loads(file.read_text("utf-8")) if (file := out / "training.json").exists() else {}
    # where training ended with the same pictures, they are not drawn again
    drawn = kept.get("prompts_obeyed") or text_to_image(world, out, probe, each=PICTURES_A_PROMPT)
    vae = AutoencoderKL.from_pretrained(out / "vae", torch_dtype=torch.float32)
    held_out = common.to_tensor(
        np.stack([np.asarray(world.draw(state)) for state in states(world, data.HELD_OUT_SEED, 200)])
    )
    figures = {
        "options": options.model_dump(include={"steps", "skip", "scale", "threshold", "mask", "mask_resolution"})
        | {"describe": list(options.vocabulary)},
        "vae_psnr_db": round(psnr(vae, held_out), 2),
        "pictures_a_prompt": kept.get("pictures_a_prompt", PICTURES_A_PROMPT),
        "prompts_obeyed": round(float(np.mean(list(drawn.values()))), 3),
        "images": arguments.images,
        "each": arguments.each,
        "edits": int(sum(row["pairs"] for row in table.values())),
        "edits_took": round(mean(table, "took"), 3),
        "edits_took_mean_over_features": round(float(np.mean([row["took"] for row in table.values()])), 3),
        "other_factors_kept": round(mean(table, "kept"), 3),
        "left_to_the_exact_edit": round(mean(table, "left"), 3),
        "null_edits_keep": round(null_kept(editor, probe, arguments.images, world), 3),
        "features": {phrase: {**row, "drawn": drawn[phrase]} for phrase, row in table.items()},
    }
    print(json.dumps(figures, indent=1))
    print(f"{seconds:.2f} s an edit")
    if arguments.write:
        (out / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
