"""Measure the demo editor on avatars that no training script has seen, with the attribute probe as the judge.

Run `python -m training.evaluate --write` after `training.assemble` and `training.probe`: reconstruction, prompts obeyed
by text-to-image, and LEDITS++ edits: does the edit show the feature that was absent, and do the other factors keep
their value? With `--write` the figures go into `studies/avatars/editor/evaluation.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.study import LeditsEditorPart, load_study
from diffex_dagster.worlds import avatars
from training import common, data
from training.assemble import OUT
from training.probe import Probe, load
from training.vae import psnr

STUDY = OUT.parent / "study.yaml"
PROBE = Path(__file__).parent / "probe" / "probe.safetensors"
FEATURES = [value.phrases[0] for values in avatars.FACTORS.values() for value in values.values() if value.phrases]
FEATURES = [phrase for phrase in FEATURES if phrase != "a clean shaven face"]


def text_to_image(folder: Path, probe: Probe, each: int) -> dict[str, float]:
    """Share of pictures drawn from each single-attribute prompt that show it."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    shares = {}
    for phrase in FEATURES:
        made = pipe(
            [phrase] * each, num_inference_steps=20, guidance_scale=4.0, height=64, width=64,
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip
        factor, values = avatars.PHRASES[phrase]
        shares[phrase] = float(np.mean([state[factor] in values for state in probe.read(made)]))
    return shares


def pairs(states: Sequence[avatars.State], each: int, seed: int = 0) -> list[tuple[int, str]]:
    """(image, feature) pairs in which the feature is absent and the world could show it: `each` for an image."""
    rng, chosen = random.Random(seed), []
    for i, state in enumerate(states):
        absent = [
            phrase
            for phrase in FEATURES
            if not avatars.has_feature(state, phrase)
            and avatars.has_feature(avatars.set_feature(state, phrase), phrase)
        ]
        chosen += [(i, phrase) for phrase in rng.sample(absent, each)]
    return chosen


def kept_factors(state: avatars.State, phrase: str, read: avatars.State) -> list[bool]:
    """For every other factor that shows before and after the exact edit: does the edited picture keep its value?"""
    exact = avatars.set_feature(state, phrase)
    changed = avatars.PHRASES[phrase][0]
    return [
        read[factor] == state[factor]
        for factor in avatars.FACTORS
        if factor != changed and avatars.visible(state, factor) and avatars.visible(exact, factor)
    ]


def edits(
    editor: LeditsEditor, probe: Probe, count: int, each: int, seed: int = data.HELD_OUT_SEED
) -> tuple[dict[str, dict[str, float]], float]:
    """Per feature: pairs, share of edits that took, mean share of other factors kept, and what is left to do.

    `left` is the distance (root of the mean squared pixel difference) from the edit to the exact drawing of it, as a
    share of the distance from the picture: 0 is the exact edit, 1 is no better than none. Also returns seconds an edit.
    """
    states = data.states(seed, count)
    images = {str(i): avatars.draw(state) for i, state in enumerate(states)}
    wanted = pairs(states, each)
    requests = {EditRequest(str(i), (Concept(phrase),)): (i, phrase) for i, phrase in wanted}
    start = time.monotonic()
    made = [edit for batch in editor.edit(images, list(requests)) for edit in batch]
    seconds = (time.monotonic() - start) / len(made)
    took, kept, left = defaultdict(list), defaultdict(list), defaultdict(list)
    for (request, picture), read in zip(made, probe.read([picture for _, picture in made]), strict=True):
        i, phrase = requests[request]
        factor, values = avatars.PHRASES[phrase]
        took[phrase].append(read[factor] in values)
        kept[phrase].append(np.mean(kept_factors(states[i], phrase, read)))
        exact = avatars.draw(avatars.set_feature(states[i], phrase))
        left[phrase].append(distance(picture, exact) / distance(images[request.image], exact))
    table = {
        phrase: {"pairs": len(took[phrase])}
        | {name: float(np.mean(of[phrase])) for name, of in (("took", took), ("kept", kept), ("left", left))}
        for phrase in FEATURES
        if took[phrase]
    }
    return table, seconds


def distance(a: Image.Image, b: Image.Image) -> float:
    """Root of the mean squared difference of two pictures' values."""
    return float(np.sqrt(np.mean((np.asarray(a, dtype=float) - np.asarray(b, dtype=float)) ** 2)))


def null_kept(editor: LeditsEditor, probe: Probe, count: int) -> float:
    """Share of visible factors that the probe still reads from null edits (its own errors included)."""
    states = data.states(data.HELD_OUT_SEED, count)
    images = {str(i): avatars.draw(state) for i, state in enumerate(states)}
    made = [e for b in editor.edit(images, [EditRequest(key) for key in images]) for e in b]
    order = {request.image: picture for request, picture in made}
    reads = probe.read([order[key] for key in images])
    return float(
        np.mean([r[f] == s[f] for s, r in zip(states, reads, strict=True) for f in s if avatars.visible(s, f)])
    )


def mean(table: dict[str, dict[str, float]], column: str) -> float:
    """Mean over all pairs."""
    return sum(row[column] * row["pairs"] for row in table.values()) / sum(row["pairs"] for row in table.values())


def study_options(**changes: object) -> LeditsOptions:
    """The editor options of the avatars study, with some changed."""
    study = load_study(STUDY)
    part = study.editors["diffusion"]
    assert isinstance(part, LeditsEditorPart)
    values = part.model_dump(exclude={"kind"}) | {"checkpoint": str(OUT)} | changes
    return LeditsOptions(**values)


def contact_sheet(options: LeditsOptions, path: Path, phrases: Sequence[str], count: int = 6) -> None:
    """Originals in the first row, then a row for each feature: to look at."""
    states = data.states(data.HELD_OUT_SEED, count)
    images = {str(i): avatars.draw(state) for i, state in enumerate(states)}
    requests = [EditRequest(key, (Concept(phrase),)) for phrase in phrases for key in images]
    made = {request: picture for batch in LeditsEditor(options).edit(images, requests) for request, picture in batch}
    sheet = Image.new("RGB", (count * 64, 64 * (1 + len(phrases))))
    for column, key in enumerate(images):
        sheet.paste(images[key], (column * 64, 0))
        for row, phrase in enumerate(phrases, 1):
            sheet.paste(made[EditRequest(key, (Concept(phrase),))], (column * 64, row * 64))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Print (and with --write, keep) the figures of the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=120, help="held-out avatars that are edited")
    parser.add_argument("--each", type=int, default=6, help="features tried on each")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    common.setup(0)
    probe = load(PROBE)
    options = study_options()
    editor = LeditsEditor(options)  # one, so that every picture is described and inverted once
    table, seconds = edits(editor, probe, arguments.images, arguments.each)
    drawn = text_to_image(OUT, probe, each=8)
    vae = AutoencoderKL.from_pretrained(OUT / "vae", torch_dtype=torch.float32)
    held_out = common.to_tensor(data.drawings(200, data.HELD_OUT_SEED)[0])
    figures = {
        "options": options.model_dump(include={"steps", "skip", "scale", "threshold", "mask", "mask_resolution"})
        | {"describe": list(options.describe)},
        "vae_psnr_db": round(psnr(vae, held_out), 2),
        "prompts_obeyed": round(float(np.mean(list(drawn.values()))), 3),
        "edits": int(sum(row["pairs"] for row in table.values())),
        "edits_took": round(mean(table, "took"), 3),
        "edits_took_mean_over_features": round(float(np.mean([row["took"] for row in table.values()])), 3),
        "other_factors_kept": round(mean(table, "kept"), 3),
        "left_to_the_exact_edit": round(mean(table, "left"), 3),
        "null_edits_keep": round(null_kept(editor, probe, arguments.images), 3),
        "features": {phrase: {**row, "drawn": drawn[phrase]} for phrase, row in table.items()},
    }
    print(json.dumps(figures, indent=1))
    print(f"{seconds:.2f} s an edit")
    if arguments.write:
        (OUT / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
