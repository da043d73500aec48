"""Write a demo checkpoint's model card from its own figures: `python -m training.card --world avatars`."""

from __future__ import annotations

import argparse
import json

from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.rules import worlds
from training.evaluate import PICTURES_A_PROMPT, STUDIES, probe_file

AVATARS = """# Avatars: a small Stable-Diffusion-format checkpoint

Draws 64×64 avatars from captions and edits them with LEDITS++, on a CPU. Made for the demo and the tests of
`diffex_dagster`; it knows nothing but avatars.

| part | what |
|---|---|
| `vae` | AutoencoderKL, 64×64×3 to 16×16×4, three levels (32, 48, 64 channels), 0.8 M parameters |
| `text_encoder`, `tokenizer` | CLIPTextModel, 2 layers of width 128, 40 tokens, one token for each of the world's words |
| `unet` | UNet2DConditionModel, three cross-attention levels (64, 128, 192 channels), 11 M parameters |
| `scheduler` | DPM-Solver++ (SDE), Stable Diffusion's noise schedule, noise prediction |

Weights are float16 safetensors. `LEditsPPPipelineStableDiffusion.from_pretrained` and `StableDiffusionPipeline` load the
folder without a network.

## Data

30,000 avatars drawn from independently sampled attributes (`training/data.py`, seed 1), with captions of one attribute
(45%) or two to five in any order, fine or coarse words, synonyms; in the last two cycles most captions are descriptions
as edits use them. Held-out avatars come from seed 2, the study's own from seed 3.

## Recipe

`make train` runs it: about four hours on two cores with nothing else running.

1. `training.vae`: 2,000 steps of 24 pictures; L1 + MSE + image-gradient loss + 1e-5 KL; AdamW 1e-3 one-cycle, EMA
   0.995. Then `--polish 5000`: the decoder alone on the same latents, the face counted twice and its outlines
   relative to their own strength, so that dark eyes on dark skin stay.
2. `training.text`: 1,500 steps of 64 captions; the encoder alone learns to say which concepts a caption names. One
   caption in ten is random letters that name nothing, so that unknown words ask for no change.
3. `training.unet`: 6,000 steps of 32 latents, text encoder frozen; noise prediction weighted by the square root of
   min-SNR-5; AdamW 6e-4 one-cycle, EMA 0.999; one caption in ten empty, one in twenty nonsense. Then `--cycle 2`: 3,500
   steps more from the averaged weights, 4e-4 one-cycle. Seed 0 throughout, 1 for `--polish`, 1000 for the second cycle.
4. `training.unet --cycle 3 --steps 4000 --rate 3e-4 --described 0.6 --text-rate 0.1`: most captions are descriptions of
   the picture with one concept among them, or a word that means nothing; the text encoder learns along at a tenth of the
   rate. Then `--cycle 4 --steps 1500 --rate 2e-4 --described 0.7 --text-rate 0.1`. The weights here had descriptions of
   the last six of the eight groups in cycle 3, with one group left out of a fifth of them, and of all eight in cycle 4.
"""
AVATARS_LICENCE = """## Licence and credit

The weights are under the MIT licence of the project. The pictures are a remix of "Avataaars"
(https://avataaars.com/) by Pablo Stanley, free for personal and commercial use. No picture shows a real person.
"""
SCENES = """# Scenes: a small Stable-Diffusion-format checkpoint

Draws 80×80 scenes of several things in a place from captions, and edits them with LEDITS++, on a CPU. Made for the demo
and the tests of `diffex_dagster`; it knows nothing but its world (`diffex_dagster/worlds/scenes.py`).

| part | what |
|---|---|
| `vae` | AutoencoderKL, 80×80×3 to 20×20×4, three levels (40, 64, 80 channels), 1.3 M parameters |
| `text_encoder`, `tokenizer` | CLIPTextModel, 2 layers of width 160, 77 tokens, one token for each of the world's words |
| `unet` | UNet2DConditionModel, three cross-attention levels (64, 128, 192 channels), 11 M parameters |
| `scheduler` | DPM-Solver++ (SDE), Stable Diffusion's noise schedule, noise prediction |

Weights are float16 safetensors. `LEditsPPPipelineStableDiffusion.from_pretrained` and `StableDiffusionPipeline` load the
folder without a network.

## Data

100,000 scenes drawn from independently sampled attributes (seed 1), with eight captions each: half of them one attribute
(40%) or two to six in any order, half of them descriptions of three or more groups, as edits under a source prompt use
them (`training/captions.py`). Fine or coarse words, two or three for every value. No caption holds a meaningless word.
Held-out scenes come from seed 2, the study's own from seed 3.

## Recipe

`python -m training.scenes_gpu --minutes 7.9 --each 4 --out FOLDER` on one GPU: every stage has a share of the minutes, and
every rate follows the clock (five per cent of warm-up, then a half cosine). A step is recorded once as one CUDA graph and
replayed from then on; nothing is compiled. Text encoder: learns to say which concepts a caption names. Autoencoder: L1 +
MSE + image-gradient loss + 1e-5 KL, AdamW 1.2e-3, EMA 0.995. UNet, with the text encoder at a tenth of its rate: noise
prediction weighted by the square root of min-SNR-5, AdamW 1e-3, EMA 0.999, batches of 256, one caption in ten empty.
Decoder alone, on the same latents: outlines relative to their own strength, AdamW 8e-4.
{stages}
"""
SCENES_LICENCE = """## Licence and credit

The weights are under the MIT licence of the project. The things in the pictures are Fluent Emoji (flat style) by Microsoft
Corporation, MIT licence (`diffex_dagster/worlds/icons/LICENSE`). No picture shows a real place or person.
"""
TEXTS = {"avatars": (AVATARS, AVATARS_LICENCE), "scenes": (SCENES, SCENES_LICENCE)}


def stages(world: World) -> str:
    """How many steps each stage came to, where the training script kept count."""
    file = STUDIES / world.name / "editor" / "training.json"
    if not file.exists():
        return ""
    kept = json.loads(file.read_text("utf-8"))
    parts = [
        f"{name} {of['steps']:,} steps in {of['seconds']:.0f} s"
        for name, of in kept.items()
        if isinstance(of, dict) and "steps" in of
    ]
    return f"These weights: {', '.join(parts)}, on {kept['device']}."


def main() -> None:
    """Write `studies/WORLD/editor/README.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=sorted(TEXTS), default="avatars")
    world = worlds()[parser.parse_args().world]
    out = STUDIES / world.name / "editor"
    figures = json.loads((out / "evaluation.json").read_text("utf-8"))
    probe = json.loads(probe_file(world).with_suffix(".json").read_text("utf-8"))["held_out_accuracy"]
    described = ", ".join(figures["options"].pop("describe", ()))
    options = ", ".join(f"{name} {value}" for name, value in figures["options"].items() if value is not None)
    options += (
        f",\nthe scales that `studies/{world.name}/study.yaml` gives to single prompts, and descriptions of {described}"
        if described
        else ", as they are when a study names none"
    )
    rows = "\n".join(
        f"| {phrase} | {row['pairs']} | {row['drawn']:.0%} | {row['took']:.0%} | {row['kept']:.0%} "
        f"| {row['left']:.2f} |"
        for phrase, row in figures["features"].items()
    )
    probed = ", ".join(f"{factor.replace('_', ' ')} {value:.1%}" for factor, value in probe.items())
    intro, licence = TEXTS[world.name]
    arguments = "" if world.name == "avatars" else f" --world {world.name}"
    arguments += "".join(f" --{name} {figures[name]}" for name in ("images", "each") if name in figures)
    (out / "README.md").write_text(
        f"""---
license: mit
library_name: diffusers
pipeline_tag: text-to-image
---
{intro.replace("{stages}", stages(world))}
## Measured quality

`python -m training.evaluate{arguments} --write`, on held-out {world.name}, judged by an attribute probe that was trained on drawings
only (its accuracy on 1,000 held-out drawings: {probed}). Edit options: {options}.

| figure | value |
|---|---:|
| reconstruction by the autoencoder, 200 {world.name} | {figures["vae_psnr_db"]:.1f} dB PSNR |
| text to image: single-attribute prompts obeyed, {figures.get("pictures_a_prompt", PICTURES_A_PROMPT)} pictures each{", drawn when it was trained" if "pictures_a_prompt" in figures else ""} | {figures["prompts_obeyed"]:.0%} |
| LEDITS++ edits that show the feature that was absent ({figures["edits"]} edits) | {figures["edits_took"]:.0%} |
| the same, mean over {len(figures["features"])} features | {figures["edits_took_mean_over_features"]:.0%} |
| other attribute groups that keep their value under an edit | {figures["other_factors_kept"]:.0%} |
| distance to the exact drawing of the edit, as a share of the picture's | {figures["left_to_the_exact_edit"]:.2f} |
| attribute groups that keep their value under a null edit | {figures["null_edits_keep"]:.0%} |

"Drawn" is the share of pictures drawn from the prompt alone that show the attribute; "left" is the distance to the exact
drawing, as a share of the picture's own.

| feature | edits | drawn | succeeded | others kept | left |
|---|---:|---:|---:|---:|---:|
{rows}

{licence}""",
        "utf-8",
    )


if __name__ == "__main__":
    main()
