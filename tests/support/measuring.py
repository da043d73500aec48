"""A finished search by hand: what `stages.ranking` measures, of numbers that a test gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.racing import Race
from diffex_dagster.search.run import SearchResult
from diffex_dagster.stages.edits import concepts_of, control_edits
from diffex_dagster.stages.interactions import PairEdits
from diffex_dagster.stages.ranking import Measured
from diffex_dagster.stages.scores import Paired
from diffex_dagster.stages.searched import Noise, Searched
from diffex_dagster.stages.splits import Split
from diffex_dagster.study import Study


def measured(
    study: Study,
    null: np.ndarray,
    edits: Mapping[Feature, np.ndarray],
    *,
    left: Sequence[str] = (),
    pairs: Sequence[PairEdits] = (),
    without: Mapping[str, np.ndarray] | None = None,
) -> Measured:
    """Features whose edits score so, over the images of `null`; control prompts do what null edits do.

    Args:
        left: ids of features that left a race before it had seen all images.
        pairs: what was edited together.
        without: feature id -> images that its edit can change, where there is a judge.
    """
    images = [f"image{i}" for i in range(len(null))]
    flat = np.zeros(len(null))
    paired = {concepts: Paired(null, null, flat, null) for concepts in [(), *control_edits(study)]}
    paired |= {concepts_of([feature]): Paired(null, edit, flat, null) for feature, edit in edits.items()}
    scores = {feature.id: paired[concepts_of([feature])].effect for feature in edits}
    seen = {f: list(values) for f, values in scores.items()} | {f: [0.0] for f in left}
    race = Race(range(len(null)), len(seen), study.search, seen=seen) if left else None
    result = SearchResult(scores, (), (), (), (), None, len(seen), race=race)
    searched = Searched(result, Noise(0.0, 0.0), Split(images, images), paired, pairs=list(pairs))
    searched.without = dict(without or {})
    return Measured(study, Corpus(tuple(edits)), searched, {})
