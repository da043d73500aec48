"""Train the demo checkpoint's UNet on the latents of drawn avatars, with the text encoder frozen at first.

Run `python -m training.unet` after `training.vae` and `training.text`, then the further cycles as in the Makefile: each
starts from the averaged weights of the one before, with fresh optimiser state. In the last two most captions are
descriptions as edits use them (`describe` of the study's editor). Each saves a checkpoint every 500 steps and goes on
from the last one when it is started again.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from diffex_dagster.worlds import avatars
from training import common, data
from training.text import MAX_TOKENS, nonsense, nonsense_word

DESCRIBED = ("mouth", "clothes", "top", "hair_colour", "facial_hair", "eyewear", "skin", "clothes_colour")  # study.yaml
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build(sample_size: int = 16, text_width: int = 128) -> UNet2DConditionModel:
    """The untrained UNet (11 M parameters), with cross-attention at three sizes: 16×16, 8×8 and 4×4 for avatars."""
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=text_width,
        attention_head_dim=4,
    ).to(memory_format=torch.channels_last)


def training_caption(state: avatars.State, rng: random.Random, described: float = 0.0) -> str:
    """A caption, or (one in ten) no words, or (one in twenty) words that name nothing; `described`: share of the rest
    that is a `description`."""
    draw = rng.random()
    if draw < 0.10:
        return ""
    if draw < 0.15:
        return nonsense(rng)
    return description(state, rng) if rng.random() < described else avatars.caption(state, rng)


def description(state: avatars.State, rng: random.Random) -> str:
    """What an edit under a description asks for: the study's groups of words in their order, and often a concept.

    The concept stands in its group's place, finely or coarsely named, or comes first when it is of no group, where it
    may also be a word that names nothing. Hair has a colour under a hat too: it is the beard's.
    """
    concept = rng.choice(list(avatars.FACTORS)) if rng.random() < 0.6 else None
    named = [f for f in DESCRIBED if avatars.FACTORS[f][state[f]].phrases]
    if rng.random() < 0.4:  # shorter descriptions have to be understood too, and an unnamed group is not an empty one
        left_out = rng.sample(named, rng.randint(1, 3))
        named = [f for f in named if f not in left_out]
    words = [avatars.name_of(state, f, rng, 0.4 if f == concept else 0.0) for f in named]
    if concept not in DESCRIBED and concept is not None and avatars.FACTORS[concept][state[concept]].phrases:
        words.insert(0, avatars.name_of(state, concept, rng))
    elif rng.random() < 0.2:
        words.insert(0, nonsense_word(rng, longest=6))
    return ", ".join(words)


@torch.no_grad()
def encode_all(vae: AutoencoderKL, pixels) -> torch.Tensor:
    """uint8 pictures (N, 64, 64, 3) -> scaled latents (N, 4, 16, 16)."""
    parts = []
    for start in range(0, len(pixels), 200):
        with torch.autocast("cpu", torch.bfloat16):
            moments = vae.encode(common.to_tensor(pixels[start : start + 200])).latent_dist
        parts.append(moments.mean.float() * vae.config.scaling_factor)
    return torch.cat(parts)


def train(
    steps: int,
    batch: int,
    folder: Path,
    rate: float = 6e-4,
    cycle: int = 1,
    described: float = 0.0,
    text_rate: float = 0.0,
) -> None:
    """Train and keep `folder/unet` (averaged weights) and `folder/unet_state_CYCLE.pt` (to go on from).

    `text_rate` is the share of the learning rate at which the text encoder is trained along; with 0 it stays frozen.
    """
    seed = 1000 * (cycle - 1)
    generator = common.setup(seed)
    common.use_compilable_upsampling()
    rng = random.Random(seed)
    pixels, states = data.drawings()
    latents = encode_all(AutoencoderKL.from_pretrained(folder / "vae"), pixels)
    common.log.info("latents %s, standard deviation %.3f", tuple(latents.shape), latents.std())
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    encoder.requires_grad_(text_rate > 0)
    noise_schedule = DDPMScheduler(**SCHEDULE)
    signal = noise_schedule.alphas_cumprod / (1 - noise_schedule.alphas_cumprod)
    # The square root of min-SNR-5 weighting (Hang et al. 2023): structure first, without giving the fine noise up.
    weights = (signal.clamp(max=5) / signal).sqrt()

    unet = build()
    if cycle > 1:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(folder / "unet").state_dict())
    trained = torch.nn.ModuleDict({"unet": unet, **({"text_encoder": encoder} if text_rate else {})})
    ema = common.Ema(trained)
    fast = torch.compile(unet)
    rates = [rate * text_rate if name == "text_encoder" else rate for name in trained]
    groups = [{"params": module.parameters()} for module in trained.values()]
    optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=1e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, steps, pct_start=0.05)
    start, state_file = 0, folder / f"unet_state_{cycle}.pt"
    if state_file.exists():
        stored = torch.load(state_file, weights_only=True)
        start = stored["step"]
        trained.load_state_dict(stored["trained"])
        ema.module.load_state_dict(stored["ema"])
        ema.step = start
        optimiser.load_state_dict(stored["optimiser"])
        schedule.load_state_dict(stored["schedule"])
        generator.manual_seed(seed + start)
        rng = random.Random(seed + start)
        common.log.info("going on from step %d", start)
    progress = common.Progress(steps - start)
    for step, index in enumerate(common.batches(len(latents), batch, steps - start, generator), 1):
        captions = [training_caption(states[i], rng, described) for i in index.tolist()]
        tokens = tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        text = encoder(tokens.input_ids).last_hidden_state
        x = latents[index]
        noise = torch.randn(x.shape, generator=generator)
        time = torch.randint(0, 1000, (batch,), generator=generator)
        noisy = noise_schedule.add_noise(x, noise, time).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = fast(noisy, time, text, return_dict=False)[0]
        error = (predicted.float() - noise).pow(2).mean(dim=(1, 2, 3))
        loss = (error * weights[time]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        ema.update(trained)
        progress(step, loss.item())
        if (start + step) % 500 == 0 or start + step == steps:
            for name, module in ema.module.items():
                module.save_pretrained(folder / name)
            state = {"step": start + step, "trained": trained.state_dict(), "ema": ema.module.state_dict(),
                     "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}  # fmt: skip
            torch.save(state, state_file.with_suffix(".tmp"))
            state_file.with_suffix(".tmp").replace(state_file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=6e-4, help="the highest learning rate")
    parser.add_argument("--cycle", type=int, default=1)
    parser.add_argument("--described", type=float, default=0.0, help="share of the captions that are descriptions")
    parser.add_argument("--text-rate", type=float, default=0.0, help="share of the rate, for the text encoder")
    parser.add_argument("--folder", type=Path, default=data.CACHE)
    arguments = parser.parse_args()
    train(**vars(arguments))
