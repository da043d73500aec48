"""Stage: edit the strongest features in pairs, to see whether they add up (`effects.interactions`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.search.joint import combination
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import Concepts, EditCounts, concepts_of, edit_requests, make_edits, nonsense_edits
from diffex_dagster.stages.judging import gains, strengths_on
from diffex_dagster.stages.scores import Paired, paired_scores
from diffex_dagster.study import PrecomputedEditorPart, Study


@dataclass(frozen=True)
class PairEdits:
    """Two features of different groups edited together, on the images that a report speaks of.

    Attributes:
        features: their ids.
        scored: the joint edit's scores.
        took: whether each joint edit shows both, (images,) booleans; None where nobody judges.
    """

    features: tuple[str, str]
    scored: Paired
    took: NDArray[np.bool_] | None


def most_pair_edits(study: Study, groups: int, images: int) -> int:
    """The most edits that pairs may take, where so many groups have a feature that was scored."""
    if isinstance(study.editors[study.editor_name], PrecomputedEditorPart):
        return 0
    several = min(study.search.interactions, groups)
    pairs = several * (several - 1) // 2
    control = pairs > 0 and len(study.effects.nonsense) > 1
    return (pairs + control) * images * len(study.seeds)


def chosen_pairs(
    study: Study, scores: Mapping[str, NDArray[np.float64]], took: Mapping[str, float]
) -> list[tuple[str, str]]:
    """Every pair of the strongest features, one of each group, the strongest first.

    They are chosen by mean |D|, which does not change when the signs of images flip: choosing by the mean would bring
    the luck of the chosen into d_AB − d_A − d_B. Within a group one feature replaces the other, and no pair is made.

    Args:
        scores: feature -> D on the images that the search saw, in an order that settles ties.
        took: share of a feature's edits that show it; features that are missing took. Those that failed are left out.
    """
    if isinstance(study.editors[study.editor_name], PrecomputedEditorPart):
        return []  # what another tool did not make cannot be made
    shown = [f for f in scores if took.get(f, 1.0) >= study.effects.min_edit_success]
    by_group: dict[str, str] = {}
    for feature in sorted(shown, key=lambda f: -float(np.mean(np.abs(scores[f])))):
        by_group.setdefault(feature.split("/")[0], feature)
    return list(combinations(list(by_group.values())[: study.search.interactions], 2))


def possible_pairs(features: Iterable[str]) -> int:
    """How many pairs of these features are of different groups."""
    groups = [feature.split("/")[0] for feature in features]
    return sum(one != other for one, other in combinations(groups, 2))


def edit_pairs(
    subject: Subject, corpus: Corpus, pairs: Sequence[tuple[str, str]], images: Sequence[str], chance: float
) -> tuple[list[PairEdits], Paired | None, EditCounts, int]:
    """Edit, score and judge pairs of features, and the first two control prompts as a pair.

    Args:
        images: keys of the images that the report speaks of.
        chance: gain in evidence that an edit has to exceed to show a feature.

    Returns:
        The pairs; the control pair's scores, None where the study has fewer than two control prompts; what the edits
        cost; how many pictures were scored now.
    """
    if not pairs:
        return [], None, EditCounts(), 0
    of = {pair: concepts_of(combination([corpus[feature] for feature in pair])) for pair in pairs}
    control = control_pair(subject.study)
    wanted: list[Concepts] = [*of.values(), *([control] if control else [])]
    counts = make_edits(subject, edit_requests(images, wanted, subject.seeds), "edits of pairs")
    paired, scored = paired_scores(subject, wanted, images)
    took: dict[tuple[str, str], NDArray[np.bool_]] = {}
    if subject.probe:
        strength = strengths_on(subject, list(of.values()), images)
        gained = gains(subject, [(concepts, concept) for concepts in of.values() for concept in concepts], images)
        for pair, concepts in of.items():
            both = np.all([gained[concepts, concept] > chance for concept in concepts], axis=0)
            took[pair] = both & (strength[concepts] >= subject.study.effects.min_edit_strength)
    found = [PairEdits(pair, paired[concepts], took.get(pair)) for pair, concepts in of.items()]
    return found, paired[control] if control else None, counts, scored


def control_pair(study: Study) -> Concepts:
    """The first two control prompts edited together; nothing where there are fewer."""
    words = nonsense_edits(study)
    return (*words[0], *words[1]) if len(study.effects.nonsense) > 1 else ()
