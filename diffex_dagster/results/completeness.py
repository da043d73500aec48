"""How much of what a classifier says of images the features explain, and which images they explain least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from diffex_dagster.results.common import SHARE, WITH_PICTURES, Picture
from diffex_dagster.utils.columns import Inner, Maybe, Number, Says


@dataclass(frozen=True)
class Unexplained:
    """One image that the features explain badly: what the classifier says of it, and what they predict."""

    __pydantic_config__ = WITH_PICTURES

    image: Annotated[str, Says("key of the sample image")]
    file: Annotated[str, Says("name of the file that it was read from")]
    score: Annotated[Number, Says("target measure f of the null edit")]
    predicted: Annotated[Number, Says("what the features predict, from the other images")]
    shows: Annotated[tuple[str, ...], Says("names of the features that it shows, by the judge")] = ()
    picture: Annotated[Picture | None, Inner] = None


@dataclass(frozen=True)
class Completeness:
    """How much of what the classifier says of the images, as they are, the scored features explain.

    Each image's output is predicted from the others: from what it shows, by the judge, and from what the edits do.
    """

    images: int
    features: Annotated[int, Says("features that had a part in it")] = 0
    score: Annotated[
        Maybe,
        Says(
            "share of the squared error of the mean that the prediction saves, on images that had no part in it; null "
            "where it is not known",
            **SHARE,
        ),
    ] = None
    low: Annotated[Maybe, Says("lower end of its 95% interval, by the jackknife over folds", **SHARE)] = None
    high: Annotated[Maybe, Says("upper end", **SHARE)] = None
    scale: Annotated[
        Maybe,
        Says("what would fit the sum of the effects to the outputs best: 1 where effects of edits add up to them"),
    ] = None
    fitted: Annotated[
        Maybe, Says("the same share by a regression on what images show, whatever edits do to them", **SHARE)
    ] = None
    ceiling: Annotated[
        Maybe, Says("the same share by a regression on an embedding of the images; null without one", **SHARE)
    ] = None
    ceiling_by: Annotated[str, Says("whose embedding")] = ""
    least_explained: Annotated[tuple[Unexplained, ...], Says("the images that the prediction misses by most")] = ()
    why: Annotated[str, Says("why it is not known; empty where it is")] = ""
    fitted_low: Annotated[Maybe, Says("lower end of the 95% interval of fitted", **SHARE)] = None
    fitted_high: Annotated[Maybe, Says("upper end", **SHARE)] = None
    ceiling_low: Annotated[Maybe, Says("lower end of the 95% interval of ceiling", **SHARE)] = None
    ceiling_high: Annotated[Maybe, Says("upper end", **SHARE)] = None
    ceiling_why: Annotated[str, Says("why there is no ceiling though a judge embeds images; empty elsewhere")] = ""
    corrected: Annotated[
        bool | None,
        Says(
            "whether what the images show is corrected for the judge's errors; false where those are not known; null "
            "of a judge that knows, and in reports from before it"
        ),
    ] = None
    spread: Annotated[
        Maybe, Says("standard deviation of the outputs over the images: what the scores are shares of the square of")
    ] = None
    varies: Annotated[
        bool | None,
        Says(
            "whether any output is further from the mean of all than effects.margin; where none is, there is nothing "
            "to explain, and no score; null where nobody looked, and in reports from before it"
        ),
    ] = None
    recall: Annotated[
        Maybe,
        Says(
            "share of the strongest attributes of the images' world that the corpus names (corpus recall); null where "
            "the truth is not known",
            **SHARE,
        ),
    ] = None
    recall_of: Annotated[int, Says("how many these are: at most ten, by their true mean effect on the images")] = 0
    missing: Annotated[tuple[str, ...], Says("those of them that the corpus does not name, the strongest first")] = ()
    recall_why: Annotated[
        str, Says("why there is no corpus recall though the study names a truth; empty elsewhere")
    ] = ""

    @property
    def missed(self) -> float | None:
        """By how much the prediction misses, root mean square, in the outputs' unit: spread · √(1 − score)."""
        return None if self.score is None or self.spread is None else self.spread * math.sqrt(1 - self.score)
