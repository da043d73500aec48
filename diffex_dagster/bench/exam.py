"""The exam: classifiers, pictures and a population that no choice in this project was made on.

The classifiers follow random rules (`worlds/rules.py`, trained by `exam_classifiers`), the sample images and the
population are drawn from seeds that nothing else uses, both from the world's own distribution. The corpora are recorded
proposals in a model's words, not the world's (where none lies beside the study, its own, on which choices may have been
made), and the control prompts are words that no training script drew. What is
published about fidelity comes from here; what is tuned is tuned on the development classifiers (`truth.subjects`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from diffex_dagster.bench.exam_classifiers import COUNT, Recipe, trained
from diffex_dagster.bench.true_effects import Examinee, Truth
from diffex_dagster.bench.truth import CONTROL_PROMPTS, DRAWINGS, Benchmark, Scope, grade_all, world_of
from diffex_dagster.classifying.transformers_adapter import TransformersPart
from diffex_dagster.corpus.vlm.recorded import RecordedVLM
from diffex_dagster.editing.parts import EditorPart
from diffex_dagster.errors import DiffExError
from diffex_dagster.study import Images, Study
from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.exact import draws_exactly
from diffex_dagster.worlds.redrawing import sample_states

FOLDER = "exam"  # beside the study file: a folder for each classifier
PROPOSALS = "proposals"  # beside the study file: a recorded proposal a file
IMAGE_SEED, POPULATION_SEED = 601, 602
IMAGES = 24
COMBINATIONS = 10  # classifiers that Algorithm 1 is read for with the diffusion editor: rules are random in any order


def exam_subjects(
    study: Study, count: int | None = None, recipe: Recipe | None = None, say: Callable[[str], None] = lambda text: None
) -> list[Examinee]:
    """The exam's classifiers, in the order of their seeds: those beside the study, or trained now for its world.

    Args:
        count: only the first so many, for a short run; the figures of an exam come from all of them.
        recipe: how those are trained that are not there.
        say: is told what is trained.

    Raises:
        DiffExError: the study has no exact editor of a world.
    """
    files = [file.parent for file in sorted((study.folder / FOLDER).glob("rule_*/rule.json"))][:count]
    if not files:
        files = trained(world_of(study), study.results_folder / FOLDER / "classifiers", count or COUNT, recipe, say)
    return [Examinee(folder.name, TransformersPart(checkpoint=str(folder)), "yes") for folder in files]


def proposals(study: Study, chosen: str | None = None) -> dict[str, Path]:
    """Name -> file of each recorded proposal beside the study; where it has none there, the one that it names itself.

    Args:
        chosen: only this one.

    Raises:
        DiffExError: there is none, or none of that name.
    """
    files = {file.stem: file for file in sorted((study.folder / PROPOSALS).glob("*.json"))}
    if not files and isinstance(study.corpus.vlm, RecordedVLM):
        own = study.path(study.corpus.vlm.file)
        files = {own.stem: own}
    if chosen and chosen not in files:
        raise DiffExError(
            f"{study.folder / PROPOSALS}: there is no proposal {chosen!r}; there are: {', '.join(files) or 'none'}"
        )
    if not files:
        raise DiffExError(f"{study.folder / PROPOSALS}: there is no recorded proposal; put one there as NAME.json")
    return {chosen: files[chosen]} if chosen else files


def exam_study(study: Study, world: World, images: int = IMAGES, proposal: Path | None = None) -> Study:
    """The study with images, control prompts and a corpus that are the exam's own.

    There is no beam: the demo has one for its time's sake. Everything else (editors, options) stays as the study file
    has it. The user overrides (`corpus.overrides`) belong to
    the study's own proposal and are left out.

    Args:
        images: how many, drawn as the population is, by another seed. They are written below the study's results once.
        proposal: the recorded answer that the corpus is made from; the study's own corpus unless given.
    """
    folder = study.results_folder / "exam" / f"images-{IMAGE_SEED}-{images}"
    attributes = folder / "attributes.json"
    states = {f"{world.name}_{i:03d}.png": state for i, state in enumerate(sample_states(images, IMAGE_SEED, world))}
    if not attributes.exists() or json.loads(attributes.read_text("utf-8")) != states:
        folder.mkdir(parents=True, exist_ok=True)
        for name, state in states.items():
            world.draw(state, study.images.size).save(folder / name)
        attributes.write_text(json.dumps(states, indent=1) + "\n", "utf-8")
    made = study.changed(
        name=f"{study.name}_exam",
        images=Images(folder=folder, size=study.images.size),
        editors=exact_editors_on(study, attributes),
        search=study.search.model_copy(update={"beam": None}),
        effects=study.effects.model_copy(update={"control_prompts": CONTROL_PROMPTS}),
    )
    if proposal is None:
        return made
    vlm, none = RecordedVLM(file=proposal), folder / "no-overrides.yaml"
    corpus = study.corpus.model_copy(update={"vlm": vlm, "starter": None, "overrides": none})
    return made.changed(name=f"{study.name}_exam_{proposal.stem}", corpus=corpus)


def exact_editors_on(study: Study, attributes: Path) -> dict[str, EditorPart]:
    """The study's editors, of which exact ones read the states of other drawings than the study's own."""
    return {
        name: part.model_copy(update={"options": {**part.options, "attributes": str(attributes)}})
        if draws_exactly(part)
        else part
        for name, part in study.editors.items()
    }


def exam_scope(
    images: int | None = None, population: int | None = None, combinations: int | None = None, **others: Any
) -> Scope:
    """The exam's images, population and combinations, or fewer of them; others as in `Scope`."""
    combinations = COMBINATIONS if combinations is None else combinations
    return Scope(images or IMAGES, population or DRAWINGS, POPULATION_SEED, combinations=combinations, **others)


def grade_exam(
    study: Study,
    arms: Mapping[str, str],
    chosen: Sequence[Examinee],
    files: Mapping[str, Path],
    scope: Scope | None = None,
    graded: Callable[[dict[str, Benchmark]], None] = lambda found: None,
) -> dict[str, Benchmark]:
    """Grade every classifier's explanation under every recorded proposal.

    Args:
        files: name -> recorded proposal.
        graded: is given what is graded so far after each proposal, since all of them take hours.
        scope: `exam_scope()` when left out.

    Returns:
        Proposal -> its benchmark. All share images and population, whose drawings each classifier scores once.
    """
    world, scope = world_of(study), scope or exam_scope()
    truths: dict[str, Truth] = {}
    found = {}
    for name, file in files.items():
        own = replace(scope, images=None, say=partial(_said_of, scope.say, name))
        found[name] = grade_all(exam_study(study, world, scope.images or IMAGES, file), arms, chosen, own, truths)
        graded(found)
    return found


def _said_of(say: Callable[[str], None], name: str, text: str) -> None:
    say(f"{name}: {text}")


def facts(subjects: list[Examinee]) -> dict[str, object]:
    """What is written beside the figures: every classifier's rule, architecture and agreement."""
    return {s.name: json.loads((Path(s.part.checkpoint) / "rule.json").read_text("utf-8")) for s in subjects}
