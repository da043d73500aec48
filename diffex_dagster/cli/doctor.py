"""`diffex doctor`: what would stop a run, each line with its remedy. Nothing is changed, and no secret is shown."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.parts import ClassifierPart
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.errors import DiffExError
from diffex_dagster.study import LeditsEditorPart, OpenAIVLM, Study, load_study

NEEDED = ("dagster", "diffusers", "duckdb", "torch", "transformers")
EXTRAS = {
    "dagster-webserver": "ui", "onnxruntime": "onnx", "timm": "timm", "dicebear-core": "worlds", "peft": "lora",
    "accelerate": "offload", "captum": "gradcam", "lpips": "lpips",
}  # fmt: skip
LITTLE_DISK, LITTLE_MEMORY = 5, 4  # GB


@dataclass(frozen=True)
class Finding:
    """One line: whether it is fine (None: worth knowing), what was looked at, what was found, and what to do."""

    fine: bool | None
    what: str
    found: str
    remedy: str = ""


def examine(study: Path | None = None, hub: str = "https://huggingface.co") -> Iterator[Finding]:
    """Look at the machine, and at a study where one is named; each finding comes as soon as it is known."""
    yield Finding(sys.version_info >= (3, 11), "python", sys.version.split()[0], "install Python 3.11 or newer")
    yield from _packages()
    yield from _device()
    yield _memory()
    yield _hub(hub)
    yield _home()
    if study is None:
        yield _disk(Path.cwd())
        return
    try:
        loaded = load_study(study)
    except DiffExError as error:
        yield Finding(False, "study", str(error))
        return
    yield Finding(True, "study", f"{loaded.file} is valid")
    yield _disk(loaded.results_folder)
    yield from _study(loaded)


def _home() -> Finding:
    from diffex_dagster.resources.home import home_folder

    if not os.environ.get("DAGSTER_HOME"):
        return Finding(None, "dagster home", "DAGSTER_HOME is not set", "the UI shows no run of the command line")
    try:
        folder = home_folder(make=False)
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
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Finding(None, "model hub", "HF_HUB_OFFLINE is set", "only checkpoints that are on this machine load")
    try:
        httpx.head(address, timeout=5.0)
    except httpx.HTTPError as error:
        return Finding(
            None,
            "model hub",
            f"not reachable ({type(error).__name__})",
            "name checkpoints by folder, or set HF_ENDPOINT",
        )
    return Finding(True, "model hub", f"{address} answers")


def _study(study: Study) -> Iterator[Finding]:
    from diffex_dagster.stages.sample_images import read_samples
    from diffex_dagster.stages.scores import check_classifier
    from diffex_dagster.stages.setup import build_classifier, build_editor, build_store

    def images() -> str:
        samples = read_samples(study, lambda name: build_classifier(study, name))
        return samples.summary()

    def editor() -> str:
        build_editor(study).fingerprint  # noqa: B018 (finds and reads the checkpoint)
        return f"what {study.editor_name} needs is there"

    def classifier(name: str) -> Callable[[], str]:
        def check() -> str:
            made = build_classifier(study, name)
            check_classifier(study.for_classifier(name), build_store(study), made, name)
            return f"{name} scores a picture; {len(made.labels)} classes{_returned(made)}"

        return check

    yield _tried("images", images)
    part = study.editors[study.editor_name]
    if isinstance(part, LeditsEditorPart) and study.checkpoint(part.checkpoint) == part.checkpoint:
        yield Finding(None, "editor", f"{part.checkpoint} comes from the hub", "it is downloaded at the first edit")
    else:
        yield _tried("editor", editor)
    for name, each in study.classifiers.items():
        yield _tried("classifier", classifier(name))
        yield from _code(name, each)
    if isinstance(study.corpus.vlm, OpenAIVLM):
        yield from _vlm(study.corpus.vlm)


def _returned(classifier: Classifier) -> str:
    """What a classifier returns, for a reader who knows better."""
    if not isinstance(classifier, BatchedClassifier):
        return ""
    forms = {"logits": "logits", "probabilities": "probabilities", "sigmoid": "a probability for each class (sigmoid)"}
    return f"; it returns {forms[classifier.outputs]}"


_RUNS_CODE = {
    "python": "it is code of your own",
    "torchscript": "a TorchScript file is a program; one that reads or writes files is refused without trusted: true",
    "torch_export": "torch evaluates what is in it; one with more than tensors is refused without trusted: true",
}


def _code(name: str, part: ClassifierPart) -> Iterator[Finding]:
    """Says so where a classifier is of a kind that can run code."""
    kind = str(getattr(part, "kind", ""))
    if getattr(part, "trusted", False):
        yield Finding(None, "classifier", f"{name} is trusted: {kind} may run code of whoever made it")
    elif kind in _RUNS_CODE:
        yield Finding(None, "classifier", f"{name} is of a kind that can run code: {_RUNS_CODE[kind]}")


def _tried(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(True, what, check())
    except DiffExError as error:
        return Finding(False, what, str(error))


def _vlm(vlm: OpenAIVLM) -> Iterator[Finding]:
    key = os.environ.get(vlm.key_env) if vlm.key_env else None
    if vlm.key_env:
        found = f"{vlm.key_env} is {'set' if key else 'not set'}"
        yield Finding(bool(key), "vlm key", found, f"export {vlm.key_env}=..., or name a local model's base_url")
    address = (vlm.base_url or "https://api.openai.com/v1").rstrip("/")
    try:
        answer = httpx.get(
            f"{address}/models", timeout=10.0, headers={"Authorization": f"Bearer {key}"} if key else None
        )
    except httpx.HTTPError as error:
        yield Finding(False, "vlm", f"cannot be reached ({type(error).__name__})", "start it, or correct base_url")
        return
    fine = answer.status_code not in (401, 403)
    yield Finding(fine, "vlm", f"answers with status {answer.status_code}", f"check the key in {vlm.key_env}")
