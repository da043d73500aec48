"""`diffex init`: a study file from a folder of images and a classifier, checked before anything costs time."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from diffex_dagster.classifying.asking import try_out
from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.hints import COMMON, predictions_in_words, unsaid_preparation
from diffex_dagster.classifying.kinds import SHORT_FORMS
from diffex_dagster.classifying.outputs import UnsaidOutputs
from diffex_dagster.classifying.parts import Target, Where
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.starters import load_starter, starter_called, starter_names
from diffex_dagster.editing.checkpoints import native_side
from diffex_dagster.errors import CorpusError, StudyError
from diffex_dagster.stages.edits import level1_combinations
from diffex_dagster.stages.hints import first_outputs, hints
from diffex_dagster.stages.interactions import most_pair_edits
from diffex_dagster.stages.sample_images import Samples, read_samples
from diffex_dagster.study import Study, load_study, study_of
from diffex_dagster.utils.files import write_atomically

SCHEMA = "study.schema.json"
_SUFFIXES = {".onnx": "onnx", ".pt2": "torch_export", ".ts": "torchscript", ".pt": "torchscript", ".pth": "torchscript"}
_CLASSIFIERS = {**SHORT_FORMS, "factory": "factory"}
_EDITORS = {"ledits": "checkpoint", "instruct": "checkpoint", "precomputed": "folder", "python": "factory"}
_TABLES = {".csv", ".tsv", ".parquet"}


PAIRED = 3  # groups whose strongest features a new study edits in pairs


@dataclass(frozen=True)
class Wishes:
    """What the command line says; paths are relative to the working directory."""

    name: str
    images: str
    classifier: str
    label: str | None = None
    labels: tuple[str, ...] = ()
    outputs: str | None = None
    domain: str | None = None
    editor: str = "ledits:stable-diffusion-v1-5/stable-diffusion-v1-5"
    size: int | None = None
    starter: str | None = None
    vlm: str | None = None
    vlm_url: str | None = None
    judge: str | None = None


@dataclass(frozen=True)
class Made:
    """What `init` found out: the study, what its classifier says of three images, and what a run will cost."""

    study: Study
    images: Samples
    predictions: list[tuple[str, str, float]]  # (image, predicted class, its probability), of three
    predicted: str  # how many of the first images are predicted as each class; "" for a regression
    hints: list[str]  # what looks wrong about its scores
    level1_edits: int | None  # None where the corpus is not known yet
    most_edits: int


def make_study(wishes: Wishes, folder: Path) -> Made:
    """Write `<folder>/study.yaml` and its schema, after everything in it has been tried.

    Raises:
        StudyError: the file exists, or something that was asked for is not there; nothing is written then.
        DiffExError: the images or the classifier cannot be used.
    """
    file = folder / "study.yaml"
    if file.exists():
        raise StudyError(f"{file}: there is a study already; edit it, or choose another name")
    editor = _spec(wishes.editor, _EDITORS, "editor", folder)
    fields: dict[str, Any] = {
        "name": wishes.name,
        "domain": wishes.domain or re.sub(r"[_-]+", " ", wishes.name),
        "images": {**_images(wishes.images, folder), "size": wishes.size or 512},
        "corpus": _corpus(wishes),
        "editors": {editor["kind"]: editor},
        "classifiers": {"v1": _classifier(wishes, folder)},
    }
    if judge := judge_of(wishes, editor["kind"], folder):
        fields["judge"] = judge
    draft = study_of({**fields, "target": {"label": wishes.label or "?"}}, file)
    if not wishes.size and "checkpoint" in editor and (side := native_side(draft.checkpoint(editor["checkpoint"]))):
        fields["images"]["size"] = side
        draft = study_of({**fields, "target": {"label": wishes.label or "?"}}, file)
    classifier = _adopted(fields, draft.images.size, file)
    samples = read_samples(draft, lambda _: classifier)
    outputs = first_outputs(classifier, samples.pictures)
    predictions = _predictions(classifier, list(samples.pictures), outputs)
    label = wishes.label or Counter(label for _, label, _ in predictions).most_common(1)[0][0]
    fields["target"] = _target(label, classifier)
    if label not in classifier.labels:
        raise StudyError(
            f"--label: the classifier has no class {label!r}; it knows {', '.join(classifier.labels[:20])}"
        )
    study_of(fields, file)
    text = study_text(fields, wishes.label is None, bool(unsaid_preparation(classifier)))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SCHEMA, (json.dumps(json_schema(), indent=1) + "\n").encode())
    write_atomically(file, text.encode())
    study = load_study(file)
    said = predictions_in_words(outputs, classifier.labels) if len(classifier.labels) > 1 else ""
    costs = count_edits(study, len(samples.pictures))
    return Made(study, samples, predictions[:3], said, hints(study, classifier, outputs), *costs)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, for editors: with the short forms that are spelled out before validation."""
    schema = Study.model_json_schema()
    label = schema["$defs"]["Target"]["properties"]["label"]
    label["anyOf"] = [{"type": label.pop("type")}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
    for field, form in (("results", {"type": "string"}), ("workers", {"type": "integer", "minimum": 1})):
        written = schema["properties"][field]
        known = written.pop("anyOf", None) or [{"$ref": written.pop("$ref")}]
        written["anyOf"] = [*known, form]
    short = {"type": "object", "anyOf": [{"required": [kind]} for kind in SHORT_FORMS], "not": {"required": ["kind"]}}
    named = schema["properties"]["classifiers"]["patternProperties"]
    for pattern, classifier in named.items():
        named[pattern] = {"anyOf": [classifier, short]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def study_text(fields: Mapping[str, Any], chosen: bool = False, unsaid: bool = False) -> str:
    """A commented study file.

    Args:
        chosen: whether nobody named the class that is explained.
        unsaid: whether nobody says how pixels become the classifier's input.
    """

    def flow(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)  # JSON is YAML

    corpus, (editor,) = fields["corpus"], fields["editors"]
    how = "the model's answer is cached" if "vlm" in corpus else "a shipped list; a vlm would look at your images"
    note = (
        " # the class predicted most often on the first images: change it to the one you want explained"
        if chosen
        else ""
    )
    raw = f" # pixels from 0 to 1, RGB; if it was trained on others, add preprocessing: {COMMON}" if unsaid else ""
    return f"""# yaml-language-server: $schema={SCHEMA}
name: {flow(fields["name"])}
domain: {flow(fields["domain"])} # what the images show, in words that a vision-language model understands

images: {flow(fields["images"])} # further: limit, sample, labels, fit, unreadable (docs/howto/images.md)

corpus: {flow(corpus)} # {how}; your own changes go into corpus.yaml

editors: # the first is the default
  {editor}: {flow(fields["editors"][editor])}

classifiers: # one line for each version
  v1: {flow(fields["classifiers"]["v1"])}{raw}

target: {flow(fields["target"])}{note}

{_search_lines(editor)}{_judge_line(fields, editor)}"""


_MADE_BEFORE = ("precomputed",)  # editors that cannot edit what nobody has edited yet


def _search_lines(editor: str) -> str:
    """What a new study looks for besides single features, with its price; and how it can look at fewer."""
    fewer = "# beam: 6 # all of the corpus is looked at; this looks into the strongest groups only and misses others"
    if editor in _MADE_BEFORE:
        return f"# search:\n  {fewer}\n"
    pairs = f"interactions: {PAIRED} # the strongest features of three groups in pairs too: up to six edits an image"
    return f"search:\n  {pairs}\n  {fewer}\n"


_UNJUDGED = ("instruct", "precomputed")  # editors without a judge of their own


def judge_of(wishes: Wishes, editor: str, folder: Path) -> dict[str, Any] | None:
    """The judge of edits: as is wished; else, for an editor without a judge, the model that names the attributes.

    That model is sent the sample images already. It is written down, not assumed: its requests cost something.

    Returns:
        None where the study's default does.
    """
    if wishes.judge is None:
        return {"kind": "vlm"} if wishes.vlm and editor in _UNJUDGED else None
    if wishes.judge in ("vlm", "none"):
        return {"kind": wishes.judge}
    return _spec(wishes.judge, {"clip": "checkpoint"}, "judge", folder)


def _judge_line(fields: Mapping[str, Any], editor: str) -> str:
    if "judge" in fields:
        asked = " # one request a picture; `diffex plan` counts them" if fields["judge"]["kind"] == "vlm" else ""
        return f"\njudge: {json.dumps(fields['judge'], ensure_ascii=False)}{asked}\n"
    if editor not in _UNJUDGED:
        return (
            "\n# The model that makes the edits judges them. One that did not make them can judge beside it, and the\n"
            "# report says how far the two agree; `diffex plan` counts the requests of a vision-language model:\n"
            "# second_judge: {kind: clip, checkpoint: openai/clip-vit-base-patch32}\n"
            "# second_judge: {kind: vlm, model: ..., base_url: ...}\n"
        )
    return (
        "\n# Nobody judges whether these edits show their attribute. A CLIP model or a vision-language model could:\n"
        "# judge: {kind: clip, checkpoint: openai/clip-vit-base-patch32}\n"
        "# judge: {kind: vlm, model: ..., base_url: ...}\n"
    )


def count_edits(study: Study, images: int) -> tuple[int | None, int]:
    """Edits of level 1 (None where a model has yet to propose the corpus), and the most that a run can ask for."""
    search, part = study.search, study.corpus
    beam = search.places or part.groups
    fixed = 1 + len(study.effects.control_prompts)  # the null edit and the noise floor
    joint = search.joint_width * search.joint_size * beam
    if part.starter:
        corpus = load_starter(part.starter)
        pairs = most_pair_edits(study, len(corpus.groups), images)
        level1 = len(level1_combinations(study, corpus)) * images
        children = sorted((sum(f.group == g.id for f in corpus.walk()) for g in corpus.groups), reverse=True)
        return level1, level1 + (sum(children[: search.places]) + joint) * images + pairs
    pairs = most_pair_edits(study, part.groups, images)
    return None, (fixed + part.groups * search.probes + beam * part.max_children + joint) * images + pairs


def _classifier(wishes: Wishes, folder: Path) -> dict[str, Any]:
    spec = wishes.classifier
    if ":" not in spec or spec.startswith(("http://", "https://")) or Path(spec).exists():
        kind = "http" if spec.startswith("http") else _SUFFIXES.get(Path(spec).suffix.lower(), "transformers")
        spec = f"{kind}:{spec}"
    part = _spec(spec, _CLASSIFIERS, "classifier", folder)
    if wishes.labels:
        if part["kind"] == "transformers":
            raise StudyError(f"--labels: {wishes.classifier} names its classes itself; leave --labels out")
        is_file = len(wishes.labels) == 1 and Path(wishes.labels[0]).is_file()
        part["labels"] = _relative(Path(wishes.labels[0]), folder) if is_file else list(wishes.labels)
    if wishes.outputs:
        if part["kind"] not in _SAY_OUTPUTS:
            raise StudyError(f"--outputs: {wishes.classifier} says itself what it returns; leave --outputs out")
        part["outputs"] = wishes.outputs
    return part


def _spec(spec: str, kinds: Mapping[str, str], what: str, folder: Path) -> dict[str, Any]:
    """ "kind:value" as the fields of a study's part."""
    kind, _, value = spec.partition(":")
    if kind not in kinds or not value:
        raise StudyError(f"--{what} {spec!r}: write KIND:VALUE, where KIND is one of {', '.join(kinds)}")
    field = kinds[kind]
    # Written relative to the study file, also where it is missing, so that the message names where it was looked for.
    is_path = field in ("file", "folder") or (field == "checkpoint" and not re.fullmatch(r"[\w.-]+/[\w.-]+", value))
    if is_path or (field == "checkpoint" and Path(value).expanduser().exists()):
        value = _relative(Path(value), folder)
    return {"kind": "python" if kind == "factory" else kind, field: value}


def _relative(path: Path, folder: Path) -> str:
    """A path as the study file in `folder` writes it."""
    relative = os.path.relpath(path.expanduser().resolve(), folder.resolve())
    return relative if relative.startswith("..") or "/" not in relative else f"./{relative}"


def _images(where: str, folder: Path) -> dict[str, Any]:
    path = Path(where).expanduser()
    if any(mark in where for mark in "*?["):
        return {"glob": str(path if path.is_absolute() else Path.cwd() / path)}
    if path.is_dir():
        nested = any(path.rglob("*.parquet")) or any(path.glob("metadata.*"))
        return {"dataset" if nested else "folder": _relative(path, folder)}
    if path.suffix.lower() in _TABLES:
        return {"table": _relative(path, folder)}
    if path.suffix.lower() == ".txt":
        return {"files": _relative(path, folder)}
    raise StudyError(f"--images {where}: there is no such folder; name a folder, a pattern, a .txt list or a table")


def _corpus(wishes: Wishes) -> dict[str, Any]:
    if wishes.vlm:
        vlm = {"kind": "openai", "model": wishes.vlm}
        return {"vlm": vlm | ({"base_url": wishes.vlm_url} if wishes.vlm_url else {})}
    if wishes.starter:
        return {"starter": starter_called(wishes.starter)}  # says which there are
    for word in re.findall(r"[A-Za-z-]+", f"{wishes.domain or ''} {wishes.name.replace('_', ' ')}".lower()):
        try:
            return {"starter": starter_called(word)}
        except CorpusError:
            continue
    raise StudyError(
        "--starter: say where the attributes come from: --starter NAME "
        f"({', '.join(starter_names())}), or --vlm MODEL for a vision-language model"
    )


_SAY_OUTPUTS = ("onnx", "torchscript", "torch_export", "timm", "python", "http")  # the kinds with a field for it


def _adopted(fields: dict[str, Any], side: int, file: Path) -> Classifier:
    """The classifier, tried out; what it turns out to return is written into its part of the fields.

    Raises:
        ClassifierError: it cannot score pictures, or it cannot be told what its outputs are.
    """
    part = fields["classifiers"]["v1"]

    def made() -> Classifier:
        study = study_of({**fields, "target": {"label": "?"}}, file)
        classifier = study.classifiers["v1"].build(Where(study.folder, study.checkpoint, "--classifier"))
        target = Target.model_validate(_target(classifier.labels[0], classifier))
        try_out(classifier, side, target)
        return classifier

    try:
        classifier = made()
    except UnsaidOutputs as error:
        if error.outputs != ("probabilities",) or part["kind"] not in _SAY_OUTPUTS or "outputs" in part:
            raise
        part["outputs"] = "probabilities"
        classifier = made()
    if isinstance(classifier, BatchedClassifier) and classifier.outputs != "logits" and part["kind"] in _SAY_OUTPUTS:
        part["outputs"] = classifier.outputs
    return classifier


def _target(label: str, classifier: Classifier) -> dict[str, Any]:
    """The target of a class, in the measure that the classifier's outputs are made for."""
    task = classifier.task if isinstance(classifier, BatchedClassifier) else None
    if task == "values" or len(classifier.labels) == 1:
        return {"label": label, "measure": "value"}
    return {"label": label, "measure": "sigmoid"} if task == "labels" else {"label": label}


def _predictions(classifier: Classifier, names: Sequence[str], outputs: np.ndarray) -> list[tuple[str, str, float]]:
    measure = _target("", classifier).get("measure", "probability")
    probabilities = {"value": np.asarray, "sigmoid": expit}.get(measure, lambda rows: softmax(rows, axis=1))(outputs)
    return [
        (name, classifier.labels[int(row.argmax())], float(row.max()))
        for name, row in zip(names, probabilities, strict=False)
    ]
