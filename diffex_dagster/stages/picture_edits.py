"""Single pictures at work: they are edited towards every feature and many control prompts, scored and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from diffex_dagster.classifying.asking import said_outputs
from diffex_dagster.classifying.target import has_class, of_class
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.protocol import MadeBefore
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.effects.one_picture import changes_more, p_value
from diffex_dagster.effects.paired import Reach
from diffex_dagster.effects.presence import YES, seen_from
from diffex_dagster.errors import StoreError
from diffex_dagster.judging.protocol import traits_of
from diffex_dagster.search.flipping import FlipOptions
from diffex_dagster.stages.calibrated import chosen_settings, with_settings
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.control_words import control_sets, with_control_words
from diffex_dagster.stages.deciding import measure_reach
from diffex_dagster.stages.edits import (
    Concepts,
    EditCounts,
    concepts_of,
    control_edits,
    controls_like,
    edit_requests,
    make_edits,
)
from diffex_dagster.stages.judging import evidence_before, first_metrics, gains, least_gain
from diffex_dagster.stages.scores import Paired, ensure_scores, paired_scores
from diffex_dagster.stages.source_prompts import still_to_find


@dataclass(frozen=True)
class Wishes:
    """How far the explanation of a picture goes.

    Attributes:
        flips: the search for sets of edits.
        controls: control prompts; as few as let a verdict be claimed at the study's level when None.
    """

    flips: FlipOptions = field(default_factory=FlipOptions)
    controls: int | None = None


@dataclass(frozen=True)
class Asked:
    """A subject at work on single pictures: with more control prompts, and the features that it edits.

    `made_before` knows which edits there are, where another tool made them; None elsewhere.
    """

    subject: Subject
    corpus: Corpus
    features: tuple[Feature, ...]
    wishes: Wishes
    made_before: MadeBefore | None = None
    _sets: dict[tuple[str, ...], list[Concepts]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def combinations(self) -> list[Concepts]:
        """What every picture is edited towards: nothing, control prompts, single features."""
        return [(), *control_edits(self.subject.study), *(concepts_of([feature]) for feature in self.features)]

    def controls(self, concepts: Concepts) -> list[Concepts]:
        """The control edits that an edit is held against: of as many words, under the same options of the editor.

        Of a set of edits they are made only where they are needed (`hold_sets`). Where none can be had, it is held
        against those of single words.
        """
        study, settings = self.subject.study, tuple(concept.setting for concept in concepts)
        if len(settings) > 1 and settings not in self._sets:
            self._sets[settings] = control_sets(study, self.corpus, settings)
        return self._sets.get(settings) or controls_like(study, concepts)


def asked_of(subject: Subject, corpus: Corpus, wishes: Wishes | None = None) -> Asked:
    """Ready a subject to be asked about single pictures.

    Args:
        subject: the classifier of a study.
        corpus: whose features are edited.

    Raises:
        StoreError: what the study finds out before its first edit (options of the editor, words that describe
            pictures) has not been found out yet.
        StudyError: so many control prompts cannot be had.
    """
    wishes, study, store = wishes or Wishes(), subject.study, subject.store
    if study.finds_source_prompts and still_to_find(subject):
        raise StoreError(
            f"{store.place}: nobody has looked yet in which words pictures are described; run the study once (diffex "
            f"run {study.folder.name}), or write source_prompts: none"
        )
    settings = chosen_settings(study, store)
    features = [feature for feature in with_settings(corpus, settings).walk() if feature.editable]
    lacking = [f for f in features if (f.prompt, f.direction) not in settings] if study.calibrates else []
    if lacking:
        raise StoreError(
            f"{store.place}: nobody has looked yet with which options the editor should edit {lacking[0].prompt!r} "
            f"({len(lacking)} prompts in all); run the study once (diffex run {study.folder.name}), or write "
            "calibrate: false"
        )
    more = with_control_words(study, corpus, wishes.controls)
    at = subject.changed(more.edited_with([feature.setting for feature in features]))
    made_before = None if study.editor_part.makes_edits else cast(MadeBefore, subject.editor)
    return Asked(at, corpus, tuple(features), wishes, made_before)


@dataclass
class Seen:
    """All that is known of the pictures: by what was edited, every array (images,)."""

    images: list[str]
    paired: dict[Concepts, Paired]
    metrics: dict[Concepts, list[EditMetrics]]
    gained: dict[Concepts, list[np.ndarray]]  # gain in evidence of each of its concepts; empty unjudged
    chance: dict[str, np.ndarray]  # setting -> gain that control prompts rarely reach
    shown: dict[str, np.ndarray]  # prompt -> whether the null edit shows it; without those of which it is not known
    inside: np.ndarray | None  # whether the null edit is of the explained class; None where the target has none
    logits: dict[Concepts, np.ndarray]  # under the first seed, (images, classes)
    counts: EditCounts

    def controls(self, asked: Asked, concepts: Concepts, i: int) -> np.ndarray:
        """d of the control edits of one picture that an edit is held against, (controls,)."""
        return np.array([self.paired[control].effect[i] for control in asked.controls(concepts)])

    def p(self, asked: Asked, concepts: Concepts, i: int) -> float:
        """How often one of them and this edit lies as far out as this edit (`effects.one_picture.p_value`)."""
        return p_value(float(self.paired[concepts].effect[i]), self.controls(asked, concepts, i))

    def reach(self, asked: Asked, i: int) -> Reach:
        """How far one picture's measure can be moved, and the study's margin; from its own edits alone."""
        only = np.arange(len(self.images)) == i
        return measure_reach(asked.subject.study, {c: self.paired[c].on(only) for c in asked.combinations})

    def redraws(self, asked: Asked, concepts: Concepts, i: int) -> bool:
        """Whether an edit changes more of one picture than every control edit that it is held against."""
        controls = asked.controls(concepts)
        return changes_more(self.metrics[concepts][i].strength, [self.metrics[c][i].strength for c in controls])

    def shows(self, concepts: Concepts, i: int) -> list[bool | None]:
        """Whether an edit of one picture shows each of its concepts; None where nobody judges."""
        if concepts not in self.gained:
            return [None] * len(concepts)
        highest = max((chance[i] for chance in self.chance.values()), default=0.0)
        chances = [self.chance[c.setting][i] if c.setting in self.chance else highest for c in concepts]
        return [bool(gain[i] > chance) for gain, chance in zip(self.gained[concepts], chances, strict=True)]

    def succeeded(self, asked: Asked, concepts: Concepts, i: int) -> bool:
        """Whether an edit of one picture changed it, and shows all that it was asked for."""
        enough = self.metrics[concepts][i].strength >= asked.subject.study.effects.min_edit_strength
        return bool(enough and all(shown is not False for shown in self.shows(concepts, i)))

    def there(self, feature: Feature, i: int) -> bool:
        """Whether one picture is already as the feature's edit would make it; no where that is not known."""
        shown = self.shown.get(feature.prompt)
        return shown is not None and bool(shown[i]) == (feature.direction == "add")


def edit_pictures(asked: Asked, images: list[str]) -> Seen:
    """Edit, score and judge single features, control prompts and nothing."""
    subject, study = asked.subject, asked.subject.study
    counts = make_edits(subject, edit_requests(images, asked.combinations, study.seeds), "edits of pictures")
    seen = Seen(images, {}, {}, {}, {}, {}, None, {}, counts)
    controls = control_edits(study)
    add(asked, seen, [concepts_of([feature]) for feature in asked.features])
    seen.metrics.update(first_metrics(subject, controls, images))
    first = edit_requests(images, [()], [study.seed])
    outputs, _ = ensure_scores(subject, first)
    labels, said = subject.classifier.labels, said_outputs(subject.classifier)
    seen.logits[()] = np.stack([outputs[request] for request in first])
    if has_class(labels, study.target):
        seen.inside = of_class(seen.logits[()], labels, study.target, study.folder, said)
    if subject.judge is None:
        return seen
    every = gains(subject, [(c, c[0]) for c in controls], images)
    traits = traits_of(subject.judge)
    absolute, binary = traits.absolute, traits.binary
    words = list(dict.fromkeys(concepts[0].prompt for concepts in controls))
    prompts = list(dict.fromkeys(feature.prompt for feature in asked.features))
    before = evidence_before(subject, [*words, *prompts], images) if absolute else {}
    # One picture does not say by how much the evidence of a word differs, but words that can be compared do.
    nothing = [np.array([before[word][i] for word in words]) if absolute else np.empty(0) for i in range(len(images))]
    for setting in study.control_settings:
        of = [gain for (concepts, _), gain in every.items() if concepts[0].setting == setting]
        seen.chance[setting] = np.array(
            [least_gain([gain[i : i + 1] for gain in of], [] if binary else [nothing[i]]) for i in range(len(images))]
        )
    if absolute:
        level = np.array([YES if binary else seen_from(evidence) for evidence in nothing])
        seen.shown = {prompt: before[prompt] > level for prompt in prompts}
    return seen


def add(
    asked: Asked, seen: Seen, combinations: Sequence[Concepts], on: Sequence[str] | None = None, judged: bool = True
) -> None:
    """Score and judge edits that exist; on some of the pictures, the others stay without a number (NaN)."""
    subject = asked.subject
    images = list(seen.images if on is None else on)
    at = [seen.images.index(image) for image in images]
    paired, _ = paired_scores(subject, combinations, images)
    metrics = first_metrics(subject, combinations, images)
    gained: dict[Any, np.ndarray] = {}
    if subject.judge and judged:
        gained = gains(subject, [(c, concept) for c in combinations for concept in c], images)
    for concepts in paired if on is None else combinations:
        seen.paired[concepts] = _spread(paired[concepts], at, len(seen.images), seen.paired.get(concepts))
    nothing = EditMetrics(0.0, 1.0)
    for concepts in combinations:
        known = seen.metrics.setdefault(concepts, [nothing] * len(seen.images))
        for i, each in zip(at, metrics[concepts], strict=True):
            known[i] = each
        if subject.judge and judged:
            table = seen.gained.setdefault(concepts, [np.full(len(seen.images), np.nan) for _ in concepts])
            for column, concept in zip(table, concepts, strict=True):
                column[at] = gained[concepts, concept]


def hold_sets(asked: Asked, seen: Seen, sets: Mapping[int, Sequence[Concepts]]) -> EditCounts:
    """Edit and score the control edits that sets of edits are held against (`Asked.controls`).

    Args:
        sets: position of a picture -> the sets of edits of it that would count.
    """
    wanted = dict[Concepts, dict[int, None]]()
    for i, some in sets.items():
        for control in dict.fromkeys(c for concepts in some for c in asked.controls(concepts) if len(c) > 1):
            wanted.setdefault(control, {})[i] = None
    if not wanted:
        return EditCounts()
    on = {control: [seen.images[i] for i in at] for control, at in wanted.items()}
    requests = [r for control in on for r in edit_requests(on[control], [control], asked.subject.study.seeds)]
    counts = make_edits(asked.subject, requests, "control edits of sets")
    for images in dict.fromkeys(map(tuple, on.values())):
        add(asked, seen, [control for control in on if tuple(on[control]) == images], images, judged=False)
    return counts


def _spread(some: Paired, at: Sequence[int], images: int, before: Paired | None) -> Paired:
    """Scores of some pictures, laid into those of all of them."""
    laid: dict[str, np.ndarray | None] = {}
    for name, values in vars(some).items():
        if values is None:
            laid[name] = None
            continue
        known = getattr(before, name, None)
        every = np.full(images, np.nan) if known is None else np.array(known)
        every[list(at)] = values
        laid[name] = every
    return Paired(**laid)  # type: ignore[arg-type]
