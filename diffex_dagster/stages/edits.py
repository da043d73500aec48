"""Stage: make the edits that do not exist yet, keeping every batch as soon as it is finished."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.asking import made_edits
from diffex_dagster.editing.batches import batches_of
from diffex_dagster.editing.image_prompts import PromptsImages, prompter_of
from diffex_dagster.editing.protocol import Concept, Editor, EditRequest
from diffex_dagster.errors import StoreError
from diffex_dagster.search.levels import level1_features
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.store import Store, edit_key
from diffex_dagster.store.claims import AT_ONCE, in_turn
from diffex_dagster.study import Study
from diffex_dagster.utils.devices import measure_gpu_memory
from diffex_dagster.utils.groups import in_groups
from diffex_dagster.utils.progress import Reporter, silent

Concepts = tuple[Concept, ...]


@dataclass(frozen=True)
class EditCounts:
    """What a stage cost: edits made now, edits found in the store, seconds spent making them.

    `shortened` is how many source prompts, of images and in edits, lost words to what the model's text encoder reads:
    each picture, and each prompt on it, once for as long as its editor lives, whichever process made the edits.
    `gpu_gb` is the most GPU memory held meanwhile, in GB; None without a CUDA device, and where nothing was made.
    With workers, `by_worker` is how many edits each made ("host pid"), `lost` how many workers ended meanwhile,
    `remade` how many batches others made again for that, and `gpus` the names of the GPUs that they worked on.
    """

    made: int = 0
    reused: int = 0
    seconds: float = 0.0
    gpu_gb: float | None = None
    by_worker: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    gpus: tuple[str, ...] = ()
    remade: int = 0
    shortened: int = 0

    def __add__(self, other: EditCounts) -> EditCounts:
        most = max((gb for gb in (self.gpu_gb, other.gpu_gb) if gb is not None), default=None)
        return EditCounts(
            self.made + other.made,
            self.reused + other.reused,
            self.seconds + other.seconds,
            most,
            dict(Counter(self.by_worker) + Counter(other.by_worker)),
            self.lost + other.lost,
            tuple(sorted({*self.gpus, *other.gpus})),
            self.remade + other.remade,
            self.shortened + other.shortened,
        )


def concepts_of(features: Iterable[Feature]) -> Concepts:
    """Features edited jointly, as the editor takes them."""
    return tuple(Concept(feature.prompt, feature.direction, feature.setting) for feature in features)


def under(concepts: Concepts, setting: str) -> Concepts:
    """The same concepts under other options; as they are for the empty setting."""
    return tuple(replace(concept, setting=setting) for concept in concepts) if setting else concepts


def edit_requests(images: Sequence[str], combinations: Iterable[Concepts], seeds: Sequence[int]) -> list[EditRequest]:
    """Every image under every combination of concepts and every seed, combination by combination."""
    return [
        EditRequest(image, concepts, seed)
        for concepts in dict.fromkeys(combinations)
        for image in images
        for seed in seeds
    ]


def ensure_edits(
    store: Store,
    editor: Editor,
    requests: Sequence[EditRequest],
    report: Reporter = silent,
    stage: str = "edits",
    ready: Callable[[], None] = lambda: None,
) -> EditCounts:
    """Make the requested edits that the store does not have.

    The store is the checkpoint: every batch is committed before the next is made, so that a killed run makes none of
    its finished edits again. Two runs on one store share the work: what one is making, the other takes from the store.

    Args:
        ready: called once before edits are made; a stage that needs them later raises here what it lacks.

    Raises:
        EditorError: the editor cannot be loaded or cannot make an edit; finished batches are kept.
        StoreError: the store is only read, and an edit is missing.
    """
    stored = store.stored_edits(requests, editor.fingerprint)
    missing = [request for request in dict.fromkeys(requests) if request not in stored]
    asked_for: Callable[[Sequence[EditRequest], Mapping[EditRequest, str]], None] | None = getattr(
        editor, "asked_for", None
    )
    if asked_for:  # the editor of a plan, which makes none
        asked_for(requests, stored)
    report(stage, 0, len(missing), len(stored))
    if not missing:
        return EditCounts(0, len(stored))
    if store.reading:
        raise StoreError(
            f"{store.place}: {len(missing)} of the edits that this needs are not there; run the study, which makes them"
        )
    ready()
    start, done, gpu_memory = time.monotonic(), 0, measure_gpu_memory()
    reused, pool = len(stored), getattr(editor, "pool", None)
    before, lost, remade = (pool.made(), pool.lost, pool.remade) if pool else ({}, 0, 0)
    cut, describer = set(getattr(editor, "shortened", ())), prompter_of(editor)
    at_once = max(AT_ONCE, getattr(editor, "at_once", 0))
    batches = batches_of(editor, missing)  # of all that is missing, so that no portion decides what shares one
    for portion in in_turn(store.folder, editor.fingerprint, batches, at_once, store.database.take):
        claimed = {request for batch in portion for request in batch}
        asked = [request for request in missing if request in claimed]
        with store.hold():
            there = store.stored_edits(asked, editor.fingerprint)  # another run may have made them meanwhile
            wanted = [request for request in asked if request not in there]
            images = store.images(list(dict.fromkeys(request.image for request in wanted)))
            size = store.edit_size(editor.fingerprint, wanted[0].image) if wanted else None
            if describer:
                cast(PromptsImages, editor).image_prompts.tell(store.image_prompts(images, describer))
        reused += len(there)
        if not wanted:
            continue
        made = made_edits(editor, images, wanted, size, store.image_name)
        for batch in in_groups(made) if pool else made:
            store.put_edits(batch, editor.fingerprint)
            if describer:
                store.put_image_prompts(cast(PromptsImages, editor).image_prompts.take(), describer)
            done += len(batch)
            report(stage, done, len(missing) - (reused - len(stored)), reused)
    seconds = time.monotonic() - start
    shortened = len(set(getattr(editor, "shortened", ())) - cut)
    if not pool:
        return EditCounts(done, reused, seconds, gpu_memory(), shortened=shortened)
    by_worker = dict(Counter(pool.made()) - Counter(before))
    return EditCounts(
        done, reused, seconds, None, by_worker, pool.lost - lost, tuple(pool.gpus()), pool.remade - remade, shortened
    )


def make_edits(work: StudyContext, requests: Sequence[EditRequest], stage: str = "edits") -> EditCounts:
    """`ensure_edits` of a study at work."""
    return ensure_edits(work.store, work.editor, requests, work.report, stage, work.ready_to_judge)


def control_edits(study: Study) -> list[Concepts]:
    """Edits towards the study's words that mean nothing: what they move is the noise floor.

    Under every setting that a feature of the study is edited with, since a harder push moves more of whatever it meets.
    """
    return [(Concept(words, setting=s),) for s in study.control_settings for words in study.effects.control_prompts]


def controls_like(study: Study, concepts: Concepts) -> list[Concepts]:
    """The control edits that an edit is held against: those under the same options of the editor."""
    settings, controls = {concept.setting for concept in concepts}, control_edits(study)
    return [control for control in controls if control[0].setting in settings] or controls


def level1_combinations(study: Study, corpus: Corpus) -> list[Concepts]:
    """What level 1 edits: nothing (the null edit), words that mean nothing (the noise floor), and every group."""
    combinations: list[Concepts] = [(), *control_edits(study)]
    for features in level1_features(corpus, study.search).values():
        combinations += [concepts_of([feature]) for feature in features]
    return list(dict.fromkeys(combinations))


def level1_plan(work: StudyContext) -> dict[Concepts, list[str]]:
    """The combinations of level 1 with the images each is edited on.

    Under racing that is the first round of the race: which features go on depends on the classifier. The controls
    are needed on every image by whatever is scored later.
    """
    work = work.calibrated()
    images = start = list(work.samples)
    if work.study.search.allocation == "racing":
        start = first_raced(work.study, work.split.discovery)
    controls = [(), *control_edits(work.study)]
    combinations = level1_combinations(work.study, work.corpus)
    return {concepts: images if concepts in controls else start for concepts in combinations}


def race_order(images: Sequence[str], seed: int) -> list[int]:
    """The order in which a race spends the images: random, and the same for the same images and seed."""
    return sorted(range(len(images)), key=lambda i: hashlib.sha256(f"race {seed} {images[i]}".encode()).digest())


def first_raced(study: Study, discovery: Sequence[str]) -> list[str]:
    """The images of the search that a race measures every feature on."""
    return [discovery[i] for i in race_order(discovery, study.seed)[: study.search.racing_start]]


def level1_requests(work: StudyContext) -> list[EditRequest]:
    """The edits of `level1_plan` under every seed."""
    plan = level1_plan(work)
    return [request for concepts, on in plan.items() for request in edit_requests(on, [concepts], work.seeds)]


def level1_edits(work: StudyContext) -> tuple[EditCounts, list[str]]:
    """Make every edit of level 1; returns what it cost and the keys of the edits. No classifier is involved."""
    requests = level1_requests(work)
    counts = make_edits(work, requests, "level-1 edits")
    fingerprint = work.editor.fingerprint  # once: it reads the checkpoint's file times
    return counts, [edit_key(request, fingerprint) for request in requests]
