"""Train the scenes checkpoint and probe on one GPU in a few minutes: `python -m training.scenes_gpu --minutes 7.9`.

Everything is budgeted in wall-clock time, and every learning rate follows the clock, so that the command ends when it
was told to on whatever machine it runs. Pictures and captions are made by all processor cores while the text encoder
already learns; then autoencoder, UNet (with the text encoder along), polished decoder and attribute probe learn in
turn. What has been learnt is written under `--out` as it goes: `scenes.tar.00`, `.01` ... (together one tar with the
half-precision checkpoint and the probe; `cat scenes.tar.* | tar x`), `quality.json` and two sheets of pictures.

It needs torch, diffusers, transformers, numpy, Pillow and resvg-py, and nothing else of the project's dependencies. On
a CPU, `--minutes 0.5 --count 64 --batch 8 --each 0` shows that every part works.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import multiprocessing
import os
import random
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from diffex_dagster.worlds.scenes import WORLD, State
from training import common, probe, text, unet, vae
from training.assemble import assemble
from training.captions import description

TRAIN_SEED, HELD_OUT_SEED = 1, 2  # the study's own images come from seed 3
MAX_TOKENS = 77  # as Stable Diffusion: a description of all fifteen groups fits
CAPTIONS = 8  # of each picture
TEXT_WIDTH = 160
LATENT_SIDE = WORLD.size // 4
PART = 15_000_000  # bytes of one part of the tar


class Clock:
    """The wall-clock budget of the whole run, and of each stage in it."""

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self.now, self.start, self.seconds = now, now(), minutes * 60

    @property
    def elapsed(self) -> float:
        return self.now() - self.start

    def steps(self, until: float, optimiser: torch.optim.Optimizer, rates: Sequence[float]) -> Iterator[int]:
        """Count steps until `until` (a share of the whole budget) has passed, with each group's rate set before each.

        Five per cent of warm-up, then a half cosine down to nothing; at least two steps.
        """
        begin, step = self.elapsed, 0
        span = max(until * self.seconds - begin, 1e-3)
        while step < 2 or self.elapsed - begin < span:
            share = min((self.elapsed - begin) / span, 1.0)
            shape = min(1.0, (share + 0.002) / 0.05) * 0.5 * (1 + math.cos(math.pi * share))
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                if isinstance(group["lr"], torch.Tensor):  # a recorded step reads it where it lies
                    group["lr"].fill_(rate * max(shape, 0.002))
                else:
                    group["lr"] = rate * max(shape, 0.002)
            step += 1
            yield step


class Ema:
    """An exponential moving average of a module's weights, in a few fused operations that a CUDA graph may record."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = copy.deepcopy(module).eval().requires_grad_(False), decay
        self.averaged, self.current = list(self.module.parameters()), [p.detach() for p in module.parameters()]
        self.step = torch.zeros((), device=self.averaged[0].device)

    @torch.no_grad()
    def update(self) -> None:
        self.step += 1
        share = 1 - ((1 + self.step) / (10 + self.step)).clamp(max=self.decay)
        change = torch._foreach_sub(self.current, self.averaged)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(self.averaged, change)


def recorded(step: Callable[[], torch.Tensor], device: torch.device, generator: torch.Generator) -> Callable:
    """A training step as one CUDA graph: the processor starts one thing a step in place of thousands.

    A UNet as small as this one computes a step in less time than a processor takes to start its kernels one by one.

    Args:
        step: computes loss, gradients and new weights, and returns the loss; it may ask the device for nothing and
            reads and writes the same tensors each time. It is called a few times before it is recorded.
        generator: what it draws random numbers from, beside the device's own generator.

    Returns:
        The recorded step, or `step` itself on a CPU or where it cannot be recorded (which is logged).
    """
    if device.type != "cuda":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            loss = step()
    except RuntimeError as error:
        common.log.warning("not recorded, each step is started kernel by kernel: %s", error)
        torch.cuda.synchronize()
        return step

    def replay() -> torch.Tensor:
        graph.replay()
        return loss

    return replay


@dataclass
class Material:
    """What is learnt from; pictures, tokens and concepts lie in files that all processes share.

    Attributes:
        pixels: (pictures, side, side, 3) uint8; those after the first `trained` are held out.
        tokens: (pictures, CAPTIONS, MAX_TOKENS) int16.
        concepts: (pictures, CAPTIONS, concepts) uint8: what each caption names.
    """

    states: list[State]
    tokenizer: CLIPTokenizer
    pixels: np.ndarray
    tokens: np.ndarray
    concepts: np.ndarray
    trained: int


MATERIAL: Material  # of this process and, by forking, of the workers
CONCEPTS = text.concepts(WORLD)


def _shared(folder: Path, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def _write_captions(span: range) -> None:
    """Captions of some pictures: plain ones of one to six attributes, and descriptions as edits use them."""
    for i in span:
        rng, sentences = random.Random(f"caption {i}"), []
        for k in range(CAPTIONS):
            described = rng.random() < 0.5
            names = description(WORLD, MATERIAL.states[i], rng) if described else WORLD.named(MATERIAL.states[i], rng)
            sentences.append(", ".join(names) if described else WORLD.sentence(names, rng))
            for name in names:
                MATERIAL.concepts[i, k, CONCEPTS.index(WORLD.phrases[name])] = 1
        MATERIAL.tokens[i] = text.tokens(MATERIAL.tokenizer, sentences, MAX_TOKENS)


def _draw(span: range) -> None:
    for i in span:
        MATERIAL.pixels[i] = np.asarray(WORLD.draw(MATERIAL.states[i]))


def prepare(count: int, held_out: int, folder: Path, parts: Path) -> Material:
    """Sample the states and lay out the files; nothing is drawn yet."""
    states = []
    for seed, amount in ((TRAIN_SEED, count), (HELD_OUT_SEED, held_out)):
        rng = random.Random(seed)
        states += [WORLD.sample_state(rng) for _ in range(amount)]
    tokenizer = text.build_tokenizer(parts / "tokenizer", WORLD, MAX_TOKENS)
    total, side = len(states), WORLD.size
    return Material(
        states,
        tokenizer,
        _shared(folder, "pixels", (total, side, side, 3), np.uint8),
        _shared(folder, "tokens", (total, CAPTIONS, MAX_TOKENS), np.int16),
        _shared(folder, "concepts", (total, CAPTIONS, len(CONCEPTS)), np.uint8),
        count,
    )


class Run:
    """One training run: its clock, device, material, and the parts that have been learnt."""

    def __init__(self, clock: Clock, device: torch.device, batch: int, parts: Path, out: Path) -> None:
        self.clock, self.device, self.batch, self.parts, self.out = clock, device, batch, parts, out
        name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"
        self.quality: dict[str, object] = {"device": name, "batch": batch}
        self.generator = torch.Generator(device).manual_seed(0)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def picked(self, count: int, size: int) -> torch.Tensor:
        return torch.randint(0, count, (size,), device=self.device, generator=self.generator)

    def images(self, index: torch.Tensor) -> torch.Tensor:
        """Pictures by number, (N, 3, side, side) in [-1, 1]."""
        chosen = self.pixels[index].permute(0, 3, 1, 2).float() / 127.5 - 1
        return chosen.contiguous(memory_format=torch.channels_last)

    def learn(
        self, name: str, until: float, module: nn.Module, groups: list[tuple[list[nn.Parameter], float]],
        loss: Callable[[], torch.Tensor], decay: float, save: Callable[[nn.Module], None] | None = None,
    ) -> nn.Module:  # fmt: skip
        """Minimise `loss` until a share of the whole budget has passed; returns the averaged module."""
        cuda = self.device.type == "cuda"
        optimiser = torch.optim.AdamW(
            [{"params": each, "lr": torch.zeros((), device=self.device) if cuda else 0.0} for each, _ in groups],
            betas=(0.9, 0.98), weight_decay=1e-3, fused=cuda, capturable=cuda,
        )  # fmt: skip
        learnt = [p for parameters, _ in groups for p in parameters]
        rates, ema, begun, smooth, saved = [rate for _, rate in groups], Ema(module, decay), self.clock.elapsed, None, 0

        def once() -> torch.Tensor:
            optimiser.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            nn.utils.clip_grad_norm_(learnt, 1.0)
            optimiser.step()
            ema.update()
            return value.detach()

        go = recorded(once, self.device, self.generator)
        for step in self.clock.steps(until, optimiser, rates):
            value = go()
            if step % 25 == 0 or step < 3:  # reading the loss waits for the device, so that the clock stays true
                read = value.item()
                if not math.isfinite(read):
                    common.log.warning("%s: loss %s at step %d; back to the average, half the rates", name, read, step)
                    module.load_state_dict(ema.module.state_dict())
                    for state in optimiser.state.values():
                        for kept in state.values():
                            kept.zero_()
                    rates[:] = [rate / 2 for rate in rates]
                    continue
                smooth = read if smooth is None else 0.8 * smooth + 0.2 * read
            if step % 500 == 0:
                common.log.info("%s step %d  loss %.4f  %.0f s", name, step, smooth, self.clock.elapsed)
            if save and self.clock.elapsed - begun > (saved + 1) * 0.15 * self.clock.seconds:
                saved += 1
                save(ema.module)
        seconds = self.clock.elapsed - begun
        common.log.info("%s: %d steps in %.0f s, loss %.4f", name, step, seconds, smooth)
        self.quality[name] = {
            "steps": step, "seconds": round(seconds, 1), "loss": round(smooth, 5), "recorded": go is not once,
        }  # fmt: skip
        return ema.module

    # the stages, in order

    def load_captions(self, material: Material) -> None:
        self.material = material
        self.tokens = torch.from_numpy(np.asarray(material.tokens)).to(self.device)
        self.concepts = torch.from_numpy(np.asarray(material.concepts)).to(self.device)

    def load_pictures(self) -> None:
        self.pixels = torch.from_numpy(np.asarray(self.material.pixels)).to(self.device)
        self.held_out = torch.arange(self.material.trained, len(self.material.states), device=self.device)

    def text(self, until: float, known: int) -> None:
        """The text encoder alone learns to say which concepts a caption names, from the first `known` pictures'."""
        encoder = text.build_encoder(self.material.tokenizer, TEXT_WIDTH, MAX_TOKENS).to(self.device).train()
        head = text.NamingHead(TEXT_WIDTH, len(CONCEPTS)).to(self.device)
        end, size = self.material.tokenizer.eos_token_id, 4 * self.batch

        def loss() -> torch.Tensor:
            rows, which = self.picked(known, size), self.picked(CAPTIONS, size)
            tokens, target = self.tokens[rows, which].long(), self.concepts[rows, which].float()
            ends = (tokens == end).int().argmax(1)
            mask = torch.arange(MAX_TOKENS, device=self.device) <= ends[:, None]
            with self.autocast():
                logits = head(encoder(tokens), mask.float())
            losses = [
                nn.functional.binary_cross_entropy_with_logits(each.float(), target, reduction="sum") for each in logits
            ]
            return sum(losses) / size

        both = nn.ModuleList([encoder, head])
        averaged = self.learn("text", until, both, [(list(both.parameters()), 1e-3)], loss, 0.99)
        self.encoder = averaged[0].float().eval()
        self.encoder.save_pretrained(self.parts / "text_encoder")
        tokens, target = self.tokens[self.held_out_range(), 0].long(), self.concepts[self.held_out_range(), 0].bool()
        ends = (tokens == end).int().argmax(1)
        mask = torch.arange(MAX_TOKENS, device=self.device) <= ends[:, None]
        with torch.no_grad():
            said = averaged[1](self.encoder(tokens), mask.float())[1] > 0
        self.quality["captions_named_exactly"] = round(float((said == target).all(1).float().mean()), 4)

    def held_out_range(self) -> torch.Tensor:
        return torch.arange(self.material.trained, len(self.material.states), device=self.device)

    def autoencoder(self, until: float) -> None:
        """Pictures to latents and back."""
        module = vae.build(channels=(40, 64, 80), size=WORLD.size, groups=8).to(self.device)

        def loss() -> torch.Tensor:
            x = self.images(self.picked(self.material.trained, self.batch // 2))
            with self.autocast():
                output, kl = vae.reconstruct(module, x)
            return (
                (output - x).abs().mean() + (output - x).pow(2).mean() + 0.5 * vae.gradient_loss(output, x) + 1e-5 * kl
            )

        self.vae = self.learn("autoencoder", until, module, [(list(module.parameters()), 1.2e-3)], loss, 0.995)
        some = torch.arange(min(1000, self.material.trained), device=self.device)
        with torch.no_grad():
            latents = torch.cat([self.vae.encode(self.images(part)).latent_dist.mean for part in some.split(100)])
        self.vae.register_to_config(scaling_factor=float(1 / latents.std()))
        self.vae.save_pretrained(self.parts / "vae")
        self.quality["psnr_before_polish_db"] = round(self.psnr(), 2)

    @torch.no_grad()
    def psnr(self) -> float:
        return vae.psnr(self.vae, self.images(self.held_out[:200]))

    def polish(self, until: float) -> None:
        """The decoder alone on the same latents: sharper outlines, faint ones too."""
        module = self.vae.requires_grad_(True)
        learnt = [*module.decoder.parameters(), *module.post_quant_conv.parameters()]

        def loss() -> torch.Tensor:
            index = self.picked(self.material.trained, self.batch // 2)
            x = self.images(index)
            with self.autocast():
                latents = self.latents[index].float() / module.config.scaling_factor
                output = module.decoder(module.post_quant_conv(latents)).float()
            pixel = (output - x).abs().mean() + 4 * (output - x).pow(2).mean() + 0.25 * vae.gradient_loss(output, x)
            return pixel + 0.25 * vae.detail_loss(output, x)

        self.vae = self.learn("polish", until, module, [(learnt, 8e-4)], loss, 0.995)
        self.vae.save_pretrained(self.parts / "vae")
        self.quality["psnr_db"] = round(self.psnr(), 2)

    @torch.no_grad()
    def encode(self) -> None:
        """All pictures to scaled latents (N, 4, side/4, side/4)."""
        rows = []
        for part in torch.arange(len(self.material.states), device=self.device).split(250):
            with self.autocast():
                rows.append(
                    self.vae.encode(self.images(part)).latent_dist.mean.float() * self.vae.config.scaling_factor
                )
        self.latents = torch.cat(rows)
        common.log.info("latents %s, standard deviation %.3f", tuple(self.latents.shape), self.latents.std())

    def denoiser(self, until: float) -> None:
        """The UNet, with the text encoder learning along at a tenth of the rate."""
        module = unet.build(sample_size=LATENT_SIDE, text_width=TEXT_WIDTH).to(self.device)
        encoder = copy.deepcopy(self.encoder).train().requires_grad_(True)
        schedule = DDPMScheduler(**unet.SCHEDULE)
        kept = schedule.alphas_cumprod.to(self.device)
        weights = ((kept / (1 - kept)).clamp(max=5) / (kept / (1 - kept))).sqrt()
        empty = torch.from_numpy(text.tokens(self.material.tokenizer, [""], MAX_TOKENS)).to(self.device)

        def loss() -> torch.Tensor:
            index, which = self.picked(self.material.trained, self.batch), self.picked(CAPTIONS, self.batch)
            dropped = torch.rand(self.batch, 1, device=self.device, generator=self.generator) < 0.1
            tokens = torch.where(dropped, empty, self.tokens[index, which]).long()
            x, when = self.latents[index], self.picked(1000, self.batch)
            noise = torch.randn(x.shape, device=self.device, generator=self.generator)
            a = kept[when][:, None, None, None]
            noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
            with self.autocast():
                predicted = module(noisy, when, encoder(tokens).last_hidden_state, return_dict=False)[0]
            return ((predicted.float() - noise).pow(2).mean(dim=(1, 2, 3)) * weights[when]).mean()

        both = nn.ModuleDict({"unet": module, "text_encoder": encoder})
        groups = [(list(module.parameters()), 1e-3), (list(encoder.parameters()), 1e-4)]
        self.save_denoiser(self.learn("denoiser", until, both, groups, loss, 0.999, self.save_denoiser))

    def save_denoiser(self, averaged: nn.ModuleDict) -> None:
        averaged["unet"].save_pretrained(self.parts / "unet")
        averaged["text_encoder"].save_pretrained(self.parts / "text_encoder")
        self.pack()

    def probe(self, until: float) -> None:
        """The attribute probe: what does a picture show? It only ever sees drawings."""
        module = probe.Probe(WORLD, (48, 64, 96, 128)).to(self.device).to(memory_format=torch.channels_last)
        targets = {factor: each.to(self.device) for factor, each in probe.labels(self.material.states, WORLD).items()}

        def loss() -> torch.Tensor:
            index = self.picked(self.material.trained, self.batch)
            with self.autocast():
                logits = module(probe.softened(self.images(index)))
            return sum(
                nn.functional.cross_entropy(logits[factor].float(), target[index], ignore_index=-100)
                for factor, target in targets.items()
            )

        self.learn("probe", until, module, [(list(module.parameters()), 3e-3)], loss, 0.99)
        self.prober = module.eval()  # its own weights: an average of weights lacks the batch statistics
        with torch.no_grad():
            read = [self.prober(self.images(part)) for part in self.held_out.split(250)]
        accuracy = {}
        for factor, target in targets.items():
            truth, answer = target[self.held_out], torch.cat([each[factor] for each in read]).argmax(1)
            accuracy[factor] = round(float((answer == truth)[truth >= 0].float().mean()), 4)
        folder = self.parts / "probe"
        folder.mkdir(exist_ok=True)
        weights = {name: value.float().cpu().contiguous() for name, value in self.prober.state_dict().items()}
        save_file(weights, folder / "probe.safetensors")
        self.quality["probe_accuracy"] = accuracy
        (folder / "probe.json").write_text(
            json.dumps({"held_out_accuracy": accuracy, "images": len(self.held_out)}, indent=1)
        )

    # what comes out

    def pack(self) -> None:
        """Write everything learnt so far under `out`, in parts that are small enough to carry."""
        checkpoint = self.parts / "checkpoint"
        if (self.parts / "unet").exists():
            assemble(self.parts, checkpoint)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for folder in (checkpoint, self.parts / "probe"):
                if folder.exists():
                    tar.add(folder, folder.name)
        data = content.getvalue()
        for i, start in enumerate(range(0, len(data), PART)):
            part = self.out / f"scenes.tar.{i:02d}"
            part.with_suffix(".new").write_bytes(data[start : start + PART])
            part.with_suffix(".new").replace(part)
        self.quality["seconds"] = round(self.clock.elapsed, 1)
        (self.out / "quality.json").write_text(json.dumps(self.quality, indent=1) + "\n", "utf-8")
        common.log.info("packed %.1f MB at %.0f s", len(data) / 1e6, self.clock.elapsed)

    def look(self, each: int) -> None:
        """Draw from every phrase's first words and ask the probe; and two sheets to look at."""
        pipe = StableDiffusionPipeline.from_pretrained(
            self.parts / "checkpoint", torch_dtype=torch.float32 if self.device.type == "cpu" else torch.float16
        ).to(self.device)
        pipe.set_progress_bar_config(disable=True)
        prompts = [v.phrases[0] for values in WORLD.factors.values() for v in values.values() if v.phrases]
        wanted = [prompt for prompt in prompts for _ in range(each)]
        made: list[Image.Image] = []
        for start in range(0, len(wanted), 320):
            part = wanted[start : start + 320]
            made += pipe(part, num_inference_steps=20, guidance_scale=4.0, height=WORLD.size, width=WORLD.size,
                         generator=torch.Generator("cpu").manual_seed(start)).images  # fmt: skip
        read = self.prober.cpu().read(made)
        obeyed = {}
        for i, prompt in enumerate(prompts):
            factor, values = WORLD.phrases[prompt]
            obeyed[prompt] = float(np.mean([s[factor] in values for s in read[i * each : (i + 1) * each]]))
        self.quality["pictures_a_prompt"] = each
        self.quality["prompts_obeyed"] = obeyed
        self.quality["prompts_obeyed_mean"] = round(float(np.mean(list(obeyed.values()))), 4)
        sheet(made[:: max(1, each // 2)][:160], self.out / "drawn.png")
        shown = self.images(self.held_out[:40])
        with torch.no_grad():
            rebuilt = self.vae.decode(self.vae.encode(shown).latent_dist.mean).sample.clamp(-1, 1)
        pairs = torch.stack([shown, rebuilt], 1).flatten(0, 1).permute(0, 2, 3, 1)
        arrays = ((pairs.float().cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
        sheet([Image.fromarray(array) for array in arrays], self.out / "rebuilt.png")


def sheet(pictures: Sequence[Image.Image], path: Path, across: int = 16) -> None:
    """Pictures side by side."""
    side = WORLD.size
    page = Image.new("RGB", (across * side, -(-len(pictures) // across) * side))
    for i, picture in enumerate(pictures):
        page.paste(picture, (i % across * side, i // across * side))
    page.save(path)


class Alone:
    """A pool of no other process: each job is done when it is asked for."""

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, do: Callable, jobs: Sequence, chunksize: int = 1) -> list:
        return [do(job) for job in jobs]

    def map_async(self, do: Callable, jobs: Sequence, chunksize: int = 1) -> Alone:
        self.map(do, jobs)
        return self

    def get(self) -> None:
        """Everything is done already."""


def workers(count: int):
    """A pool of forked processes, or this process alone where one is enough."""
    return multiprocessing.get_context("fork").Pool(count) if count > 1 else Alone()


def main() -> None:
    """Train everything within the budget."""
    global MATERIAL
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7.9, help="wall-clock budget of everything")
    parser.add_argument("--count", type=int, default=100_000, help="pictures to learn from")
    parser.add_argument("--held-out", type=int, default=1000, help="pictures to measure on")
    parser.add_argument("--batch", type=int, default=256, help="latents of one step of the UNet")
    parser.add_argument("--each", type=int, default=8, help="pictures drawn from each prompt at the end; 0: none")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    common.setup(0)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    arguments.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scenes_"))
    parts = folder / "parts"
    MATERIAL = prepare(arguments.count, arguments.held_out, folder, parts)
    learnt, held_out = (
        [range(i, min(i + 200, end)) for i in range(start, end, 200)]
        for start, end in ((0, MATERIAL.trained), (MATERIAL.trained, len(MATERIAL.states)))
    )
    first = learnt[:100]  # captions enough for the text encoder to begin with
    with workers(arguments.workers) as pool:  # forked before CUDA is touched
        pool.map(_write_captions, [*first, *held_out], chunksize=1)
        common.log.info("first captions at %.0f s", clock.elapsed)
        rest = pool.map_async(_write_captions, learnt[len(first) :], chunksize=1)
        drawing = pool.map_async(_draw, [*learnt, *held_out], chunksize=1)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        run = Run(clock, device, arguments.batch, parts, arguments.out)
        run.load_captions(MATERIAL)
        run.text(until=0.12, known=first[-1].stop)
        rest.get()
        drawing.get()
        run.load_captions(MATERIAL)
    common.log.info("%d pictures at %.0f s", len(MATERIAL.states), clock.elapsed)
    run.load_pictures()
    run.autoencoder(until=0.30)
    run.encode()
    run.denoiser(until=0.83)
    run.polish(until=0.90)
    run.probe(until=0.95)
    run.pack()
    if arguments.each:
        run.look(arguments.each)
        run.pack()
    print(json.dumps({k: v for k, v in run.quality.items() if k != "prompts_obeyed"}, indent=1))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
