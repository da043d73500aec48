"""The effect of one feature: paired differences over images, and what they add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def paired_effects(edit: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """d_i = f(edit_i) − f(null_i), seeds averaged within their image first.

    The null edit is the same image inverted and decoded under the same seed without guidance: what the editor does to
    any picture cancels in the difference. Seeds of one image are not independent images, hence the average.

    Args:
        edit, null: target measure of edits and null edits, shape (images, seeds) or (images,), in the same order.

    Returns:
        d, shape (images,).

    Raises:
        ValueError: the shapes differ, are not of one or two dimensions, or a score is not a finite number.
    """
    edited, unedited = np.asarray(edit, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if edited.shape != unedited.shape or edited.ndim not in (1, 2):
        raise ValueError(
            f"scores of edits have shape {edited.shape}, of null edits {unedited.shape}; "
            "both must be (images,) or (images, seeds), one null edit for each edit."
        )
    if not (np.isfinite(edited).all() and np.isfinite(unedited).all()):
        raise ValueError("a score is not a finite number: look at the classifier's outputs on these edits.")
    d = edited - unedited
    return d if d.ndim == 1 else d.mean(axis=1)


@dataclass(frozen=True)
class EffectSummary:
    """What the paired differences of one feature add up to, in the unit of the target measure.

    Attributes:
        effect: mean d.
        ci_low, ci_high: confidence interval of the mean over the population that the images are drawn from.
        magnitude: mean |d|: how much the feature moves the classifier, whichever way.
        sign_agreement: share of images that move in the direction of the mean (of either direction, the larger share,
            when the mean is zero); images that do not move agree with neither.
        flip_rate: share of images whose predicted class changes.
        standardised: mean d over its standard deviation (Cohen's d_z); infinite for a constant effect, 0 for none.
        images: how many images.
    """

    effect: float
    ci_low: float
    ci_high: float
    magnitude: float
    sign_agreement: float
    flip_rate: float
    standardised: float
    images: int


def summarise(d: ArrayLike, flips: ArrayLike, confidence: float = 0.95) -> EffectSummary:
    """Summarise one feature.

    Args:
        d: paired differences, shape (images,).
        flips: whether the predicted class changed (booleans), or the share of seeds in which it did, shape (images,).
        confidence: of the interval, see `interval`.

    Raises:
        ValueError: the shapes differ, there is no image, or a number is not finite.
    """
    x, flipped = np.asarray(d, dtype=np.float64), np.asarray(flips, dtype=np.float64)
    if x.ndim != 1 or x.shape != flipped.shape or not x.size:
        raise ValueError(f"d has shape {x.shape}, flips {flipped.shape}; both must be (images,), with images >= 1.")
    if not np.isfinite(x).all():
        raise ValueError("a paired difference is not a finite number.")
    effect = float(x.mean())
    low, high = interval(x, confidence)
    up, down = float(np.mean(x > 0)), float(np.mean(x < 0))
    agreement = up if effect > 0 else down if effect < 0 else max(up, down)
    spread = _spread(x)
    standardised = effect / spread if spread > 0 else math.copysign(math.inf, effect) if effect else 0.0
    return EffectSummary(
        effect, low, high, float(np.abs(x).mean()), agreement, float(flipped.mean()), standardised, x.size
    )


def interval(d: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean: Student's t with two more images, as far from the mean as the furthest one.

    Effects on a probability are bounded, skewed (an image near the class boundary moves far, others hardly) and near
    zero on most images. A sample then often lacks some of the few images that move most, and Student's interval is too
    narrow: with 24 images it misses the mean of the demo classifiers' effects in up to 10% of studies. Two more images,
    as far above and below the mean as the furthest of the sample is from it, stand for those that were not seen (as the
    successes and failures that Agresti & Coull 1998 add to a proportion). They do not move the estimate, widen the
    interval where a few images stand out, and count less the more images there are. Nothing is random.
    docs/validity.md has the coverage, beside that of Student's, Hall's (1992) and the BCa bootstrap's interval.

    With s the standard deviation of d_1, …, d_n, mean + m, mean − m, where m = max |d_i − mean|, the interval is
    mean ± t s / √(n + 2), t being the quantile of Student's distribution with n + 1 degrees of freedom.

    Returns:
        (low, high) around the mean of d. Equal values give a point: all-zero differences give (0, 0), which says that
        no image moved, not that none could. One image that moved gives (−inf, inf).
    """
    x = np.asarray(d, dtype=np.float64)
    mean = float(x.mean())
    if x.size < 2 or np.ptp(x) == 0.0:
        return (mean, mean) if x.size > 1 or mean == 0.0 else (-math.inf, math.inf)
    from scipy import special  # scipy.stats takes a second to import

    furthest = float(np.abs(x - mean).max())
    scaled = np.append((x - mean) / furthest, [1.0, -1.0])  # the squares of tiny numbers would vanish
    spread = furthest * float(scaled.std(ddof=1))
    half = float(special.stdtrit(x.size + 1, (1.0 + confidence) / 2.0)) * spread / math.sqrt(x.size + 2)
    return mean - half, mean + half


def _spread(x: NDArray[np.float64]) -> float:
    """Standard deviation; exactly zero for equal values, whatever rounding makes of them."""
    if x.size < 2 or np.ptp(x) == 0.0:
        return 0.0
    return float(x.std(ddof=1))
