"""The benchmark of truth as numbers, as tables for the terminal and as a figure."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from diffex_dagster.bench.exam_tables import EXACT
from diffex_dagster.bench.marks import Beside, Marked, Point
from diffex_dagster.bench.truth import Benchmark
from diffex_dagster.effects.grading import OFF, Grade

MARKS = {  # key -> (heading, whether a larger number is better)
    "spearman": ("ρ", True),
    "kendall": ("τ", True),
    "spearman_all": ("ρ all", True),
    "kendall_all": ("τ all", True),
    "precision_at_5": ("P@5", True),
    "precision_at_10": ("P@10", True),
    "recall_at_10": ("R@10", True),
    "sign_accuracy": ("sign", True),
    "effect_mae": ("MAE", False),
    "plain_mae": ("MAE all", False),
    "both_mae": ("MAE do", False),
    "claim_mae": ("MAE claims", False),
    "claim_shown_mae": ("MAE claims shown", False),
    "prevalence_mae": ("MAE had", False),
    "had_seen": ("had, seen", True),
    "had_imagined": ("lacked, seen", False),
    "coverage": ("cover", True),
    "fdr": ("FDR", False),
    "fdr_unmarked": ("FDR unmarked", False),
    "true_marked": ("true marked", False),
    "beam_recall": ("beam", True),
    "spearman_whole": ("ρ whole", True),
    "corpus_recall": ("corpus", True),
    "decoy_claims": ("decoys", False),
    "control_claims": ("controls", False),
}
# Marks that a terminal has no room for.
IN_FILES = ("fdr_unmarked", "true_marked", "had_seen", "had_imagined", "claim_mae", "claim_shown_mae")
COLUMNS = {key: heading for key, (heading, _) in MARKS.items() if key not in IN_FILES}
WIDEST = 12  # panels of a figure
RESAMPLES = 2000  # of the classifiers, for the interval of a mean
FEWEST = 3  # classifiers that such an interval is of
ESTIMATES = ("spearman", "kendall", "spearman_all", "kendall_all", "sign_accuracy", "effect_mae")
CAUSES = {"not scored": "gated out by the beam"}  # what a missed feature's decision is called


def as_json(benchmark: Benchmark) -> dict[str, Any]:
    """`{"arms": {arm: {"mean", "classifiers", "paper": ...}}, ...}`; null where nothing is judged."""
    return {
        "images": benchmark.images,
        "population": benchmark.population,
        "features": benchmark.features,
        "arms": {arm: _arm(marked) for arm, marked in benchmark.arms.items()},
    }


def _arm(marked: Sequence[Marked]) -> dict[str, Any]:
    ours = {each.subject: _ours(each) for each in marked}
    theirs = {each.subject: _marks(each.paper, each.paper_beam) for each in marked}
    return {
        "mean": _mean(ours.values()),
        "interval": intervals(list(ours.values())),
        "missed": dict(sum((Counter(_causes(each.ours)) for each in marked), Counter())),
        "classifiers": _clean(ours),
        "paper": {"mean": _mean(theirs.values()), "classifiers": _clean(theirs)},
        "baselines": {title: _baseline(marked, title, ours) for title in (marked[0].baselines if marked else ())},
        # Only the features that both edited; every feature of the corpus, those that are not reported as 0.
        "shared": _beside([each.ours_shared for each in marked], [each.paper_shared for each in marked]),
        "whole": _beside([each.ours_whole for each in marked], [each.paper_whole for each in marked]),
        "points": {each.subject: [_clean(vars(point)) for point in each.points] for each in marked},
    }


def _baseline(marked: Sequence[Marked], title: str, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Marks of a baseline: of each classifier the mean over its draws, of all their mean with its interval.

    Where it was read for some of the classifiers only, the pipeline's marks on the same ones stand beside it ("ours").
    """
    having = [each for each in marked if title in each.baselines]
    rows = {each.subject: _mean([_beside_marks(one) for one in each.baselines[title]]) for each in having}
    found = {"mean": _mean(rows.values()), "interval": intervals(list(rows.values())), "classifiers": _clean(rows)}
    if len(having) < len(marked):
        same = [ours[name] for name in rows]
        found["ours"] = {"mean": _mean(same), "interval": intervals(same)}
    return found


def _beside_marks(each: Beside) -> dict[str, float]:
    """Of a reading; of the pipeline with a choice undone also what only its reports say."""
    claims = {"control_claims": each.control_claims, "decoy_claims": each.decoy_claims}
    said = {key: each.presence[key] for key in ("plain_mae", "both_mae", "prevalence_mae") if key in each.presence}
    return _marks(each.grade, each.beam) | {"spearman_whole": each.whole.spearman} | said | claims


def _beside(ours: Sequence[Grade], theirs: Sequence[Grade]) -> dict[str, dict[str, float | None]]:
    """The mean marks of both readings."""
    return {"ours": _mean([_estimates(each) for each in ours]), "paper": _mean([_estimates(each) for each in theirs])}


def _estimates(grade: Grade) -> dict[str, float]:
    """Only the marks of estimated effects: what there is to compare on the same features."""
    marks = _marks(grade, math.nan)
    return {key: marks[key] if key in ESTIMATES else math.nan for key in MARKS}


def _marks(grade: Grade, beam: float) -> dict[str, float]:
    return {
        "spearman": grade.spearman_relevant,
        "kendall": grade.kendall_relevant,
        "spearman_all": grade.spearman,
        "kendall_all": grade.kendall,
        "precision_at_5": grade.precision_at_5,
        "precision_at_10": grade.precision_at_10,
        "recall_at_10": grade.recall_at_10,
        "sign_accuracy": grade.sign_accuracy,
        "effect_mae": grade.effect_mae,
        "plain_mae": math.nan,
        "both_mae": math.nan,
        "claim_mae": math.nan,
        "claim_shown_mae": math.nan,
        "prevalence_mae": math.nan,
        "had_seen": math.nan,
        "had_imagined": math.nan,
        "coverage": grade.coverage,
        "fdr": grade.fdr,
        "fdr_unmarked": math.nan,
        "true_marked": math.nan,
        "beam_recall": beam,
        "spearman_whole": math.nan,
        "corpus_recall": math.nan,
        "decoy_claims": math.nan,
        "control_claims": math.nan,
    }


def _ours(each: Marked) -> dict[str, Any]:
    """Marks; in the exact arm, coverage and false discoveries are those of the resampled studies."""
    marks: dict[str, Any] = _marks(each.ours, each.beam)
    marks |= {
        "plain_mae": each.plain_mae,
        "both_mae": each.both_mae,
        "claim_mae": each.claim_mae,
        "claim_shown_mae": each.claim_shown_mae,
        "prevalence_mae": each.prevalence_mae,
        "had_seen": each.had_seen,
        "had_imagined": each.had_imagined,
        "spearman_whole": each.ours_whole.spearman,
        "corpus_recall": each.corpus_recall,
        "decoy_claims": each.decoy_claims / each.decoys if each.decoys else math.nan,
        "control_claims": each.control_claims / each.controls if each.controls else math.nan,
    }
    if each.resampled:
        marks |= {"coverage": each.resampled.coverage, "fdr": each.resampled.fdr}
        marks |= {"resampled": vars(each.resampled)}
    else:  # nobody judges exact edits
        marks |= {"fdr_unmarked": each.fdr_unmarked, "true_marked": each.true_marked}
    return marks | {
        "relevant": each.ours.relevant,
        "discoveries": each.ours.discoveries,
        "false_discoveries": each.ours.false_discoveries,
        "population_error": max(filter(math.isfinite, (p.population_error for p in each.points)), default=math.nan),
        "missed": each.ours.missed,
    }


def _mean(rows: Any) -> dict[str, float | None]:
    """Mean over the classifiers that a mark judges: no ranking is right or wrong where all effects are equal."""
    table = {key: np.array([row[key] for row in rows], dtype=float) for key in MARKS}
    return {key: float(np.nanmean(v)) if np.isfinite(v).any() else None for key, v in table.items()}


def intervals(
    rows: Sequence[Mapping[str, Any]], confidence: float = 0.95, keys: Sequence[str] = tuple(MARKS)
) -> dict[str, list[float] | None]:
    """An interval for every mean: the classifiers resampled with replacement (bootstrap percentiles, Efron 1979).

    Args:
        rows: the marks of each classifier.
        keys: the marks that are wanted.

    Returns:
        Mark -> [low, high]; None with fewer than `FEWEST` classifiers that the mark judges.
    """
    rng = np.random.default_rng(0)
    draws = rng.integers(len(rows), size=(RESAMPLES, len(rows))) if rows else np.empty((RESAMPLES, 0), int)
    found: dict[str, list[float] | None] = {}
    for key in keys:
        values = np.array([row[key] for row in rows], dtype=float)
        if np.isfinite(values).sum() < FEWEST:
            found[key] = None
            continue
        drawn = values[draws]
        judged = np.isfinite(drawn)
        means = np.where(judged, drawn, 0.0).sum(axis=1) / np.maximum(judged.sum(axis=1), 1)
        tail = (1 - confidence) / 2
        low, high = np.quantile(means[judged.any(axis=1)], [tail, 1 - tail])
        found[key] = [float(low), float(high)]
    return found


def _causes(grade: Grade) -> list[str]:
    return [CAUSES.get(why, why) for why in grade.missed.values()]


def _clean(value: Any) -> Any:
    """NaN and infinity as null: JSON has neither."""
    if isinstance(value, Mapping):
        return {key: _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(arm: str, figures: Mapping[str, Any], proposal: str = "") -> Table:
    """One arm for the terminal: a row a classifier, the mean, and the paper's reading below.

    Args:
        arm: "diffusion" or "exact". With exact edits estimate and truth are one drawing: how well they agree is left
            out, and only what the search and the statistics decide is shown.
        figures: of the arm, as `as_json` gives them.
        proposal: names the table, where there are several.
    """
    columns = {key: heading for key, heading in COLUMNS.items() if arm != "exact" or key in EXACT}
    title = f"{proposal}, {arm} arm" if proposal else f"{arm} arm"
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("classifier", no_wrap=True)
    for heading in columns.values():
        made.add_column(heading, justify="right")
    for name, row in figures["classifiers"].items():
        made.add_row(name, *(_number(row[key]) for key in columns))
    made.add_section()
    made.add_row("mean", *(_number(figures["mean"][key]) for key in columns))
    bounds = [figures["interval"][key] for key in columns]
    for i, end in enumerate(("from", "to")):
        made.add_row(f"95% interval, {end}", *("–" if each is None else _number(each[i]) for each in bounds))
    made.add_section()
    for title, marks in figures["baselines"].items():
        some = f" ({len(marks['classifiers'])} classifiers)" if "ours" in marks else ""
        made.add_row(title + some, *(_number(marks["mean"][key]) for key in columns))
        if some:
            made.add_row(f"the pipeline on these{some}", *(_number(marks["ours"]["mean"][key]) for key in columns))
    if arm == "exact":
        return made  # all marks of the rest are of estimates
    for of, what in (("shared", "features that both edited"), ("whole", "every feature, 0 if not reported")):
        made.add_section()
        made.add_row(f"mean, {what}", *(_number(figures[of]["ours"][key]) for key in columns))
        made.add_row("the paper's reading of them", *(_number(figures[of]["paper"][key]) for key in columns))
    return made


def missed_line(figures: Mapping[str, Any]) -> str:
    """Why true effects were missed, the commonest cause first."""
    causes = sorted(figures["missed"].items(), key=lambda item: -item[1])
    return "missed true effects: " + (", ".join(f"{why} {count}" for why, count in causes) or "none")


def population_line(figures: Mapping[str, Any], drawings: int) -> str:
    """How far the truth that claims are held against may be off itself, being that of some drawings.

    Args:
        figures: of an arm, as `as_json` gives them.
        drawings: of the population.
    """
    known = [row["population_error"] for row in figures["classifiers"].values() if row["population_error"] is not None]
    if not known:
        return ""
    line = f"true effects of the population ({drawings} drawings): standard errors of up to {max(known):.3f}"
    if max(known) > OFF / 4:
        line += "; some claims are called false, and some intervals to miss, for that: use a larger --population"
    return line


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def _panels(marked: Sequence[Marked]) -> dict[str, list[Point]]:
    """Title -> points of a row of the figure: a panel a classifier, or one for all where they would not fit."""
    if len(marked) <= WIDEST:
        return {each.subject: list(each.points) for each in marked}
    return {f"{len(marked)} classifiers": [point for each in marked for point in each.points]}


def figure(benchmark: Benchmark) -> bytes:
    """Estimated against true effects as a PNG: a column a classifier, a row an arm, bars the 95% intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    arms = {arm: _panels(marked) for arm, marked in benchmark.arms.items()}
    columns = max(len(panels) for panels in arms.values())
    drawn = Figure(figsize=(2.1 * columns + 0.6, 2.2 * len(arms) + 0.5), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(len(arms), columns, squeeze=False, sharex=True, sharey=True)
    for row, (arm, panels) in enumerate(arms.items()):
        for column, (title, points) in enumerate(panels.items()):
            panel = axes[row][column]
            panel.axline((0, 0), slope=1, color="#888888", linewidth=0.7, zorder=1)
            for point in points:
                failed = point.decision == "edit failed"
                colour = "#b9bbbf" if failed else "#0072b2"
                low, high = max(point.low, -1.0), min(point.high, 1.0)
                panel.plot([point.true, point.true], [low, high], color=colour, alpha=0.4, linewidth=0.8, zorder=2)
                panel.plot(point.true, point.estimated, "x" if failed else "o", color=colour, markersize=2.5, zorder=3)
            panel.set_xlim(-1, 1)
            panel.set_ylim(-1, 1)
            panel.tick_params(labelsize=6)
            if row == 0:
                panel.set_title(title, fontsize=8)
            if column == 0:
                panel.set_ylabel(f"{arm}: estimated", fontsize=8)
    drawn.supxlabel("true effect (grey crosses: edit failed)", fontsize=8)
    out = io.BytesIO()
    drawn.savefig(out, format="png", dpi=160, metadata={"Software": None})
    return out.getvalue()
