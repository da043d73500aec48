"""The exam: classifiers, pictures and a population that no choice in this project was made on.

The classifiers follow random rules (`worlds/rules.py`, trained by `training/exam.py`), the sample images and the
population are drawn from seeds that nothing else uses, both from the world's own distribution. What is published about
fidelity comes from here; what is tuned is tuned on the development classifiers (`truth.subjects`).
"""

from __future__ import annotations

import json
from pathlib import Path

from diffex_dagster.bench.truth import Subject
from diffex_dagster.classifying.parts import TransformersPart
from diffex_dagster.errors import DiffExError
from diffex_dagster.study import Images, Study
from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.redrawing import sample_states

FOLDER = "exam"  # beside the study file: a folder for each classifier
IMAGE_SEED, POPULATION_SEED = 601, 602
IMAGES, POPULATION = 24, 1000


def exam_subjects(study: Study, count: int | None = None) -> list[Subject]:
    """The exam's classifiers, in the order of their seeds.

    Args:
        count: only the first so many, for a short run; the figures of an exam come from all of them.

    Raises:
        DiffExError: the study's folder has none.
    """
    files = sorted((study.folder / FOLDER).glob("rule_*/rule.json"))
    if not files:
        raise DiffExError(
            f"{study.folder / FOLDER}: there is no classifier; train them with "
            f"`python -m training.exam --world {study.folder.name}`"
        )
    chosen = files[:count]
    return [Subject(file.parent.name, TransformersPart(checkpoint=str(file.parent)), "yes") for file in chosen]


def exam_study(study: Study, world: World, images: int = IMAGES) -> Study:
    """The study with images of its own in the place of the exam's: drawn as the population is, by another seed.

    Everything else (corpus, editors, options) stays as the study file has it.

    Args:
        images: how many. They are written below the study's results once.
    """
    folder = study.results_folder / "exam" / f"images-{IMAGE_SEED}-{images}"
    attributes = folder / "attributes.json"
    states = {f"{world.name}_{i:03d}.png": state for i, state in enumerate(sample_states(images, IMAGE_SEED, world))}
    if not attributes.exists() or json.loads(attributes.read_text("utf-8")) != states:
        folder.mkdir(parents=True, exist_ok=True)
        for name, state in states.items():
            world.draw(state, study.images.size).save(folder / name)
        attributes.write_text(json.dumps(states, indent=1) + "\n", "utf-8")
    editors = {
        name: part.model_copy(update={"options": {**part.options, "attributes": str(attributes)}})
        if part.kind == "python" and part.factory.startswith("diffex_dagster.worlds.")
        else part
        for name, part in study.editors.items()
    }
    return study.changed(
        name=f"{study.name}_exam", images=Images(folder=folder, size=study.images.size), editors=editors
    )


def facts(subjects: list[Subject]) -> dict[str, object]:
    """What is written beside the figures: every classifier's rule, architecture and agreement."""
    return {s.name: json.loads((Path(s.part.checkpoint) / "rule.json").read_text("utf-8")) for s in subjects}
