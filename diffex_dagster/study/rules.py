"""What has to hold between the sections of a study file. Each rule raises ValueError with field and remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from diffex_dagster.classifying.parts import Target
from diffex_dagster.images.section import Images
from diffex_dagster.judging.parts import JudgePart
from diffex_dagster.study.sections import EffectsPart, RulePart, SearchPart

BY_CLASSIFIER = ("predicted class", "confidence", "score before any edit")
"""What divides the images of every report by itself (`effects.subgroups` adds columns of a table)."""


def bounds_fit_the_measure(search: SearchPart, target: Target) -> None:
    """A race with bounds needs effects that cannot leave [−1, 1]."""
    if search.racing_bounds == "bounded" and not target.bounded:
        raise ValueError(
            f"search.racing_bounds 'bounded' needs effects that cannot leave [−1, 1], and the measure is "
            f"{target.measure!r}: use racing_bounds: normal, or measure: probability"
        )


def subgroups_have_a_table(effects: EffectsPart, images: Images) -> None:
    """Subgroups are columns of a table of the images, under names of their own."""
    for column in effects.subgroups:
        if column.strip().lower() in BY_CLASSIFIER:
            raise ValueError(
                f"effects.subgroups: every report divides the images by {column!r} already, as the classifier "
                "takes them: give the column of the table another name"
            )
    if effects.subgroups and not images.kind.has_columns:
        raise ValueError(
            f"effects.subgroups: {effects.subgroups[0]!r} is a column of images.table or images.dataset, and "
            f"the images come from images.{images.kind.source}: name a table, or leave subgroups out"
        )


def editors_are_known(editor: str, second: str, editors: Collection[str]) -> None:
    """The editor in use (the first one where none is named) and the second one are the study's, and two."""
    if editor and editor not in editors:
        raise ValueError(f"editor {editor!r} is not one of editors ({', '.join(editors)})")
    in_use = editor or next(iter(editors))
    another = [name for name in editors if name != in_use]
    if second and second not in another:
        others = ", ".join(another) or "none, so far"
        raise ValueError(f"second_editor {second!r} is not another one of editors (others: {others})")


def filter_is_known(images: Images, classifiers: Collection[str]) -> None:
    """The classifier that filters images is the study's."""
    asked = images.predicted
    if asked and asked.classifier not in classifiers:
        known = ", ".join(classifiers)
        raise ValueError(f"images.predicted.classifier {asked.classifier!r} is not one of classifiers ({known})")


def somebody_judges(calibrate: bool | None, judge: JudgePart) -> None:
    """Options are found by the word of a judge."""
    if calibrate and not judge.judges:
        raise ValueError(
            "calibrate: true finds options by a judge's word, and judge says that there is none; remove one of them"
        )


def rules_name_classifiers(rules: Iterable[RulePart], classifiers: Collection[str]) -> None:
    """Limits are for classifiers of the study."""
    named = [name for rule in rules for name in rule.classifiers]
    if unknown := [name for name in named if name not in classifiers]:
        raise ValueError(f"rules: classifier {unknown[0]!r} is not one of classifiers ({', '.join(classifiers)})")


def not_reserved(names: Iterable[str]) -> None:
    """A classifier is not called as a stage or a source: both are asset keys."""
    taken = {"image_files", "proposal_inputs", "editor", "judge", "second_judge", "results"}  # sources
    taken |= {"corpus_suggestions", "sample_images", "vlm_corpus", "corpus_overrides", "corpus", "source_prompts"}
    taken |= {"editor_calibration", "level1_edits", "classifier_comparison", "editor_comparison"}
    for name in names:
        if name.lower() in taken:
            raise ValueError(f"a classifier cannot be called {name!r}: that is the name of a stage")
        if name.lower() == "comparison":
            raise ValueError(
                f"a classifier cannot be called {name!r}: its report would lie where the comparison of all "
                "classifiers does; choose another name"
            )


def a_classifier_for_each_class(fields: dict[str, Any]) -> dict[str, Any]:
    """`target: {label: [a, b]}` explains each classifier once for each class: v1 becomes v1_a and v1_b.

    All of them share the edits, and a classifier's scores: only what is read off the scores differs.
    """
    target, classifiers = fields.get("target"), fields.get("classifiers")
    labels = target.get("label") if isinstance(target, dict) else None
    if not isinstance(labels, list) or not isinstance(classifiers, dict) or not labels:
        return fields
    assert isinstance(target, dict)
    expanded: dict[str, Any] = {}
    for name, part in classifiers.items():
        if not isinstance(part, dict) or "target" in part:
            expanded[name] = part
            continue
        for label in labels:
            slug = re.sub(r"\W+", "_", str(label), flags=re.ASCII).strip("_").lower() or str(len(expanded))
            alike = (f"{name}_{slug}" if not n else f"{name}_{slug}_{n + 1}" for n in range(len(labels)))
            free = next(each for each in alike if each not in expanded and each not in classifiers)
            expanded[free] = {**part, "target": {**target, "label": label}}
    return {**fields, "target": {**target, "label": labels[0]}, "classifiers": expanded}
