"""`diffex doctor`: what would stop a run, each line with its remedy. Nothing is changed, and no secret is shown."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PIL import Image

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.hints import predictions_in_words
from diffex_dagster.classifying.parts import ClassifierPart
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.editing.checkpoints import native_side
from diffex_dagster.errors import CorpusError, DiffExError, EditorError, StoreError, in_words
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.hints import first_outputs, hints
from diffex_dagster.stages.ready import check_devices, check_probe, check_truth
from diffex_dagster.stages.setup import placed_vlm
from diffex_dagster.store.keys import image_key
from diffex_dagster.study import (
    InstructEditorPart,
    LeditsEditorPart,
    OpenAIVLM,
    PrecomputedEditorPart,
    Study,
    load_study,
)  # fmt: skip
from diffex_dagster.utils import web
from diffex_dagster.utils.hub import hub_is_off, is_hub_id, on_this_machine

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
    yield from _surviving("packages", _packages)
    yield from _surviving("device", _device)
    yield from _surviving("memory", lambda: [_memory()])
    yield from _surviving("proxy", _proxies)
    yield from _surviving("model hub", lambda: [_hub(hub)])
    yield from _surviving("dagster home", lambda: [_home()])
    if study is None:
        yield from _surviving("disk", lambda: [_disk(Path.cwd())])
        return
    try:
        loaded = load_study(study)
    except DiffExError as error:
        yield Finding(False, "study", str(error))
        return
    yield Finding(True, "study", f"{loaded.file} is valid")
    for folder in dict.fromkeys([loaded.results_folder, loaded.pictures_folder]):
        yield from _surviving("disk", lambda folder=folder: [_disk(folder)])  # type: ignore[misc]
    yield from _surviving("study", lambda: _study(loaded))


def _surviving(what: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Every finding of a look; whatever it raises is one more, and the next look follows."""
    try:
        yield from look()
    except DiffExError as error:
        yield Finding(False, what, str(error))
    except Exception as error:  # what a package, a driver or a disk raises: to find such things is what doctor is for
        yield Finding(False, what, f"cannot be looked at ({in_words(error)})", "put that right, then look again")


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


def _study(study: Study) -> Iterator[Finding]:
    from diffex_dagster.stages.sample_images import read_samples
    from diffex_dagster.stages.scores import check_classifier

    work = StudyContext(study).to_read()
    found: dict[str, Image.Image] = {}  # the sample images

    def images() -> str:
        samples = read_samples(study, lambda name: work.subject(name).classifier)
        found.update(samples.pictures)
        return samples.summary()

    unreadable = False

    def results() -> str:
        nonlocal unreadable
        try:
            return _results(study)
        except DiffExError:
            unreadable = True  # this line says it; whether a classifier can be used is another question
            raise

    def classifier(name: str) -> Callable[[], str]:
        def check() -> str:
            check_classifier(work.subject(name), ask=unreadable)
            made = work.subject(name).classifier
            return f"{name} scores a picture; {len(made.labels)} classes{_returned(made)}"

        return check

    yield _tried("images", images)
    yield from _editor(study, found)
    for name in study.editors:
        if name != study.editor_name:
            yield from (_not_in_use(name, each) for each in _editor(study.with_editor(name), found))
    yield _tried("results", results)
    yield _tried("corpus", lambda: _corpus(study))
    for name, each in study.classifiers.items():
        tried = _tried("classifier", classifier(name))
        yield tried
        if tried.fine and found:
            yield from _surviving("classifier", partial(_scores, work.subject(name), found))
        yield from _code(name, each)
    yield _tried("devices", lambda: _checked(check_devices, study, "those that are named are here"))
    if study.probe.own_model:
        yield _tried("probe", lambda: check_probe(study))
    if study.truth is not None:
        yield _tried("truth", lambda: _truth(study, list(found)))
    vlm = placed_vlm(study)
    if isinstance(vlm, OpenAIVLM):
        yield from _vlm(vlm)


def _side(study: Study, part: LeditsEditorPart | InstructEditorPart) -> Iterator[Finding]:
    """Says so where pictures are edited at another size than the checkpoint was trained on."""
    side, size = native_side(study.checkpoint(part.checkpoint)), study.images.size
    if side is not None and not 0.7 <= size / side <= 1.5:
        found = f"{part.checkpoint} was trained on {side} pixels, and images.size is {size}"
        yield Finding(None, "editor", found, f"set images.size: {side}, or its edits may be poor")


def _scores(subject: Subject, pictures: Mapping[str, Image.Image]) -> Iterator[Finding]:
    """What the classifier says of the first sample images, and what looks wrong about it."""
    name, classifier = subject.name, subject.classifier
    try:
        outputs = first_outputs(classifier, pictures)
    except DiffExError as error:  # its scores of this study are stored: a run needs no weights
        yield Finding(None, "classifier", str(error))
        return
    if len(classifier.labels) > 1:
        said = predictions_in_words(outputs, classifier.labels)
        yield Finding(True, "classifier", f"{name} predicts of {len(outputs)} images: {said}")
    for hint in hints(subject.study, classifier, outputs):
        yield Finding(None, "classifier", f"{name}: {hint}")


def _truth(study: Study, images: Sequence[str]) -> str:
    check_truth(study, images)
    return f"{study.truth} can be imported, and finds what it needs"


def _editor(study: Study, pictures: Mapping[str, Image.Image]) -> Iterator[Finding]:
    """Whether what the editor in use is made of is there: checkpoint, LoRAs, module, edits, states of drawings."""
    part = study.editors[study.editor_name]
    if isinstance(part, LeditsEditorPart | InstructEditorPart) and is_hub_id(study.checkpoint, part.checkpoint):
        yield _from_hub(part.checkpoint)
        if getattr(part, "loras", ()):
            yield _tried("editor", lambda: _loras(study))
    else:
        yield _tried("editor", lambda: _made(study, pictures))
    if isinstance(part, LeditsEditorPart | InstructEditorPart):
        yield from _side(study, part)
    if isinstance(part, PrecomputedEditorPart):
        yield _tried("editor", lambda: _made_elsewhere(study))


def _not_in_use(name: str, finding: Finding) -> Finding:
    """What is wrong with an editor that a run uses only where it is asked to is worth knowing, and no problem."""
    if finding.fine is not False:
        return finding
    return Finding(None, "editor", f"not in use, and diffex run --editor {name} would fail: {finding.found}")


def _made(study: Study, pictures: Mapping[str, Image.Image]) -> str:
    from diffex_dagster.stages.setup import build_editor

    editor = build_editor(study)
    editor.fingerprint  # noqa: B018 (finds and reads the checkpoint)
    if hasattr(editor, "check_images"):
        editor.check_images([image_key(picture) for picture in pictures.values()])
    return f"what {study.editor_name} needs is there"


def _loras(study: Study) -> str:
    """Whether the LoRAs are there that are added to a checkpoint of the hub."""
    from diffex_dagster.editing.checkpoints import locate_lora
    from diffex_dagster.stages.setup import ledits_options

    part = study.editors[study.editor_name]
    assert isinstance(part, LeditsEditorPart)
    for lora in ledits_options(study, part).loras:
        if not is_hub_id(study.checkpoint, lora.checkpoint):
            locate_lora(lora.checkpoint, lora.file, lora.revision)
    return "its LoRAs are there, or come from the hub"


def _checked(check: Callable[[Study], None], study: Study, fine: str) -> str:
    check(study)
    return fine


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
    except Exception as error:  # of somebody else's code, which `run` would meet too
        return Finding(False, what, f"{type(error).__name__}: {in_words(error)}", "a run would stop at this: mend it")


def _from_hub(checkpoint: str) -> Finding:
    if on_this_machine(checkpoint, "model_index.json"):
        return Finding(True, "editor", f"{checkpoint} is on this machine")
    if hub_is_off():
        remedy = "unset HF_HUB_OFFLINE, or name the checkpoint's folder"
        return Finding(False, "editor", f"{checkpoint} is not on this machine, and HF_HUB_OFFLINE is set", remedy)
    return Finding(None, "editor", f"{checkpoint} comes from the hub", "it is downloaded at the first edit")


def _made_elsewhere(study: Study) -> str:
    """Whether another tool made the edits of level 1, for the sample images as they are called here."""
    from diffex_dagster.editing.precomputed import PrecomputedEditor
    from diffex_dagster.stages.corpus_now import corpus_now
    from diffex_dagster.stages.edits import level1_combinations
    from diffex_dagster.stages.sample_images import read_samples
    from diffex_dagster.stages.setup import build_classifier, build_editor

    editor = build_editor(study)
    assert isinstance(editor, PrecomputedEditor)
    names = list(read_samples(study, lambda name: build_classifier(study, name)).pictures)
    combinations = [frozenset(each) for each in level1_combinations(study, corpus_now(study)) if each]
    absent = [(name, each) for name in names for each in combinations if (name, each) not in editor.edits]
    if absent:
        name, concepts = absent[0]
        what = " and ".join(f"{each.direction} {each.prompt!r}" for each in concepts)
        raise EditorError(
            f"{editor.source}: {len(absent)} of {len(names) * len(combinations)} edits of level 1 are not there, first "
            f"{what} on {name!r}; make them, or take the features out of the corpus"
        )
    return f"all {len(names) * len(combinations)} edits of level 1 are there"


def _results(study: Study) -> str:
    """Whether the results folder can hold results, and a database in it can be read."""
    from diffex_dagster.stages.setup import build_store

    folder = study.results_folder
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: results: it is a file; name a folder")
    if not (folder / "diffex.duckdb").exists():
        return "none yet"
    store = build_store(study, reading=True)
    if (other := store.other_owner(study.kept_as, study.file)) is not None:
        raise StoreError(f"{folder}: results: they are those of another study named {study.name!r} ({other})")
    count = store.sample_count(study.kept_as)
    return f"of {count} images at {folder}" if count else f"none of this study yet at {folder}"


def _corpus(study: Study) -> str:
    """Whether the corpus file and what the proposal is made from can be read, and can be searched."""
    from diffex_dagster.corpus.overrides_file import read_edits
    from diffex_dagster.corpus.vlm.context import read_context
    from diffex_dagster.stages.corpus import problems
    from diffex_dagster.stages.corpus_now import corpus_now

    edits = study.path(study.corpus.edits)
    read_edits(edits)
    read_context([study.path(path) for path in study.corpus.context])
    if isinstance(study.corpus.vlm, OpenAIVLM):
        return f"{edits.name} can be read; what it names is checked once the model has been asked"
    corpus = corpus_now(study)
    if found := problems(corpus, study.search.options()):
        raise CorpusError(f"{edits}: {'; '.join(found)}")
    return f"{len(list(corpus.walk()))} features in {len(corpus.groups)} groups"


def _vlm(vlm: OpenAIVLM) -> Iterator[Finding]:
    key = os.environ.get(vlm.key_env) if vlm.key_env else None
    if vlm.key_env:
        found = f"{vlm.key_env} is {'set' if key else 'not set'}"
        yield Finding(bool(key), "vlm key", found, f"export {vlm.key_env}=..., or name a local model's base_url")
    address = (vlm.base_url or "https://api.openai.com/v1").rstrip("/")
    try:
        with web.client(address, timeout=10.0) as client:
            answer = client.get(f"{address}/models", headers={"Authorization": f"Bearer {key}"} if key else None)
    except Exception as error:  # httpx's, or a proxy that cannot be used
        remedy = (
            web.proxy_remedy(error) if web.environment_counts(address) else None
        ) or "start it, or correct base_url"
        yield Finding(False, "vlm", f"cannot be reached ({web.unreachable(error, address)})", remedy)
        return
    if (elsewhere := web.redirected_to(answer)) is not None:
        yield Finding(False, "vlm", f"redirects to {elsewhere}", "name that address as base_url if you mean it")
        return
    fine = answer.status_code not in (401, 403)
    yield Finding(fine, "vlm", f"answers with status {answer.status_code}", f"check the key in {vlm.key_env}")
