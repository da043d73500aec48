"""How one explanation did: its effects against the truth of the images, its claims against that of the world."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.bench.baselines import (
    BASELINES,
    COMBINATIONS,
    PAPER,
    UNDESCRIBED,
    Reading,
    read,
    undescribed,
    variants,
)
from diffex_dagster.bench.resampling import Resampled
from diffex_dagster.effects.deciding_one import CLAIMS
from diffex_dagster.effects.grading import NULL, RELEVANT, Grade, beam_recall, grade
from diffex_dagster.effects.presence import Mask
from diffex_dagster.results import Control, RankedFeature, Report
from diffex_dagster.search.levels import kept_ids
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.prepared import prepared
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import run_search


@dataclass(frozen=True)
class TrueEffects:
    """What is true of some drawings, by feature id.

    Attributes:
        d: differences of putting the feature there (taking it away), 0 where that changes nothing, (drawings,).
        without: the drawings that can be changed: those without it, those with it for a feature that is removed.
        both: do(1) − do(0), (drawings,); not of a feature that the world cannot take away.
    """

    d: dict[str, NDArray[np.float64]]
    without: dict[str, Mask]
    both: dict[str, NDArray[np.float64]]

    def effects(self) -> dict[str, float]:
        """Mean effect among the drawings that can be changed; among all where none can."""
        return {f: float(d.mean()) for f, d in self._changed().items()}

    def errors(self) -> dict[str, float]:
        """Standard errors of the same as effects of the whole world; NaN of one drawing."""
        found = self._changed().items()
        return {f: float(d.std(ddof=1) / len(d) ** 0.5) if len(d) > 1 else math.nan for f, d in found}

    def _changed(self) -> dict[str, NDArray[np.float64]]:
        return {f: d[on] if (on := self.without[f]).any() else d for f, d in self.d.items()}


@dataclass(frozen=True)
class Point:
    """One feature in the figure.

    Attributes:
        edit_success: share of its edits that show it, where a judge says so.
        confounded_with: the name of what a claim is said to be confounded with; None where nothing is said.
        population, population_error: the true effect of the population, and its standard error as one of the world.
    """

    feature: str
    name: str
    true: float
    estimated: float
    low: float
    high: float
    decision: str
    edit_success: float | None = None
    confounded_with: str | None = None
    population: float = math.nan
    population_error: float = math.nan


@dataclass(frozen=True)
class Beside:
    """How a baseline did on the same images and edits.

    Attributes:
        grade: its marks on what it reports.
        whole: its marks on every feature of the corpus, an effect of 0 where it reports none.
        beam: its beam recall.
        claimed: the features that it claims an effect of; None for a reading that only lists.
        presence: its `presence_marks`; none of a reading that says nothing of what pictures show already.
        control_claims, decoy_claims: share of the control prompts, and of the features that the world cannot draw, that
            it claims; NaN where it has none, or claims nothing of them.
    """

    grade: Grade
    whole: Grade
    beam: float
    claimed: frozenset[str] | None = None
    presence: Mapping[str, float] = field(default_factory=dict)
    control_claims: float = math.nan
    decoy_claims: float = math.nan


@dataclass(frozen=True)
class Marked:
    """How one classifier's explanation did in one arm.

    Attributes:
        ours, paper: the pipeline, and the paper's reading of the method on the same edits.
        beam, paper_beam: beam recall of each.
        ours_shared, paper_shared: both again, on the features that both edited. A reading that looks at fewer features
            has an easier choice of them; here neither has.
        ours_whole, paper_whole: both again, on every feature of the corpus. What a reading does not report it tells its
            reader nothing of: an effect of 0, whose sign is wrong where there is an effect.
        resampled: intervals and decisions over many resampled studies; only where edits are exact.
        points: every feature, for the figure.
        plain_mae: mean error of the effects over all images, of the features that are ranked.
        both_mae, both: mean error of do(1) − do(0), over so many features that have one.
        claim_mae, claim_shown_mae: mean error of the effects that are claimed; the same with the effect where the edit
            shows its attribute in place of those that have one.
        prevalence_mae: mean error of the share of images that show a feature already; NaN where nobody judged.
        had_seen, had_imagined: share of the pairs of feature and image of which the judge says that the image shows the
            feature already, of those that do and of those that do not.
        corpus_recall: share of the world's ten attributes with the largest true effects (those above `RELEVANT`) that
            a feature of the corpus names; NaN without any.
        decoys, decoy_claims: features of the corpus that the world cannot draw, and how many of them are claimed.
        baselines: title -> its marks, one for each draw where a baseline is random.
        controls, control_claims: control prompts of the study, and how many of them are claimed.
    """

    subject: str
    ours: Grade
    beam: float
    paper: Grade
    paper_beam: float
    ours_shared: Grade
    paper_shared: Grade
    ours_whole: Grade
    paper_whole: Grade
    resampled: Resampled | None
    points: tuple[Point, ...]
    corpus_recall: float = math.nan
    decoys: int = 0
    decoy_claims: int = 0
    controls: int = 0
    control_claims: int = 0
    baselines: Mapping[str, tuple[Beside, ...]] = field(default_factory=dict)
    plain_mae: float = math.nan
    both_mae: float = math.nan
    both: int = 0
    claim_mae: float = math.nan
    claim_shown_mae: float = math.nan
    prevalence_mae: float = math.nan
    had_seen: float = math.nan
    had_imagined: float = math.nan

    def with_decoys(self, decoys: Collection[str]) -> Marked:
        """The same with how many of these features, which the world cannot draw, this and every other reading claim."""

        def told(one: Beside) -> Beside:
            if one.claimed is None or not decoys:
                return one
            return replace(one, decoy_claims=len(one.claimed & set(decoys)) / len(decoys))

        claims = sum(p.feature in decoys and p.decision in CLAIMS for p in self.points)
        baselines = {title: tuple(map(told, draws)) for title, draws in self.baselines.items()}
        return replace(self, decoys=len(decoys), decoy_claims=claims, baselines=baselines)

    @property
    def fdr_unmarked(self) -> float:
        """Share of the claims without the mark *confounded with* that are false; 0 without any."""
        said = [p.feature for p in self.points if p.decision in CLAIMS and not p.confounded_with]
        return sum(f in self.ours.false_discoveries for f in said) / len(said) if said else 0.0

    @property
    def true_marked(self) -> float:
        """Share of the claims that are not false that carry the mark; NaN without any."""
        true = [p for p in self.points if p.decision in CLAIMS and p.feature not in self.ours.false_discoveries]
        return sum(p.confounded_with is not None for p in true) / len(true) if true else math.nan


def mark(
    subject: Subject,
    true: TrueEffects,
    true_world: TrueEffects,
    unit: float = 1.0,
    combinations: bool = True,
    plain: bool = True,
) -> Marked:
    """Search and explain as the pipeline does, and mark what it says, with every other reading of the method beside it.

    Args:
        true: of the images that are edited; effects are held against it.
        true_world: of the population; claims are held against it.
        unit: what a probability's 1 is of the study's measure; thresholds on effects are in it.
        combinations, plain: make the edits that no other reading shares: those of Algorithm 1, and those without
            descriptions.
    """
    relevant = RELEVANT * unit
    subject = prepared(subject)
    if subject.study.calibrates:
        subject = subject.calibrated()
    run_search(subject)  # makes the edits; `classifier_report` replays it
    explanation, searched = classifier_report(subject, "diffex bench truth")
    truth, world, errors = true.effects(), true_world.effects(), true_world.errors()
    alone = read(PAPER, subject)
    ours = {row.feature: row.effect for row in explanation.features}
    shared = {feature: effect for feature, effect in truth.items() if feature in ours and feature in alone.effects}
    unsaid = dict.fromkeys(truth, 0.0)
    left_out = {title for title, made in ((COMBINATIONS, combinations), (UNDESCRIBED, plain)) if not made}
    return Marked(
        subject.name,
        _grade(explanation, truth, world, unit),
        beam_recall(kept_ids(searched.result.gate), truth, relevant_above=relevant),
        _against(alone.effects, truth, world, None, alone.claims, unit),
        beam_recall(alone.kept, truth, relevant_above=relevant),
        grade(ours, shared, unit=unit),
        grade(alone.effects, shared, unit=unit),
        grade(unsaid | ours, truth, unit=unit),
        grade(unsaid | alone.effects, truth, unit=unit),
        None,
        tuple(
            Point(
                f.feature,
                f.name,
                truth[f.feature],
                f.effect,
                f.ci_low,
                f.ci_high,
                f.decision,
                f.edit_success,
                f.confounded_with.name if f.confounded_with else None,
                world[f.feature],
                errors[f.feature],
            )
            for f in explanation.features
        ),
        controls=len(explanation.controls),
        control_claims=sum(each.decision in CLAIMS for each in explanation.controls),
        baselines=_baselines(subject, true, world, alone, unit, left_out),
        **presence_marks(explanation.features, true),  # type: ignore[arg-type]
        **sight_marks(explanation.features, searched.shown, true),  # type: ignore[arg-type]
    )


def _baselines(
    subject: Subject,
    true: TrueEffects,
    world: Mapping[str, float],
    alone: Reading,
    unit: float,
    left_out: Collection[str],
) -> dict[str, tuple[Beside, ...]]:
    """Every other reading of the method, and the pipeline with one choice undone, on the same images and edits.

    Args:
        true: of the images.
        world: true effects of the population.
        alone: the paper's reading, which is there already.
        left_out: readings that would cost edits of their own: `COMBINATIONS`, `UNDESCRIBED`.
    """
    truth, found, relevant = true.effects(), {}, RELEVANT * unit
    unsaid = dict.fromkeys(truth, 0.0)

    def beside(
        marks: Grade, effects: Mapping[str, float], kept: Sequence[str], claims: Collection[str] | None
    ) -> Beside:
        whole = grade(unsaid | dict(effects), truth, unit=unit)
        claimed = None if claims is None else frozenset(claims)
        return Beside(marks, whole, beam_recall(kept, truth, relevant_above=relevant), claimed)

    for title, draws in BASELINES.items():
        if title in left_out:
            continue
        readings = [alone if each == PAPER else read(each, subject) for each in draws]
        found[title] = tuple(
            beside(_against(each.effects, truth, world, None, each.claims, unit), each.effects, each.kept, each.claims)
            for each in readings
        )
    others = {title: subject.changed(changed) for title, changed in variants(subject.study).items()}
    if UNDESCRIBED not in left_out and (untold := undescribed(subject)):
        others[UNDESCRIBED] = untold
    for title, variant in others.items():
        run_search(variant)
        explanation, searched = classifier_report(variant, "diffex bench truth")
        ours = {row.feature: row.effect for row in explanation.features}
        marks = _grade(explanation, truth, world, unit)
        claims = [row.feature for row in explanation.features if row.decision in CLAIMS]
        of = beside(marks, ours, kept_ids(searched.result.gate), claims)
        presence, controls = presence_marks(explanation.features, true), share_claimed(explanation.controls)
        found[title] = (replace(of, presence=presence, control_claims=controls),)
    return found


def share_claimed(controls: Sequence[Control]) -> float:
    """Share of the control prompts that are claimed; NaN without any."""
    return sum(each.decision in CLAIMS for each in controls) / len(controls) if controls else math.nan


def presence_marks(rows: Sequence[RankedFeature], true: TrueEffects) -> dict[str, float | int]:
    """How right a report is about what its effect among some images leaves out; see `Marked`."""
    plain, both, shown, claimed, where_shown = [], [], [], [], []
    of_images = true.effects()
    for row in rows:
        everywhere = row.effect if row.effect_all is None else row.effect_all
        plain.append(abs(everywhere - float(true.d[row.feature].mean())))
        if row.decision in CLAIMS:
            claimed.append(abs(row.effect - of_images[row.feature]))
            succeeded = row.effect if row.effect_shown is None else row.effect_shown
            where_shown.append(abs(succeeded - of_images[row.feature]))
        if row.cace is not None and row.feature in true.both:
            both.append(abs(row.cace - float(true.both[row.feature].mean())))
        if row.prevalence is not None:
            lacking = float(true.without[row.feature].mean())
            shown.append(abs(row.prevalence - (1.0 - lacking if row.direction == "add" else lacking)))

    def mean(errors: list[float]) -> float:
        return float(np.mean(errors)) if errors else math.nan

    return {
        "plain_mae": mean(plain), "both_mae": mean(both), "both": len(both), "prevalence_mae": mean(shown),
        "claim_mae": mean(claimed), "claim_shown_mae": mean(where_shown),
    }  # fmt: skip


def sight_marks(rows: Sequence[RankedFeature], shown: Mapping[str, Mask], true: TrueEffects) -> dict[str, float]:
    """What the judge sees in the images as they are; see `Marked`.

    Args:
        shown: feature -> which images show it, by the judge, (images,).
        true: of the same images.
    """
    seen, there = list[Mask](), list[Mask]()
    for row in rows:
        if row.feature in shown:
            lacking = true.without[row.feature]
            seen.append(shown[row.feature])
            there.append(~lacking if row.direction == "add" else lacking)
    says, shows = (np.concatenate(some) if some else np.empty(0, dtype=bool) for some in (seen, there))
    found = {"had_seen": says[shows], "had_imagined": says[~shows]}
    return {key: float(some.mean()) if some.size else math.nan for key, some in found.items()}


def _grade(explanation: Report, truth: Mapping[str, float], world: Mapping[str, float], unit: float = 1.0) -> Grade:
    rows = explanation.features
    return _against(
        {row.feature: row.effect for row in rows},
        truth,
        world,
        {row.feature: (row.ci_low, row.ci_high) for row in rows},
        {row.feature: row.decision for row in rows},
        unit,
    )


def _against(
    effects: Mapping[str, float],
    truth: Mapping[str, float],
    world: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None,
    decisions: Mapping[str, str] | None,
    unit: float = 1.0,
) -> Grade:
    """Effects against the truth of the images, claims against that of the world."""
    estimates = grade(effects, truth, None, decisions, unit=unit)
    claims = grade(effects, world, intervals, decisions, null_tolerance=NULL, unit=unit)
    return replace(
        estimates,
        coverage=claims.coverage,
        discoveries=claims.discoveries,
        fdr=math.nan if decisions is None else claims.fdr,
        false_discoveries=claims.false_discoveries,
    )
