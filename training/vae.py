"""Train the demo checkpoint's autoencoder: 64×64 pictures <-> 16×16×4 latents.

Run `python -m training.vae`. L1 + MSE + image-gradient loss keeps the flat colours flat and the outlines sharp; the KL
term is small since the latents only need a bounded spread, not a prior to sample from.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from training import common, data

LATENT_CHANNELS = 4


def build(channels: tuple[int, ...] = (32, 48, 64), size: int = 64, groups: int = 16) -> AutoencoderKL:
    """The untrained autoencoder (0.8 M parameters unless told otherwise)."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=groups,
        sample_size=size,
    )
    # Starting with unit variance drowns the picture in noise and the decoder learns to ignore the latents.
    torch.nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], -6.0)
    return vae.to(memory_format=torch.channels_last)


def gradient_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the horizontal and vertical image gradients."""
    horizontal = (a.diff(dim=3) - b.diff(dim=3)).abs().mean()
    return horizontal + (a.diff(dim=2) - b.diff(dim=2)).abs().mean()


FACE = (slice(14, 52), slice(16, 48))
"""Rows and columns of the face on a 64×64 avatar: the smallest parts, which a plain mean hardly sees."""


def detail_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Gradient error relative to the outline's own strength in `b`: dark eyes on dark skin count as on pale skin."""
    total = torch.zeros((), device=b.device)
    for dim in (2, 3):
        wanted = b.diff(dim=dim)
        strength = torch.nn.functional.max_pool2d(wanted.abs().amax(1, keepdim=True), 3, stride=1, padding=1)
        total = total + ((a.diff(dim=dim) - wanted).abs() / (strength + 0.1)).mean()
    return total


def reconstruct(vae: AutoencoderKL, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode with sampled latents and decode; returns the float32 output and the mean KL per latent element in nats."""
    mean, logvar = vae.quant_conv(vae.encoder(x)).float().chunk(2, dim=1)
    logvar = logvar.clamp(-30, 20)
    latents = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    kl = 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).mean()
    return vae.decoder(vae.post_quant_conv(latents)).float(), kl


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """Mean PSNR in dB of the reconstructions of `images` (N, 3, H, W in [-1, 1])."""
    rebuilt = torch.cat(
        [vae.decode(vae.encode(chunk).latent_dist.mean).sample.clamp(-1, 1) for chunk in images.split(50)]
    )
    mse = ((rebuilt - images) / 2).pow(2).mean(dim=(1, 2, 3))
    return float((-10 * mse.log10()).mean())


def train(steps: int, batch: int, out: Path, seed: int = 0) -> None:
    """Train, then save to `out` with the scaling factor that gives the latents unit standard deviation."""
    generator = common.setup(seed)
    common.use_compilable_upsampling()
    images = common.to_tensor(data.drawings()[0])
    held_out = common.to_tensor(data.drawings(200, data.HELD_OUT_SEED)[0])
    vae = build()
    ema = common.Ema(vae, 0.995)
    fast = torch.compile(lambda x: reconstruct(vae, x))
    optimiser = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps, pct_start=0.08)
    progress = common.Progress(steps)
    for step, index in enumerate(common.batches(len(images), batch, steps, generator), 1):
        x = images[index]
        with torch.autocast("cpu", torch.bfloat16):
            output, kl = fast(x)
        loss = (output - x).abs().mean() + (output - x).pow(2).mean() + 0.5 * gradient_loss(output, x) + 1e-5 * kl
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        ema.update(vae)
        progress(step, loss.item())
        if step % 500 == 0 or step == steps:
            common.log.info("held-out PSNR %.2f dB", psnr(ema.module, held_out))
            save(ema.module, images, out)
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()} at step {step}: lower the learning rate")


def polish(steps: int, batch: int, out: Path, seed: int = 1) -> None:
    """Train the decoder alone for longer, on the encoder's means: sharper faces, the very same latents.

    Can run before or after the UNet is trained, since nothing that the UNet sees changes.
    """
    generator = common.setup(seed)
    common.use_compilable_upsampling()
    images = common.to_tensor(data.drawings()[0])
    held_out = common.to_tensor(data.drawings(200, data.HELD_OUT_SEED)[0])
    vae = AutoencoderKL.from_pretrained(out).to(memory_format=torch.channels_last)
    common.log.info("held-out PSNR %.2f dB before", psnr(vae, held_out))
    ema = common.Ema(vae, 0.99)
    learned = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    decode = torch.compile(lambda z: vae.decoder(vae.post_quant_conv(z)))
    optimiser = torch.optim.AdamW(learned, lr=8e-4, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-4, steps, pct_start=0.05)
    progress = common.Progress(steps)
    for step, index in enumerate(common.batches(len(images), batch, steps, generator), 1):
        x = images[index]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(x).latent_dist.mean
            output = decode(latents).float()
        face_out, face = output[:, :, *FACE], x[:, :, *FACE]
        loss = (output - x).abs().mean() + 4 * (output - x).pow(2).mean() + 0.25 * gradient_loss(output, x)
        loss = loss + (face_out - face).abs().mean() + 0.25 * detail_loss(face_out, face)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
        ema.update(vae)
        progress(step, loss.item())
        if step % 500 == 0 or step == steps:
            common.log.info("held-out PSNR %.2f dB", psnr(ema.module, held_out))
            ema.module.save_pretrained(out)


def save(vae: AutoencoderKL, images: torch.Tensor, out: Path) -> None:
    """Set the scaling factor from 1,000 pictures and write the weights."""
    with torch.no_grad():
        latents = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in images[:1000].split(100)])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--out", type=Path, default=data.CACHE / "vae")
    parser.add_argument("--polish", type=int, metavar="STEPS", help="only train the decoder of a trained one further")
    arguments = parser.parse_args()
    if arguments.polish:
        polish(arguments.polish, arguments.batch, arguments.out)
        raise SystemExit
    train(arguments.steps, arguments.batch, arguments.out)
