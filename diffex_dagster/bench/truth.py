"""How right are the explanations? The avatars world against its truth.

The true effect of every feature on every classifier is measured by drawing each image again with only that feature
changed: its mean is taken over the images that lack the feature (have it, for one that is removed), as a report's is.
The mean over all images, and do(1) − do(0) (CaCE, Goyal et al. 2019), which takes both drawings, are graded too. Beside
it stand the pipeline's estimates in two arms: with the exact editor, which leaves the search and the statistics to be
graded, and with the diffusion editor, which adds the error of the edits.

Two truths are used. Effects, signs and ranks are held against the truth of the very images that were edited. Claims
about the population (intervals, *raises*, *lowers*) are held against the truth of a larger sample of the world, since
that is what they speak of.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.bench.baselines import BASELINES, PAPER, Reading, read, variants
from diffex_dagster.bench.resampling import Resampled, resample
from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import measure
from diffex_dagster.classifying.transformers_adapter import TransformersClassifier, TransformersPart
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.loading import LOADING
from diffex_dagster.effects.grading import Grade, beam_recall, grade
from diffex_dagster.effects.presence import Mask
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.model import Explanation, RankedFeature
from diffex_dagster.search.levels import kept_ids
from diffex_dagster.stages.calibrated import calibrated
from diffex_dagster.stages.calibration import calibrate
from diffex_dagster.stages.context import StudyContext, Subject, at_work
from diffex_dagster.stages.corpus import cleaned_proposal, merged
from diffex_dagster.stages.deciding import decision_options
from diffex_dagster.stages.report import explain
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.setup import build_proposer
from diffex_dagster.study import EditorPart, LeditsEditorPart, Study
from diffex_dagster.utils.progress import Reporter, silent
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.exact import read_states
from diffex_dagster.worlds.redrawing import SEED, Feature, redraw, sample_states

RELEVANT = 0.02  # |true effect| from which a feature counts as one that should be found
NULL = 0.001  # |true effect| up to which a claim of an effect is false
FOLDER = "bench"  # beside the study file: the development classifiers, which only the benchmark explains
CLAIMS = ("raises", "lowers")
TOP = 10  # of the world's attributes, for corpus recall


@dataclass(frozen=True)
class TrueEffects:
    """What is true of some drawings, by feature id.

    Attributes:
        d: differences of putting the feature there (taking it away), 0 where that changes nothing, (drawings,).
        without: the drawings that can be changed: those without it, those with it for a feature that is removed.
        both: do(1) − do(0), (drawings,); not of a feature that the world cannot take away.
    """

    d: dict[str, NDArray[np.float64]]
    without: dict[str, Mask]
    both: dict[str, NDArray[np.float64]]

    def effects(self) -> dict[str, float]:
        """Mean effect among the drawings that can be changed; among all where none can."""
        return {f: float(d[on].mean() if (on := self.without[f]).any() else d.mean()) for f, d in self.d.items()}


@dataclass(frozen=True)
class Examinee:
    """A classifier to grade the explanation of, and the class that is explained."""

    name: str
    part: TransformersPart
    label: str


@dataclass(frozen=True)
class Point:
    """One feature in the figure."""

    feature: str
    name: str
    true: float
    estimated: float
    low: float
    high: float
    decision: str


@dataclass(frozen=True)
class Beside:
    """How a baseline did on the same images and edits.

    Attributes:
        grade: its marks on what it reports.
        whole: its marks on every feature of the corpus, an effect of 0 where it reports none.
        beam: its beam recall.
    """

    grade: Grade
    whole: Grade
    beam: float


@dataclass(frozen=True)
class Marked:
    """How one classifier's explanation did in one arm.

    Attributes:
        ours, paper: the pipeline, and the paper's reading of the method on the same edits.
        beam, paper_beam: beam recall of each.
        ours_shared, paper_shared: both again, on the features that both edited. A reading that looks at fewer features
            has an easier choice of them; here neither has.
        ours_whole, paper_whole: both again, on every feature of the corpus. What a reading does not report it tells its
            reader nothing of: an effect of 0, whose sign is wrong where there is an effect.
        resampled: intervals and decisions over many resampled studies; only where edits are exact.
        points: every feature, for the figure.
        plain_mae: mean error of the effects over all images, of the features that are ranked.
        both_mae, both: mean error of do(1) − do(0), over so many features that have one.
        prevalence_mae: mean error of the share of images that show a feature already; NaN where nobody judged.
        corpus_recall: share of the world's ten attributes with the largest true effects (those above `RELEVANT`) that
            a feature of the corpus names; NaN without any.
        decoys, decoy_claims: features of the corpus that the world cannot draw, and how many of them are claimed.
        baselines: title -> its marks, one for each draw where a baseline is random.
        controls, control_claims: control prompts of the study, and how many of them are claimed.
    """

    subject: str
    ours: Grade
    beam: float
    paper: Grade
    paper_beam: float
    ours_shared: Grade
    paper_shared: Grade
    ours_whole: Grade
    paper_whole: Grade
    resampled: Resampled | None
    points: tuple[Point, ...]
    corpus_recall: float = math.nan
    decoys: int = 0
    decoy_claims: int = 0
    controls: int = 0
    control_claims: int = 0
    baselines: Mapping[str, tuple[Beside, ...]] = field(default_factory=dict)
    plain_mae: float = math.nan
    both_mae: float = math.nan
    both: int = 0
    prevalence_mae: float = math.nan


class Truth:
    """True effects on one set of drawings, each drawn and scored once however many studies ask for it.

    Args:
        states: of the drawings.
        size: side of the pictures, in pixels.
        cache: folder that the drawings are kept in.
    """

    def __init__(self, states: Sequence[State], world: World, size: int, cache: Path) -> None:
        self._states, self._world, self._size, self._cache = states, world, size, cache
        self._known: dict[str, dict[Feature, NDArray[np.float64]]] = {}

    def effects(
        self, subject: Examinee, classifier: Classifier, features: Iterable[Feature]
    ) -> dict[Feature, NDArray[np.float64]]:
        """f(changed) − f(unchanged) of each feature, shape (drawings,); zero where the world cannot draw it."""
        named = {feature: (self._world.canonical(feature[0]), feature[1]) for feature in features}
        known = self._known.setdefault(subject.name, {})
        missing = sorted(set(named.values()) - set(known))
        if missing:
            drawn = redraw(self._states, missing, self._size, self._cache, self._world)
            known |= drawn.effects(lambda pictures: _score(classifier, subject.label, pictures))
        return {feature: known[name] for feature, name in named.items()}


@dataclass(frozen=True)
class Benchmark:
    """Arm ("exact", "diffusion") -> marks, one for each classifier; and what they were measured on."""

    arms: dict[str, tuple[Marked, ...]]
    images: int
    population: int
    features: int


def editors(study: Study, arm: str | None = None) -> dict[str, str]:
    """Arm -> name of the study's editor: its exact editor, and its diffusion editor.

    Args:
        arm: only this one.

    Raises:
        DiffExError: the study lacks an editor of the arm.
    """
    kinds = {"exact": "python", "diffusion": "ledits"}
    wanted = {arm: kinds[arm]} if arm else kinds
    found = {}
    for name, kind in wanted.items():
        having = [editor for editor, part in study.editors.items() if part.kind == kind]
        if not having:
            raise DiffExError(f"{study.file}: editors: the benchmark's {name} arm needs one of kind {kind!r}; add it")
        found[name] = having[0]
    return found


SETTINGS: Mapping[str, Mapping[str, object]] = {
    "default": {},  # as a study that sets nothing: calibrated
    "diffusers": {"steps": 30, "skip": 0.15, "scale": 5.0, "threshold": 0.9},
    "authors": {"steps": 50, "skip": 0.15, "scale": 10.0, "threshold": 0.75},
}
"""Options of a LEDITS++ editor that were not chosen on the study: see docs/howto/editor.md for where they come from."""


def with_settings(study: Study, settings: str) -> Study:
    """The study as somebody writes it who has tuned no editor: of each LEDITS++ editor only the checkpoint stays.

    Args:
        settings: of `SETTINGS`, or "tuned" for the study as it is.
    """
    if settings == "tuned":
        return study
    kept = LOADING | {"kind", "checkpoint", "revision", "config"}

    def untuned(part: EditorPart) -> EditorPart:
        if not isinstance(part, LeditsEditorPart):
            return part
        return LeditsEditorPart(**{**part.model_dump(include=kept), **SETTINGS[settings]})

    editors = {name: untuned(part) for name, part in study.editors.items()}
    return study.changed(name=f"{study.name}_{settings}", editors=editors)


def world_of(study: Study) -> World:
    """The world whose pictures a study explains: that of its exact editor.

    Raises:
        DiffExError: no editor of the study is a world's exact editor.
    """
    for part in study.editors.values():
        if part.kind == "python" and part.factory.startswith("diffex_dagster.worlds."):
            world: World = importlib.import_module(part.factory.split(":")[0]).WORLD
            return world
    raise DiffExError(
        f"{study.file}: editors: none is the exact editor of a world; add one of kind 'python' with the factory "
        "diffex_dagster.worlds.avatars:ExactEditor"
    )


def subjects(study: Study, classifier: Path | None = None, label: str | None = None) -> list[Examinee]:
    """The classifiers to grade: those of the study and of its folder `bench`, or only the given folder.

    Raises:
        DiffExError: the folder holds no classifier, or it is not clear which of its classes is meant.
    """
    if classifier is not None:
        part = TransformersPart(checkpoint=str(classifier.resolve()))
        return [_subject(classifier.name, part, study, label)]
    found = [
        _subject(name, part.model_copy(update={"checkpoint": study.checkpoint(part.checkpoint)}), study, label)
        for name, part in study.classifiers.items()
        if isinstance(part, TransformersPart)
    ]
    for file in sorted((study.folder / FOLDER).glob("*/config.json")):
        found.append(_subject(file.parent.name, TransformersPart(checkpoint=str(file.parent)), study, label))
    return found


def _subject(name: str, part: TransformersPart, study: Study, label: str | None) -> Examinee:
    labels = TransformersClassifier(part.checkpoint).labels
    wanted = label or (study.target.label if study.target.label in labels else labels[-1] if len(labels) == 2 else "")
    if wanted not in labels:
        raise DiffExError(f"{part.checkpoint}: name the class to explain with --label; it knows {', '.join(labels)}")
    return Examinee(name, part, wanted)


def grade_all(
    study: Study,
    arms: Mapping[str, str],
    chosen: Sequence[Examinee],
    *,
    images: int | None = None,
    population: int = 200,
    population_seed: int = SEED,
    resamples: int = 200,
    report: Reporter = silent,
    say: Callable[[str], None] = lambda text: None,
    truths: dict[str, Truth] | None = None,
) -> Benchmark:
    """Explain every classifier in every arm and grade what was said.

    Args:
        study: a study of a world's drawings, with `attributes.json` beside its images.
        arms: arm -> name of the study's editor.
        images: use so many of the study's images.
        population, population_seed: how many drawings stand for the world, and the seed of their states.
        resamples: resampled studies of the exact arm.
        say: is told what is going on.
        truths: kept between calls for the same images and population, which then score each drawing once.

    Edits and scores are kept among the study's results: those that exist are not made again.
    """
    limit = images or study.images.limit
    base = study.changed(
        name=f"{study.name}_bench",
        images=study.images.model_copy(update={"limit": limit}),
        effects=study.effects.model_copy(update={"confirmation": 0.0}),
        search=study.search.model_copy(update={"joint_size": 1}),
    )
    work, drawn = StudyContext(base, report=report), world_of(study)
    names, store = list(sample_images(work).keys.values()), work.store
    states = read_states(base.path(base.images.folder or Path("images")) / "attributes.json", drawn, names)
    corpus = _corpus(study, work)
    asked = {(f.prompt, f.direction == "remove") for f in corpus.walk() if f.editable}
    asked |= {(prompt, not removed) for prompt, removed in asked}  # do(1) − do(0) takes both
    whole = asked | {(phrase, False) for phrase in attributes(drawn)}
    cache, size = base.results_folder / "drawings", base.images.size
    truths = {} if truths is None else truths
    of_images, of_others = [states[name] for name in names], sample_states(population, population_seed, drawn)
    here = truths.setdefault("images", Truth(of_images, drawn, size, cache))
    world = truths.setdefault("population", Truth(of_others, drawn, size, cache))

    marks: dict[str, list[Marked]] = {arm: [] for arm in arms}
    for subject in chosen:
        one = base.changed(classifiers={subject.name: subject.part}, target=Target(label=subject.label))
        classifier = at_work(one).subject(subject.name).classifier
        say(f"{subject.name}: its true effects")
        true = truth_of(here.effects(subject, classifier, asked), of_images, corpus, drawn)
        of_world = world.effects(subject, classifier, whole)
        true_world = truth_of(of_world, of_others, corpus, drawn)
        strongest = {phrase: _among_those_without(of_world, of_others, phrase, drawn) for phrase in attributes(drawn)}
        for arm, editor_name in arms.items():
            say(f"{subject.name}: {arm} arm")
            in_arm = one.with_editor(editor_name)
            at = at_work(in_arm, store=store, classifiers={subject.name: classifier}, report=report)
            marked = _mark(at.subject(subject.name), true, true_world)
            if arm == "exact":
                options = replace(decision_options(in_arm), flips=1999)
                marked = replace(
                    marked, resampled=resample(true_world.d, len(names), options, resamples, NULL, true_world.without)
                )
            decoys = {f.id for f in corpus.walk() if f.editable and drawn.meaning(f.prompt) is None}
            claims = sum(p.feature in decoys and p.decision in CLAIMS for p in marked.points)
            recall = corpus_recall(drawn, corpus, strongest)
            marks[arm].append(replace(marked, corpus_recall=recall, decoys=len(decoys), decoy_claims=claims))
    features = sum(feature.editable for feature in corpus.walk())
    return Benchmark({arm: tuple(some) for arm, some in marks.items()}, len(names), population, features)


def _corpus(study: Study, work: StudyContext) -> Corpus:
    """The study's corpus, kept under the benchmark's name."""
    pictures, name = list(work.store.images(list(work.samples)).values()), work.study.name
    proposal = cleaned_proposal(study, build_proposer(study, work.store), pictures)
    corpus = merged(proposal.corpus, study.path(study.corpus.edits))
    work.store.put_corpus(name, corpus)
    work.store.set_current(name, "corpus", corpus.version)
    return corpus


def attributes(world: World) -> list[str]:
    """One phrase for every value of a world's factors that has a word: the attributes that there are to find."""
    return [value.phrases[0] for values in world.factors.values() for value in values.values() if value.phrases]


def corpus_recall(world: World, corpus: Corpus, strengths: Mapping[str, float]) -> float:
    """Share of the strongest attributes of a world that a corpus names, in whatever words the world understands.

    Args:
        strengths: attribute (as of `attributes`) -> |true effect|. Of those above `RELEVANT` the `TOP` strongest count.

    Returns:
        NaN where no attribute is above `RELEVANT`.
    """
    named = {world.meaning(f.prompt) for f in corpus.walk() if f.editable and f.direction == "add"}
    strongest = sorted((name for name, value in strengths.items() if value > RELEVANT), key=lambda n: -strengths[n])[
        :TOP
    ]
    return float(np.mean([world.phrases[name] in named for name in strongest])) if strongest else math.nan


def _score(classifier: Classifier, label: str, pictures: list[Image.Image]) -> NDArray[np.float64]:
    return measure(classifier(pictures), classifier.labels, Target(label=label))


def truth_of(
    effects: Mapping[Feature, NDArray[np.float64]], states: Sequence[State], corpus: Corpus, world: World
) -> TrueEffects:
    """What is true of a corpus's features.

    Args:
        effects: (prompt, whether it is removed) -> differences over the states, both ways of every feature.
        states: that the drawings are of.
    """
    d, without, both = {}, {}, {}
    for f in corpus.walk():
        if not f.editable:
            continue
        shown = np.array([world.has_feature(state, f.prompt) for state in states], dtype=bool)
        put, taken = effects[f.prompt, False], effects[f.prompt, True]
        d[f.id], without[f.id] = (put, ~shown) if f.direction == "add" else (taken, shown)
        gone = [not world.has_feature(world.set_feature(s, f.prompt, True), f.prompt) for s in states]
        if all(gone) and world.meaning(f.prompt):
            both[f.id] = np.where(shown, -taken, put)
    return TrueEffects(d, without, both)


def _among_those_without(
    effects: Mapping[Feature, NDArray[np.float64]], states: Sequence[State], phrase: str, world: World
) -> float:
    """|mean effect| of adding an attribute to the drawings that lack it."""
    lacking = np.array([not world.has_feature(state, phrase) for state in states], dtype=bool)
    return abs(float(effects[phrase, False][lacking].mean())) if lacking.any() else 0.0


def _mark(subject: Subject, true: TrueEffects, true_world: TrueEffects) -> Marked:
    if subject.study.calibrates:
        calibrate(subject)
        subject = calibrated(subject)
    run_search(subject)  # makes the edits; `explain` replays it
    explanation, searched = explain(subject, "diffex bench truth")
    truth, world = true.effects(), true_world.effects()
    alone = read(PAPER, subject)
    ours = {row.feature: row.effect for row in explanation.features}
    shared = {feature: effect for feature, effect in truth.items() if feature in ours and feature in alone.effects}
    unsaid = dict.fromkeys(truth, 0.0)
    return Marked(
        subject.name,
        _grade(explanation, truth, world),
        beam_recall(kept_ids(searched.result.gate), truth, relevant_above=RELEVANT),
        _against(alone.effects, truth, world, None, alone.claims),
        beam_recall(alone.kept, truth, relevant_above=RELEVANT),
        grade(ours, shared, relevant_above=RELEVANT),
        grade(alone.effects, shared, relevant_above=RELEVANT),
        grade(unsaid | ours, truth, relevant_above=RELEVANT),
        grade(unsaid | alone.effects, truth, relevant_above=RELEVANT),
        None,
        tuple(
            Point(f.feature, f.name, truth[f.feature], f.effect, f.ci_low, f.ci_high, f.decision)
            for f in explanation.features
        ),
        controls=len(explanation.controls),
        control_claims=sum(each.decision in CLAIMS for each in explanation.controls),
        baselines=_baselines(subject, truth, world, alone),
        **presence_marks(explanation.features, true),  # type: ignore[arg-type]
    )


def _baselines(
    subject: Subject, truth: Mapping[str, float], world: Mapping[str, float], alone: Reading
) -> dict[str, tuple[Beside, ...]]:
    """Every other reading of the method, and the pipeline with one choice undone, on the same images and edits.

    Args:
        alone: the paper's reading, which is there already.
    """
    unsaid, found = dict.fromkeys(truth, 0.0), {}

    def beside(marks: Grade, effects: Mapping[str, float], kept: Sequence[str]) -> Beside:
        whole = grade(unsaid | dict(effects), truth, relevant_above=RELEVANT)
        return Beside(marks, whole, beam_recall(kept, truth, relevant_above=RELEVANT))

    for title, draws in BASELINES.items():
        readings = [alone if each == PAPER else read(each, subject) for each in draws]
        found[title] = tuple(
            beside(_against(each.effects, truth, world, None, each.claims), each.effects, each.kept)
            for each in readings
        )
    for title, changed in variants(subject.study).items():
        variant = subject.changed(changed)
        run_search(variant)
        explanation, searched = explain(variant, "diffex bench truth")
        ours = {row.feature: row.effect for row in explanation.features}
        marks = _grade(explanation, truth, world)
        found[title] = (beside(marks, ours, kept_ids(searched.result.gate)),)
    return found


def presence_marks(rows: Sequence[RankedFeature], true: TrueEffects) -> dict[str, float | int]:
    """How right a report is about what its effect among some images leaves out; see `Marked`."""
    plain, both, shown = [], [], []
    for row in rows:
        everywhere = row.effect if row.effect_all is None else row.effect_all
        plain.append(abs(everywhere - float(true.d[row.feature].mean())))
        if row.cace is not None and row.feature in true.both:
            both.append(abs(row.cace - float(true.both[row.feature].mean())))
        if row.prevalence is not None:
            lacking = float(true.without[row.feature].mean())
            shown.append(abs(row.prevalence - (1.0 - lacking if row.direction == "add" else lacking)))

    def mean(errors: list[float]) -> float:
        return float(np.mean(errors)) if errors else math.nan

    return {"plain_mae": mean(plain), "both_mae": mean(both), "both": len(both), "prevalence_mae": mean(shown)}


def _grade(explanation: Explanation, truth: Mapping[str, float], world: Mapping[str, float]) -> Grade:
    rows = explanation.features
    return _against(
        {row.feature: row.effect for row in rows},
        truth,
        world,
        {row.feature: (row.ci_low, row.ci_high) for row in rows},
        {row.feature: row.decision for row in rows},
    )


def _against(
    effects: Mapping[str, float],
    truth: Mapping[str, float],
    world: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None,
    decisions: Mapping[str, str] | None,
) -> Grade:
    """Effects against the truth of the images, claims against that of the world."""
    estimates = grade(effects, truth, None, decisions, relevant_above=RELEVANT)
    claims = grade(effects, world, intervals, decisions, relevant_above=RELEVANT, null_tolerance=NULL)
    return replace(
        estimates,
        coverage=claims.coverage,
        discoveries=claims.discoveries,
        fdr=math.nan if decisions is None else claims.fdr,
        false_discoveries=claims.false_discoveries,
    )
