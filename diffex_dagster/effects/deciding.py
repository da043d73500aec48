"""Decisions over all features of a study at once, with a stated error rate.

The features are measured on the same images, so their effects depend on each other in unknown ways; plain
Benjamini–Hochberg does not hold then. Three ways that do:

- ``fwer`` (default): step-down max-T over joint sign flips (Westfall & Young 1993; Romano & Wolf 2005). The chance that
  *any* of the features called *raises* or *lowers* is false is at most `level`. The default, because a report is read
  feature by feature, and because at the size of a study (tens of features, tens of images) it learns the dependence
  from the images and so finds more than the other two, though it promises more (see docs/validity.md).
- ``fdr-by``: Benjamini & Yekutieli (2001) over the same sign-flip p-values. At most `level` of the features called
  *raises* or *lowers* are false on average.
- ``fdr-ebh``: e-BH (Wang & Ramdas 2022) over sign-symmetry e-values. The same promise as BY, without random flips.

What is assumed: images are independent of each other, and under the null hypothesis an image's differences are as
likely as their opposites (sign symmetry, jointly over the features without effect). Then the rates hold for any number
of images and any dependence between features. If the differences of a feature with mean zero are skewed, they hold
approximately, better with more images; docs/validity.md has the figures.

Choosing features by mean |d| (the magnitude gate) on the same images does not invalidate the p-values: |d| does not
change when signs flip. Choosing them by signed mean does. Both bias the *effects* of the chosen upwards, see
`effects.splitting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.paired import interval
from diffex_dagster.effects.signflip import adjust_by, adjust_ebh, e_values, sign_flips

ErrorRate = Literal["fwer", "fdr-by", "fdr-ebh"]
DecisionText = Literal["raises", "lowers", "mixed", "no effect shown", "inconclusive", "edit failed"]


@dataclass(frozen=True)
class DecisionOptions:
    """What a study may choose about its decisions.

    Attributes:
        error_rate: which error rate holds over *raises* and *lowers* together, and by which method.
        level: the error rate.
        confidence: of the interval that *no effect shown* is read from.
        margin: effects inside ± margin do not matter to the study's reader, in the unit of the target measure. Used by
            *no effect shown*, and by *mixed* as the smallest move of one image that counts.
        minimum_effect: test |mean| <= minimum_effect instead of mean = 0; raise it when edits are known to have side
            effects of that size. 0 by default.
        equivalence_images: *no effect shown* needs at least so many images: two images that do not move have an
            interval of [0, 0] and yet say little.
        mixed_share: *mixed* says that more than this share of images move up, and more than it move down.
        edit_success_threshold: below this share of edits that show the attribute, the decision is *edit failed*.
        flips: random sign flips; all 2^images patterns are used when they are no more than that.
        seed: of the random flips.
    """

    error_rate: ErrorRate = "fwer"
    level: float = 0.05
    confidence: float = 0.95
    margin: float = 0.02
    minimum_effect: float = 0.0
    equivalence_images: int = 8
    mixed_share: float = 0.05
    edit_success_threshold: float = 0.5
    flips: int = 19_999
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises: ValueError: an option is out of range."""
        if self.error_rate not in get_args(ErrorRate):
            raise ValueError(f"error_rate is {self.error_rate!r}; choose one of {', '.join(get_args(ErrorRate))}.")
        for name in ("level", "confidence", "mixed_share"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        for name in ("margin", "minimum_effect"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative.")
        if self.flips < 1:
            raise ValueError(f"flips is {self.flips}; it must be at least 1.")


@dataclass(frozen=True)
class Decision:
    """What the study may say about one feature.

    Attributes:
        decision: see `decide`.
        p_value: adjusted over all tested features for *raises*/*lowers* (for *mixed*, of the test for mixed); compare
            it with `level`. None for a feature that was not tested (*edit failed*).
        reason: one clause in words, for the report.
        p_raw: of the feature alone, before adjustment; None for e-BH and for a feature that was not tested.
    """

    decision: DecisionText
    p_value: float | None
    reason: str
    p_raw: float | None = None


def decide(
    d: Mapping[str, ArrayLike],
    options: DecisionOptions | None = None,
    *,
    edit_success: Mapping[str, float] | None = None,
    image_noise: float = 0.0,
    left: int = 0,
) -> dict[str, Decision]:
    """Decide for every feature; the first of these that applies:

    - *edit failed*: too few edits show the attribute, so that d says nothing about it. Such features are left out of
      the tested family (edit success does not look at the sign of d, so the error rates stand).
    - *raises*, *lowers*: the mean differs from zero (from ± `minimum_effect`) at the chosen error rate, and its
      interval is not inside ± margin.
    - *mixed*: more than `mixed_share` of images move up and more than that move down, each by more than the margin and
      the noise of a single image. Exact binomial tests of both directions, the larger p-value counts (both must hold),
      adjusted by Holm (Benjamini–Yekutieli under an FDR rate): an error rate of its own, at the same level, that needs
      no symmetry.
    - *no effect shown*: the interval of the mean lies inside ± margin, over enough images. An equivalence test
      (Schuirmann's two one-sided tests, at (1 − confidence) / 2 each), for each feature on its own.
    - *inconclusive*: none of these; more images would tell.

    Args:
        d: feature -> paired differences over the same images in the same order, shape (images,).
        edit_success: feature -> share of its edits that show the attribute; features that are missing are tested.
        image_noise: |d| of one image that noise rarely exceeds (`effects.noise.image_noise`).
        left: features of the same family that are not in `d`, because a race dropped them before it had seen all images
            (`search.racing`). Each counts as one with p = 1 (e = 0): whatever made it leave, that is not smaller than
            the p-value that it would have had, so that the error rates hold for the whole family. Max-T needs every
            feature's differences and gives way to Holm then.

    Returns:
        A decision for every feature, in the order of `d`. The same input and seed give the same decisions; the order of
        features does not matter, that of images only through the random flips.

    Raises:
        ValueError: the features do not have the same images, there is no image, or a difference is not finite.
    """
    options = options or DecisionOptions()
    success = edit_success or {}
    failed = [name for name in d if success.get(name, 1.0) < options.edit_success_threshold]
    tested = [name for name in d if name not in set(failed)]
    table = stack({name: d[name] for name in tested})

    p_mean, p_raw = _adjusted(table, options, left)
    counts, p_mixed = _mixed(table, options, max(options.margin, image_noise), left)

    decided: dict[str, Decision] = {}
    for name in failed:
        reason = (
            f"{success[name]:.0%} of its edits show it, fewer than the {options.edit_success_threshold:.0%} that a "
            "judgement needs"
        )
        decided[name] = Decision("edit failed", None, reason)
    for j, name in enumerate(tested):
        raw = None if p_raw is None else float(p_raw[j])
        decided[name] = _decide_one(
            table[:, j], float(p_mean[j]), raw, float(p_mixed[j]), (int(counts[0, j]), int(counts[1, j])), options
        )
    return {name: decided[name] for name in d}


def stack(d: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """Features as columns: (images, features).

    Raises:
        ValueError: as for `decide`.
    """
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in d.items()}
    shapes = {column.shape for column in columns.values()}
    if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
        found = ", ".join(str(shape) for shape in sorted(shapes))
        raise ValueError(
            f"features have differences of shapes {found}; all need one value for each of the same images."
        )
    for name, column in columns.items():
        if not np.isfinite(column).all():
            raise ValueError(f"a paired difference of {name!r} is not a finite number.")
    return np.stack(list(columns.values()), axis=1) if columns else np.empty((1, 0))


def _adjusted(
    table: NDArray[np.float64], options: DecisionOptions, left: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Adjusted p-values of the means, and raw ones where the method has them."""
    if options.error_rate == "fdr-ebh":
        evidence = e_values(table, minimum_effect=options.minimum_effect, level=options.level)
        return adjust_ebh(np.append(evidence, np.zeros(left)))[: len(evidence)], None
    result = sign_flips(table, minimum_effect=options.minimum_effect, flips=options.flips, seed=options.seed)
    if options.error_rate == "fwer":
        return (_with_left(_holm, result.p_raw, left) if left else result.p_max), result.p_raw
    return _with_left(adjust_by, result.p_raw, left), result.p_raw


def _with_left(
    adjust: Callable[[NDArray[np.float64]], NDArray[np.float64]], p: NDArray[np.float64], left: int
) -> NDArray[np.float64]:
    """Adjusted p-values of a family with `left` further features of p = 1."""
    return adjust(np.append(p, np.ones(left)))[: len(p)]


def _mixed(
    table: NDArray[np.float64], options: DecisionOptions, move: float, left: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Images moving up and down by more than `move`, (2, features), and adjusted p-values that both are many."""
    counts = np.stack([(table > move).sum(axis=0), (table < -move).sum(axis=0)])
    from scipy import special  # see effects.paired

    p = special.bdtrc(counts - 1, len(table), options.mixed_share).max(axis=0)  # of so many images or more
    return counts, _with_left(_holm if options.error_rate == "fwer" else adjust_by, p, left)


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm (1979) adjusted p-values: family-wise error under any dependence."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p) else []
    return adjusted


def _decide_one(
    d: NDArray[np.float64],
    p_mean: float,
    p_raw: float | None,
    p_mixed: float,
    counts: tuple[int, int],
    options: DecisionOptions,
) -> Decision:
    low, high = interval(d, options.confidence)
    mean, images = float(d.mean()), len(d)
    up, down = counts
    inside = -options.margin <= low and high <= options.margin and images >= options.equivalence_images
    moves = f"{up} of {images} images move up and {down} down by more than the margin or the noise"
    shown = f"mean {mean:+.3f}, interval [{low:+.3f}, {high:+.3f}]"
    if p_mean <= options.level and mean != 0.0 and not inside:
        other = down if mean > 0 else up
        despite = f"; {other} of {images} images move the other way" if other else ""
        return Decision("raises" if mean > 0 else "lowers", p_mean, f"{shown}, p = {p_mean:.2g}{despite}", p_raw)
    if p_mixed <= options.level:
        return Decision("mixed", p_mixed, f"{moves}, p = {p_mixed:.2g}", p_raw)
    if inside:
        small = " though it differs from zero" if p_mean <= options.level else ""
        return Decision("no effect shown", p_mean, f"{shown} inside ±{options.margin:g}{small}", p_raw)
    return Decision("inconclusive", p_mean, f"{shown}, p = {p_mean:.2g}", p_raw)
