"""Whether a GPU edits right: as diffusers does, the same bits again, and in two processes as in one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.bench.contenders import (
    Workload,
    diffusers_pipeline,
    restore_autoencoder,
)
from diffex_dagster.bench.gpu_plan import PROMPTS, Check, Figures, Plan, requests_of, warm
from diffex_dagster.editing.inversions import inversion_seed
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.ledits_edits import edit_of
from diffex_dagster.editing.pixels import picture_tensor
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.utils.hashing import picture_digest


def parity(check: Check, plan: Plan, dtype: str) -> Figures:
    """One edit by the engine and by diffusers' pipeline in the same number format: latents and pixels."""
    import torch

    workload = check.workload(plan, dtype, correct_end=False)
    [file, *_] = workload.pictures
    picture = workload.images()[file]
    seed = inversion_seed(picture_digest(picture), 0)
    pipeline = _counting_pipeline(workload.editor_options())
    editor = LeditsEditor(workload.editor_options())
    engine = editor.engine()
    inversion_options = {"num_inversion_steps": plan.steps, "skip": editor.options.skip}
    if engine.components.is_xl:
        inversion_options["num_zero_noise_steps"] = engine.zero_noise_steps
    found: Figures = {}
    with _exact_products(dtype == "float32"), _noise_in_full_precision():
        latents = engine.encode(picture_tensor(picture, engine.resolution)[None])
        [inversion] = engine.invert(latents, [torch.Generator().manual_seed(seed)])
        for mask in ("intersection", "none"):
            own = editor.with_options(mask=mask)
            request = EditRequest(file, (Concept(PROMPTS[0]),))
            ours = engine.edit([edit_of(engine, inversion, request, own.options)[0]])
            pipeline.invert(picture, generator=torch.Generator().manual_seed(seed), **inversion_options)
            restore_autoencoder(pipeline)
            crossed = mask == "intersection"
            theirs = pipeline(
                editing_prompt=[PROMPTS[0]], edit_guidance_scale=own.options.scale,
                edit_threshold=own.options.threshold if crossed else 0.0, use_cross_attn_mask=crossed,
                use_intersect_mask=crossed, output_type="latent",
            ).images.float()  # fmt: skip
            null = inversion.latents[-1][None]
            pixels = [(engine.decode(x) * 255).round() for x in (ours, theirs, null)]
            levels = (pixels[0] - pixels[1]).abs()
            found[mask] = {
                "latents_max": (ours - theirs).abs().max().item(),
                "latents_mean": (ours - theirs).abs().mean().item(),
                "edit_mean": (theirs - null).abs().mean().item(),  # how far the edit moves the latents
                "pixels_max": levels.max().item(),
                "pixels_mean": levels.mean().item(),
                "pixels_more_than_1": (levels > 1).float().mean().item(),
                "edit_pixels_mean": (pixels[1] - pixels[2]).abs().mean().item(),
            }
    return found


@contextmanager
def _exact_products(wanted: bool) -> Iterator[None]:
    """No TF32: by default a GPU's convolutions in float32 keep 10 bits of each factor."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before and not wanted
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def _noise_in_full_precision() -> Iterator[None]:
    """The noise of diffusers' inversion drawn in float32, as the engine draws it, and then taken to its number format.

    In some versions of PyTorch (2.11) a seed gives other numbers in half precision than in float32, so that the two
    would invert with noise that has nothing to do with each other.
    """
    from diffusers.pipelines.ledits_pp import pipeline_leditspp_stable_diffusion as plain
    from diffusers.pipelines.ledits_pp import pipeline_leditspp_stable_diffusion_xl as xl

    def drawn(shape: Any, generator: Any = None, device: Any = None, dtype: Any = None, layout: Any = None) -> Any:
        return original(shape, generator=generator, device=device, layout=layout).to(dtype)

    original = plain.randn_tensor
    try:
        plain.randn_tensor = xl.randn_tensor = drawn
        yield
    finally:
        plain.randn_tensor = xl.randn_tensor = original


def _counting_pipeline(options: LeditsOptions) -> Any:
    """diffusers' pipeline with tokenizers that count a prompt's own tokens.

    With transformers 5 it takes the padded length for a prompt's, so that its attention masks sum over the padding.
    """
    pipeline = diffusers_pipeline(options)
    for name in ("tokenizer", "tokenizer_2"):
        if hasattr(pipeline, name):
            plain = type(getattr(pipeline, name))

            class Counting(plain):  # type: ignore[misc, valid-type]  # CLIPTokenizer
                def __call__(self, *args: Any, **kwargs: Any) -> Any:
                    tokens = super().__call__(*args, **kwargs)
                    if kwargs.get("return_length"):
                        tokens["length"] = tokens["attention_mask"].sum(dim=1)
                    return tokens

            setattr(pipeline, name, Counting.from_pretrained(Path(options.checkpoint) / name))
    return pipeline


def same_bits(check: Check, plan: Plan) -> Figures:
    """Edits as one run makes them, as one that goes on after a stop does, batches backwards, and other batches."""
    workload = check.workload(plan, batch_size=plan.batches[0])
    editor = LeditsEditor(workload.editor_options())
    images, requests = workload.images(), requests_of(workload)
    once = _edited(editor, images, requests)
    batches = editor.batches(requests)
    left = [request for batch in batches[1:] for request in batch]
    backwards: Made = {}
    for batch in reversed(batches):
        backwards |= _edited(editor, images, batch)
    other = _edited(editor.with_options(batch_size=max(plan.batches[0] // 2, 1)), images, requests)
    return {
        "edits": len(requests),
        "batches": [len(batch) for batch in batches],
        "again": _differ(once, _edited(editor, images, requests)),
        "resumed": _differ(once, _edited(editor, images, left)),
        "backwards": _differ(once, backwards),
        "other_batches": _differ(once, other),
    }


Made = dict[EditRequest, tuple[np.ndarray, np.ndarray]]  # pixels, and the mask (empty where there is none)


def _edited(editor: LeditsEditor, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]) -> Made:
    editor.forget_inversions()
    return {
        request: (np.asarray(made), np.asarray(made.info.get(MASK, Image.new("L", (0, 0)))))
        for batch in editor.edit(images, requests)
        for request, made in batch
    }


def _differ(once: Made, again: Made) -> Figures:
    """How many of the edits that `again` has differ, in how many values of their pixels, and by how much."""
    apart = [np.abs(once[request][0].astype(int) - pixels.astype(int)) for request, (pixels, _) in again.items()]
    masks = [not np.array_equal(once[request][1], mask) for request, (_, mask) in again.items()]
    return {
        "edits": len(apart),
        "edits_that_differ": sum(bool(each.any()) or mask for each, mask in zip(apart, masks, strict=True)),
        "masks_that_differ": sum(masks),
        "share_of_values": sum(int((each > 0).sum()) for each in apart) / sum(each.size for each in apart),
        "most": max(int(each.max()) for each in apart),
        "mean": sum(float(each.sum()) for each in apart) / sum(each.size for each in apart),
    }


def _digests(edited: Made) -> dict[str, str]:
    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    return {
        digest(repr(request).encode()): digest(pixels.tobytes() + mask.tobytes())
        for request, (pixels, mask) in edited.items()
    }


def two_processes(check: Check, plan: Plan) -> Figures:
    """Two processes on one device, each with every other batch, against one process with all of them.

    Plain processes over the project's editor, without the pool that shares work among workers.
    """
    workload = check.workload(plan, batch_size=plan.batches[0])
    file = check.folder / "shared.json"
    file.write_text(json.dumps(asdict(workload)), "utf-8")
    command = [sys.executable, "-m", "diffex_dagster.bench.gpu_check", "--share", str(file)]
    workers = [
        subprocess.Popen(  # noqa: S603 (this module)
            [*command, "--part", str(part), "--of", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for part in (0, 1)
    ]
    try:
        editor = LeditsEditor(workload.editor_options())  # while they load
        images, requests = workload.images(), requests_of(workload)
        warm(editor, workload)
        for worker in workers:
            if not worker.stdout.readline():  # type: ignore[union-attr]  # a pipe
                raise RuntimeError(f"a process ended early with {worker.wait()}")
        start = time.perf_counter()
        once = _digests(_edited(editor, images, requests))
        alone = time.perf_counter() - start
        start = time.perf_counter()
        for worker in workers:
            worker.stdin.write("go\n")  # type: ignore[union-attr]
            worker.stdin.flush()  # type: ignore[union-attr]
        answers = [json.loads(worker.stdout.readline()) for worker in workers]  # type: ignore[union-attr]
        together = time.perf_counter() - start
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    shared = answers[0]["digests"] | answers[1]["digests"]
    return {
        "edits": len(once),
        "made_by_each": [len(answer["digests"]) for answer in answers],
        "same_edits": shared.keys() == once.keys(),
        "edits_that_differ": sum(shared.get(request) != digest for request, digest in once.items()),
        "seconds_one_process": alone,
        "seconds_two_processes": together,
        "peak_mb_each": [answer["peak_mb"] for answer in answers],
    }


def share(file: Path, part: int, of: int) -> None:
    """A process of `two_processes`: make every `of`-th batch when told to."""
    import torch

    raw = json.loads(file.read_text("utf-8"))
    workload = Workload(**raw | {"pictures": tuple(raw["pictures"]), "prompts": tuple(raw["prompts"])})
    editor = LeditsEditor(workload.editor_options())
    images = workload.images()
    warm(editor, workload)
    print("ready", flush=True)
    sys.stdin.readline()
    mine = [request for batch in editor.batches(requests_of(workload))[part::of] for request in batch]
    digests = _digests(_edited(editor, images, mine))
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    print(json.dumps({"digests": digests, "peak_mb": peak}), flush=True)
