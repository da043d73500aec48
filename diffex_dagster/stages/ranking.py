"""The ranked list of a report: what was measured of every feature, its decision, and what else may account for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.effects.confounding import SideEffect, side_effects
from diffex_dagster.effects.deciding import decide
from diffex_dagster.effects.deciding_one import CLAIMS, Decision, DecisionText
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.effects.one_picture import effect_interval, p_value
from diffex_dagster.effects.paired import EffectSummary, Reach, interval, summarise
from diffex_dagster.effects.presence import both_arms, enough, prevalence
from diffex_dagster.report.wording import UNSAID
from diffex_dagster.results import Confounder, ImageRow, RankedFeature
from diffex_dagster.stages.deciding import control_differences, decision_options, measure_reach, reach_on
from diffex_dagster.stages.edit_metrics import mean_metrics, strengths
from diffex_dagster.stages.edits import concepts_of
from diffex_dagster.stages.pictures import Album
from diffex_dagster.stages.scores import Paired
from diffex_dagster.stages.searched import Searched
from diffex_dagster.study import Study


@dataclass(frozen=True)
class Measured:
    """All that was measured of the features that a search has reached; by feature id, over the reported images.

    Attributes:
        study: whose settings decide.
        corpus: the tree.
        searched: the finished search.
        metrics: feature -> what each of its edits changed.
    """

    study: Study
    corpus: Corpus
    searched: Searched
    metrics: Mapping[str, Sequence[EditMetrics]]

    @cached_property
    def features(self) -> list[Feature]:
        """The features, in the order in which they were scored."""
        return [self.corpus[feature] for feature in self.searched.result.scores]

    @cached_property
    def paired(self) -> dict[str, Paired]:
        """Feature -> the scores of its edits."""
        return {feature.id: self.searched.paired[concepts_of([feature])] for feature in self.features}

    @cached_property
    def succeeded(self) -> dict[str, np.ndarray]:
        """Feature -> whether each of its edits shows it; see `edits_that_succeeded`."""
        strength = {feature: strengths(of_feature) for feature, of_feature in self.metrics.items()}
        return edits_that_succeeded(self.study, strength, self.searched.gains, self.searched.chance)

    @cached_property
    def on(self) -> dict[str, np.ndarray]:
        """Feature -> the images that its effect is over; see `images_of_effect`."""
        return images_of_effect(self.study, self.features, self.searched)

    @cached_property
    def reach(self) -> Reach:
        """How far the study's measure can be moved."""
        return measure_reach(self.study, self.searched.paired)

    @cached_property
    def controls(self) -> dict[str, np.ndarray]:
        """Feature -> d of the control edits that are edited like it, (images, control prompts)."""
        paired = self.searched.paired
        return {f.id: control_differences(self.study, paired, concepts_of([f])) for f in self.features}

    @property
    def dropped(self) -> tuple[str, ...]:
        """Ids of the features that left a race early and count towards the family of tests.

        Confirmation images had no part in the race: there the finalists are the family.
        """
        race = self.searched.result.race
        return tuple(race.left) if race and not self.searched.split.held_out else ()

    @property
    def left(self) -> int:
        """How many these are."""
        return len(self.dropped)


def edits_that_succeeded(
    study: Study, strength: Mapping[str, np.ndarray], gains: Mapping[str, np.ndarray], chance: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Feature -> whether each of its edits shows it, shape (images,); empty where nobody judges edits.

    An edit shows its attribute when the judge's evidence for it rose from the null edit (fell, for one that is
    removed), by more than its `chance`, and the picture changed by the study's `min_edit_strength`.
    """
    return {
        feature: (gain > chance[feature]) & (strength[feature] >= study.effects.min_edit_strength)
        for feature, gain in gains.items()
    }


FEWEST_SHOWN = 3  # edits, for a mean over those that show their attribute


def effect_where_shown(d: np.ndarray, on: np.ndarray, succeeded: np.ndarray | None) -> float | None:
    """The mean over the images that an effect is over whose edit shows the attribute; the others take from the effect.

    Which edits show it is a matter of the picture too, so that this is of other images than the effect, and nothing is
    tested of it.

    Args:
        d: of every image, (images,).
        on: the images that the effect is over.
        succeeded: which edits show the attribute; None where nobody judges.

    Returns:
        None where all of these edits show it, or fewer than `FEWEST_SHOWN`.
    """
    if succeeded is None or bool(succeeded[on].all()):
        return None
    shown = np.logical_and(on, succeeded)
    return float(d[shown].mean()) if shown.sum() >= FEWEST_SHOWN else None


def share_shown(succeeded: Mapping[str, np.ndarray], on: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Feature -> the share of its edits that show it, where a judge says so: what a report's row says.

    Args:
        on: feature -> the images that its edit can change, the only ones that count (`images_of_effect`).
    """
    return {feature: float(np.mean(shows[on[feature]])) for feature, shows in succeeded.items()}


def edit_success(
    study: Study,
    metrics: Mapping[str, Sequence[EditMetrics]],
    shown: Mapping[str, float],
    on: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """Feature -> the share of its edits that happened, as the decisions take it.

    `share_shown` where there is a judge; 0 where the edits changed their pictures by less than `min_edit_strength` on
    average. It says nothing of a classifier, so that every version of a comparison has the same.
    """
    weak = study.effects.min_edit_strength
    return dict(shown) | {f: 0.0 for f, found in metrics.items() if strengths(found)[on[f]].mean() < weak}


def images_of_effect(study: Study, features: Iterable[Feature], searched: Searched) -> dict[str, np.ndarray]:
    """Feature -> the images that its effect is over, (images,) booleans: those that its edit can change, by the judge.

    All of them where nobody judges, and where too few are left (*already there*).
    """
    every = np.ones(len(searched.split.reported), dtype=bool)
    found = {feature.id: searched.without.get(feature.id, every) for feature in features}
    return {f: on if enough(on, study.effects.level) else every for f, on in found.items()}


def among(feature: Feature, on: np.ndarray) -> str:
    """Which images an effect is over, in words."""
    if bool(on.all()):
        return "all"
    return "without it" if feature.direction == "add" else "with it"


def rank(measured: Measured) -> list[RankedFeature]:
    """The ranked list, by |mean effect| over the images that an edit can change (`images_of_effect`).

    Equal effects in the order of the corpus; features of which nothing is said last. Such are those that too few images
    lack (*already there*), and those whose edits changed their pictures by less than the study's `min_edit_strength` on
    average, or of whose edits fewer than `min_edit_success` show it (*edit failed*); neither are tested.
    """
    study, corpus, features, searched = measured.study, measured.corpus, measured.features, measured.searched
    paired, metrics, succeeded, on = measured.paired, measured.metrics, measured.succeeded, measured.on
    reaches = {f.id: reach_on(study, measured.reach, paired[f.id].null[on[f.id]]) for f in features}
    shown = share_shown(succeeded, on)
    success = edit_success(study, metrics, shown, on)
    decisions = decide(
        {f.id: paired[f.id].effect for f in features},
        decision_options(study, measured.reach),
        controls=measured.controls,
        edit_success=success,
        without=searched.without,
        image_noise=searched.noise.image,
        left=measured.left,
        reach=reaches,
    )
    confidence = study.effects.confidence
    counted = {f.id: paired[f.id].on(on[f.id]) for f in features}
    summaries = {f: summarise(of.effect, of.flipped, confidence, reaches[f]) for f, of in counted.items()}
    if searched.split.one_image:
        decisions, summaries = _of_one_image(measured, decisions, summaries)
    order = {feature.id: i for i, feature in enumerate(corpus.walk())}
    unsaid = {feature: UNSAID.index(d.decision) for feature, d in decisions.items() if d.decision in UNSAID}
    ranked = sorted(features, key=lambda f: (unsaid.get(f.id, -1), -abs(summaries[f.id].effect), order[f.id]))
    rows = []
    for position, feature in enumerate(ranked, 1):
        summary, decision = summaries[feature.id], decisions[feature.id]
        of = on[feature.id]
        becomes, leaves = counted[feature.id].turn_counts
        change = mean_metrics([each for each, counts in zip(metrics[feature.id], of, strict=True) if counts])
        own_succeeded = success.get(feature.id, 0.0) >= study.effects.min_edit_success
        before = _before(measured, feature, own_succeeded)
        rows.append(
            RankedFeature(
                rank=position,
                feature=feature.id,
                name=feature.name,
                prompt=feature.prompt,
                direction=feature.direction,
                group=corpus[feature.group].name,
                level=feature.level,
                effect=summary.effect,
                ci_low=summary.ci_low,
                ci_high=summary.ci_high,
                magnitude=summary.magnitude,
                sign_agreement=summary.sign_agreement,
                flip_rate=summary.flip_rate,
                images=summary.images,
                decision=decision.decision,
                p_value=decision.p_value,
                edit_strength=change.strength,
                ssim=change.ssim,
                lpips=change.lpips,
                inside_mask=change.inside,
                mask_area=change.area,
                edit_success=shown.get(feature.id),
                citation=feature.citation,
                becomes=becomes,
                leaves=leaves,
                among=among(feature, of),
                effect_all=float(paired[feature.id].effect.mean()) if not of.all() else None,
                effect_shown=effect_where_shown(paired[feature.id].effect, of, succeeded.get(feature.id)),
                **before,
            )
        )
    return rows


def _of_one_image(
    measured: Measured,
    decisions: Mapping[str, Decision],
    summaries: Mapping[str, EffectSummary],
) -> tuple[dict[str, Decision], dict[str, EffectSummary]]:
    """What a study of a single image can say, each feature for itself: its control edits tell what is noise.

    See `effects.one_picture`, also for why effects are D; the error rate of a study does not apply, since there are no
    other images to test on.
    """
    level, still = measured.study.effects.level, measured.reach.still
    decided, said = dict(decisions), dict(summaries)
    for feature, before in decisions.items():
        paired, controls = measured.paired[feature], measured.controls[feature][0]
        d, effect = float(paired.effect[0]), float(paired.beyond_control[0])
        limits = reach_on(measured.study, measured.reach, paired.base)
        low, high = limits.clip(*effect_interval(d, controls, level), effect)
        said[feature] = replace(summaries[feature], effect=effect, magnitude=abs(effect), ci_low=low, ci_high=high)
        if before.decision in UNSAID:
            continue
        p = p_value(d, controls)
        far = p <= level and abs(effect) > still
        text: DecisionText = "inconclusive" if not far else "raises" if effect > 0 else "lowers"
        decided[feature] = Decision(text, p, f"{effect:+.3f} on one image against its control edits, p = {p:.2g}", p)
    return decided, said


def image_rows(ranked: Sequence[RankedFeature], measured: Measured, album: Album) -> Iterator[ImageRow]:
    """Every feature on every image, one row each, by rank and in the order of the images."""
    for row in ranked:
        of, succeeded = measured.paired[row.feature], measured.succeeded.get(row.feature)
        for i, image in enumerate(album.pictures.samples):
            becomes, leaves = of.turn_of(i)
            yield ImageRow(
                feature=row.feature,
                name=row.name,
                image=image,
                file=album.files.get(image, ""),
                score_original=float(album.originals[i]),
                score_null=float(of.null[i]),
                score_placebo=None if of.placebo is None else float(of.placebo[i]),
                score_edit=float(of.edit[i]),
                effect=float(of.effect[i]),
                flipped=bool(of.flips[i]),
                becomes=becomes,
                leaves=leaves,
                succeeded=None if succeeded is None else bool(succeeded[i]),
                counted=bool(measured.on[row.feature][i]),
            )


def _before(measured: Measured, feature: Feature, own_succeeded: bool) -> dict[str, Any]:
    """Prevalence, the edit the other way and do(1) − do(0) of a ranked feature, where there is a judge.

    do(1) − do(0) takes both arms: it is given where the feature's own edits succeeded on the images that they can
    change, and the others, if there are any, were edited the other way and that succeeded.
    """
    study, searched, paired = measured.study, measured.searched, measured.paired[feature.id]
    if feature.id not in searched.shown:
        return {}
    seen, without = prevalence(searched.shown[feature.id], study.effects.confidence), searched.without[feature.id]
    found: dict[str, Any] = {
        "prevalence": seen.share, "prevalence_low": seen.low, "prevalence_high": seen.high,
    }  # fmt: skip
    other = searched.reversed.get(feature.id)
    if other:
        found |= {
            "other_way": float(other.effect.mean()),
            "other_way_success": float(other.succeeded.mean()),
            "other_way_images": len(other.succeeded),
        }
    other_succeeded = bool(without.all()) or (
        other is not None and other.succeeded.mean() >= study.effects.min_edit_success
    )
    if other_succeeded and (own_succeeded or not without.any()):
        sign = 1.0 if feature.direction == "add" else -1.0
        both = sign * both_arms(paired.effect, without, other.effect if other else np.empty(0))
        limits = replace(measured.reach, low=-measured.reach.furthest, high=measured.reach.furthest)
        low, high = interval(both, study.effects.confidence, limits)
        found |= {"cace": float(both.mean()), "cace_low": low, "cace_high": high}
    return found


def features_side_effects(measured: Measured) -> list[SideEffect]:
    """What the edits of the features that may be claimed do to others, by the judge; empty where nobody judges edits.

    Of a feature whose edits are no yardstick, the leak is not known: it is only listed where it accounts for an effect.
    """
    searched, confidence = measured.searched, measured.study.effects.confidence
    gains = {(f, f): gain for f, gain in searched.gains.items()} | searched.crossed
    effects = {f: measured.paired[f].effect for f in searched.gains}
    reach = measured.reach
    if measured.study.target.bounded:  # whatever the images: a mean effect on a probability is anywhere from −1 to 1
        reach = replace(reach, low=-reach.furthest, high=reach.furthest)
    found = side_effects(effects, gains, confidence=confidence, on=measured.on, reach=reach)
    return [each for each in found if each.confounded or not math.isnan(each.leak)]


def confounded(
    ranked: Sequence[RankedFeature], found: Sequence[SideEffect], corpus: Corpus
) -> tuple[list[RankedFeature], list[SideEffect]]:
    """Mark the decided effects that do not stand on their own.

    Only *raises* and *lowers* claim an effect that another feature could account for.

    Args:
        found: the first that confounds a feature is the one it is marked with.
        corpus: names the features that were looked for.

    Returns:
        The features with `confounded_with` filled in, and the side effects, of which those that confound nothing that
        is claimed are no longer marked so.
    """
    claimed = {row.feature for row in ranked if row.decision in CLAIMS}
    found = [replace(each, confounded=each.confounded and each.edited in claimed) for each in found]
    found = [each for each in found if each.confounded or not math.isnan(each.leak)]
    first: dict[str, Confounder] = {}
    for x in found:
        if x.confounded:
            name = corpus[x.looked_for].name
            of = Confounder(x.looked_for, name, x.leak, x.direct, x.direct_low, x.direct_high)
            first.setdefault(x.edited, of)
    return [replace(row, confounded_with=first.get(row.feature)) for row in ranked], found
