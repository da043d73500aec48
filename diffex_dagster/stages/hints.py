"""What looks wrong about a classifier on the study's own images: said by `init`, `doctor`, a run and its report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from diffex_dagster.classifying.asking import outputs_of, said_outputs
from diffex_dagster.classifying.hints import hints_of_scores, unsaid_preparation
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import measure
from diffex_dagster.study import Study

LOOKED_AT = 12  # images that are scored before a run


def hints(study: Study, classifier: Classifier, outputs: np.ndarray) -> list[str]:
    """A sentence for each thing that looks wrong.

    Args:
        study: with the target of this classifier.
        outputs: its logits on the sample images, (images, classes).
    """
    values = measure(outputs, classifier.labels, study.target, study.folder, said_outputs(classifier))
    unsaid = unsaid_preparation(classifier)
    return [*([unsaid] if unsaid else []), *hints_of_scores(outputs, values, study.target)]


def first_outputs(classifier: Classifier, pictures: Mapping[str, Image.Image]) -> np.ndarray:
    """Logits of the first sample images, (images, classes)."""
    return outputs_of(classifier, [pictures[name] for name in list(pictures)[:LOOKED_AT]])
