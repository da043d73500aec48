"""Stage: explain one classifier from what the store holds, and write its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from diffex_dagster.classifying.asking import said_outputs
from diffex_dagster.classifying.target import measure
from diffex_dagster.effects.deciding_one import CLAIMS
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.effects.interactions import Interaction, PairScores, interactions
from diffex_dagster.effects.one_picture import changes_more
from diffex_dagster.effects.paired import summarise
from diffex_dagster.report.gallery import TOP
from diffex_dagster.report.verdict import one_a_group
from diffex_dagster.report.wording import REDRAWS, listing, titled
from diffex_dagster.results import Group, JointCombination, RankedFeature, Report, Shots
from diffex_dagster.stages.attribution import attributions
from diffex_dagster.stages.beside import looked_into
from diffex_dagster.stages.completeness import completeness_of
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.deciding import (
    control_rows,
    control_warnings,
    decision_options,
    measure_reach,
    noise_warning,
)
from diffex_dagster.stages.edits import Concepts, concepts_of, control_edits, controls_like
from diffex_dagster.stages.hints import hints
from diffex_dagster.stages.interactions import possible_pairs
from diffex_dagster.stages.judge_check import judge_check, judge_warnings
from diffex_dagster.stages.judging import first_metrics
from diffex_dagster.stages.known_truth import with_corpus_recall
from diffex_dagster.stages.notes import (
    beside_notes,
    caveats,
    groups_looked_into,
    nobody_judged,
    placed,
    racing_notes,
    settings_shown,
    turn_of,
)
from diffex_dagster.stages.pictures import Album, Pictures
from diffex_dagster.stages.ranking import Measured, confounded, features_side_effects, image_rows, rank
from diffex_dagster.stages.scores import Paired, picture_scores
from diffex_dagster.stages.search import replay_search, shown_by_their_edits
from diffex_dagster.stages.searched import Searched
from diffex_dagster.stages.setup import link_pages, other_pages, source_prompts_in_words
from diffex_dagster.stages.subgroups import columns_of, subgroups_of
from diffex_dagster.utils.hashing import digest

KEPT = ("feature", "image", "score_null", "score_edit", "effect", "flipped", "score_placebo", "counted")
"""What the database keeps of each row of `Report.per_image`."""
EFFECTS = "against null edits"
"""What an effect is: rounds of another definition do not compare."""


def original_outputs(subject: Subject, pictures: Pictures) -> np.ndarray:
    """Logits of every sample image itself, shape (images, classes); scored once and kept like any other score."""
    scores = picture_scores(subject.store, subject.classifier, pictures.samples)
    return np.stack([scores[key] for key in pictures.samples])


def classifier_report(subject: Subject, command: str, searched: Searched | None = None) -> tuple[Report, Searched]:
    """Everything on the report page of one classifier, from what the store holds.

    Args:
        command: the command that reproduces the report.
        searched: the answer of the subject's search; replayed when left out.

    Raises:
        StoreError: the search has not been run with this study, editor and classifier; nothing is edited here.
    """
    searched = searched or replay_search(subject)
    subject = subject.calibrated()
    study, store, editor, corpus = subject.study, subject.store, subject.editor, subject.corpus
    pictures = Pictures(subject, store.images(searched.split.reported))
    pictures.find(searched.paired)
    metrics, no_lpips = pictures.metrics([corpus[feature] for feature in searched.result.scores])
    measured = Measured(study, corpus, searched, metrics)
    ranked, between = confounded(rank(measured), features_side_effects(measured), corpus)
    classifier, logits = subject.classifier, original_outputs(subject, pictures)
    originals = measure(logits, classifier.labels, study.target, study.folder, said_outputs(classifier))
    album = Album(pictures, store.samples(study.kept_as), originals)
    examples = {
        f.id: album.examples(concepts_of([f]), measured.paired[f.id], measured.succeeded.get(f.id), measured.on[f.id])
        for f in measured.features
    }
    seen, why_not = attributions(subject, one_a_group(ranked)[: study.report.gradcam], examples)
    placebos = control_rows(study, searched.paired, measured.reach)
    still = measured.reach.still
    judge = judge_check(subject, searched)
    columns = columns_of(subject, searched.split.reported, logits, originals)
    held_back = noise_warning(study, searched.result.gate, still)
    explanation = Report(
        study=study.name,
        title=study.title or study.name,
        domain=study.domain,
        classifier=subject.name,
        classifier_fingerprint=classifier.fingerprint,
        labels=classifier.labels,
        target=study.target.describe(),
        unit=study.target.effect_unit,
        bounded=study.target.bounded,
        baseline=float(searched.paired[()].null.mean()),
        editor=study.editor_name,
        editor_fingerprint=editor.fingerprint,
        corpus_version=corpus.version,
        created=datetime.now(UTC),
        command=command,
        images=len(pictures.samples),
        noise_floor=searched.noise.floor,
        margin=still,
        gate=study.search.gate,
        features=tuple(ranked),
        groups=tuple(
            Group(outcome.feature, corpus[outcome.feature].name, outcome.kept, outcome.reason, outcome.magnitude)
            for outcome in searched.result.gate
        ),
        joint=_joint(measured, album),
        drops=tuple((drop.name, drop.reason) for drop in corpus.drops),
        examples=examples,
        caveats=(
            *([] if searched.judged else [nobody_judged(study)]),
            *caveats(study, searched.split, measured.reach),
            *_beside(subject, searched, ranked),
            *racing_notes(searched),
            *redraws(subject, ranked, metrics),
        ),
        settings=(
            *settings_shown(study, still, searched.split),
            *placed(editor),
            *([("Grad-CAM", f"not shown: {why_not}")] if why_not else []),
            *([("LPIPS", f"not measured: {no_lpips}")] if no_lpips else []),
        ),
        side_effects=tuple(between),
        subgroups=subgroups_of(measured, ranked, columns),
        interactions=pairs_found(measured),
        attributions=seen,
        controls=placebos,
        judge=judge,
        completeness=completeness_of(subject, measured, ranked, judge, album),
        hints=tuple(hints(study, classifier, logits)),
        warnings=(
            *(judge_warnings(judge, searched.sight, searched.second_sight) if judge else ()),
            *([held_back] if held_back else []),
            *control_warnings(placebos),
        ),
        method=study.editor_part.method() + source_prompts_in_words(subject.editor),
        looked_into=groups_looked_into(study.search),
        links=other_pages(study, subject.name),
        turn=turn_of(classifier.labels, study.target),
        per_image=tuple(image_rows(ranked, measured, album)),
        gallery=_shots(subject, pictures, ranked, columns),
    )
    return explanation, searched


def _shots(
    subject: Subject,
    pictures: Pictures,
    ranked: Sequence[RankedFeature],
    columns: Mapping[str, Sequence[str | None]],
) -> Shots:
    """Every image with its edits towards the strongest features; each picture is read when it is needed."""
    corpus = subject.corpus
    edits = {row.feature: tuple(pictures.edits(concepts_of([corpus[row.feature]]))) for row in ranked[:TOP]}
    return Shots(
        tuple(pictures.samples), tuple(pictures.samples.stored.values()), tuple(pictures.edits(())), edits,
        {name: tuple(of) for name, of in columns.items()},
    )  # fmt: skip


def redraws(
    subject: Subject, ranked: Sequence[RankedFeature], metrics: Mapping[str, Sequence[EditMetrics]]
) -> tuple[str, ...]:
    """Which claims of a report of one image rest on edits that change more of it than every control edit does.

    Args:
        metrics: feature -> what its edit of each image changed.
    """
    if not subject.split.one_image or not subject.study.effects.control_prompts:
        return ()
    study, corpus = subject.study, subject.corpus
    controls = {
        c: m[0].strength for c, m in first_metrics(subject, control_edits(study), subject.split.reported).items()
    }
    named = []
    for row in ranked:
        like = controls_like(study, concepts_of([corpus[row.feature]]))
        if row.decision in CLAIMS and changes_more(metrics[row.feature][0].strength, [controls[c] for c in like]):
            named.append(f"“{titled(row)}”")
    if not named:
        return ()
    return (f"Of {listing(named)}, {REDRAWS}: how much of the effect is the attribute, one image does not say.",)


def _beside(subject: Subject, searched: Searched, ranked: Sequence[RankedFeature]) -> tuple[str, ...]:
    """What a reader has to know of claims in whose edits nobody looked for other attributes."""
    if not searched.judged or searched.split.one_image:  # no other image tells what an edit does on average
        return ()
    study = subject.study
    claimed = [row.feature for row in ranked if row.decision in CLAIMS]
    return beside_notes(
        study, claimed, looked_into(study, subject.corpus, searched, shown_by_their_edits(study, searched))
    )


def _joint(measured: Measured, album: Album) -> JointCombination | None:
    joint = measured.searched.result.joint
    if joint is None:
        return None
    concepts = concepts_of(joint.features)
    paired = measured.searched.paired[concepts]
    summary = summarise(paired.effect, paired.flipped, measured.study.effects.confidence, measured.reach)
    becomes, leaves = paired.turn_counts
    return JointCombination(
        features=tuple(feature.id for feature in joint.features),
        names=tuple(feature.name for feature in joint.features),
        effect=summary.effect,
        ci_low=summary.ci_low,
        ci_high=summary.ci_high,
        flip_rate=summary.flip_rate,
        images=summary.images,
        examples=album.examples(concepts, paired),
        becomes=becomes,
        leaves=leaves,
    )


def pairs_found(measured: Measured) -> tuple[Interaction, ...]:
    """What the features that were edited in pairs do beyond adding up, on the images that lack both."""
    study, corpus, searched, on = measured.study, measured.corpus, measured.searched, measured.on

    def scores(together: Paired, alone: Sequence[Concepts], of: np.ndarray) -> PairScores:
        first, second = (searched.paired[concepts].edit for concepts in alone)
        return PairScores(together.null, first, second, together.edit, together.base, of)

    pairs = {}
    for each in searched.pairs:
        alone = [concepts_of([corpus[feature]]) for feature in each.features]
        counted = np.logical_and(*(on[feature] for feature in each.features))
        success = float(each.succeeded[counted].mean()) if each.succeeded is not None and counted.any() else None
        control = scores(each.control.scored, each.control.alone, counted) if each.control else None
        pairs[each.features] = replace(scores(each.scored, alone, counted), success=success, control=control)
    return tuple(
        interactions(
            pairs,
            decision_options(study, measured.reach),
            reach=measured.reach,
            probability=study.target.bounded,
            possible=0 if searched.split.held_out else possible_pairs([*searched.result.scores, *measured.dropped]),
        )
    )


def graded(subject: Subject, explanation: Report, searched: Searched) -> Report:
    """The report with what its world knows of it, where it knows: of no report that anything follows from."""
    if explanation.completeness is None:
        return explanation
    still = measure_reach(subject.study, searched.paired).still
    return replace(explanation, completeness=with_corpus_recall(explanation.completeness, subject, still))


def keep(subject: Subject, explanation: Report, run: str) -> None:
    """Keep what the report shows (`Store.put_report`); what it is kept under, see `Study.subject`."""
    identity = {
        "study": subject.study.kept_as,
        "classifier_name": explanation.classifier,
        "classifier": subject.study.subject(explanation.classifier_fingerprint),
        "editor": explanation.editor_fingerprint,
        "corpus_version": explanation.corpus_version,
        "run": run,
    }
    keep_completeness(subject, explanation)
    rows = [{name: getattr(row, name) for name in KEPT} for row in explanation.per_image]
    subject.store.put_report(
        identity, explanation.features, explanation.side_effects, rows, explanation.interactions, explanation.subgroups
    )


def keep_completeness(subject: Subject, explanation: Report) -> None:
    """Keep how much this version of the corpus explains: a round of its refinement."""
    if (found := explanation.completeness) is None:
        return
    numbers = {name: getattr(found, name) for name in ("features", "images", "score", "low", "high")}
    subject.store.put_completeness(compared_rounds(subject), explanation.corpus_version, numbers)


def compared_rounds(subject: Subject) -> dict[str, str]:
    """Whose rounds can be compared: those of one classifier's weights, target, reported images, judge and editor, and
    of one definition of effects."""
    study, judge = subject.study, subject.judge
    seen_by = judge.fingerprint if judge else ""
    of = digest(study.target.describe(), sorted(subject.split.reported), seen_by, EFFECTS)
    return {
        "study": study.kept_as,
        "classifier_name": subject.name,
        "classifier": f"{study.subject(subject.classifier.fingerprint)}-{of[:8]}",
        "editor": subject.editor.fingerprint,
    }


def ranked_report(subject: Subject, run: str, folder: Path, command: str) -> tuple[Report, list[Path]]:
    """Explain one classifier, keep the numbers, write the report; returns it with the files written."""
    from diffex_dagster.report.files import write_report

    with subject.store.hold():
        explanation = graded(subject, *classifier_report(subject, command))
        keep(subject, explanation, run)
    files = write_report(explanation, folder, keep_same=True)
    link_pages(subject.study)
    return explanation, files
