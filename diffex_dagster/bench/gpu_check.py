"""Every check of the project that needs a GPU, in one run and one file (`make gpu-check`).

Speed at the sizes of Stable Diffusion 1.5 and XL against diffusers' pipeline and against the UNet alone, peak memory by
batch, parity with diffusers, the same bits whatever else is edited, two processes and two workers on one GPU, and where
the time goes.
Weights are random: speed does not depend on them.

The file is written again after every section. One that fails is recorded with its error and the rest goes on; one that
would begin too late is left out with a note. All contenders of a size run in one process and take turns, so that the
device is never shared and a checkpoint is read twice only. What takes as long for every edit is timed on fewer edits
than the engine, and compared by the edit.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffex_dagster.bench.gpu_parity import parity, same_bits, share, two_processes
from diffex_dagster.bench.gpu_plan import FULL, TINY, Check, Figures
from diffex_dagster.bench.gpu_speed import operators, rows, speed
from diffex_dagster.bench.gpu_tables import MARK, as_markdown, merged, write_into
from diffex_dagster.bench.gpu_workers import two_workers
from diffex_dagster.utils.files import check_output, write_output

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")


def machine(check: Check) -> Figures:
    """What it was measured on."""
    import torch

    found: Figures = {"device": check.device, "python": platform.python_version(), "half": check.half}
    found["processor"] = _processor()
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


def _processor() -> str:
    """The processor's model: how fast it starts kernels decides what calls of few rows take."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor()


def run(check: Check) -> Figures:
    """All sections, the ones that matter most first."""
    small, large = check.plans[0], check.plans[-1]
    tiny, shared = TINY[0], replace(small, pictures=min(small.pictures, 3))
    check.section("machine", 0, lambda: machine(check))
    check.section(f"parity tiny {check.half}", 5, lambda: parity(check, tiny, check.half))
    for plan in check.plans:
        check.section(f"speed {plan.size}", 30, partial(speed, check, plan))
    check.section("two workers", 40, lambda: two_workers(check, shared))
    for dtype in (check.half, "float32") if small is not tiny else ():
        check.section(f"parity {small.size} {dtype}", 12, partial(parity, check, small, dtype))
    check.section(f"same bits {small.size}", 20, lambda: same_bits(check, replace(small, pictures=2)))
    check.section("two processes", 30, lambda: two_processes(check, shared))
    check.section("parity tiny float32", 5, lambda: parity(check, tiny, "float32"))
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
    parser.add_argument("--mark", default=MARK, help="name of the page's marks that --write writes between")
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
        write_output(given.json, (json.dumps(merged(runs), indent=1) + "\n").encode())
        return 0
    if given.write:
        write_into(given.write, json.loads(given.json.read_text("utf-8")), given.mark)
        return 0
    check_output(given.json)
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
