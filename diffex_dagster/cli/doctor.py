"""`diffex doctor`: what would stop a run, each line with its remedy. Nothing is changed, and no secret is shown."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffex_dagster.cli.doctor_study import study_findings
from diffex_dagster.cli.doctor_team import team_findings
from diffex_dagster.cli.findings import Finding, surviving
from diffex_dagster.errors import DiffExError, in_words
from diffex_dagster.study import (
    load_study,
)  # fmt: skip
from diffex_dagster.utils import web
from diffex_dagster.utils.hub import hub_is_off

NEEDED = ("dagster", "diffusers", "duckdb", "torch", "transformers")
EXTRAS = {
    "dagster-webserver": "ui", "onnxruntime": "onnx", "timm": "timm", "dicebear-core": "worlds", "peft": "lora",
    "accelerate": "offload", "captum": "gradcam", "lpips": "lpips",
    "psycopg": "postgres", "obstore": "buckets", "ray": "ray",
}  # fmt: skip
LITTLE_DISK, LITTLE_MEMORY = 5, 4  # GB


def examine(study: Path | None = None, hub: str = "https://huggingface.co") -> Iterator[Finding]:
    """Look at the machine, and at a study where one is named; each finding comes as soon as it is known."""
    yield Finding(sys.version_info >= (3, 11), "python", sys.version.split()[0], "install Python 3.11 or newer")
    yield from surviving("packages", _packages)
    yield from surviving("device", _device)
    yield from surviving("memory", lambda: [_memory()])
    yield from surviving("proxy", _proxies)
    yield from surviving("model hub", lambda: [_hub(hub)])
    yield from surviving("dagster home", lambda: [_home()])
    if study is None:
        yield from surviving("disk", lambda: [_disk(Path.cwd())])
        return
    try:
        loaded = load_study(study)
    except DiffExError as error:
        yield Finding(False, "study", str(error))
        return
    yield Finding(True, "study", f"{loaded.file} is valid")
    for folder in dict.fromkeys(
        each for each in (loaded.results_folder, loaded.pictures_place) if isinstance(each, Path)
    ):
        yield from surviving("disk", lambda folder=folder: [_disk(folder)])  # type: ignore[misc]
    yield from surviving("places", lambda: team_findings(loaded))
    yield from surviving("study", lambda: study_findings(loaded))


def _home() -> Finding:
    from diffex_dagster.assets.status import instance
    from diffex_dagster.resources.home import home_folder

    if not os.environ.get("DAGSTER_HOME"):
        return Finding(None, "dagster home", "DAGSTER_HOME is not set", "the UI shows no run of the command line")
    try:
        folder = home_folder(make=False)
        if folder is not None:
            instance().dispose()
    except DiffExError as error:
        return Finding(False, "dagster home", str(error))
    return Finding(
        True, "dagster home", f"{folder or os.environ['DAGSTER_HOME']}" + ("" if folder else " will be made")
    )


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        try:
            yield Finding(True, name, version(name))
        except PackageNotFoundError:
            yield Finding(False, name, "not installed", f"pip install {name}")
    for name, extra in EXTRAS.items():
        try:
            yield Finding(True, name, version(name))
        except PackageNotFoundError:
            yield Finding(None, name, "not installed", f"only if you need it: pip install 'diffex-dagster[{extra}]'")
    yield from _torchvision()


def _torchvision() -> Iterator[Finding]:
    """Whether torchvision fits torch: where it does not, no image processor and no timm model can be loaded."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        found = importlib.import_module("torchvision")
    except Exception as error:  # an operator that torch does not know, a library that is not there
        yield Finding(
            False,
            "torchvision",
            f"does not fit torch {version('torch')} ({in_words(error, 120)})",
            "install the torchvision of the same release and index as torch, or uninstall it",
        )
    else:
        yield Finding(True, "torchvision", found.__version__)


def _device() -> Iterator[Finding]:
    from diffex_dagster.utils.devices import pick_device

    device = pick_device()
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        found = f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GB free"
        yield Finding(free > LITTLE_MEMORY * 2**30, "device", found, "end what uses the GPU, or set device: cpu")
    elif device == "mps":
        yield Finding(True, "device", "Apple GPU (mps)")
    else:
        yield Finding(None, "device", "cpu only", "edits with Stable Diffusion take minutes each: use a CUDA machine")


def _memory() -> Finding:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (ValueError, OSError, AttributeError):
        return Finding(None, "memory", "unknown on this system")
    return Finding(free > LITTLE_MEMORY or None, "memory", f"{free:.0f} GB free", "end other programs")


def _disk(folder: Path) -> Finding:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free / 2**30
    writable = os.access(existing, os.W_OK)
    found = f"{free:.0f} GB free at {existing}" + ("" if writable else ", not writable")
    return Finding(writable and free > LITTLE_DISK, "disk", found, "free space, or set results: to another folder")


def _hub(address: str) -> Finding:
    if hub_is_off():
        return Finding(None, "model hub", "HF_HUB_OFFLINE is set", "only checkpoints that are on this machine load")
    try:
        with web.client(address, timeout=5.0) as client:
            client.head(address)
    except Exception as error:  # httpx's, or a proxy that cannot be used
        remedy = web.proxy_remedy(error) or "name checkpoints by folder, or set HF_ENDPOINT"
        return Finding(None, "model hub", f"not reachable ({web.unreachable(error, address)})", remedy)
    return Finding(True, "model hub", f"{address} answers")


def _proxies() -> Iterator[Finding]:
    for name in web.proxies_set():
        try:
            web.client("https://example.org").close()
        except Exception as error:
            yield Finding(None, "proxy", f"{name} cannot be used ({in_words(error)})", web.proxy_remedy(error) or "")
        else:
            yield Finding(True, "proxy", f"{name} is set; it is not asked for this machine's own addresses")
