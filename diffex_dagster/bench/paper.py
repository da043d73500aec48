"""The paper's reading of DiffEx on the same edits: what it would have said without this project's changes.

Kazimi et al. (arXiv 2412.18604), Algorithm 1 as published: f(edit) against f of the original file, no null edit;
groups by mean f, the best B of them with f ≥ δ; a child is kept when it beats its parent. No decision is made: every
feature that is kept is reported as one that raises the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import measure
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.search.joint import key
from diffex_dagster.search.levels import kept_ids
from diffex_dagster.search.run import search
from diffex_dagster.stages.edits import concepts_of, edit_requests, ensure_edits
from diffex_dagster.stages.scores import paired_scores
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import Reporter


@dataclass(frozen=True)
class Reading:
    """What the paper's reading reports.

    Attributes:
        effects: feature -> mean of f(edit) − f(original) over the images, for every feature that was edited.
        claims: the features that survived, each "raises".
        kept: ids of the groups in the beam.
    """

    effects: dict[str, float]
    claims: dict[str, str]
    kept: list[str]


def read(
    study: Study, store: Store, editor: Editor, classifier: Classifier, corpus: Corpus, report: Reporter
) -> Reading:
    """Search as the paper does; edits that the pipeline has not made are made."""
    effects = study.effects.model_copy(update={"nonsense": ()})  # the paper has no control prompts
    study = study.model_copy(update={"effects": effects})
    samples = store.samples(study.name)
    originals = list(store.images(list(samples)).values())
    before = measure(classifier(originals), classifier.labels, Target(label=study.target.label))

    def score(combinations: Sequence[tuple[Feature, ...]]) -> dict[tuple[str, ...], NDArray[np.float64]]:
        asked = {key(features): concepts_of(features) for features in combinations}
        ensure_edits(store, editor, edit_requests(list(samples), [(), *asked.values()], study.seeds), report, "edits")
        paired, _ = paired_scores(
            study, store, classifier, editor.fingerprint, list(asked.values()), list(samples), report
        )
        return {ids: paired[concepts].edit - before for ids, concepts in asked.items()}

    options = study.search.model_copy(update={"gate": "signed", "joint_size": 1, "allocation": "exhaustive"}).options()
    result = search(corpus, score, options)
    return Reading(
        {feature: float(np.mean(d)) for feature, d in result.scores.items()},
        {feature.id: "raises" for feature in result.survivors},
        kept_ids(result.gate),
    )
