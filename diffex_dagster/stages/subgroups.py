"""What images have in common before any edit: how a classifier takes them, and the columns of the user's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.classifying.target import has_class, predicted
from diffex_dagster.effects.paired import Reach
from diffex_dagster.effects.subgroups import SubgroupEffect, strata, subgroup_effects
from diffex_dagster.report.wording import UNSAID
from diffex_dagster.results import RankedFeature
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.deciding import decision_options, reach_on
from diffex_dagster.stages.ranking import Measured
from diffex_dagster.study import BY_CLASSIFIER

PREDICTED, CONFIDENCE, SCORE = BY_CLASSIFIER


def as_taken(
    originals: NDArray[np.float64], predicted: Sequence[str] | None, confidence: NDArray[np.float64] | None
) -> dict[str, list[str | None]]:
    """Columns by what a classifier says of the originals: the class, and the half of the images it is surer of.

    Args:
        originals: target measure of the originals, (images,).
        predicted: the class that each is taken for; None of a classifier without classes.
        confidence: probability of that class, (images,); the measure itself divides the images where there is none.
    """
    columns: dict[str, list[str | None]] = {} if predicted is None else {PREDICTED: list(predicted)}
    values, name = (originals, SCORE) if confidence is None else (confidence, CONFIDENCE)
    middle = float(np.median(values))
    below, above = f"up to {middle:.2g}", f"above {middle:.2g}"
    columns[name] = [above if value > middle else below for value in values]
    return columns


def columns_of(
    subject: Subject, images: Sequence[str], logits: NDArray[np.float64], originals: NDArray[np.float64]
) -> dict[str, list[str | None]]:
    """What divides the images, in their order: how the classifier takes the originals, and the columns of a table.

    Args:
        images: keys of the images that the report speaks of.
        logits, originals: outputs and target measure of the originals.
    """
    from scipy.special import softmax

    study, labels = subject.study, subject.classifier.labels
    exclusive = has_class(labels, study.target) and len(labels) > 1 and study.target.kind.exclusive
    surely = softmax(logits, axis=1).max(axis=1) if exclusive else None
    columns = as_taken(originals, [labels[i] for i in predicted(logits)] if exclusive else None, surely)
    told = subject.store.image_columns(study.kept_as)
    return columns | {name: [told.get(key, {}).get(name) for key in images] for name in study.effects.subgroups}


def subgroups_of(
    measured: Measured, ranked: Sequence[RankedFeature], columns: Mapping[str, Sequence[str | None]]
) -> tuple[SubgroupEffect, ...]:
    """Every feature that was decided about, in every subgroup of its images; the features in their order of rank."""
    decided = [row.feature for row in ranked if row.decision not in UNSAID]
    options, succeeded = decision_options(measured.study, measured.reach), measured.succeeded

    def reach(feature: str, images: NDArray[np.bool_]) -> Reach:
        return reach_on(measured.study, measured.reach, measured.paired[feature].null[images])

    return tuple(
        subgroup_effects(
            {feature: measured.paired[feature].effect for feature in decided},
            strata(columns, options.level),
            options,
            controls=measured.controls,
            succeeded={feature: succeeded[feature] for feature in decided} if set(decided) <= set(succeeded) else None,
            on=measured.on,
            image_noise=measured.searched.noise.image,
            left=measured.left,
            reach=reach,
        )
    )
