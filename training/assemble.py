"""Put the trained parts together as the demo checkpoint, in half precision.

Run `python -m training.assemble`: writes `studies/avatars/editor`, which
`LEditsPPPipelineStableDiffusion.from_pretrained` and the study load.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from training import data
from training.unet import SCHEDULE

OUT = Path(__file__).parent.parent / "studies" / "avatars" / "editor"


def assemble(folder: Path, out: Path) -> None:
    """Load the parts under `folder` and save them as one Stable Diffusion checkpoint in float16."""
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="sde-dpmsolver++", solver_order=2),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    card = (out / "README.md").read_text("utf-8") if (out / "README.md").exists() else None
    shutil.rmtree(out, ignore_errors=True)
    pipeline.save_pretrained(out, safe_serialization=True)
    for file in out.glob("*/config.json"):  # the folder that a part was trained in is nobody's business
        config = json.loads(file.read_text("utf-8"))
        if config.pop("_name_or_path", None):
            file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    if card:
        (out / "README.md").write_text(card, "utf-8")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=data.CACHE)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    assemble(arguments.folder, arguments.out)
