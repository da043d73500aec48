"""The contenders of `diffex bench speed`, one process each: `python -m diffex_dagster.bench.contenders NAME FILE`.

A contender loads its models, makes one edit to warm up, prints a line, and then does the whole workload once for every
line that it reads, answering with a line of JSON (`Sample`). Between its turns it waits without using the processor, so
that the contenders can take turns and what else the machine does meets all of them alike.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from diffex_dagster.editing import checkpoints
from diffex_dagster.editing.inversions import inversion_seed
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.utils.hashing import picture_digest

Work = Callable[[bool], int]  # whether to warm up only -> edits made

TITLES = {
    "authors": "as the authors do: inverted for every edit, one at a time (diffusers)",
    "invert_once": "inverted once a picture, one edit at a time (diffusers)",
    "engine_single": "this engine, one edit at a time",
    "engine": "this engine, {batch} edits at a time",
    "limit": "the limit: the same UNet rows on random inputs, nothing else",
}
RATIOS = {  # name -> (numerator, denominator): how many times longer the numerator takes
    "vs_authors": ("authors", "engine"),
    "vs_invert_once": ("invert_once", "engine"),
    "of_limit": ("limit", "engine"),
    "single_vs_invert_once": ("invert_once", "engine_single"),
}


@dataclass(frozen=True)
class Workload:
    """Every picture edited towards every prompt."""

    options: dict[str, Any]  # of LeditsOptions, batch_size among them
    pictures: tuple[str, ...]  # files
    prompts: tuple[str, ...]
    rows: int = 0  # UNet rows of one repetition, for the limit
    rows_at_once: int = 0

    def images(self) -> dict[str, Image.Image]:
        """The pictures by file, RGB."""
        images = {}
        for file in self.pictures:
            with Image.open(file) as picture:
                images[file] = picture.convert("RGB")
        return images

    def editor_options(self) -> LeditsOptions:
        return LeditsOptions.model_validate(self.options)


@dataclass(frozen=True)
class Sample:
    """One repetition of one contender."""

    seconds: float
    cpu_seconds: float  # of this process, all threads: says how much of the time the machine gave to others
    edits: int
    rows: int  # UNet rows computed
    calls: int  # UNet calls made
    peak_mb: float  # of the process so far (CPU), or of the GPU's memory


class Rows:
    """Counts the rows that a UNet is given."""

    def __init__(self, unet: Any) -> None:
        self.clear()
        # A compiled UNet is a module around the other: its hooks are not part of what is compiled.
        unet.register_forward_pre_hook(self._count, with_kwargs=True)

    def clear(self) -> None:
        """Count from nothing again."""
        self.rows = self.calls = 0

    def _count(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.rows += len(args[0] if args else kwargs["sample"])
        self.calls += 1


def diffusers_pipeline(options: LeditsOptions) -> Any:
    """diffusers' LEDITS++ pipeline on the editor's checkpoint, device and dtype, set up as its documentation does."""
    import torch
    from diffusers import (
        DPMSolverMultistepScheduler,
        LEditsPPPipelineStableDiffusion,
        LEditsPPPipelineStableDiffusionXL,
    )

    from diffex_dagster.editing.models import load_components

    device, dtype = LeditsEditor(options).placement
    checkpoint = checkpoints.locate(options.checkpoint, options.revision, options.config)
    parts = load_components(checkpoint, getattr(torch, dtype), options.lora_files())
    for model in parts.models:
        model.eval()
    scheduler = DPMSolverMultistepScheduler.from_config(
        parts.schedule, algorithm_type="sde-dpmsolver++", solver_order=2
    )
    if parts.is_xl:
        parts.vae.to(getattr(torch, dtype))  # it goes to float32 and back by itself
        (text_encoder, text_encoder_2), (tokenizer, tokenizer_2) = parts.encoders, parts.tokenizers
        pipeline: Any = LEditsPPPipelineStableDiffusionXL(
            vae=parts.vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2, tokenizer=tokenizer,
            tokenizer_2=tokenizer_2, unet=parts.unet, scheduler=scheduler, add_watermarker=False,
            force_zeros_for_empty_prompt=parts.zeros_when_empty,
        )  # fmt: skip
    else:
        pipeline = LEditsPPPipelineStableDiffusion(
            vae=parts.vae, text_encoder=parts.encoders[0], tokenizer=parts.tokenizers[0], unet=parts.unet,
            scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def restore_autoencoder(pipeline: Any) -> None:
    """Put right what `invert` of diffusers' pipeline for XL leaves behind in float16.

    It takes the autoencoder to float32 and does not take it back, and an edit then gives it float16.
    """
    pipeline.vae.to(pipeline.unet.dtype)


def diffusers_contender(workload: Workload, invert_again: bool) -> tuple[Work, Rows]:
    """One edit at a time: inverting for every edit as the authors' code does, or once a picture."""
    import torch

    options = workload.editor_options()
    pipeline = diffusers_pipeline(options)
    images = workload.images()
    masks = {
        "noise": {"use_cross_attn_mask": False, "use_intersect_mask": False},
        "cross_attention": {"use_cross_attn_mask": True, "use_intersect_mask": False},
        "intersection": {"use_cross_attn_mask": True, "use_intersect_mask": True},
        "none": {"use_cross_attn_mask": False, "use_intersect_mask": False},
    }

    def invert(picture: Image.Image) -> None:
        seed = inversion_seed(picture_digest(picture), 0)
        generator = torch.Generator().manual_seed(seed)
        pipeline.invert(picture, num_inversion_steps=options.steps, skip=options.skip, generator=generator)
        restore_autoencoder(pipeline)

    def edit(prompt: str) -> Image.Image:
        own = options.setting(Concept(prompt))
        output = pipeline(
            editing_prompt=[prompt],
            edit_guidance_scale=own.scale,
            edit_threshold=0.0 if own.mask == "none" else own.threshold,
            edit_warmup_steps=own.warmup,
            edit_cooldown_steps=None if own.cooldown is None else [own.cooldown],
            **masks[own.mask],
        )
        picture: Image.Image = output.images[0]
        return picture

    def work(warm_up: bool) -> int:
        made = 0
        for picture in images.values():
            for i, prompt in enumerate(workload.prompts):
                if invert_again or i == 0:
                    invert(picture)
                edit(prompt)
                made += 1
                if warm_up:
                    return made
        return made

    return work, Rows(pipeline.unet)


def engine_contender(workload: Workload, editor: LeditsEditor | None = None) -> tuple[Work, Rows]:
    """The project's engine, from pictures to pictures; nothing is kept from one repetition to the next.

    Args:
        editor: one with its model loaded; when None, the workload's.
    """
    editor = editor or LeditsEditor(workload.editor_options())
    images = workload.images()
    requests = [EditRequest(image, (Concept(prompt),)) for image in images for prompt in workload.prompts]

    def work(warm_up: bool) -> int:
        editor.forget_inversions()
        return sum(len(batch) for batch in editor.edit(images, requests[:1] if warm_up else requests))

    return work, Rows(editor.engine().denoiser)


def store_contender(workload: Workload) -> tuple[Work, Rows]:
    """The engine as a study uses it: pictures come from a store, and every batch of edits is kept there."""
    from diffex_dagster.stages.edits import ensure_edits
    from diffex_dagster.store import Store

    editor = LeditsEditor(workload.editor_options())

    def work(warm_up: bool) -> int:
        editor.forget_inversions()
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            keys = store.put_images(workload.images())
            requests = [EditRequest(key, (Concept(prompt),)) for key in keys.values() for prompt in workload.prompts]
            return ensure_edits(store, editor, requests[:1] if warm_up else requests).made

    return work, Rows(editor.engine().denoiser)


def limit_contender(workload: Workload, editor: LeditsEditor | None = None) -> tuple[Work, Rows]:
    """As many UNet rows in as large batches on random inputs, by the engine's own UNet, and nothing else."""
    import torch

    from diffex_dagster.editing.models import Texts

    engine = (editor or LeditsEditor(workload.editor_options())).engine()
    config = engine.unet.config
    at_once = workload.rows_at_once
    shape = (at_once, config.in_channels, config.sample_size, config.sample_size)
    x = torch.randn(shape, device=engine.device, dtype=engine.dtype)
    texts = Texts.repeat(engine.text("noise"), at_once)
    timesteps = torch.full((at_once,), 500, device=engine.device)

    @torch.no_grad()
    def work(warm_up: bool) -> int:
        left = at_once if warm_up else workload.rows
        while left > 0:
            count = min(left, at_once)
            engine.predict(x[:count], timesteps[:count], texts[:count], None, at_once)
            left -= count
        return 0

    return work, Rows(engine.denoiser)


CONTENDERS: dict[str, Callable[[Workload], tuple[Work, Rows]]] = {
    "authors": lambda workload: diffusers_contender(workload, invert_again=True),
    "invert_once": lambda workload: diffusers_contender(workload, invert_again=False),
    "engine_single": engine_contender,
    "engine": engine_contender,
    "store": store_contender,
    "limit": limit_contender,
}


def _peak_mb() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def wait_for_device() -> None:
    """Until all that a GPU was asked to compute is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def turn(work: Work, rows: Rows) -> Sample:
    """One repetition of a contender's work."""
    wait_for_device()
    rows.clear()
    start, cpu = time.perf_counter(), time.process_time()
    edits = work(False)
    wait_for_device()
    return Sample(time.perf_counter() - start, time.process_time() - cpu, edits, rows.rows, rows.calls, _peak_mb())


def _answer(line: dict[str, Any]) -> None:
    sys.__stdout__.write(json.dumps(line) + "\n")  # type: ignore[union-attr]  # stdout is a pipe here
    sys.__stdout__.flush()  # type: ignore[union-attr]


def main(name: str, file: Path) -> None:
    """Serve repetitions until the input ends."""
    sys.stdout = sys.stderr  # what libraries print must not get between the answers
    warnings.filterwarnings("ignore")
    raw = json.loads(file.read_text("utf-8"))
    workload = Workload(**raw | {"pictures": tuple(raw["pictures"]), "prompts": tuple(raw["prompts"])})
    work, rows = CONTENDERS[name](workload)
    work(True)
    wait_for_device()
    _answer({"ready": name})
    for _ in sys.stdin:
        _answer(asdict(turn(work, rows)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
