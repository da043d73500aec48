"""Where the engine's time goes, by operator (`diffex bench profile`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffex_dagster.bench.contenders import Workload, engine_contender


@dataclass(frozen=True)
class Operator:
    """One operator's share of a repetition."""

    name: str  # as PyTorch names it
    share: float  # of the time of all operators, without those it calls
    milliseconds: float
    calls: int


def profile(workload: Workload, trace: Path | None = None) -> list[Operator]:
    """The operators of one repetition of the engine, from pictures to pictures, the most expensive first.

    Args:
        workload: see `speed.workload_of`; its options say how many edits share a batch.
        trace: where a timeline goes, for a trace viewer.
    """
    import torch
    from torch.profiler import ProfilerActivity

    work, _ = engine_contender(workload)
    work(True)
    on_gpu = torch.cuda.is_available() and workload.editor_options().device != "cpu"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as recorded:
        work(False)
    if trace:
        recorded.export_chrome_trace(str(trace))
    spent = [
        (each.key, each.self_device_time_total if on_gpu else each.self_cpu_time_total, each.count)
        for each in recorded.key_averages()
    ]
    total = sum(microseconds for _, microseconds, _ in spent) or 1.0
    spent.sort(key=lambda each: -each[1])
    return [Operator(name, us / total, us / 1000, count) for name, us, count in spent]


def as_markdown(operators: list[Operator], limit: int = 15) -> str:
    """A table of the first `limit` operators."""
    lines = ["| operator | share | ms | calls |", "|---|---|---|---|"]
    lines += [f"| {o.name} | {o.share:.1%} | {o.milliseconds:.0f} | {o.calls} |" for o in operators[:limit]]
    return "\n".join(lines) + "\n"
