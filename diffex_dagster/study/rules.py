"""What has to hold between the sections of a study file. Each rule raises ValueError with field and remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffex_dagster.study.study import Study

BY_CLASSIFIER = ("predicted class", "confidence", "score before any edit")
"""What divides the images of every report by itself (`effects.subgroups` adds columns of a table)."""


def bounds_fit_the_measure(study: Study) -> None:
    """A race with bounds needs effects that cannot leave [−1, 1]."""
    if study.search.racing_bounds == "bounded" and not study.target.bounded:
        raise ValueError(
            f"search.racing_bounds 'bounded' needs effects that cannot leave [−1, 1], and the measure is "
            f"{study.target.measure!r}: use racing_bounds: normal, or measure: probability"
        )


def subgroups_have_a_table(study: Study) -> None:
    """Subgroups are columns of a table of the images, under names of their own."""
    for column in study.effects.subgroups:
        if column.strip().lower() in BY_CLASSIFIER:
            raise ValueError(
                f"effects.subgroups: every report divides the images by {column!r} already, as the classifier "
                "takes them: give the column of the table another name"
            )
    if study.effects.subgroups and not study.images.kind.has_columns:
        raise ValueError(
            f"effects.subgroups: {study.effects.subgroups[0]!r} is a column of images.table or images.dataset, and "
            f"the images come from images.{study.images.kind.source}: name a table, or leave subgroups out"
        )


def names_are_known(study: Study) -> None:
    """The editor in use and the classifier that filters images are the study's."""
    if study.editor and study.editor not in study.editors:
        raise ValueError(f"editor {study.editor!r} is not one of editors ({', '.join(study.editors)})")
    another = [name for name in study.editors if name != study.editor_name]
    if study.second_editor and study.second_editor not in another:
        others = ", ".join(another) or "none, so far"
        raise ValueError(f"second_editor {study.second_editor!r} is not another one of editors (others: {others})")
    asked = study.images.predicted
    if asked and asked.classifier not in study.classifiers:
        known = ", ".join(study.classifiers)
        raise ValueError(f"images.predicted.classifier {asked.classifier!r} is not one of classifiers ({known})")


def somebody_judges(study: Study) -> None:
    """Options are found by the word of a judge."""
    if study.calibrate and not study.judge.judges:
        raise ValueError(
            "calibrate: true finds options by a judge's word, and judge says that there is none; remove one of them"
        )


def rules_name_classifiers(study: Study) -> None:
    """Limits are for classifiers of the study."""
    named = [name for rule in study.rules for name in rule.classifiers]
    if unknown := [name for name in named if name not in study.classifiers]:
        raise ValueError(f"rules: classifier {unknown[0]!r} is not one of classifiers ({', '.join(study.classifiers)})")


RULES = (bounds_fit_the_measure, subgroups_have_a_table, names_are_known, somebody_judges, rules_name_classifiers)


def not_reserved(names: Iterable[str]) -> None:
    """A classifier is not called as a stage or a source: both are asset keys."""
    taken = {"image_files", "proposal_inputs", "editor", "judge", "second_judge", "results"}  # sources
    taken |= {"sample_images", "vlm_corpus", "corpus_overrides", "corpus", "source_prompts"}
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
