"""Which images an effect is of: the same decision within subgroups of the images.

A mean over images hides that some go up and others down; *mixed* says so and does not say which. Images are divided by
what is known of them before any edit (what the classifier takes the original for, how sure it is, a column of the
user's table), so that within a subgroup an effect without cause is as likely as its opposite, as it is among all
images, and the tests of `effects.deciding` hold there. The score of the null edit would not do: it is part of the
effect, and images whose null edit scores high by chance would seem to be lowered by every edit.

One error rate holds over all subgroups of all features together. It is a family of its own, beside that of features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.deciding import Controls, decide
from diffex_dagster.effects.deciding_one import CLAIMS
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach, interval
from diffex_dagster.effects.presence import least_images
from diffex_dagster.utils.columns import Maybe, Number, Says

MOST = 12  # values of one column that are looked at, those with the most images
FLIPS = 4_999  # enough for a level of 0.05; a family of hundreds of subgroups is large


@dataclass(frozen=True)
class SubgroupEffect:
    """The effect of one feature among some of the images, in the unit of the target measure."""

    feature: Annotated[str, Says("feature id")]
    column: Annotated[str, Says("what divides the images, e.g. predicted class")]
    value: Annotated[str, Says("what these images have in common, e.g. senior")]
    effect: Annotated[Number, Says("mean effect there")]
    ci_low: Annotated[Number, Says("lower end of its interval")]
    ci_high: Annotated[Number, Says("upper end")]
    images: Annotated[int, Says("how many, of those that the feature's effect is over", minimum=1)]
    decision: Annotated[
        str,
        Says(
            "as of a feature; too few images, edit failed where nothing is said",
            enum=["raises", "lowers", "mixed", "no effect shown", "inconclusive", "too few images", "edit failed"],
        ),
    ]
    p_value: Annotated[Maybe, Says("adjusted over all subgroups of all features; null where it was not tested")]


def strata(
    columns: Mapping[str, Sequence[str | None]], level: float = 0.05
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(column, value) -> which images have it, (images,) booleans.

    Values with fewer images than a claim can come of (`least_images`) are left out, and columns that do not divide the
    images into two such values at least; of many values the `MOST` with the most images are kept.
    """
    found: dict[tuple[str, str], NDArray[np.bool_]] = {}
    for column, values in columns.items():
        table = np.array([value if value is not None else "" for value in values], dtype=object)
        names, counts = np.unique(table[table != ""].astype(str), return_counts=True)
        large = [(str(name), int(n)) for name, n in zip(names, counts, strict=True) if n >= least_images(level)]
        large.sort(key=lambda each: -each[1])
        if len(large) > 1:
            found |= {(column, name): np.asarray(table == name, dtype=bool) for name, _ in large[:MOST]}
    return found


def subgroup_effects(
    d: Mapping[str, ArrayLike],
    groups: Mapping[tuple[str, str], NDArray[np.bool_]],
    options: DecisionOptions | None = None,
    *,
    controls: Controls | None = None,
    succeeded: Mapping[str, NDArray[np.bool_]] | None = None,
    on: Mapping[str, NDArray[np.bool_]] | None = None,
    image_noise: float = 0.0,
    left: int = 0,
    reach: Callable[[str, NDArray[np.bool_]], Reach] | None = None,
) -> list[SubgroupEffect]:
    """Decide about every feature in every subgroup.

    Args:
        d: feature -> differences against the null edits, (images,); only features that were themselves decided about.
        groups: as of `strata`.
        controls: the same of the control prompts, (images, control prompts); or by feature (`effects.deciding.decide`).
        succeeded: feature -> whether each edit shows it, (images,).
        on: feature -> the images that its effect is over, (images,).
        left: features that left a race before it had seen all images; each counts as tested in every subgroup.
        reach: (feature, images of a subgroup) -> how far the measure can be moved there; that of a probability when
            left out.

    Returns:
        One row for each feature and subgroup that has an image, in their order. Those with fewer than `least_images`
        have no decision.

    Raises:
        ValueError: as for `decide`.
    """
    options = options or DecisionOptions()
    options = options.replaced(flips=min(options.flips, FLIPS))
    least, every = least_images(options.level), on or {}
    masks: dict[tuple[str, str, str], NDArray[np.bool_]] = {}
    for feature, values in d.items():
        counted = every.get(feature, np.ones(np.shape(values), dtype=bool))
        masks |= {(feature, *group): mask & counted for group, mask in groups.items() if (mask & counted).any()}
    tested = {key: mask for key, mask in masks.items() if mask.sum() >= least}
    names = {key: "\n".join(key) for key in tested}
    limits = {
        key: replace(reach(key[0], mask) if reach else Reach(), still=options.margin) for key, mask in masks.items()
    }
    decided = decide(
        {name: d[key[0]] for key, name in names.items()},
        options,
        controls={name: controls[key[0]] for key, name in names.items()} if isinstance(controls, Mapping) else controls,
        edit_success={names[key]: float(succeeded[key[0]][mask].mean()) for key, mask in tested.items()}
        if succeeded
        else None,
        without={names[key]: mask for key, mask in tested.items()},
        image_noise=image_noise,
        left=left * len(groups),
        reach={name: limits[key] for key, name in names.items()},
    )
    found = []
    for key, mask in masks.items():
        seen = np.asarray(d[key[0]], dtype=np.float64)[mask]
        low, high = interval(seen, options.confidence, limits[key])
        decision = decided.get(names.get(key, ""))
        said = ("too few images", None) if decision is None else (decision.decision, decision.p_value)
        found.append(SubgroupEffect(*key, float(seen.mean()), low, high, int(mask.sum()), *said))
    return found


def opposite(rows: Sequence[SubgroupEffect]) -> list[tuple[str, list[SubgroupEffect], list[SubgroupEffect]]]:
    """Where a feature raises some subgroups and lowers others: (column, those raised, those lowered).

    Args:
        rows: of one feature.
    """
    found = []
    for column in dict.fromkeys(row.column for row in rows):
        of = [row for row in rows if row.column == column]
        up, down = ([row for row in of if row.decision == said] for said in CLAIMS)
        if up and down:
            found.append((column, up, down))
    return found
