"""Is the judge of edits to be trusted: what it sees of words that mean nothing, and how far a second one agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.effects.agreement import cohens_kappa
from diffex_dagster.effects.presence import CHANCE
from diffex_dagster.results import JudgeCheck
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.judging import Sight, judge_name, judged_edits
from diffex_dagster.stages.searched import Searched


def judge_check(subject: Subject, searched: Searched) -> JudgeCheck | None:
    """How the study's judge does on null edits, control prompts and the edits of the features."""
    if not searched.judged:
        return None
    corpus = subject.corpus
    found = check_sight(subject, [corpus[feature] for feature in searched.gains], searched.sight)
    succeeded = {feature: gain > searched.chance[feature] for feature, gain in searched.gains.items()}
    return held_against_second(
        found, succeeded, searched.second, judge_name(subject.second_judge), searched.second_sight
    )


def check_sight(work: StudyContext, features: Sequence[Feature], sight: Sight) -> JudgeCheck:
    """How often the judge sees what nothing shows, and how often it sees what an edit was to put there.

    Reads what the search had judged: each feature in its null edits and edits. All edits count that were to put a
    feature into an image that lacked it, those that failed too: a judge that chose the edits itself would be right
    always. So the share is rather less than its sensitivity. Of a judge that only says yes or no nothing is said:
    its verdict on an edit is whether it sees the feature there, so that an edit that failed and a judge that is blind
    look the same. Features that are removed do not count, since they are not to be seen.
    """
    after = None
    if sight.level is not None and not sight.binary:
        added = [feature for feature in features if feature.direction == "add"]
        edits = judged_edits(work, added, work.split.reported, sight)
        seen = np.concatenate([np.empty(0), *(of.seen() for of in edits.values())])
        after = float(seen.mean()) if seen.size else None
    return JudgeCheck(sight.level, sight.control_words, after, judge_name(work.judge))


def judge_warnings(check: JudgeCheck, sight: Sight, second: Sight | None = None) -> tuple[str, ...]:
    """What is wrong with judges that see what nothing shows.

    One that only says yes or no says yes to words that mean nothing as often as it does. Of any other the level is set
    so that about one in ten of them exceeds it, which says nothing of the judge: only more than that can be by chance
    does, and a level that was found on the same pictures never gives it (`Sight.imagines`).

    Args:
        sight, second: of the first judge, and of the second.
    """
    found, unusable = [], f"The judge cannot be used: {check.name} sees"
    if sight.imagines(check.control_words):
        share = check.control_words or 0.0
        found.append(
            f"{unusable} words that mean nothing in {share:.0%} of the null edits, and more than {CHANCE:.0%} is too "
            "many. Which images show an attribute already, and which edits show it, is not known; choose another judge "
            "(`judge`)."
        )
    if sight.blind:
        found.append(
            f"{unusable} control prompts appear in a quarter of their edits or more, so that no edit can be told from "
            "one towards words that mean nothing; choose another judge (`judge`)."
        )
    if second and second.imagines(check.second_control_words):
        share = check.second_control_words or 0.0
        found.append(
            f"The second judge, {check.second}, sees words that mean nothing in {share:.0%} of the null edits: how far "
            "the two agree says little; choose another one (`second_judge`)."
        )
    return tuple(found)


def held_against_second(
    check: JudgeCheck, succeeded: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], name: str, sight: Sight
) -> JudgeCheck:
    """The check of the first judge with what the second says of the same edits.

    Args:
        succeeded, second: feature -> which of its edits show it, by each judge alone, (images,).
        name: the second's.
        sight: the second's.
    """
    features = [f for f in succeeded if f in second]
    if not features:
        return check
    ours, theirs = (np.concatenate([of[f] for f in features]) for of in (succeeded, second))
    kappa = cohens_kappa(ours, theirs)
    return replace(
        check,
        second=name,
        agreement=float(np.mean(ours == theirs)),
        kappa=None if np.isnan(kappa) else kappa,
        second_success=float(theirs.mean()),
        second_control_words=sight.control_words,
    )
