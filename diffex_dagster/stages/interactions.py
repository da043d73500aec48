"""Stage: edit the strongest features in pairs, to see whether they add up (`effects.interactions`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.protocol import Concept
from diffex_dagster.search.joint import combination
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import Concepts, EditCounts, concepts_of, edit_requests, make_edits
from diffex_dagster.stages.judging import chance_of, gains, strengths_on
from diffex_dagster.stages.scores import Paired, paired_scores
from diffex_dagster.study import Study


@dataclass(frozen=True)
class ControlPair:
    """The first two control prompts edited like a pair of features, on the same images.

    Attributes:
        alone: each of them by itself.
        scored: the scores of both edited together.
    """

    alone: tuple[Concepts, Concepts]
    scored: Paired


@dataclass(frozen=True)
class PairEdits:
    """Two features of different groups edited together, on the images that a report speaks of.

    Attributes:
        features: their ids.
        scored: the joint edit's scores.
        succeeded: whether each joint edit shows both, (images,) booleans; None where nobody judges.
        control: what the pair is held against; None where the study has fewer than two control prompts.
    """

    features: tuple[str, str]
    scored: Paired
    succeeded: NDArray[np.bool_] | None
    control: ControlPair | None = None


def most_pair_edits(study: Study, groups: int, images: int) -> int:
    """The most edits that pairs may take, where so many groups have a feature that was scored.

    Each pair of settings that features are edited with has control edits of its own (`control_pair`).
    """
    if not study.editor_part.makes_edits:
        return 0
    several = min(study.search.interactions, groups)
    pairs = several * (several - 1) // 2
    settings = len(study.control_settings)
    unknown = study.calibrates and study.control_settings == ("",)
    controls = pairs if unknown else min(pairs, settings * (settings + 1) // 2)
    return (pairs + (controls if len(study.effects.control_prompts) > 1 else 0)) * images * len(study.seeds)


def chosen_pairs(
    study: Study, scores: Mapping[str, NDArray[np.float64]], succeeded: Mapping[str, float]
) -> list[tuple[str, str]]:
    """Every pair of the strongest features, one of each group, the strongest first.

    They are chosen by mean |D|, which does not change when the signs of images flip: choosing by the mean would bring
    the luck of the chosen into d_AB − d_A − d_B. Within a group one feature replaces the other, and no pair is made.

    Args:
        scores: feature -> D on the images that the search saw, in an order that settles ties.
        succeeded: share of a feature's edits that show it; features that are missing succeeded. Those that failed are
            left out.
    """
    if not study.editor_part.makes_edits:
        return []  # what another tool did not make cannot be made
    shown = [f for f in scores if succeeded.get(f, 1.0) >= study.effects.min_edit_success]
    by_group: dict[str, str] = {}
    for feature in sorted(shown, key=lambda f: -float(np.mean(np.abs(scores[f])))):
        by_group.setdefault(feature.split("/")[0], feature)
    return list(combinations(list(by_group.values())[: study.search.interactions], 2))


def possible_pairs(features: Iterable[str]) -> int:
    """How many pairs of these features are of different groups."""
    groups = [feature.split("/")[0] for feature in features]
    return sum(one != other for one, other in combinations(groups, 2))


def edit_pairs(
    subject: Subject,
    corpus: Corpus,
    pairs: Sequence[tuple[str, str]],
    images: Sequence[str],
    chances: Mapping[str, float],
) -> tuple[list[PairEdits], EditCounts, int]:
    """Edit, score and judge pairs of features, and the first two control prompts as pairs that are edited like them.

    Args:
        images: keys of the images that the report speaks of.
        chances: setting -> gain in evidence that an edit has to exceed to show a feature (`judging.control_gains`).

    Returns:
        The pairs; what their edits cost; how many pictures were scored now.
    """
    if not pairs:
        return [], EditCounts(), 0
    of = {pair: concepts_of(combination([corpus[feature] for feature in pair])) for pair in pairs}
    controls = {pair: control_pair(subject.study, concepts) for pair, concepts in of.items()}
    wanted = list(dict.fromkeys([*of.values(), *(control for control in controls.values() if control)]))
    counts = make_edits(subject, edit_requests(images, wanted, subject.seeds), "edits of pairs")
    paired, scored = paired_scores(subject, wanted, images)
    succeeded: dict[tuple[str, str], NDArray[np.bool_]] = {}
    if subject.judge:
        strength = strengths_on(subject, list(of.values()), images)
        gained = gains(subject, [(concepts, concept) for concepts in of.values() for concept in concepts], images)
        for pair, concepts in of.items():
            both = np.all([gained[concepts, concept] > chance_of(chances, concept) for concept in concepts], axis=0)
            succeeded[pair] = both & (strength[concepts] >= subject.study.effects.min_edit_strength)

    def control_of(pair: tuple[str, str]) -> ControlPair | None:
        if not controls[pair]:
            return None
        one, other = controls[pair]
        return ControlPair(((one,), (other,)), paired[one, other])

    found = [PairEdits(pair, paired[concepts], succeeded.get(pair), control_of(pair)) for pair, concepts in of.items()]
    return found, counts, scored


def control_pair(study: Study, pair: Concepts) -> Concepts:
    """The first two control prompts edited together under the settings of a pair; nothing where there are fewer.

    A harder push moves more of whatever it meets (`stages.edits.control_edits`). Which of the two prompts is pushed
    harder does not depend on the order of the pair, so that pairs with the same two settings share the edits.
    """
    words, settings = study.effects.control_prompts[:2], sorted(concept.setting for concept in pair)
    if len(words) < 2:
        return ()
    return tuple(Concept(word, setting=setting) for word, setting in zip(words, settings, strict=True))
