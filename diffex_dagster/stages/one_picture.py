"""Explain single pictures: what each feature does to this one, what flips it, and what is noise.

The pictures may be the study's own or new ones. New ones go through the same preparation, keys and store: their edits
and scores are found again by the next question, also by the study where it takes them in later. No
stage reads them, and no sample, version or report changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from diffex_dagster.classifying.asking import said_outputs
from diffex_dagster.classifying.target import measure
from diffex_dagster.corpus.tree import Feature
from diffex_dagster.effects.one_picture import effect_interval, fewest_controls, p_value
from diffex_dagster.errors import StoreError
from diffex_dagster.report.image_model import FlipSet, ImageFeature, ImageFinding
from diffex_dagster.report.wording import UNSAID, confounder, count, titled
from diffex_dagster.results import RankedFeature, Turn
from diffex_dagster.search.flipping import Flips
from diffex_dagster.stages.deciding import reach_on
from diffex_dagster.stages.edits import (
    Concepts,
    EditCounts,
    concepts_of,
    control_edits,
    edit_requests,
)
from diffex_dagster.stages.judging import judge_name
from diffex_dagster.stages.notes import turn_of
from diffex_dagster.stages.picture_edits import Asked, Seen, edit_pictures
from diffex_dagster.stages.picture_flips import decides, most_controls, search_flips, would_count
from diffex_dagster.stages.pictures import Pictures
from diffex_dagster.stages.scores import Paired, check_target, decisions_in_words, picture_scores
from diffex_dagster.stages.search import Stored
from diffex_dagster.stages.setup import target_key, why_unjudged
from diffex_dagster.stages.study_effects import effects_beside
from diffex_dagster.store import edit_key


@dataclass(frozen=True)
class PlannedImages:
    """What explaining some pictures would cost.

    Attributes:
        images: how many pictures.
        features, controls: edits of each picture under each seed.
        edits_missing, edits_reused: edits of single features, control prompts and nothing.
        edits_most: further edits of sets of features, and of as many control prompts together, at most.
        scores_missing: pictures to score, as far as is known.
        seconds: expected for `edits_missing`, and for these and `edits_most`; None where no pace is known.
    """

    images: int
    features: int
    controls: int
    edits_missing: int
    edits_reused: int
    edits_most: int
    scores_missing: int
    seconds: tuple[float, float] | None


def plan_images(asked: Asked, images: Sequence[str]) -> PlannedImages:
    """What explaining pictures (by key) would cost. Nothing is edited, scored or kept."""
    subject, study = asked.subject, asked.subject.study
    subject.know()
    store, editor = subject.store, subject.editor.fingerprint
    requests = edit_requests(images, asked.combinations, study.seeds)
    with store.hold():
        stored = store.stored_edits(requests, editor)
        keys = [edit_key(request, editor) for request in requests]
        scored = store.stored_scores([*keys, *images], subject.classifier.fingerprint)
        pace = store.seconds_per_edit(editor)
    missing = len(requests) - len(stored)
    most = (asked.wishes.flips.most_sets() + most_controls(asked)) * len(images) * len(study.seeds)
    seconds = None if pace is None else (missing * pace, (missing + most) * pace)
    controls = len(control_edits(study))
    return PlannedImages(
        len(images), len(asked.features), controls, missing, len(stored), most, len(keys) + len(images) - len(scored),
        seconds,
    )  # fmt: skip


def explain_images(asked: Asked, names: Mapping[str, str], command: str) -> list[ImageFinding]:
    """Explain pictures one by one; they are edited together.

    Args:
        names: key -> name of the pictures, which the store has (`Store.put_images`).
        command: that makes the same again.

    Returns:
        A finding for each picture, in their order.

    Raises:
        DiffExError: the classifier lacks the target's class, the editor cannot edit, or a judge cannot be asked.
    """
    check_target(asked.subject)
    asked.subject.know()
    store, study, images = asked.subject.store, asked.subject.study, list(names)
    with store.hold():
        samples = store.samples(study.kept_as) if store.sample_count(study.kept_as) else {}
        seen = edit_pictures(asked, images)
        flips, counts = search_flips(asked, seen, images)
        counts += seen.counts
        of = _Of(names, set(samples), *effects_beside(asked.subject, asked.corpus), counts, command)
        return [_finding(asked, seen, flips[i], i, of) for i in range(len(images))]


def explain_stored(asked: Asked, names: Mapping[str, str], command: str) -> list[ImageFinding] | None:
    """`explain_images` where every edit that it takes is there already; None where one would have to be made."""
    missing = StoreError("an edit is missing")
    stored = asked.subject.editing_with(Stored(asked.subject.editor, missing))
    try:
        return explain_images(replace(asked, subject=stored), names, command)
    except StoreError as error:
        if error is missing:
            return None
        raise


@dataclass(frozen=True)
class _Of:
    """What the findings of pictures that are asked about together share."""

    names: Mapping[str, str]
    samples: set[str]
    study: Mapping[str, RankedFeature]  # feature -> its row of the latest report
    no_study: str  # why there is none
    counts: EditCounts
    command: str


def _verdict(asked: Asked, seen: Seen, feature: Feature, i: int, p: float, still: float) -> str:
    concepts = concepts_of([feature])
    if seen.there(feature, i):
        return "already there"
    if not seen.succeeded(asked, concepts, i):
        return "edit failed"
    level, effect = asked.subject.study.effects.level, float(seen.paired[concepts].beyond_control[i])
    controls = len(asked.controls(concepts))
    alone = 1.0 / (controls + 1)
    if alone > level and (controls < 2 or p <= alone + 1e-12):  # furthest out of all, and too few to say so
        return "inconclusive"
    if p > level:
        return "within the noise"
    if abs(effect) <= still:
        return "too small to matter"
    return "raises" if effect > 0 else "lowers"


def _finding(asked: Asked, seen: Seen, flips: Flips, i: int, of: _Of) -> ImageFinding:
    subject, study, image = asked.subject, asked.subject.study, seen.images[i]
    store, classifier = subject.store, subject.classifier
    pictures = Pictures(subject, store.images([image]))
    said = said_outputs(classifier)
    original = picture_scores(store, classifier, pictures.samples)[image][None]
    score = float(measure(original, classifier.labels, study.target, study.folder, said)[0])
    turn = turn_of(classifier.labels, study.target)
    (decision,) = decisions_in_words(subject, seen.logits[()][i : i + 1])
    (decision_original,) = decisions_in_words(subject, original)
    by_id = {feature.id: feature for feature in asked.features}
    controls = control_edits(study)
    d = [float(seen.paired[c].effect[i]) for c in controls]
    turned = sum(bool(seen.paired[c].turned[i]) for c in controls) if decides(asked) else 0
    features = _features(asked, seen, i, pictures, of.study)

    def as_set(ids: tuple[str, ...]) -> FlipSet:
        members = [by_id[feature] for feature in ids]
        concepts = concepts_of(members)
        paired = seen.paired[concepts]
        against = asked.controls(concepts) if would_count(asked, seen, concepts, i) else []
        return FlipSet(
            ids, tuple(titled(f) for f in members), tuple(asked.corpus[f.group].name for f in members),
            pictures.edits(concepts)[0],
            float(paired.null[i]), float(paired.edit[i]), _turned(turn, paired, i),
            tuple(seen.shows(concepts, i)), 1.0 - seen.metrics[concepts][i].ssim,
            len(against), len(against[0]) if against else 0, bool(against) and seen.redraws(asked, concepts, i),
        )  # fmt: skip

    tested = [f for f in features if f.verdict not in UNSAID]
    least = fewest_controls(study.effects.level)
    level = study.effects.level
    per_setting = len(controls) // max(1, len(study.control_settings))
    return ImageFinding(
        study=study.name, title=study.title or study.name, classifier=subject.name, editor=study.editor_name,
        target=study.target.describe(), corpus_version=asked.corpus.version, created=datetime.now(UTC),
        command=of.command, image=image, file=of.names[image], sample=image in of.samples,
        original=store.images([image]).stored[image], null=pictures.edits(())[0],
        score_original=score, score_null=float(seen.paired[()].null[i]),
        decision_original=decision_original, decision=decision, features=features,
        flips=tuple(as_set(ids) for ids in flips.sets), unseen=tuple(as_set(ids) for ids in flips.unseen[:5]),
        no_flip="" if flips.sets else _no_flip(asked, flips),
        sets=flips.tried, largest=flips.size,
        controls=tuple((_named(c), value) for c, value in zip(controls, d, strict=True)), control_flips=turned,
        seeds=len(study.seeds), level=level, least_controls=least,
        expected=level * len(tested) if per_setting >= least else float("nan"),
        margin=seen.reach(asked, i).still,
        judge=judge_name(subject.judge) if subject.judge else "",
        unjudged="" if subject.judge else why_unjudged(study),
        study_images=max((f.images for f in of.study.values()), default=0),
        warnings=(*_warnings(asked, decision_original, decision, turned, per_setting, least), *_not_made(flips)),
        made_with={"classifier": classifier.fingerprint, "target": target_key(study),
                   "editor": subject.editor.fingerprint, "corpus_version": asked.corpus.version},
        no_study=of.no_study,
        edits_made=of.counts.made, edits_reused=of.counts.reused,
    )  # fmt: skip


def _features(
    asked: Asked, seen: Seen, i: int, pictures: Pictures, over_study: Mapping[str, RankedFeature]
) -> tuple[ImageFeature, ...]:
    study, reach = asked.subject.study, seen.reach(asked, i)
    rows = []
    for feature in asked.features:
        concepts = concepts_of([feature])
        paired, change = seen.paired[concepts], seen.metrics[concepts][i]
        controls = seen.controls(asked, concepts, i)
        d, effect = float(paired.effect[i]), float(paired.beyond_control[i])
        p = p_value(d, controls)
        low, high = effect_interval(d, controls, study.effects.level)
        low, high = reach_on(study, reach, paired.base[i : i + 1]).clip(low, high, effect)
        known = over_study.get(feature.id)
        rows.append(
            ImageFeature(
                0,
                feature.id,
                feature.name,
                feature.prompt,
                feature.direction,
                asked.corpus[feature.group].name,
                pictures.edits(concepts)[0],
                float(paired.null[i]),
                float(paired.edit[i]),
                None if paired.placebo is None else float(paired.placebo[i]),
                effect,
                low,
                high,
                p,
                _verdict(asked, seen, feature, i, p, reach.still),
                seen.shows(concepts, i)[0],
                change.strength,
                change.ssim,
                decides(asked) and bool(paired.turned[i]),
                known.effect if known else None,
                known.ci_low if known else None,
                known.ci_high if known else None,
                known.decision if known else None,
                seen.redraws(asked, concepts, i),
                study_mark=confounder(known) if known else "",
            )
        )
    unsaid = {verdict: n for n, verdict in enumerate(UNSAID, 1)}
    rows.sort(key=lambda row: (unsaid.get(row.verdict, 0), -abs(row.effect)))  # stable: ties keep the corpus's order
    return tuple(replace(row, rank=rank) for rank, row in enumerate(rows, 1))


def _turned(turn: Turn | None, paired: Paired, i: int) -> str:
    if turn is None:
        return "the class changes"
    became, left = paired.turn_of(i)
    return f"{turn.subject} {turn.becomes if became else turn.leaves if left else 'changes'}"


def _named(concepts: Concepts) -> str:
    return concepts[0].prompt if not concepts[0].setting else f"{concepts[0].prompt} ({concepts[0].setting})"


def _no_flip(asked: Asked, flips: Flips) -> str:
    if not decides(asked):
        return "The target is a number without a threshold: there is no decision to flip (write target.threshold)."
    largest = "one feature" if flips.size == 1 else f"up to {flips.size} features"
    return f"Nothing in this corpus flips it, of {flips.tried} sets of {largest} that were tried."


def _not_made(flips: Flips) -> tuple[str, ...]:
    if not flips.left:
        return ()
    return (
        f"Of the sets of features that could flip it, {count(flips.left, 'set')} more would have to be made by the "
        "tool that made the edits: what is said of the smallest set is of those that are there.",
    )


def _warnings(asked: Asked, original: str, null: str, turned: int, controls: int, least: int) -> tuple[str, ...]:
    study, found = asked.subject.study, []
    if original != null:
        found.append(
            f"The null edit is taken for {null}, the picture itself for {original}: drawing the picture again changes "
            "the decision by itself. What follows is about the null edit; use a gentler editor."
        )
    if not study.effects.control_prompts:
        found.append(
            "The study has no control prompts (effects.control_prompts): nothing says what editing alone does to this "
            "picture, so that no effect can be told from noise."
        )
    elif controls < least:
        found.append(
            f"With {controls} control prompts nothing can be claimed of one picture: the one furthest out of "
            f"{controls + 1} edits is so by chance in one of {controls + 1} cases. {least} are needed at an error rate "
            f"of {study.effects.level:g}."
        )
    if turned:
        found.append(
            f"{turned} of {len(control_edits(study))} edits towards words that mean nothing flip the decision as well: "
            "this picture lies so near the boundary that a flip says little."
        )
    return tuple(found)
