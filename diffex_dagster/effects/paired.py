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
class Reach:
    """How far the target measure can be moved: what images that nobody has looked at might do.

    Attributes:
        furthest: no single image moves further than this, whichever way; > 0 where the measure can move at all.
        low, high: what the mean effect can be: −baseline and 1 − baseline of a probability.
        still: an image that moves no further than this did not move (the study's margin).
    """

    furthest: float = 1.0
    low: float = -math.inf
    high: float = math.inf
    still: float = 0.0

    def clip(self, low: float, high: float, mean: float) -> tuple[float, float]:
        """An interval around a mean, inside what the measure can take."""
        return min(mean, max(low, self.low)), max(mean, min(high, self.high))


def unseen_share(moved: int, images: int, level: float = 0.05) -> float:
    """The share of the population that may move as `moved` of `images` did: Clopper & Pearson's (1934) upper bound.

    Returns:
        The share that is exceeded with probability `level` at most; 1 − level^(1/n) where none of n images moved.
    """
    if moved >= images:
        return 1.0
    from scipy import special  # scipy.stats takes a second to import

    return float(special.betaincinv(moved + 1, images - moved, 1.0 - level))


def unseen_bounds(d: ArrayLike, reach: Reach, level: float = 0.05) -> tuple[float, float]:
    """What the mean may be if as many images as the sample does not rule out move as far as the measure lets them.

    Images that moved by more than `reach.still` are counted; the others stand at what they are. The share that may
    move up (down) goes to `reach.furthest`.

    Returns:
        (low, high), each missed with probability `level` at most where the measure's reach is right.
    """
    x = np.asarray(d, dtype=np.float64)
    up = unseen_share(int((x > reach.still).sum()), x.size, level)
    down = unseen_share(int((x < -reach.still).sum()), x.size, level)
    rest_high, rest_low = float(np.minimum(x, reach.still).mean()), float(np.maximum(x, -reach.still).mean())
    return rest_low - down * (reach.furthest + rest_low), rest_high + up * (reach.furthest - rest_high)


def images_that_undo(mean: float, images: int, against: float, least: float = 0.0) -> float:
    """How many more images would undo a mean, if each moved as far against it as edits of the study move one.

    A sample in which no image moves against its mean says little of a population in which one in fifty moves far: such
    images are missing from most samples of 24, and what is left of the effect then has the wrong sign. How far they
    would move, the other features of the same study tell.

    Args:
        mean, images: of the sample.
        against: how far edits of the study move an image against the mean's direction, >= 0.
        least: |mean| that has to be left.

    Returns:
        The number k, at least 1, with (images |mean| − k against) / (images + k) <= least; infinite where none is.
    """
    beyond = images * (abs(mean) - least)
    pull = against + least
    return math.inf if pull <= 0.0 else max(1.0, math.ceil(beyond / pull))


def images_for_no_effect(reach: Reach, confidence: float = 0.95, most: int = 100_000) -> int:
    """How many images it takes, none of which moves, before a study may say that a feature has no effect.

    Returns:
        `most` where no number up to it is enough.
    """
    low, high = 2, most
    while low < high:  # both bounds narrow with the images
        images = (low + high) // 2
        still = np.zeros(images)
        ends = (*interval(still, confidence, reach), *unseen_bounds(still, reach, 1.0 - confidence))
        low, high = (low, images) if max(map(abs, ends)) <= reach.still else (images + 1, high)
    return low


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
        images: how many images.
    """

    effect: float
    ci_low: float
    ci_high: float
    magnitude: float
    sign_agreement: float
    flip_rate: float
    images: int


def summarise(d: ArrayLike, flips: ArrayLike, confidence: float = 0.95, reach: Reach | None = None) -> EffectSummary:
    """Summarise one feature.

    Args:
        d: paired differences, shape (images,).
        flips: whether the predicted class changed (booleans), or the share of seeds in which it did, shape (images,).
        confidence, reach: of the interval, see `interval`.

    Raises:
        ValueError: the shapes differ, there is no image, or a number is not finite.
    """
    x, flipped = np.asarray(d, dtype=np.float64), np.asarray(flips, dtype=np.float64)
    if x.ndim != 1 or x.shape != flipped.shape or not x.size:
        raise ValueError(f"d has shape {x.shape}, flips {flipped.shape}; both must be (images,), with images >= 1.")
    if not np.isfinite(x).all():
        raise ValueError("a paired difference is not a finite number.")
    effect = float(x.mean())
    low, high = interval(x, confidence, reach)
    up, down = float(np.mean(x > 0)), float(np.mean(x < 0))
    agreement = up if effect > 0 else down if effect < 0 else max(up, down)
    return EffectSummary(effect, low, high, float(np.abs(x).mean()), agreement, float(flipped.mean()), x.size)


def interval(d: ArrayLike, confidence: float = 0.95, reach: Reach | None = None) -> tuple[float, float]:
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

    Where no image moved, none says how far one would. The two images then are as far away as the measure's reach, which
    comes to what Clopper & Pearson's share of unseen images times the reach is (±0.11 of a probability at 24 images).
    Where all moved alike, the two stand where an image that does not move would.

    Args:
        reach: how far the measure can be moved; None for a quantity of which nothing is known.

    Returns:
        (low, high) around the mean of d, inside `reach`. Equal values give a point where no reach is known. One image
        gives (−inf, inf) as far as the reach allows.
    """
    x = np.asarray(d, dtype=np.float64)
    mean = float(x.mean())
    furthest = float(np.abs(x - mean).max()) if np.ptp(x) > 0.0 else 0.0
    if reach is not None and bool((np.abs(x) <= reach.still).all()):
        furthest = max(furthest, reach.furthest)
    elif reach is not None and furthest == 0.0:
        furthest = abs(mean)
    if x.size < 2 or furthest == 0.0:
        known = furthest == 0.0 and reach is None and (x.size > 1 or mean == 0.0)
        low, high = (mean, mean) if known else (-math.inf, math.inf)
        return reach.clip(low, high, mean) if reach else (low, high)
    from scipy import special  # scipy.stats takes a second to import

    scaled = np.append((x - mean) / furthest, [1.0, -1.0])  # the squares of tiny numbers would vanish
    spread = furthest * float(scaled.std(ddof=1))
    half = float(special.stdtrit(x.size + 1, (1.0 + confidence) / 2.0)) * spread / math.sqrt(x.size + 2)
    return reach.clip(mean - half, mean + half, mean) if reach else (mean - half, mean + half)
