"""How right are the explanations? A world's studies against what is true of its drawings.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffex_dagster.bench.marks import Marked, mark
from diffex_dagster.bench.resampling import resample
from diffex_dagster.bench.true_effects import Examinee, Truth, among_those_without, truth_of
from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.transformers_adapter import TransformersClassifier, TransformersPart
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.ledits import LeditsEditorPart
from diffex_dagster.editing.loading import LOADING
from diffex_dagster.editing.parts import EditorPart
from diffex_dagster.effects.grading import RELEVANT
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.context import StudyContext, at_work
from diffex_dagster.stages.corpus import cleaned_proposal, merged
from diffex_dagster.stages.deciding import decision_options, reach_of
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.setup import build_proposer
from diffex_dagster.study import Study
from diffex_dagster.study.sections import EffectsPart, SearchPart
from diffex_dagster.utils.progress import Reporter, silent
from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.exact import draws_exactly, read_states
from diffex_dagster.worlds.redrawing import SEED, sample_states

# Words without a picture. The demo editors' training draws its meaningless words letter by letter, seldom such ones; a
# study's own may have been met while editor and judge were made.
CONTROL_PROMPTS = ("whereas", "henceforth", "nevertheless")
FOLDER = "bench"  # beside the study file: the development classifiers, which only the benchmark explains
DRAWINGS = 1000  # of the population; with 60 its own true effects have standard errors of 0.05
TOP = 10  # of the world's attributes, for corpus recall


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
    "default": {},  # as a study that sets nothing: calibrated, and with the words of its corpus
    "no_vocabulary": {"source_prompts": "none"},  # the same without words
    "diffusers": {"source_prompts": "none", "steps": 30, "skip": 0.15, "scale": 5.0, "threshold": 0.9},
    "authors": {"source_prompts": "none", "steps": 50, "skip": 0.1, "scale": 10.0, "threshold": 0.75},
}
"""Options of a LEDITS++ editor that were not chosen on the study: see docs/howto/editor.md for where they come from."""


def with_settings(study: Study, settings: str) -> Study:
    """The study as somebody writes it who has tuned nothing.

    Of each LEDITS++ editor only the checkpoint stays, of `search` nothing, and of `effects` the control prompts.

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
    effects = EffectsPart(control_prompts=study.effects.control_prompts)
    return study.changed(name=f"{study.name}_{settings}", editors=editors, search=SearchPart(), effects=effects)


def world_of(study: Study) -> World:
    """The world whose pictures a study explains: that of its exact editor.

    Raises:
        DiffExError: no editor of the study is a world's exact editor.
    """
    for part in study.editors.values():
        if draws_exactly(part):
            world: World = importlib.import_module(part.factory.split(":")[0]).WORLD
            return world
    raise DiffExError(
        f"{study.file}: editors: none is the exact editor of a world; add one of kind 'python' with the factory "
        "diffex_dagster.worlds.avatars:ExactEditor"
    )


def subjects(study: Study, only: Sequence[Path] = (), label: str | None = None) -> list[Examinee]:
    """The classifiers to grade: those of the study and of its folder `bench`, or only those in the given folders.

    Raises:
        DiffExError: a folder holds no classifier, two have one name, or it is not clear which of its classes is meant.
    """
    if len({folder.resolve().name for folder in only}) < len(only):
        raise DiffExError("--classifier: two folders have the same name, by which results are told apart; rename one")
    if only:
        given = [(each.resolve().name, TransformersPart(checkpoint=str(each.resolve()))) for each in only]
        return [_subject(name, part, study, label) for name, part in given]
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
    own = study.target.model_copy(update={"label": wanted})
    usual = own.kind is Target(label=wanted).kind and not own.labels
    return Examinee(name, part, wanted, None if usual else own)


@dataclass(frozen=True)
class Scope:
    """How much is graded, and where progress is said.

    Attributes:
        images: use so many of the study's images; the study's own limit when None.
        population, population_seed: how many drawings stand for the world, and the seed of their states.
        resamples: resampled studies of the exact arm.
        combinations: Algorithm 1, whose edits no other reading needs, is read with the diffusion editor for the first
            so many classifiers only; for all when None.
        undescribed: so is the pipeline without descriptions, for the first so many; as many as `combinations` when
            None. Its edits are the same for all classifiers: the first one makes them.
        report: told how far each stage is.
        say: is told what is going on.
    """

    images: int | None = None
    population: int = DRAWINGS
    population_seed: int = SEED
    resamples: int = 200
    combinations: int | None = None
    undescribed: int | None = None
    report: Reporter = silent
    say: Callable[[str], None] = lambda text: None


def grade_all(
    study: Study,
    arms: Mapping[str, str],
    chosen: Sequence[Examinee],
    scope: Scope | None = None,
    truths: dict[str, Truth] | None = None,
) -> Benchmark:
    """Explain every classifier in every arm and grade what was said.

    Args:
        study: a study of a world's drawings, with `attributes.json` beside its images.
        arms: arm -> name of the study's editor.
        truths: kept between calls for the same images and population, which then score each drawing once.

    The control prompts are words that no training drew, in place of the study's. Edits and scores are kept among the
    study's results: those that exist are not made again.
    """
    scope = scope or Scope()
    base, say = benched(study, scope.images), scope.say
    work, drawn = StudyContext(base, report=scope.report), world_of(study)
    names, store = list(sample_images(work).keys.values()), work.store
    states = read_states(base.path(base.images.folder or Path("images")) / "attributes.json", drawn, names)
    corpus = kept_corpus(study, work)
    asked = {(f.prompt, f.direction == "remove") for f in corpus.walk() if f.editable}
    asked |= {(prompt, not removed) for prompt, removed in asked}  # do(1) − do(0) takes both
    whole = asked | {(phrase, False) for phrase in attributes(drawn)}
    cache, size = base.results_folder / "drawings", base.images.size
    truths = {} if truths is None else truths
    of_images, of_others = (
        [states[name] for name in names],
        sample_states(scope.population, scope.population_seed, drawn),
    )
    here = truths.setdefault("images", Truth(of_images, drawn, size, cache))
    world = truths.setdefault("population", Truth(of_others, drawn, size, cache))

    marks: dict[str, list[Marked]] = {arm: [] for arm in arms}
    # One editor for all classifiers: it keeps the inversions of the images.
    made_by = {arm: at_work(base.with_editor(name), store=store).bare_editor for arm, name in arms.items()}
    for i, subject in enumerate(chosen):
        one = base.changed(classifiers={subject.name: subject.part}, target=subject.target)
        classifier = at_work(one).subject(subject.name).classifier
        say(f"{subject.name}: its true effects")
        true = truth_of(here.effects(subject, classifier, asked), of_images, corpus, drawn)
        of_world = world.effects(subject, classifier, whole)
        true_world = truth_of(of_world, of_others, corpus, drawn)
        strongest = {phrase: among_those_without(of_world, of_others, phrase, drawn) for phrase in attributes(drawn)}
        unit = world.unit(subject, classifier)
        for arm, editor_name in arms.items():
            say(f"{subject.name}: {arm} arm")
            in_arm = one.with_editor(editor_name)
            own = {subject.name: classifier}
            at = at_work(in_arm, store=store, editor=made_by[arm], classifiers=own, report=scope.report)
            only = scope.combinations, scope.combinations if scope.undescribed is None else scope.undescribed
            combined, plain = (arm == "exact" or some is None or i < some for some in only)
            marked = mark(at.subject(subject.name), true, true_world, unit, combined, plain)
            if arm == "exact":
                reach = None if subject.target.bounded else reach_of(in_arm, unit)
                options = decision_options(in_arm, reach).replaced(flips=1999)
                resampled = resample(
                    true_world.d, len(names), options, scope.resamples, without=true_world.without, reach=reach
                )
                marked = replace(marked, resampled=resampled)
            decoys = {f.id for f in corpus.walk() if f.editable and drawn.meaning(f.prompt) is None}
            recall = corpus_recall(drawn, corpus, strongest, RELEVANT * unit)
            marks[arm].append(replace(marked.with_decoys(decoys), corpus_recall=recall))
    features = sum(feature.editable for feature in corpus.walk())
    return Benchmark({arm: tuple(some) for arm, some in marks.items()}, len(names), scope.population, features)


def benched(study: Study, images: int | None = None) -> Study:
    """The study under the benchmark's name: on all its images, with other control prompts, without joint edits.

    A study of so many images has a name of its own, so that it neither describes nor edits pictures as another found.

    Args:
        images: the first so many; the study's own limit when None.
    """
    words = CONTROL_PROMPTS if study.effects.control_prompts else ()
    return study.changed(
        name=f"{study.name}_bench" + (f"_{images}" if images else ""),
        images=study.images.model_copy(update={"limit": images or study.images.limit}),
        effects=study.effects.model_copy(update={"confirmation": 0.0, "control_prompts": words}),
        search=study.search.model_copy(update={"joint_size": 1}),
    )


def kept_corpus(study: Study, work: StudyContext) -> Corpus:
    """The study's corpus, kept under the benchmark's name."""
    pictures, name = list(work.store.images(list(work.samples)).values()), work.study.kept_as
    proposal = cleaned_proposal(study, build_proposer(study, work.store), pictures)
    corpus = merged(proposal.corpus, study.path(study.corpus.overrides))
    work.store.put_corpus(name, corpus)
    work.store.set_current(name, "corpus", corpus.version)
    return corpus


def attributes(world: World) -> list[str]:
    """One phrase for every value of a world's factors that has a word: the attributes that there are to find."""
    return [value.phrases[0] for values in world.factors.values() for value in values.values() if value.phrases]


def corpus_recall(world: World, corpus: Corpus, strengths: Mapping[str, float], relevant: float = RELEVANT) -> float:
    """Share of the strongest attributes of a world that a corpus names, in whatever words the world understands.

    Args:
        strengths: attribute (as of `attributes`) -> |true effect|. Of those above `relevant` the `TOP` strongest count.
        relevant: in the unit of the measure.

    Returns:
        NaN where no attribute is above `relevant`.
    """
    named = {world.meaning(f.prompt) for f in corpus.walk() if f.editable and f.direction == "add"}
    strongest = sorted((name for name, value in strengths.items() if value > relevant), key=lambda n: -strengths[n])[
        :TOP
    ]
    return float(np.mean([world.phrases[name] in named for name in strongest])) if strongest else math.nan
