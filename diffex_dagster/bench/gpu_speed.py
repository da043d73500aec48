"""How fast a GPU edits: whole edits, their phases, rows of the UNet at once, and its operators."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from diffex_dagster.bench.contenders import (
    RATIOS,
    Rows,
    Sample,
    Work,
    Workload,
    diffusers_contender,
    engine_contender,
    limit_contender,
    turn,
    wait_for_device,
)
from diffex_dagster.bench.gpu_plan import Check, Figures, Plan, free, warm
from diffex_dagster.bench.gpu_tables import AIMS
from diffex_dagster.editing.ledits import LeditsEditor
from diffex_dagster.errors import first_line


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
        warm(sized, workload)
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
        free()
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
    warm(editor, workload)
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
