"""The study's rules: limits on how far a feature may move a classifier, judged on the measured reliance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.report.wording import titled
from diffex_dagster.results import RuleOutcome
from diffex_dagster.study import RulePart, Study


def rules_for(study: Study, classifier: str) -> list[RulePart]:
    """The rules that a classifier has to keep; a rule that names none is for the newest version."""
    newest = (study.comparable or tuple(study.classifiers))[-1]
    return [rule for rule in study.rules if classifier in (rule.classifiers or (newest,))]


def judge_rules(study: Study, corpus: Corpus, classifier: str, reliance: Mapping[str, float]) -> list[RuleOutcome]:
    """Hold a classifier's reliance against its rules.

    Args:
        reliance: feature id -> mean |d| over the images, in the unit of the target measure. Reliance and not the signed
            mean: an attribute that raises half of the images and lowers the other half is relied on.

    Returns:
        One outcome for each rule. A rule on a group speaks of the group and of everything below it: the strongest
        feature decides.
    """
    outcomes = []
    for rule in rules_for(study, classifier):
        found = _named(corpus, rule.feature)
        measured = {feature: reliance[feature.id] for feature in found if feature.id in reliance}
        if measured:
            worst = max(measured, key=lambda feature: measured[feature])
            reached: float | None = measured[worst]
            holds, what = measured[worst] < rule.below, f"measured {measured[worst]:.3f} ({titled(worst)})"
        else:
            reached, holds, what = None, False, "not measured" if found else "the corpus has no such feature"
        text = f"reliance of {classifier} on “{rule.feature}” stays below {rule.below:g}: {what}"
        outcomes.append(RuleOutcome(classifier, text, holds, rule.severity, rule.feature, reached))
    return outcomes


def _named(corpus: Corpus, name: str) -> Sequence[Feature]:
    """The features that an id, "Group / Name" or a name means, each with everything below it."""
    wanted = name.strip().lower()
    found: dict[str, Feature] = {}
    for feature in corpus.walk():  # parents come before their children
        names = (feature.id, feature.name, f"{corpus[feature.group].name} / {feature.name}")
        if wanted in (name.lower() for name in names) or feature.id.rpartition("/")[0] in found:
            found[feature.id] = feature
    return list(found.values())
