"""What `diffex doctor` says of a study: whether all that it names is there and can be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from PIL import Image

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.hints import predictions_in_words
from diffex_dagster.classifying.parts import ClassifierPart
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.cli.findings import Finding, surviving, tried
from diffex_dagster.corpus.vlm.parts import ServerOptions
from diffex_dagster.editing.protocol import MadeBefore
from diffex_dagster.errors import CorpusError, DiffExError, EditorError, StoreError
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.hints import first_outputs, hints
from diffex_dagster.stages.ready import check_devices, check_judge, check_truth
from diffex_dagster.store.keys import image_key
from diffex_dagster.study import Study
from diffex_dagster.study.building import editor_where, placed_vlm
from diffex_dagster.utils import web
from diffex_dagster.utils.hub import hub_is_off, on_this_machine


def study_findings(study: Study) -> Iterator[Finding]:
    """Every finding about a study, each as soon as it is known."""
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

    yield tried("images", images)
    yield from _editor(study, found)
    for name in study.editors:
        if name != study.editor_name:
            yield from (_not_in_use(name, each) for each in _editor(study.with_editor(name), found))
    yield tried("results", results)
    if study.finds_source_prompts:
        yield tried("source prompts", lambda: _source_prompts(work))
    yield tried("corpus", lambda: _corpus(study))
    for name, each in study.classifiers.items():
        finding = tried("classifier", classifier(name))
        yield finding
        if finding.fine and found:
            yield from surviving("classifier", partial(_scores, work.subject(name), found))
        yield from _code(name, each)
    yield tried("devices", lambda: _checked(check_devices, study, "those that are named are here"))
    if study.judge.own_model:
        yield tried("judge", lambda: check_judge(study))
    if study.truth is not None:
        yield tried("truth", lambda: _truth(study, list(found)))
    vlm = placed_vlm(study)
    if vlm and (server := vlm.server()) is not None:
        yield from _vlm(server)


def _side(checkpoint: str, side: int, size: int) -> Iterator[Finding]:
    """Says so where pictures are edited at another size than the checkpoint was trained on."""
    if not 0.7 <= size / side <= 1.5:
        found = f"{checkpoint} was trained on {side} pixels, and images.size is {size}"
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
    part, where = study.editor_part, editor_where(study)
    if (checkpoint := part.hub_checkpoint(where)) is not None:
        yield _from_hub(checkpoint)
        extras = tried("editor", lambda: part.check_extras(where))
        if extras.found:
            yield extras
    else:
        yield tried("editor", lambda: _made(study, pictures))
    if (trained := part.trained_at(where)) is not None:
        yield from _side(*trained, study.images.size)
    if not part.makes_edits:
        yield tried("editor", lambda: _made_elsewhere(study))


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


def _from_hub(checkpoint: str) -> Finding:
    if on_this_machine(checkpoint, "model_index.json"):
        return Finding(True, "editor", f"{checkpoint} is on this machine")
    if hub_is_off():
        remedy = "unset HF_HUB_OFFLINE, or name the checkpoint's folder"
        return Finding(False, "editor", f"{checkpoint} is not on this machine, and HF_HUB_OFFLINE is set", remedy)
    return Finding(None, "editor", f"{checkpoint} comes from the hub", "it is downloaded at the first edit")


def _made_elsewhere(study: Study) -> str:
    """Whether another tool made the edits of level 1, for the sample images as they are called here."""
    from diffex_dagster.stages.corpus_now import corpus_now
    from diffex_dagster.stages.edits import level1_combinations
    from diffex_dagster.stages.sample_images import read_samples
    from diffex_dagster.stages.setup import build_classifier, build_editor

    editor: Any = build_editor(study)
    made_before: MadeBefore = editor
    names = list(read_samples(study, lambda name: build_classifier(study, name)).pictures)
    combinations = [frozenset(each) for each in level1_combinations(study, corpus_now(study)) if each]
    absent = made_before.missing(names, combinations)
    if absent:
        name, concepts = absent[0]
        what = " and ".join(f"{each.direction} {each.prompt!r}" for each in concepts)
        raise EditorError(
            f"{made_before.source}: {len(absent)} of {len(names) * len(combinations)} edits of level 1 are not there, "
            f"first {what} on {name!r}; make them, or take the features out of the corpus"
        )
    return f"all {len(names) * len(combinations)} edits of level 1 are there"


def _source_prompts(work: StudyContext) -> str:
    """Whether the words are frozen that pictures are described in."""
    store, known = work.store, None
    if store.exists():
        known = store.source_prompts(work.study.kept_as, work.bare_editor.fingerprint)
    if known is None or known.used is None:
        return "the first run takes them from the corpus"
    return f"{len(known.words)} groups of words, {'' if known.used else 'not '}used ({known.why})"


def _results(study: Study) -> str:
    """Whether the results folder can hold results, and a database in it can be read."""
    from diffex_dagster.stages.setup import build_store

    folder = study.results_folder
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: results: it is a file; name a folder")
    store = build_store(study, reading=True)
    if not store.exists():
        return "none yet"
    if (other := store.other_owner(study.kept_as, study.file)) is not None:
        raise StoreError(f"{folder}: results: they are those of another study named {study.name!r} ({other})")
    count = store.sample_count(study.kept_as)
    place = (study.shared.database and store.place) or folder
    return f"of {count} images at {place}" if count else f"none of this study yet at {place}"


def _corpus(study: Study) -> str:
    """Whether the corpus file and what the proposal is made from can be read, and can be searched."""
    from diffex_dagster.corpus.overrides_file import read_overrides
    from diffex_dagster.corpus.vlm.context import read_context
    from diffex_dagster.stages.corpus import problems
    from diffex_dagster.stages.corpus_now import corpus_now

    edits = study.path(study.corpus.overrides)
    read_overrides(edits)
    read_context([study.path(path) for path in study.corpus.context])
    if study.corpus.vlm and study.corpus.vlm.live:
        return f"{edits.name} can be read; what it names is checked once the model has been asked"
    corpus = corpus_now(study)
    if found := problems(corpus, study.search):
        raise CorpusError(f"{edits}: {'; '.join(found)}")
    return f"{len(list(corpus.walk()))} features in {len(corpus.groups)} groups"


def _vlm(vlm: ServerOptions) -> Iterator[Finding]:
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
