"""The study's rules: limits on how far a feature may move a classifier, judged on the measured reliance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.effects.presence import least_images
from diffex_dagster.report.wording import UNSAID, count, titled
from diffex_dagster.results import RuleOutcome
from diffex_dagster.study import RulePart, Study

_NAMED = 3  # features that an outcome names as not measured


def rules_for(study: Study, classifier: str) -> list[RulePart]:
    """The rules that a classifier has to keep; a rule that names none is for the newest version."""
    newest = (study.comparable or tuple(study.classifiers))[-1]
    return [rule for rule in study.rules if classifier in (rule.classifiers or (newest,))]


@dataclass(frozen=True)
class Reliance:
    """How far a feature moves a classifier, and what that rests on.

    Attributes:
        mean: mean |d| over `images`, in the unit of the target measure. Not the signed mean: an attribute that raises
            half of the images and lowers the other half is relied on.
        images: those that the row of the report is about.
        decision: of that row, or of the feature in the comparison.
    """

    mean: float
    images: int
    decision: str


def judge_rules(
    study: Study, corpus: Corpus, classifier: str, reliance: Mapping[str, Reliance], one_image: bool = False
) -> list[RuleOutcome]:
    """Hold a classifier's reliance against its rules.

    What was not measured is not kept: edits that failed, attributes that nearly every image shows already, and fewer
    images than a decision takes say nothing of a classifier.

    Args:
        reliance: by feature id.
        one_image: whether the report is of a single image.

    Returns:
        One outcome for each rule. A rule on a group speaks of the group and of everything below it: the strongest
        feature decides, and what could not be measured is named beside it.
    """
    # One image is decided about by its control edits, not by how many there are (`effects.one_picture`).
    least = 1 if one_image else least_images(study.effects.level)
    outcomes = []
    for rule in rules_for(study, classifier):
        found = _named(corpus, rule.feature)
        edited = [feature for feature in found if feature.editable]
        unsaid = {feature: why for feature in edited if (why := _unmeasured(reliance.get(feature.id), least))}
        measured = {feature: reliance[feature.id] for feature in edited if feature not in unsaid}
        missing = "; ".join(f"{titled(feature)}: {why}" for feature, why in list(unsaid.items())[:_NAMED])
        missing += f"; and {len(unsaid) - _NAMED} more" if len(unsaid) > _NAMED else ""
        if measured:
            worst = max(measured, key=lambda feature: measured[feature].mean)
            of = measured[worst]
            reached: float | None = of.mean
            holds, images = of.mean < rule.below, count(of.images, "image")
            what = f"measured {of.mean:.3f} over {images} ({titled(worst)})"
            what += f"; not measured: {missing}" if missing else ""
        else:
            reached, holds = None, False
            what = (
                f"not measured ({missing or 'nothing of it is edited'})" if found else "the corpus has no such feature"
            )
        text = f"reliance of {classifier} on “{rule.feature}” stays below {rule.below:g}: {what}"
        outcomes.append(RuleOutcome(classifier, text, holds, rule.severity, rule.feature, reached))
    return outcomes


def _unmeasured(reliance: Reliance | None, least: int) -> str:
    """Why nothing is known of a classifier's reliance on a feature; empty where something is."""
    if reliance is None:
        return "not reached by the search"
    if reliance.decision in UNSAID:
        return reliance.decision
    return f"{count(reliance.images, 'image')}, fewer than {least}" if reliance.images < least else ""


def _named(corpus: Corpus, name: str) -> Sequence[Feature]:
    """The features that an id, "Group / Name" or a name means, each with everything below it."""
    wanted = name.strip().lower()
    found: dict[str, Feature] = {}
    for feature in corpus.walk():  # parents come before their children
        names = (feature.id, feature.name, f"{corpus[feature.group].name} / {feature.name}")
        if wanted in (name.lower() for name in names) or feature.id.rpartition("/")[0] in found:
            found[feature.id] = feature
    return list(found.values())
