"""Write the demo checkpoint's model card from its own figures: `python -m training.card`."""

from __future__ import annotations

import json

from training.assemble import OUT
from training.evaluate import PROBE


def main() -> None:
    """Write `studies/avatars/editor/README.md`."""
    figures = json.loads((OUT / "evaluation.json").read_text("utf-8"))
    probe = json.loads(PROBE.with_suffix(".json").read_text("utf-8"))["held_out_accuracy"]
    described = ", ".join(figures["options"].pop("describe"))
    options = ", ".join(f"{name} {value}" for name, value in figures["options"].items() if value is not None)
    rows = "\n".join(
        f"| {phrase} | {row['pairs']} | {row['drawn']:.0%} | {row['took']:.0%} | {row['kept']:.0%} "
        f"| {row['left']:.2f} |"
        for phrase, row in figures["features"].items()
    )
    probed = ", ".join(f"{factor.replace('_', ' ')} {value:.1%}" for factor, value in probe.items())
    (OUT / "README.md").write_text(
        f"""---
license: mit
library_name: diffusers
pipeline_tag: text-to-image
---
# Avatars: a small Stable-Diffusion-format checkpoint

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

## Measured quality

`python -m training.evaluate --write`, on held-out avatars, judged by an attribute probe that was trained on drawings
only (its accuracy on 1,000 held-out drawings: {probed}). Edit options: {options},
the scales that `studies/avatars/study.yaml` gives to single prompts, and descriptions of {described}.

| figure | value |
|---|---:|
| reconstruction by the autoencoder, 200 avatars | {figures["vae_psnr_db"]:.1f} dB PSNR |
| text to image: single-attribute prompts obeyed, 8 pictures each | {figures["prompts_obeyed"]:.0%} |
| LEDITS++ edits that show the feature that was absent ({figures["edits"]} edits) | {figures["edits_took"]:.0%} |
| the same, mean over {len(figures["features"])} features | {figures["edits_took_mean_over_features"]:.0%} |
| other attribute groups that keep their value under an edit | {figures["other_factors_kept"]:.0%} |
| distance to the exact drawing of the edit, as a share of the picture's | {figures["left_to_the_exact_edit"]:.2f} |
| attribute groups that keep their value under a null edit | {figures["null_edits_keep"]:.0%} |

"Drawn" is the share of pictures drawn from the prompt alone that show the attribute; "left" is the distance to the exact
drawing, as a share of the picture's own.

| feature | edits | drawn | took | others kept | left |
|---|---:|---:|---:|---:|---:|
{rows}

## Licence and credit

The weights are under the MIT licence of the project. The pictures are a remix of "Avataaars"
(https://avataaars.com/) by Pablo Stanley, free for personal and commercial use. No picture shows a real person.
""",
        "utf-8",
    )


if __name__ == "__main__":
    main()
