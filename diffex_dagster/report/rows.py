"""The ranking, the comparison and what belongs to them as plain rows: for JSON, CSV and data frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from diffex_dagster.results import Comparison, EditorComparison, RankedFeature, Report

FIELDS = (
    "rank", "feature", "name", "group", "level", "direction", "prompt", "effect", "ci_low", "ci_high", "flip_rate",
    "images", "decision", "magnitude", "sign_agreement", "p_value", "edit_strength", "edit_success",
    "ssim", "lpips", "inside_mask", "mask_area", "becomes", "leaves", "among", "prevalence", "prevalence_low",
    "prevalence_high", "effect_all", "other_way", "other_way_success", "other_way_images", "cace", "cace_low",
    "cace_high",
)  # fmt: skip


PER_IMAGE = (
    "feature", "name", "image", "file", "score_original", "score_null", "score_placebo", "score_edit", "effect",
    "flipped", "becomes", "leaves", "succeeded", "counted",
)  # fmt: skip
"""The columns of a report's table of images: one row a feature and image."""


COLUMNS = (*FIELDS, "confounded_with", "leak", "direct", "direct_low", "direct_high")
"""The columns of the effects, where they are a table; the last four belong to `confounded_with`."""


def rows(features: Sequence[RankedFeature]) -> list[dict[str, Any]]:
    """One plain dictionary for each feature, in rank order: what `diffex show --format json` prints.

    An interval that has no end (one image moved) is None there, as JSON has no infinity. `confounded_with` is None or a
    dictionary of its own.
    """
    return [
        {field: finite(getattr(f, field)) for field in FIELDS}
        | {"confounded_with": f.confounded_with and finite(vars(f.confounded_with))}
        for f in features
    ]


def flat_rows(features: Sequence[RankedFeature]) -> list[dict[str, Any]]:
    """As `rows`, but with `COLUMNS`: `confounded_with` is the id of the other feature, its numbers stand beside it."""
    flat = []
    for row in rows(features):
        other = row.pop("confounded_with") or {}
        numbers = {column: other.get(column) for column in ("leak", "direct", "direct_low", "direct_high")}
        flat.append({**row, "confounded_with": other.get("feature"), **numbers})
    return flat


PAIRS = (
    "one", "other", "name_one", "name_other", "effect", "ci_low", "ci_high", "alone", "together", "images", "decision",
    "p_value", "success", "placebo", "curve", "beyond", "beyond_low", "beyond_high", "of_the_curve", "reason",
)  # fmt: skip
"""The columns of the interactions, where they are a table; one row a pair of features."""


SUBGROUPS = ("feature", "column", "value", "effect", "ci_low", "ci_high", "images", "decision", "p_value")
"""The columns of the table of subgroups: one row a feature and subgroup of its images."""


def subgroup_rows(explanation: Report) -> list[dict[str, Any]]:
    """One plain dictionary with `SUBGROUPS` for each feature and subgroup."""
    return [finite(vars(each)) for each in explanation.subgroups]


def interaction_rows(explanation: Report) -> list[dict[str, Any]]:
    """One plain dictionary for each pair of features, found ones first."""
    names = {f.feature: f.name for f in explanation.features}
    return [
        finite(
            {**vars(each), "names": [names.get(f, f) for f in (each.one, each.other)],
             "of_the_curve": each.of_the_curve}
        )
        for each in explanation.interactions
    ]  # fmt: skip


def interaction_flat_rows(explanation: Report) -> list[dict[str, Any]]:
    """The same with `PAIRS`."""
    rows = interaction_rows(explanation)
    whole = [{**row, "name_one": row["names"][0], "name_other": row["names"][1]} for row in rows]
    return [{column: row[column] for column in PAIRS} for row in whole]


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null, at any depth. numpy scalars become Python's."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if not isinstance(value, str | bool | int | float | None) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One plain dictionary for each compared feature; per-version values are keyed by the version's name."""
    names = comparison.classifiers
    return [
        {
            "feature": f.feature,
            "name": f.name,
            "group": f.group,
            "level": f.level,
            "direction": f.direction,
            "prompt": f.prompt,
            "effects": dict(zip(names, f.effects, strict=True)),
            "ranks": dict(zip(names, f.ranks, strict=True)),
            "flip_rates": dict(zip(names, f.flip_rates, strict=True)),
            "difference": f.difference,
            "ci_low": f.ci_low,
            "ci_high": f.ci_high,
            "reliance": dict(zip(names, f.reliance, strict=False)),
            "reliance_change": f.reliance_change,
            "reliance_low": f.reliance_low,
            "reliance_high": f.reliance_high,
            "images": f.images,
            "decision": f.decision,
            "p_value": f.p_value,
            "edit_success": f.edit_success,
            "among": f.among,
            "prevalence": f.prevalence,
            "flips_gained": f.flips_gained,
            "flips_lost": f.flips_lost,
            "becomes": dict(zip(names, f.becomes, strict=False)),
            "leaves": dict(zip(names, f.leaves, strict=False)),
        }
        for f in comparison.features
    ]


def comparison_flat_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One flat dictionary for each compared feature ("effect persona_v1", ...), for a table with columns."""
    flat = []
    for f in comparison.features:
        row: dict[str, Any] = {"feature": f.feature, "name": f.name, "group": f.group, "level": f.level}
        for name, effect, rank, flip_rate in zip(comparison.classifiers, f.effects, f.ranks, f.flip_rates, strict=True):
            row |= {f"effect {name}": effect, f"rank {name}": rank, f"flip_rate {name}": flip_rate}
        row |= {f"reliance {name}": value for name, value in zip(comparison.classifiers, f.reliance, strict=False)}
        for field in ("becomes", "leaves"):
            row |= {f"{field} {name}": n for name, n in zip(comparison.classifiers, getattr(f, field), strict=False)}
        row |= {"reliance_change": f.reliance_change, "reliance_low": f.reliance_low, "reliance_high": f.reliance_high,
                "difference": f.difference, "ci_low": f.ci_low, "ci_high": f.ci_high, "images": f.images,
                "decision": f.decision, "flips_gained": f.flips_gained, "flips_lost": f.flips_lost,
                "direction": f.direction, "prompt": f.prompt}  # fmt: skip
        flat.append(row)
    return flat


def editor_rows(found: EditorComparison) -> list[dict[str, Any]]:
    """One flat dictionary for each feature under two editors ("effect NAME", ...), for a table with columns."""
    fields = ("effect", "ci_low", "ci_high", "decision", "edit_success", "confounded_with")
    return [
        {"feature": row.feature, "name": row.name, "group": row.group, "level": row.level, "direction": row.direction,
         "prompt": row.prompt, "verdict": row.verdict}
        | {
            f"{field} {editor}": getattr(under, field) if under else None
            for editor, under in zip(found.editors, row.editors, strict=True)
            for field in fields
        }
        for row in found.features
    ]  # fmt: skip
