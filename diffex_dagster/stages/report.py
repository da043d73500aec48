"""Stage: rank the scored features, decide about each, and write the report of one classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from diffex_dagster.classifying.asking import said_outputs
from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import decision_threshold, has_class, measure
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.protocol import Editor, EditRequest
from diffex_dagster.effects.confounding import SideEffect, side_effects
from diffex_dagster.effects.deciding import decide
from diffex_dagster.effects.edit_metrics import Change
from diffex_dagster.effects.paired import Reach, images_for_no_effect, interval, summarise
from diffex_dagster.effects.perceptual import Lpips
from diffex_dagster.effects.presence import both_arms, enough, prevalence
from diffex_dagster.report.model import (
    Confounder,
    Example,
    Explanation,
    Group,
    JointCombination,
    JudgeCheck,
    Picture,
    RankedFeature,
    Turn,
)
from diffex_dagster.report.verdict import one_a_group
from diffex_dagster.report.wording import NOT_JUDGED, UNSAID, listing, plain
from diffex_dagster.stages.attribution import looks
from diffex_dagster.stages.deciding import (
    control_differences,
    control_rows,
    control_warnings,
    decision_options,
    measure_reach,
    noise_warning,
    reach_on,
)
from diffex_dagster.stages.edit_metrics import changes_of, mean_change, strengths
from diffex_dagster.stages.edits import Concepts, concepts_of, edit_requests
from diffex_dagster.stages.hints import hints
from diffex_dagster.stages.judging import check_judge
from diffex_dagster.stages.scores import Paired, picture_scores
from diffex_dagster.stages.search import Searched, replay_search
from diffex_dagster.stages.setup import build_probe, editing_method, link_pages, other_pages, why_unjudged
from diffex_dagster.stages.splits import Parts
from diffex_dagster.store import Store, StoredPicture, StoredPictures, edit_key
from diffex_dagster.study import Study

MANY_IMAGES = 32  # examples of a feature on the page; all of them in the database


@dataclass(frozen=True)
class Pictures:
    """The sample images of a study and their edits: where they are in the store. Each is read when it is needed."""

    study: Study
    store: Store
    editor: str
    samples: StoredPictures
    _files: dict[EditRequest, str] = field(default_factory=dict)  # found so far

    def find(self, combinations: Iterable[Concepts]) -> None:
        """Look the edits of every image up at once; what `edits` has not got it looks up itself."""
        requests = edit_requests(list(self.samples), combinations, [self.study.seed])
        self._files.update(self.store.stored_edits(requests, self.editor))

    def edits(self, concepts: Concepts, images: Sequence[str] | None = None) -> list[StoredPicture]:
        """The edit of every sample image, in their order."""
        requests = [EditRequest(image, concepts, self.study.seed) for image in images or self.samples]
        if missing := [request for request in requests if request not in self._files]:
            self._files.update(self.store.stored_edits(missing, self.editor))
        return [StoredPicture(self.store.pictures, self._files[request]) for request in requests]


def edits_that_took(
    study: Study, strength: Mapping[str, np.ndarray], gains: Mapping[str, np.ndarray], chance: float
) -> dict[str, np.ndarray]:
    """Feature -> whether each of its edits shows it, shape (images,); empty where no probe judges edits.

    An edit shows its attribute when the probe's evidence for it rose from the null edit (fell, for one that is
    removed), by more than `chance`, and the picture changed by the study's `min_edit_strength`.
    """
    return {
        feature: (gain > chance) & (strength[feature] >= study.effects.min_edit_strength)
        for feature, gain in gains.items()
    }


def edit_success(
    study: Study,
    changes: Mapping[str, Sequence[Change]],
    succeeded: Mapping[str, np.ndarray],
    on: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """Feature -> the share of its edits that happened, as the decisions take it.

    By the probe where there is one; 0 where the edits changed their pictures by less than `min_edit_strength` on
    average. It says nothing of a classifier, so that every version of a comparison has the same.

    Args:
        on: feature -> the images that its edit can change, the only ones that count (`images_of_effect`).
    """
    happened = {feature: float(np.mean(took[on[feature]])) for feature, took in succeeded.items()}
    weak = study.effects.min_edit_strength
    return happened | {f: 0.0 for f, found in changes.items() if strengths(found)[on[f]].mean() < weak}


def images_of_effect(study: Study, features: Iterable[Feature], searched: Searched) -> dict[str, np.ndarray]:
    """Feature -> the images that its effect is over, (images,) booleans: those that its edit can change, by the judge.

    All of them where nobody judges, and where too few are left (*already there*).
    """
    every = np.ones(len(searched.parts.reported), dtype=bool)
    found = {feature.id: searched.without.get(feature.id, every) for feature in features}
    return {f: on if enough(on, study.effects.level) else every for f, on in found.items()}


def among(feature: Feature, on: np.ndarray) -> str:
    """Which images an effect is over, in words."""
    if bool(on.all()):
        return "all"
    return "without it" if feature.direction == "add" else "with it"


def settings_shown(study: Study, margin: float) -> tuple[tuple[str, str], ...]:
    """Everything in the study that decides the numbers, as (what, value) for the method section of a report.

    Options of a user's own editor are left out: nobody knows what is in them.
    """
    part, search, effects = study.editors[study.editor_name], study.search, study.effects
    of_editor = part.model_dump(mode="json", exclude={"kind", "options"}, exclude_none=True)
    return (
        *((f"Editor: {field.replace('_', ' ')}", str(value)) for field, value in of_editor.items()),
        ("Seed", ", ".join(map(str, study.seeds))),
        ("Image side", f"{study.images.size} pixels"),
        ("Beam", f"{search.beam} groups; each group competes with {search.probes} edits, its own or children's"),
        ("Joint combination", f"up to {search.joint_size} features, {search.joint_width} candidates kept"),
        ("Error rate", f"{effects.error_rate}, level {effects.level:g}"),
        ("No effect shown", f"interval inside ±{margin:.3g}, and what unseen images may do"),
        ("Control prompts", ", ".join(effects.nonsense) or "none: effects are differences to the null edit"),
        ("An edit happened from", f"{effects.min_edit_strength:g} mean pixel change in the most changed window"),
        ("Edits that must take", f"{effects.min_edit_success:.0%}, where a probe judges them ({study.probe.kind})"),
    )


def placed(editor: Editor) -> tuple[tuple[str, str], ...]:
    """Where this process edits, with "auto" resolved: part of the editor's fingerprint; nothing where it is unknown."""
    device, dtype = getattr(editor, "placement", (None, None))
    return (("Edited on", f"{device}, {dtype}"),) if device else ()


def original_outputs(pictures: Pictures, classifier: Classifier) -> np.ndarray:
    """Logits of every sample image itself, shape (images, classes); scored once and kept like any other score."""
    scores = picture_scores(pictures.store, classifier, pictures.samples)
    return np.stack([scores[key] for key in pictures.samples])


def turn_of(labels: Sequence[str], target: Target) -> Turn | None:
    """What it is called that an edit makes a picture the explained class; None where the target explains no class."""
    if not has_class(labels, target):
        return None
    threshold = decision_threshold(target)
    if threshold is not None and not target.bounded:
        what = target.name or ("the margin" if target.measure == "margin" else f"the {target.label or 'measure'}")
        limit = f"{threshold:g} {target.unit}" if target.unit else f"{threshold:g}"
        rule = f"Images are told apart by whether {what} is above {limit}."
        return Turn(what, f"rises above {limit}", f"falls below {limit}", rule)
    named = [plain(label, 40) for label in ((target.label,) if target.name else target.members)]
    several = len(named) > 3
    name = f"one of {len(named)} classes" if several else listing([f"“{each}”" for each in named], "or")
    decided = "it is the predicted class" if len(target.members) == 1 else "the predicted class is one of them"
    by = decided if threshold is None else f"its probability is above {threshold:g}"
    rule = f"An image is of the explained class, {name}, when {by}."
    return Turn("the prediction", f"becomes {name}", f"stops being {name}", rule, 2 if threshold else len(labels))


def explain(
    study: Study, store: Store, editor: Editor, classifier: Classifier, name: str, command: str
) -> tuple[Explanation, Searched]:
    """Everything on the report page of one classifier, from what the store holds.

    Args:
        name: the classifier's name in the study.
        command: the command that reproduces the report.

    Raises:
        StoreError: the search has not been run with this study, editor and classifier; nothing is edited here.
    """
    searched = replay_search(study, store, editor, classifier, f"{name}/level2_scores")
    corpus = store.current_corpus(study.name)
    pictures = Pictures(study, store, editor.fingerprint, store.images(searched.parts.reported))
    features = [corpus[feature_id] for feature_id in searched.result.scores]
    paired = {feature.id: searched.paired[concepts_of([feature])] for feature in features}
    pictures.find(searched.paired)
    nulls = pictures.edits(())
    edited = {feature.id: pictures.edits(concepts_of([feature])) for feature in features}
    changes, no_lpips = edit_changes(study, pictures, features, edited, nulls)
    took = {feature: strengths(of_feature) for feature, of_feature in changes.items()}
    succeeded = edits_that_took(study, took, searched.gains, searched.sight.chance)
    race = searched.result.race
    # Confirmation images had no part in the race: there the finalists are the family.
    left = len(race.left) if race and not searched.parts.split else 0
    reach, controls = measure_reach(study, searched.paired), control_differences(study, searched.paired)
    on = images_of_effect(study, features, searched)
    ranked = rank(study, corpus, features, paired, changes, succeeded, searched, reach, controls, left)
    ranked, between = confounded(ranked, features_side_effects(study, corpus, searched, reach.still))
    shown = one_a_group(ranked)[: study.report.gradcam]
    logits = original_outputs(pictures, classifier)
    originals = measure(logits, classifier.labels, study.target, study.folder, said_outputs(classifier))
    files = store.samples(study.name)
    examples = {
        f.id: _examples(pictures, files, originals, nulls, edited[f.id], paired[f.id], succeeded.get(f.id), on[f.id])
        for f in features
    }
    of = {f.id: concepts_of([f]) for f in features}
    seen, why_not = looks(study, store, editor.fingerprint, classifier, shown, of, examples)
    placebos = control_rows(study, searched.paired, reach)
    floor = searched.noise.floor_of(study.search.probes)
    held_back = noise_warning(study, floor, searched.result.gate, reach.still)
    explanation = Explanation(
        study=study.name,
        title=study.title or study.name,
        domain=study.domain,
        classifier=name,
        classifier_fingerprint=classifier.fingerprint,
        labels=classifier.labels,
        target=study.target.describe(),
        baseline=float(searched.paired[()].null.mean()),
        editor=study.editor_name,
        editor_fingerprint=editor.fingerprint,
        corpus_version=corpus.version,
        created=datetime.now(UTC),
        command=command,
        images=len(pictures.samples),
        noise_floor=searched.noise.floor,
        gate=study.search.gate,
        features=tuple(ranked),
        groups=tuple(
            Group(outcome.feature, corpus[outcome.feature].name, outcome.kept, outcome.reason, outcome.magnitude)
            for outcome in searched.result.gate
        ),
        joint=_joint(study, searched, pictures, files, originals, nulls, reach),
        drops=tuple((drop.name, drop.reason) for drop in corpus.drops),
        examples=examples,
        caveats=(
            *([] if searched.judged else [f"{NOT_JUDGED}: {why_unjudged(study)}."]),
            *caveats(study, searched.parts, reach),
            *racing_notes(searched),
        ),
        settings=(
            *settings_shown(study, reach.still),
            *placed(editor),
            *([("Grad-CAM", f"not shown: {why_not}")] if why_not else []),
            *([("LPIPS", f"not measured: {no_lpips}")] if no_lpips else []),
        ),
        side_effects=tuple(between),
        looks=seen,
        controls=placebos,
        judge=judge_check(study, store, editor, searched, corpus) if searched.judged else None,
        hints=tuple(hints(study, classifier, logits)),
        warnings=(*([held_back] if held_back else []), *control_warnings(placebos)),
        method=editing_method(study),
        links=other_pages(study, name),
        turn=turn_of(classifier.labels, study.target),
        per_image=tuple(image_rows(ranked, list(pictures.samples), files, originals, paired, succeeded, on)),
    )
    return explanation, searched


def edit_changes(
    study: Study,
    pictures: Pictures,
    features: Sequence[Feature],
    edited: Mapping[str, Sequence[StoredPicture]],
    nulls: Sequence[StoredPicture],
) -> tuple[dict[str, list[Change]], str]:
    """Feature -> what its edit of each image changed; and why there is no LPIPS, where it was asked for."""

    def keys(feature: Feature) -> list[str]:
        requests = edit_requests(list(pictures.samples), [concepts_of([feature])], [study.seed])
        return [edit_key(request, pictures.editor) for request in requests]

    asked = {f.id: dict(zip(keys(f), zip(edited[f.id], nulls, strict=True), strict=True)) for f in features}
    lpips = Lpips(study.report.lpips) if study.report.lpips else None
    every = {key: pair for of_feature in asked.values() for key, pair in of_feature.items()}
    found, note = changes_of(pictures.store, every, lpips)
    return {feature: [found[key] for key in of_feature] for feature, of_feature in asked.items()}, note


def rank(
    study: Study,
    corpus: Corpus,
    features: Sequence[Feature],
    paired: Mapping[str, Paired],
    changes: Mapping[str, Sequence[Change]],
    succeeded: Mapping[str, np.ndarray],
    searched: Searched,
    reach: Reach,
    controls: np.ndarray,
    left: int = 0,
) -> list[RankedFeature]:
    """The ranked list, by |mean effect| over the images that an edit can change (`images_of_effect`).

    Equal effects in the order of the corpus; features of which nothing is said last. Such are those that too few images
    lack (*already there*), and those whose edits changed their pictures by less than the study's `min_edit_strength` on
    average, or of whose edits fewer than `min_edit_success` show it (*edit failed*); neither are tested.
    """
    on = images_of_effect(study, features, searched)
    reaches = {f.id: reach_on(study, reach, paired[f.id].base[on[f.id]]) for f in features}
    success = edit_success(study, changes, succeeded, on)
    decisions = decide(
        {f.id: paired[f.id].against_null for f in features},
        decision_options(study, reach),
        controls=controls,
        edit_success=success,
        without=searched.without,
        image_noise=searched.noise.image,
        left=left,
        reach=reaches,
    )
    confidence = study.effects.confidence
    counted = {f.id: paired[f.id].on(on[f.id]) for f in features}
    summaries = {f: summarise(of.effect, of.flipped, confidence, reaches[f]) for f, of in counted.items()}
    order = {feature.id: i for i, feature in enumerate(corpus.walk())}
    unsaid = {feature: UNSAID.index(d.decision) for feature, d in decisions.items() if d.decision in UNSAID}
    ranked = sorted(features, key=lambda f: (unsaid.get(f.id, -1), -abs(summaries[f.id].effect), order[f.id]))
    rows = []
    for position, feature in enumerate(ranked, 1):
        summary, decision = summaries[feature.id], decisions[feature.id]
        of = on[feature.id]
        becomes, leaves = counted[feature.id].turn_counts
        change = mean_change([each for each, counts in zip(changes[feature.id], of, strict=True) if counts])
        own_took = success.get(feature.id, 0.0) >= study.effects.min_edit_success
        before = _before(study, feature, searched, paired[feature.id], own_took, reach)
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
                edit_success=float(succeeded[feature.id][of].mean()) if feature.id in succeeded else None,
                citation=feature.citation,
                becomes=becomes,
                leaves=leaves,
                among=among(feature, of),
                effect_all=float(paired[feature.id].effect.mean()) if not of.all() else None,
                **before,
            )
        )
    return rows


def image_rows(
    ranked: Sequence[RankedFeature],
    images: Sequence[str],
    files: Mapping[str, str],
    originals: np.ndarray,
    paired: Mapping[str, Paired],
    succeeded: Mapping[str, np.ndarray],
    on: Mapping[str, np.ndarray],
) -> Iterator[dict[str, Any]]:
    """Every feature on every image, one row each, by rank and in the order of the images.

    Args:
        files: image key -> the name of the file that it was read from.
        originals: target measure of the unedited images, shape (images,).
        on: feature -> the images that its effect is over (`images_of_effect`).
    """
    for row in ranked:
        of, took = paired[row.feature], succeeded.get(row.feature)
        for i, image in enumerate(images):
            becomes, leaves = of.turn_of(i)
            yield {
                "feature": row.feature,
                "name": row.name,
                "image": image,
                "file": files.get(image, ""),
                "score_original": float(originals[i]),
                "score_null": float(of.null[i]),
                "score_placebo": None if of.placebo is None else float(of.placebo[i]),
                "score_edit": float(of.edit[i]),
                "effect": float(of.effect[i]),
                "flipped": bool(of.flips[i]),
                "becomes": becomes,
                "leaves": leaves,
                "succeeded": None if took is None else bool(took[i]),
                "counted": bool(on[row.feature][i]),
            }


def _before(
    study: Study, feature: Feature, searched: Searched, paired: Paired, own_took: bool, reach: Reach
) -> dict[str, Any]:
    """Prevalence, the edit the other way and do(1) − do(0) of a ranked feature, where there is a judge.

    do(1) − do(0) takes both arms: it is given where the feature's own edits took on the images that they can change,
    and the others, if there are any, were edited the other way and that took.
    """
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
            "other_way_success": float(other.took.mean()),
            "other_way_images": len(other.took),
        }
    other_took = bool(without.all()) or (other is not None and other.took.mean() >= study.effects.min_edit_success)
    if other_took and (own_took or not without.any()):
        sign = 1.0 if feature.direction == "add" else -1.0
        both = sign * both_arms(paired.effect, without, other.effect if other else np.empty(0))
        limits = replace(reach, low=-reach.furthest, high=reach.furthest)
        low, high = interval(both, study.effects.confidence, limits)
        found |= {"cace": float(both.mean()), "cace_low": low, "cace_high": high}
    return found


def judge_check(study: Study, store: Store, editor: Editor, searched: Searched, corpus: Corpus) -> JudgeCheck | None:
    """How the study's judge does on null edits and control prompts, and on the edits that it calls a success."""
    probe = build_probe(study, editor)
    if probe is None:
        return None
    features = [corpus[feature] for feature in searched.gains]
    return check_judge(study, store, probe, editor.fingerprint, features, searched.parts, searched.sight)


def _examples(
    pictures: Pictures,
    files: Mapping[str, str],
    originals: np.ndarray,
    nulls: Sequence[Picture],
    edits: Sequence[Picture],
    paired: Paired,
    succeeded: np.ndarray | None = None,
    on: np.ndarray | None = None,
) -> tuple[Example, ...]:
    """The images of one feature by descending effect; both ends where there are more than the page shows."""
    examples = [
        Example(
            key,
            picture,
            nulls[i],
            edits[i],
            float(paired.null[i]),
            float(paired.edit[i]),
            bool(paired.flips[i]),
            succeeded=None if succeeded is None else bool(succeeded[i]),
            score_original=float(originals[i]),
            score_placebo=None if paired.placebo is None else float(paired.placebo[i]),
            becomes=paired.turn_of(i)[0],
            leaves=paired.turn_of(i)[1],
            file=files.get(key, ""),
            counted=on is None or bool(on[i]),
        )
        for i, (key, picture) in enumerate(pictures.samples.stored.items())
    ]
    examples.sort(key=lambda example: -example.effect)
    half = MANY_IMAGES // 2
    return tuple(examples if len(examples) <= MANY_IMAGES else examples[:half] + examples[-half:])


def _joint(
    study: Study,
    searched: Searched,
    pictures: Pictures,
    files: Mapping[str, str],
    originals: np.ndarray,
    nulls: Sequence[Picture],
    reach: Reach,
) -> JointCombination | None:
    joint = searched.result.joint
    if joint is None:
        return None
    concepts = concepts_of(joint.features)
    paired = searched.paired[concepts]
    summary = summarise(paired.effect, paired.flipped, study.effects.confidence, reach)
    becomes, leaves = paired.turn_counts
    return JointCombination(
        features=tuple(feature.id for feature in joint.features),
        names=tuple(feature.name for feature in joint.features),
        effect=summary.effect,
        ci_low=summary.ci_low,
        ci_high=summary.ci_high,
        flip_rate=summary.flip_rate,
        images=summary.images,
        examples=_examples(pictures, files, originals, nulls, pictures.edits(concepts), paired),
        becomes=becomes,
        leaves=leaves,
    )


def caveats(study: Study, of: Parts, reach: Reach | None = None) -> tuple[str, ...]:
    """What a reader has to know before believing the numbers."""
    images = len(of.reported)
    chosen_on = (
        f"The search chose its features on {len(of.discovery)} images; effects and decisions come from {images} others."
        if of.split
        else "Effects are measured on the images that the search chose its features with; the strongest are therefore "
        "somewhat overestimated (the winner's curse)"
        + (f". From {study.effects.confirmation_from} images on, they come from images of their own."
           if study.effects.confirmation else ".")
    )  # fmt: skip
    notes = [
        chosen_on,
        "An effect is that of the edit as the editor made it: where an edit also changed something else, so did its "
        "effect. Look at the pictures.",
        "Only attributes that the corpus names and the beam kept were looked at.",
    ]
    if study.search.gate != "magnitude" and not of.split:
        notes.append(
            f"The groups were chosen by their mean effect (gate: {study.search.gate}) on the images that the effects "
            "are tested on: claims are then false more often than the stated rate. Use gate: magnitude, or enough "
            f"images for confirmation ({study.effects.confirmation_from})."
        )
    needed = images_for_no_effect(reach, study.effects.confidence) if reach else 0
    if images < needed:
        notes.append(
            f"{images} images cannot show that an attribute has no effect: that a few others would move far is not "
            f"ruled out. From about {needed} images on, or with a wider margin than ±{reach.still if reach else 0:.2g} "
            "(effects.margin), a report may say “no effect shown”."
        )
    if images < 30:
        notes.insert(0, f"Only {images} images were used: intervals are wide and small effects stay undecided.")
    if not study.effects.nonsense:
        notes.insert(
            0,
            "The study has no control prompts (effects.nonsense): an effect is the difference to the null edit, and "
            "what any edit does, towards nothing at all too, is in it. “Raises” and “lowers” say that the edits move "
            "the score, not that the attribute does.",
        )
    elif len(study.effects.nonsense) < 2:
        notes.append("With a single control prompt nothing tells whether it is one: two or more can be held together.")
    if study.truth:
        notes.append(
            "The images come from a world with known truth; the command line prints how the estimates compare."
        )
    return tuple(notes)


def racing_notes(searched: Searched) -> tuple[str, ...]:
    """What racing guarantees and saved; nothing for an exhaustive search."""
    race = searched.result.race
    return () if race is None else (race.describe(),)


def features_side_effects(study: Study, corpus: Corpus, searched: Searched, margin: float) -> list[SideEffect]:
    """What the edits of the strongest features do to each other, by the probe; empty where no probe judges edits."""
    gains = {(f, f): gain for f, gain in searched.gains.items()} | searched.crossed
    effects = {f: searched.paired[concepts_of([corpus[f]])].effect for f in searched.gains}
    on = images_of_effect(study, [corpus[f] for f in searched.gains], searched)
    return side_effects(effects, gains, margin=margin, confidence=study.effects.confidence, on=on)


def confounded(
    ranked: Sequence[RankedFeature], found: Sequence[SideEffect]
) -> tuple[list[RankedFeature], list[SideEffect]]:
    """Mark the decided effects that do not stand on their own.

    Only *raises* and *lowers* claim an effect that another feature could account for.

    Args:
        found: the largest leaks first; the first that confounds a feature is the one it is marked with.

    Returns:
        The features with `confounded_with` filled in, and the side effects, of which those that confound nothing that
        is claimed are no longer marked so.
    """
    claimed = {row.feature for row in ranked if row.decision in ("raises", "lowers")}
    found = [replace(each, confounded=each.confounded and each.edited in claimed) for each in found]
    names = {row.feature: row.name for row in ranked}
    first: dict[str, Confounder] = {}
    for x in found:
        if x.confounded:
            name = names.get(x.looked_for, x.looked_for)
            of = Confounder(x.looked_for, name, x.leak, x.direct, x.direct_low, x.direct_high)
            first.setdefault(x.edited, of)
    return [replace(row, confounded_with=first.get(row.feature)) for row in ranked], found


def keep(
    study: Study,
    explanation: Explanation,
    searched: Searched,
    store: Store,
    corpus: Corpus,
    run: str,
    subject: str | None = None,
) -> None:
    """Keep what the report shows (`Store.put_report`); what it is kept under, see `Study.subject`."""
    identity = {
        "study": explanation.study,
        "classifier_name": explanation.classifier,
        "classifier": subject or explanation.classifier_fingerprint,
        "editor": explanation.editor_fingerprint,
        "corpus_version": explanation.corpus_version,
        "run": run,
    }
    images = searched.parts.reported
    on = images_of_effect(study, [corpus[row.feature] for row in explanation.features], searched)
    rows = []
    for row in explanation.features:
        paired = searched.paired[concepts_of([corpus[row.feature]])]
        rows += [
            {
                "feature": row.feature,
                "image": image,
                "score_null": float(paired.null[i]),
                "score_edit": float(paired.edit[i]),
                "effect": float(paired.effect[i]),
                "flipped": bool(paired.flips[i]),
                "score_placebo": None if paired.placebo is None else float(paired.placebo[i]),
                "counted": bool(on[row.feature][i]),
            }
            for i, image in enumerate(images)
        ]
    store.put_report(identity, explanation.features, explanation.side_effects, rows)


def ranked_report(
    study: Study, store: Store, editor: Editor, classifier: Classifier, name: str, run: str, folder: Path, command: str
) -> tuple[Explanation, list[Path]]:
    """Explain one classifier, keep the numbers, write the report; returns it with the files written."""
    from diffex_dagster.report.files import write_report

    explanation, searched = explain(study, store, editor, classifier, name, command)
    keep(
        study,
        explanation,
        searched,
        store,
        store.current_corpus(study.name),
        run,
        study.subject(classifier.fingerprint),
    )
    files = write_report(explanation, folder, keep_same=True)
    link_pages(study)
    return explanation, files
