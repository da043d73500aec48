"""Every check of the project that needs a GPU, in one run and one file (`make gpu-check`).

Speed at the sizes of Stable Diffusion 1.5 and XL against diffusers' pipeline and against the UNet alone, peak memory by
batch, parity with diffusers, the same bits whatever else is edited, two processes on one GPU, and where the time goes.
Weights are random: speed does not depend on them.

The file is written again after every section. One that fails is recorded with its error and the rest goes on; one that
would begin too late is left out with a note. All contenders of a size run in one process and take turns, so that the
device is never shared and a checkpoint is read twice only. What takes as long for every edit is timed on fewer edits
than the engine, and compared by the edit.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.bench.contenders import (
    RATIOS,
    Rows,
    Sample,
    Work,
    Workload,
    diffusers_contender,
    diffusers_pipeline,
    engine_contender,
    limit_contender,
    restore_autoencoder,
    turn,
    wait_for_device,
)
from diffex_dagster.bench.gpu_tables import AIMS, as_markdown, merged, write_into
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions, inversion_seed, picture_digest, picture_tensor
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.errors import first_line

Figures = dict[str, Any]
PROMPTS = ("beard", "hat", "smile", "glasses", "old", "red hair", "makeup", "earrings")
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")


@dataclass(frozen=True)
class Plan:
    """How one size is measured."""

    size: str  # of `random_weights.SIZES`
    pictures: int = 4
    prompts: int = len(PROMPTS)
    batches: tuple[int, ...] = (8, 16, 32)  # edits at a time
    few: int = 4  # edits of a contender that takes as long for each
    rounds: int = 2
    steps: int = 20
    seconds: float = 90.0  # no further batch or round begins after so many


FULL = (Plan("sd15", seconds=45), Plan("sdxl", pictures=2, batches=(8, 16), few=2, seconds=75))
TINY = (
    Plan("tiny", pictures=2, prompts=3, batches=(2, 3), few=2, rounds=1, steps=4),
    Plan("tiny-xl", pictures=1, prompts=2, batches=(2,), few=1, rounds=1, steps=4),
)


@dataclass
class Check:
    """A run of all checks: where it computes, how long it may take, and what it found."""

    device: str
    file: Path
    folder: Path  # for checkpoints and pictures
    plans: Sequence[Plan]
    budget: float  # seconds
    half: str = "float16"
    figures: Figures = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.monotonic() - self.started)

    def section(self, name: str, least: float, make: Callable[[], Figures]) -> None:
        """Keep what `make` finds under `name`; `least` are the seconds that it takes at least."""
        start = time.monotonic()
        found: Figures
        if self.left < least:
            found = {"left_out": f"{max(self.left, 0):.0f} s were left and it takes at least {least:.0f}"}
        else:
            try:
                found = make()
            except Exception as error:
                found = {
                    "error": f"{type(error).__name__}: {first_line(error)}",
                    "trace": traceback.format_exc()[-3000:],
                }
        found["seconds"] = round(time.monotonic() - start, 2)
        self.figures[name] = found
        self.figures["total_seconds"] = round(time.monotonic() - self.started, 2)
        part = self.file.with_name(self.file.name + ".part")
        part.write_text(json.dumps(self.figures, indent=1) + "\n", "utf-8")
        part.replace(self.file)
        print(f"{name}: {_summary(found)}", flush=True)
        _free()

    def options(self, plan: Plan, dtype: str | None = None, **changes: Any) -> LeditsOptions:
        """The editor's default options on a checkpoint of the plan's size."""
        chosen = {"checkpoint": str(self.checkpoint(plan.size)), "device": self.device, "dtype": dtype or self.half}
        return LeditsOptions.model_validate(chosen | {"steps": plan.steps} | changes)

    def checkpoint(self, size: str) -> Path:
        """A checkpoint of random weights in half precision, written at the first call."""
        import torch

        from diffex_dagster.bench.random_weights import write_checkpoint

        folder = self.folder / size
        if not folder.exists():
            start = time.monotonic()
            write_checkpoint(folder, size, dtype=getattr(torch, self.half), device=self.device, steady=True)
            self.figures.setdefault("weights_written_seconds", {})[size] = round(time.monotonic() - start, 2)
            _free()
        return folder

    def workload(self, plan: Plan, dtype: str | None = None, **changes: Any) -> Workload:
        """The plan's pictures, each edited towards the plan's prompts."""
        from diffex_dagster.bench.random_weights import resolution

        side = resolution(plan.size)
        files = [self.folder / f"{side}-{i}.png" for i in range(plan.pictures)]
        for i, file in enumerate(files):
            if not file.exists():
                _picture(i, side).save(file)
        options = self.options(plan, dtype, **changes).model_dump(mode="json")
        return Workload(options, tuple(map(str, files)), PROMPTS[: plan.prompts])


def _picture(seed: int, side: int) -> Image.Image:
    """Large forms and fine noise."""
    rng = np.random.default_rng(seed)
    forms = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((side // 4, side // 4, 1)))
    return Image.fromarray((forms + rng.integers(0, 55, (side, side, 3))).astype(np.uint8))


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _summary(found: Figures) -> str:
    shown = {key: value for key, value in found.items() if key not in ("trace", "samples", "operators", "batches")}
    return json.dumps(shown)[:1500]


# -- the sections ----------------------------------------------------------------------------------------------------


def machine(check: Check) -> Figures:
    """What it was measured on."""
    import torch

    found: Figures = {"device": check.device, "python": platform.python_version(), "half": check.half}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if check.device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        query = "nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader".split()
        found |= {
            "gpu": properties.name, "gpu_gb": round(properties.total_memory / 1e9, 1), "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
        try:
            answer = subprocess.run(query, capture_output=True, text=True, timeout=20)  # noqa: S603 (fixed words)
            found["nvidia_smi"] = answer.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            found["nvidia_smi"] = None
    return found


def speed(check: Check, plan: Plan) -> Figures:
    """The engine at several batches, with their peak memory, then all contenders in turns."""
    start = time.monotonic()

    def in_time() -> bool:
        return time.monotonic() - start < plan.seconds and check.left > 20

    workload = check.workload(plan)
    editor = LeditsEditor(workload.editor_options())
    editor.engine()
    wait_for_device()
    found: Figures = {"plan": asdict(plan), "load_seconds": round(time.monotonic() - start, 2)}
    tried: dict[int, Sample] = {}
    for batch in plan.batches:
        if tried and not in_time():
            break
        sized = editor.with_options(batch_size=batch)
        _warm(sized, workload)
        _forget_peak()
        tried[batch] = turn(*engine_contender(workload, sized))
    best = min(tried, key=lambda batch: tried[batch].seconds)
    found |= {"batch": best, "batches": {str(batch): asdict(sample) for batch, sample in tried.items()}}

    few = replace(workload, pictures=workload.pictures[:1], prompts=workload.prompts[: plan.few])
    one = replace(workload, pictures=workload.pictures[:1])
    rows = replace(workload, rows=tried[best].rows, rows_at_once=2 * best)
    running: dict[str, tuple[Work, Rows]] = {
        "engine": engine_contender(workload, editor.with_options(batch_size=best)),
        "limit": limit_contender(rows, editor),
        "engine_single": engine_contender(few, editor.with_options(batch_size=1)),
        "authors": diffusers_contender(few, invert_again=True),
    }
    running["invert_once"] = diffusers_contender(one, invert_again=False)
    for work, _ in running.values():
        work(True)
    edits = dict.fromkeys(running, 0)
    samples: dict[str, list[Sample]] = {name: [] for name in running}
    for _ in range(plan.rounds):
        for name, contender in running.items():
            samples[name].append(turn(*contender))
            edits[name] = samples[name][-1].edits or samples["engine"][-1].edits
        if not in_time():
            break
    found["ms_per_edit"] = {
        name: 1000 * median(sample.seconds for sample in of) / edits[name] for name, of in samples.items()
    }
    found["ratios"] = {}
    for name, (above, below) in RATIOS.items():
        rounds = [
            a.seconds / edits[above] / (b.seconds / edits[below])
            for a, b in zip(samples[above], samples[below], strict=True)
        ]
        found["ratios"][name] = {"median": median(rounds), "low": min(rounds), "high": max(rounds)}
    found["aims"] = {name: found["ratios"][name]["median"] >= aim for name, aim in AIMS.items()}
    found["phases"] = _phases(editor.with_options(batch_size=best), one)
    found["samples"] = {name: [asdict(sample) for sample in of] for name, of in samples.items()}
    return found


def _warm(editor: LeditsEditor, workload: Workload) -> None:
    """One batch whose guidance sets in for the last two steps: every shape of the work once, and few of its steps."""
    images = workload.images()
    requests = [EditRequest(image, (Concept(prompt),)) for image in images for prompt in workload.prompts]
    late = editor.with_options(warmup=max(editor.options.steps - 2, 0))
    for _ in late.edit(images, late.batches(requests)[0]):
        pass


def _forget_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _phases(editor: LeditsEditor, workload: Workload) -> Figures:
    """Seconds of one turn of the engine by what it does, waiting for the device after each."""
    engine = editor.engine()
    spent: dict[str, float] = {}
    names = ("encode", "invert", "edit_with_masks", "decode")

    def timed(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            wait_for_device()
            start = time.perf_counter()
            result = do(*arguments)
            wait_for_device()
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return call

    work, rows = engine_contender(workload, editor)
    try:
        for name in names:
            setattr(engine, name, timed(name, getattr(engine, name)))
        whole = turn(work, rows).seconds
    finally:
        for name in names:
            delattr(engine, name)
    return spent | {"other": whole - sum(spent.values()), "whole": whole}


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
    if engine.parts.is_xl:
        inversion_options["num_zero_noise_steps"] = engine.zero_noise_steps
    found: Figures = {}
    with _exact_products(dtype == "float32"), _noise_in_full_precision():
        latents = engine.encode(picture_tensor(picture, engine.resolution)[None])
        [inversion] = engine.invert(latents, [torch.Generator().manual_seed(seed)])
        for mask in ("intersection", "none"):
            own = editor.with_options(mask=mask)
            request = EditRequest(file, (Concept(PROMPTS[0]),))
            ours = engine.edit([own._prepared(engine, inversion, request)])
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
    images, requests = workload.images(), _requests(workload)
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


def _requests(workload: Workload) -> list[EditRequest]:
    """Every prompt, the null edit, and one edit of two concepts, on every picture."""
    concepts: list[tuple[Concept, ...]] = [(Concept(prompt),) for prompt in workload.prompts]
    concepts += [(), (Concept(workload.prompts[0]), Concept(workload.prompts[1]))]
    return [EditRequest(picture, each) for each in concepts for picture in workload.pictures]


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
        images, requests = workload.images(), _requests(workload)
        _warm(editor, workload)
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
    _warm(editor, workload)
    print("ready", flush=True)
    sys.stdin.readline()
    mine = [request for batch in editor.batches(_requests(workload))[part::of] for request in batch]
    digests = _digests(_edited(editor, images, mine))
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    print(json.dumps({"digests": digests, "peak_mb": peak}), flush=True)


def rows(check: Check, plan: Plan) -> Figures:
    """Milliseconds a UNet row by the size of the batch, in both memory formats, and by kind of fused attention."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    found: Figures = {}
    backends = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    for channels_last in (True, False):
        editor = LeditsEditor(check.options(plan, channels_last=channels_last))
        name = "channels_last" if channels_last else "contiguous"
        found[name] = {}
        for batch in dict.fromkeys((1, 2, 4, *plan.batches)):
            if check.left > 8:
                found[name][str(2 * batch)] = _row_ms(editor, 2 * batch)
        if channels_last and torch.cuda.is_available():
            for backend, chosen in backends.items():
                try:
                    with sdpa_kernel([chosen, SDPBackend.MATH]):
                        found[f"attention {backend}"] = {"32": _row_ms(editor, 32)}
                except RuntimeError as error:
                    found[f"attention {backend}"] = {"error": first_line(error)}
        del editor
        _free()
    return found


def _row_ms(editor: LeditsEditor, at_once: int) -> float:
    work, counted = limit_contender(Workload({}, (), (), rows=at_once, rows_at_once=at_once), editor)
    work(True)
    return min(1000 * turn(work, counted).seconds / at_once for _ in range(3))


def operators(check: Check, plan: Plan) -> Figures:
    """The engine's operators by their own time on the device, and how long the device was busy."""
    import torch
    from torch.profiler import ProfilerActivity

    on_gpu = torch.cuda.is_available() and check.device.startswith("cuda")
    workload = check.workload(replace(plan, pictures=1))
    editor = LeditsEditor(workload.editor_options()).with_options(batch_size=plan.batches[-1])
    _warm(editor, workload)
    work, counted = engine_contender(workload, editor)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as recorded:
        sample = turn(work, counted)
    averages = recorded.key_averages()
    own = {e.key: (e.self_device_time_total if on_gpu else e.self_cpu_time_total, e.count) for e in averages}
    if on_gpu:  # kernels only: an operator's own device time is that of the kernels that it starts
        kernels = {e.key: (e.self_device_time_total, e.count) for e in averages if e.device_type.name == "CUDA"}
        own = kernels or own
    ordered = sorted(own.items(), key=lambda each: -each[1][0])[:40]
    return {
        "seconds_profiled": sample.seconds,
        "busy_seconds": sum(us for us, _ in own.values()) / 1e6,
        "edits": sample.edits,
        "rows": sample.rows,
        "operators": [{"name": name[:160], "ms": us / 1000, "calls": count} for name, (us, count) in ordered],
        "waits": {e.key: [e.count, e.self_cpu_time_total / 1000] for e in averages if "ynchronize" in e.key},
    }


def run(check: Check) -> Figures:
    """All sections, the ones that matter most first."""
    small, large = check.plans[0], check.plans[-1]
    tiny = TINY[0]
    check.section("machine", 0, lambda: machine(check))
    check.section(f"parity tiny {check.half}", 5, lambda: parity(check, tiny, check.half))
    for plan in check.plans:
        check.section(f"speed {plan.size}", 30, partial(speed, check, plan))
    check.section(f"same bits {small.size}", 20, lambda: same_bits(check, replace(small, pictures=2)))
    check.section("two processes", 30, lambda: two_processes(check, replace(small, pictures=3)))
    check.section("parity tiny float32", 5, lambda: parity(check, tiny, "float32"))
    for dtype in ("float32", check.half) if small is not tiny else ():
        check.section(f"parity {small.size} {dtype}", 12, partial(parity, check, small, dtype))
    check.section(f"operators {small.size}", 12, lambda: operators(check, small))
    check.section(f"rows {small.size}", 12, lambda: rows(check, small))
    check.section(f"operators {large.size}", 25, lambda: operators(check, replace(large, prompts=4)))
    check.section(f"parity {large.size} {check.half}", 30, lambda: parity(check, large, check.half))
    return check.figures


def _room() -> Path:
    """A folder for checkpoints: memory where there is enough of it, since gigabytes are written and read."""
    memory = Path("/dev/shm")  # noqa: S108 (a folder of our own is made in it)
    if memory.is_dir() and shutil.disk_usage(memory).free > 12e9:
        return memory
    return Path(tempfile.gettempdir())


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns how many sections failed."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where the figures go")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--half", default="float16", help="the half-precision format")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds; what would begin too late is left out")
    parser.add_argument("--tiny", action="store_true", help="checkpoints of a few kilobytes: tries the check itself")
    parser.add_argument("--merge", type=Path, nargs="+", help="only put the figures of several runs into --json")
    parser.add_argument("--write", type=Path, help="only put the figures of --json into the marked part of this page")
    parser.add_argument("--share", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--of", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    if given.share:
        share(given.share, given.part, given.of)
        return 0
    if given.merge:
        runs = [json.loads(file.read_text("utf-8")) for file in given.merge]
        given.json.write_text(json.dumps(merged(runs), indent=1) + "\n", "utf-8")
        return 0
    if given.write:
        write_into(given.write, json.loads(given.json.read_text("utf-8")))
        return 0
    import torch

    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("gpu-check: there is no CUDA device; `--tiny --device cpu` tries the check itself", file=sys.stderr)
        return 2
    given.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_room(), prefix="gpu-check-") as folder:
        check = Check(given.device, given.json, Path(folder), TINY if given.tiny else FULL, given.budget, given.half)
        figures = run(check)
    print(as_markdown(figures))
    failed = [name for name, found in figures.items() if isinstance(found, dict) and "error" in found]
    print(f"{figures['total_seconds']:.0f} s; failed: {', '.join(failed) or 'nothing'}", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
