"""One study under two editors: which effects do not depend on the editor?

Each editor's report stands on its own: its decisions hold their error rate over all of its features. What both claim is
false only where both are. With error rate `fwer`, *holds under both* is therefore false in no more studies than either
report's claims are. With the others this does not follow: of twenty claims each, one of them false, both reports may
share just the false one; the page says so. An editor that failed to draw an attribute, or whose judge saw it
everywhere, neither confirms nor denies what the other found.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from diffex_dagster.effects.deciding_one import CLAIMS, SHOWN
from diffex_dagster.effects.grading import rank_correlation

AgreementText = Literal[
    "holds under both", "contradicted", "under one alone", "not confirmed", "not judged by both", "claimed by neither"
]
Key = TypeVar("Key", bound=Hashable)  # of a feature
JUDGED = (*SHOWN, "no effect shown", "inconclusive")


@dataclass(frozen=True)
class Said:
    """What the report under one editor says of a feature.

    Attributes:
        effect, low, high: mean effect with its interval, in the unit of the target measure.
        decision: see `effects.deciding.decide`.
    """

    effect: float
    low: float
    high: float
    decision: str


@dataclass(frozen=True)
class Agreement(Generic[Key]):
    """Two editors on all features.

    Attributes:
        verdicts: feature -> see `agree`.
        judged: how many features both editors' reports judged.
        spearman: rank correlation of the two editors' effects over these; NaN with fewer than three, or without spread.
        same_sign: share of the features that either claims to raise or lower, of those both judged, whose effects have
            one sign; NaN without any.
    """

    verdicts: dict[Key, AgreementText]
    judged: int
    spearman: float
    same_sign: float


def agree(first: Mapping[Key, Said], second: Mapping[Key, Said]) -> Agreement[Key]:
    """Hold two editors' reports against each other; for each feature of either, the first of these that applies:

    - *not judged by both*: one's search did not reach it, its edits failed, or too few images lack the attribute.
    - *claimed by neither*: both judged it, and no report claims an effect.
    - *holds under both*: both claim the same (*raises*, *lowers* or *mixed*).
    - *contradicted*: one *raises* and the other *lowers*.
    - *under one alone*: one claims an effect, and the other shows that there is none, or one of another kind.
    - *not confirmed*: one claims an effect, and the other's images cannot tell.

    Returns:
        Verdicts in the order of the first, then what only the second reached.
    """
    verdicts: dict[Key, AgreementText] = {}
    for feature in dict.fromkeys((*first, *second)):
        verdicts[feature] = _verdict(first.get(feature), second.get(feature))
    both = [feature for feature, verdict in verdicts.items() if verdict != "not judged by both"]
    rho = rank_correlation(*([of[feature].effect for feature in both] for of in (first, second)))
    claimed = [
        first[f].effect * second[f].effect > 0 for f in both if set(CLAIMS) & {first[f].decision, second[f].decision}
    ]
    return Agreement(verdicts, len(both), rho, float(np.mean(claimed)) if claimed else float("nan"))


def _verdict(first: Said | None, second: Said | None) -> AgreementText:
    if first is None or second is None or not {first.decision, second.decision} <= set(JUDGED):
        return "not judged by both"
    claims = [each.decision for each in (first, second) if each.decision in SHOWN]
    if not claims:
        return "claimed by neither"
    if len(claims) == 1:
        return "not confirmed" if "inconclusive" in (first.decision, second.decision) else "under one alone"
    if claims[0] == claims[1]:
        return "holds under both"
    return "contradicted" if "mixed" not in claims else "under one alone"


def cohens_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """How far two judges agree beyond what their rates of yes make likely by chance (Cohen 1960).

    Args:
        first, second: yes or no on the same things, booleans of one shape.

    Returns:
        1 for full agreement, 0 for chance; NaN where chance alone agrees always (both always say the same) or there
        is nothing.
    """
    a, b = np.asarray(first, dtype=bool).ravel(), np.asarray(second, dtype=bool).ravel()
    if not a.size:
        return float("nan")
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return float((np.mean(a == b) - chance) / (1 - chance)) if chance < 1.0 else float("nan")
