"""Stage: compare the classifier versions of a study on the same images and edits."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.effects.comparing import ComparedEffect, change_reaches, compare
from diffex_dagster.effects.paired import Reach, summarise
from diffex_dagster.report.wording import UNSAID
from diffex_dagster.results import ComparedFeature, Comparison, Example
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.deciding import decision_options, measure_reach, reach_on
from diffex_dagster.stages.edit_metrics import strengths
from diffex_dagster.stages.edits import concepts_of
from diffex_dagster.stages.judge_check import judge_check, judge_warnings
from diffex_dagster.stages.notes import few_images, nobody_judged, too_few_to_show, turn_of, without_controls
from diffex_dagster.stages.pictures import Pictures
from diffex_dagster.stages.ranking import among, edit_success, edits_that_succeeded, images_of_effect, share_shown
from diffex_dagster.stages.rules import Reliance, judge_rules
from diffex_dagster.stages.scores import Paired, paired_scores
from diffex_dagster.stages.search import replay_search
from diffex_dagster.stages.searched import Searched
from diffex_dagster.stages.setup import other_pages
from diffex_dagster.study import Study

EXAMPLES = 3  # pictures of each feature: those that explain its change most


def compare_classifiers(work: StudyContext, names: Sequence[str], command: str) -> Comparison:
    """Compare two or more versions, by their names in the study; differences are between the last and the first.

    The beam of one version may have expanded a group that another's did not. Its edits exist all the same, since edits
    belong to no classifier: the other version only has to score them.

    Raises:
        StoreError: the search of one of them has not been run; nothing is edited here.
    """
    work = work.calibrated()
    study, store, corpus = work.study, work.store, work.corpus
    found = {name: replay_search(work.subject(name)) for name in names}
    wanted = {feature_id for searched in found.values() for feature_id in searched.result.scores}
    features = [feature for feature in corpus.walk() if feature.id in wanted]
    combinations = [concepts_of([feature]) for feature in features]
    images = work.split.reported
    scored = {name: paired_scores(work.subject(name), combinations, images)[0] for name in names}
    paired = {name: {f.id: scores[concepts_of([f])] for f in features} for name, scores in scored.items()}

    first, *_, last = names
    effects = {name: {f: scores.effect for f, scores in of.items()} for name, of in paired.items()}
    pictures = Pictures(work, store.images(images))
    pictures.find([(), *combinations])
    nulls = pictures.edits(())
    files = store.samples(study.kept_as)
    edited = {feature.id: pictures.edits(concepts_of([feature])) for feature in features}
    metrics, _ = pictures.metrics(features)
    succeeded = _succeeded(study, found, {feature: strengths(of) for feature, of in metrics.items()})
    # Which images show a feature is seen on null edits, of no version: any search that reached it asked.
    asked = {f.id: next(of for of in found.values() if f.id in of.result.scores) for f in features}
    on = {f.id: images_of_effect(study, [f], asked[f.id])[f.id] for f in features}
    without = {f: of.without[f] for f, of in asked.items() if f in of.without}
    had = {f: of.shown[f] for f, of in asked.items() if f in of.shown}
    shown = share_shown(succeeded, on)
    success = edit_success(study, metrics, shown, on)
    reaches = {name: measure_reach(study, of) for name, of in scored.items()}
    reach = max(reaches[first], reaches[last], key=lambda each: each.furthest)
    options = decision_options(study, reach)
    left = 0 if work.split.held_out else len(left_in_races(found.values()) - wanted)
    tested = {name: {f: scores.beyond_control for f, scores in paired[name].items()} for name in (first, last)}
    compared = compare(
        effects[first], effects[last], options, edit_success=success, without=without, reach=reach, left=left,
        beyond_control=(tested[first], tested[last]) if study.effects.control_prompts else None,
    )  # fmt: skip
    unsaid = {f for f, of in compared.items() if of.decision in UNSAID}
    ranks = {name: _ranks(features, of, on, unsaid) for name, of in paired.items()}
    judged = {name: judge_rules(study, corpus, name, _reliance(of, on, compared)) for name, of in effects.items()}
    rows = []
    for feature in sorted(features, key=lambda f: -abs(compared[f.id].difference)):
        of = compared[feature.id]
        versions = [paired[name][feature.id] for name in names]
        counted = on[feature.id]
        summaries = []
        for name, each in zip(names, versions, strict=True):
            of_images, limits = each.on(counted), reach_on(study, reaches[name], each.null[counted])
            summaries.append(summarise(of_images.effect, of_images.flipped, options.confidence, limits))
        before, after = versions[0], versions[-1]
        turned = [scores.on(counted).turn_counts for scores in versions]
        pictured = edited[feature.id]
        judged_edits = succeeded.get(feature.id)
        strongest = sorted(
            range(len(pictured)), key=lambda i: (not counted[i], -abs(after.effect[i] - before.effect[i]))
        )[:EXAMPLES]

        def example(
            i: int,
            scores: Paired,
            pictured: list = pictured,
            judged: np.ndarray | None = judged_edits,
            counted: np.ndarray = counted,
        ) -> Example:
            return Example(
                images[i], pictures.samples.stored[images[i]], nulls[i], pictured[i],
                float(scores.null[i]), float(scores.edit[i]), bool(scores.flips[i]),
                succeeded=None if judged is None else bool(judged[i]),
                score_placebo=None if scores.placebo is None else float(scores.placebo[i]),
                becomes=scores.turn_of(i)[0], leaves=scores.turn_of(i)[1], file=files.get(images[i], ""),
                counted=bool(counted[i]),
            )  # fmt: skip

        rows.append(
            ComparedFeature(
                feature=feature.id,
                name=feature.name,
                group=corpus[feature.group].name,
                level=feature.level,
                effects=tuple(summary.effect for summary in summaries),
                ranks=tuple(ranks[name][feature.id] for name in names),
                flip_rates=tuple(summary.flip_rate for summary in summaries),
                difference=of.difference,
                ci_low=of.ci_low,
                ci_high=of.ci_high,
                images=of.images,
                decision=of.decision,
                examples=tuple((example(i, before), example(i, after)) for i in strongest),
                flips_gained=int((after.turned & ~before.turned)[counted].sum()),
                flips_lost=int((before.turned & ~after.turned)[counted].sum()),
                reliance=tuple(summary.magnitude for summary in summaries),
                reliance_change=of.reliance_change,
                reliance_low=of.reliance_low,
                reliance_high=of.reliance_high,
                p_value=of.p_value,
                edit_success=shown.get(feature.id),
                direction=feature.direction,
                prompt=feature.prompt,
                becomes=tuple(counts[0] for counts in turned if counts[0] is not None),
                leaves=tuple(counts[1] for counts in turned if counts[1] is not None),
                among=among(feature, counted),
                prevalence=float(had[feature.id].mean()) if feature.id in had else None,
            )
        )
    return Comparison(
        study=study.name,
        title=study.title or study.name,
        classifiers=tuple(names),
        target=study.target.describe(),
        unit=study.target.effect_unit,
        bounded=study.target.bounded,
        created=datetime.now(UTC),
        command=command,
        features=tuple(rows),
        caveats=(
            *([] if found[last].judged else [nobody_judged(study)]),
            *comparison_caveats(study, len(pictures.samples), names, change_reaches(reach, options.margin)[1]),
        ),
        warnings=_judge_warnings(work.subject(last), found[last]),
        noise_floor=max(searched.noise.floor for searched in found.values()),
        editor=study.editor_name,
        corpus_version=corpus.version,
        images=len(pictures.samples),
        rules=tuple(outcome for name in names for outcome in judged[name]),
        links=other_pages(study, "comparison"),
        turn=turn_of(work.subject(last).classifier.labels, study.target),
    )


def left_in_races(found: Iterable[Searched]) -> set[str]:
    """The features that left the race of any version early, by id."""
    return {feature for searched in found if searched.result.race for feature in searched.result.race.left}


def _succeeded(
    study: Study, found: Mapping[str, Searched], strength: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Feature -> which of its edits show it: any version whose search reached the feature has had them judged."""
    succeeded: dict[str, np.ndarray] = {}
    for searched in found.values():
        gains = {feature: gain for feature, gain in searched.gains.items() if feature in strength}
        succeeded |= edits_that_succeeded(study, strength, gains, searched.chance)
    return succeeded


def _judge_warnings(subject: Subject, searched: Searched) -> tuple[str, ...]:
    """What is wrong with the judges, which every version has in common."""
    check = judge_check(subject, searched)
    return judge_warnings(check, searched.sight, searched.second_sight) if check else ()


def comparison_caveats(study: Study, images: int, classifiers: Sequence[str], reach: Reach) -> tuple[str, ...]:
    """What a reader has to know before believing the differences.

    Args:
        reach: how far one image can move the difference between two versions.
    """
    notes = [
        *without_controls(study, "A version that is moved by editing as such seems to rely more on everything."),
        *few_images(images, "changes"),
        "A version that reacts to the noise of edits more strongly seems to rely more on everything: read a small "
        "change next to the noise of the edits.",
        "Only features that the search of at least one version reached are compared.",
        *too_few_to_show(study, images, reach, "nothing changed", "a comparison may say “no change shown”"),
    ]
    if len(classifiers) > 2:
        notes.append(f"Differences are between the last version ({classifiers[-1]}) and the first ({classifiers[0]}).")
    if study.effects.error_rate != "fwer":
        notes.append(
            "Changes are decided at a family-wise error rate, whatever rate the study sets for single effects."
        )
    return tuple(notes)


def _reliance(
    effects: Mapping[str, np.ndarray], on: Mapping[str, np.ndarray], compared: Mapping[str, ComparedEffect]
) -> dict[str, Reliance]:
    """What a version's rules are held against, by feature id: over the images of the comparison, with its decision."""
    return {
        f: Reliance(float(np.abs(d[on[f]]).mean()), int(on[f].sum()), compared[f].decision) for f, d in effects.items()
    }


def _ranks(
    features: list[Feature], paired: Mapping[str, Paired], on: Mapping[str, np.ndarray], unsaid: Container[str]
) -> dict[str, int]:
    """Rank of each feature by |mean effect| over the images that count, from 1, those of which nothing is said last.

    Ties in the order of the corpus.
    """
    order = sorted(features, key=lambda f: (f.id in unsaid, -abs(float(paired[f.id].effect[on[f.id]].mean()))))
    return {feature.id: rank for rank, feature in enumerate(order, 1)}
