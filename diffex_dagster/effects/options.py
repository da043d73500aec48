"""What a study may choose about its claims: a study file's section `effects` has these fields (`EffectsPart`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diffex_dagster.utils.config import Part

ErrorRate = Literal["fwer", "fdr-by", "fdr-ebh"]


class ClaimOptions(Part):
    """What has to hold for an effect to be claimed.

    Attributes:
        error_rate: which error rate holds over *raises* and *lowers* together, by which method (`effects.deciding`).
        level: the error rate.
        minimum_effect: test |mean| <= minimum_effect instead of mean = 0; raise it when edits are known to have side
            effects of that size.
        confidence: of the interval that *no effect shown* is read from.
        min_edit_success: below this share of edits that show the attribute, the decision is *edit failed*.
    """

    error_rate: ErrorRate = "fwer"
    level: float = Field(0.05, gt=0.0, lt=1.0)
    minimum_effect: float = Field(0.0, ge=0.0)
    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    min_edit_success: float = Field(
        0.5, ge=0.0, le=1.0, description="share of edits that must show their attribute; chance is a quarter"
    )


class DecisionOptions(ClaimOptions):
    """What the decisions over all features of a study are made with.

    Attributes:
        margin: effects inside ± margin do not matter to the study's reader, in the unit of the target measure. Used by
            *no effect shown*, and by *mixed* as the smallest move of one image that counts.
        mixed_share: *mixed* says that more than this share of images move up, and more than it move down.
        flips: random sign flips, at least; a large family under Holm or Benjamini & Yekutieli takes more. All 2^images
            patterns are used when they are no more than that.
        seed: of the random flips.
    """

    margin: float = Field(0.02, ge=0.0)
    mixed_share: float = Field(0.05, gt=0.0, lt=1.0)
    flips: int = Field(19_999, ge=1)
    seed: int = 0
