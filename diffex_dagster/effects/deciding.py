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

What is tested is the placebo-controlled effect D (`effects.placebo`): the edit against edits towards words that mean
nothing. A study without such control prompts tests the edit against the null edit; an edit that does nothing but draw
the picture anew, with noise, may then be claimed to raise or lower.

What is reported is d, the edit against the null edit. A few words that mean nothing to a reader each do something of
their own to an editor, which edits towards attributes do not share: as an estimate d is nearer the truth
(docs/decisions/0037-effect-and-test.md). A claim therefore has to hold for both: the test of D, and the intervals of
D and of d, which lie on the same side of zero.

What is assumed: images are independent of each other, and a feature without effect is one whose D are as likely as
their opposites (sign symmetry, jointly over such features) or whose edits do what those of the control prompts do
(exchangeability; `effects.placebo`). A claim has to stand against both: the p-value is the larger of the two. Then the
rates hold for any number of images. If the differences of a feature with mean zero are skewed otherwise, they hold
approximately, better with more images: the few images that move far may all be missing. A claim therefore also has to
stand against one more image that moves as far the other way as edits of this study do
(`effects.paired.images_that_undo`); docs/validity.md has the figures.

Choosing features by mean |d| (the magnitude gate) on the same images does not invalidate the p-values: |d| does not
change when signs flip. Choosing them by signed mean does. Both bias the *effects* of the chosen upwards, see
`effects.splitting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.deciding_one import Decision, Measured, PValues, decide_one
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach
from diffex_dagster.effects.placebo import control_effects, exchange_e_values, exchanges, placebo_effects
from diffex_dagster.effects.presence import Mask, enough
from diffex_dagster.effects.signflip import SignFlips, adjust_by, adjust_ebh, e_values, masked, sign_flips

Controls = ArrayLike | Mapping[str, ArrayLike]
"""d of control edits, (images, control prompts): the same for all features, or by feature."""
RARE = 400
"""Of so many edits of an image, one counts as rarer than what is to be expected of a further image."""


def decide(
    d: Mapping[str, ArrayLike],
    options: DecisionOptions | None = None,
    *,
    controls: Controls | None = None,
    edit_success: Mapping[str, float] | None = None,
    without: Mapping[str, ArrayLike] | None = None,
    image_noise: float = 0.0,
    left: int = 0,
    reach: Reach | Mapping[str, Reach] | None = None,
) -> dict[str, Decision]:
    """Decide for every feature; the first of these that applies:

    - *already there*: too few images lack the attribute for a judgement of what putting it there does. Such features
      are left out of the tested family (presence is seen on the null edit, so the error rates stand).
    - *edit failed*: too few edits show the attribute, so that d says nothing about it. Such features are left out of
      the tested family (edit success does not look at the sign of d, so the error rates stand).
    - *raises*, *lowers*: the mean of D differs from zero (from ± `minimum_effect`) at the chosen error rate; the
      intervals of D and of d lie on the same side of zero, neither of them inside ± margin; and one more image would
      undo neither, if it moved as far the other way as edits of these features do (`furthest_moves`,
      `effects.paired.images_that_undo`).
    - *mixed*: more than `mixed_share` of images move up and more than that move down, by D and by d, each by more than
      the margin and the noise of a single image. Exact binomial tests of both directions, the larger p-value counts
      (both must hold), adjusted by Holm (Benjamini–Yekutieli under an FDR rate): an error rate of its own, at the same
      level, that needs no symmetry.
    - *no effect shown*: the intervals of both means lie inside ± margin (Schuirmann's two one-sided tests, at
      (1 − confidence) / 2 each), and so does what the images that nobody has looked at may do: the share of them that
      the sample does not rule out, times the measure's reach (`effects.paired.unseen_bounds`), missed at 1 − confidence
      at most. For each feature on its own. A probability with the default margin needs about 150 images for it.
    - *inconclusive*: none of these; more images would tell.

    Args:
        d: feature -> paired differences against the null edits over the same images in the same order, shape (images,).
        controls: the same of the control prompts, shape (images, control prompts); None or no columns without any. By
            feature where features are edited under other options of the editor, as many prompts for each: a feature is
            held against the control edits that are edited like it, since a harder push moves more of whatever it meets.
        edit_success: feature -> share of its edits that show the attribute; features that are missing are tested.
        without: feature -> which images lack the attribute, (images,) booleans: the feature is decided among these, and
            its control edits are those of the same images. Features that are missing are decided among all.
        image_noise: |D| of one image that noise rarely exceeds (`effects.noise.image_noise`).
        left: features of the same family that are not in `d`, because a race dropped them before it had seen all images
            (`search.racing`). Each counts as one with p = 1 (e = 0): whatever made it leave, that is not smaller than
            the p-value that it would have had, so that the error rates hold for the whole family. Max-T needs every
            feature's differences and gives way to Holm then.
        reach: how far the measure can be moved from the null edit, of all features or of each; that of a probability
            when left out. Its `still` is the margin.

    Returns:
        A decision for every feature, in the order of `d`. The same input and seed give the same decisions; the order of
        features does not matter, that of images only through the random draws.

    Raises:
        ValueError: the features do not have the same images, there is no image, or a difference is not finite.
    """
    options = options or DecisionOptions()
    success, lacking = (
        edit_success or {},
        {name: np.asarray(mask, dtype=bool) for name, mask in (without or {}).items()},
    )
    there = [name for name in d if name in lacking and not enough(lacking[name], options.level)]
    failed = [name for name in d if name not in there and success.get(name, 1.0) < options.min_edit_success]
    tested = [name for name in d if name not in {*there, *failed}]
    raw = stack({name: d[name] for name in tested})
    of_controls = _controls(controls, len(raw) if tested else None, tested)
    table = placebo_effects(raw, of_controls)
    on = _on(raw, tested, lacking)

    p_mean, p_raw = _adjusted(raw, of_controls, options, left, on)
    far = max(options.margin, image_noise)
    counts, p_mixed = _mixed(raw, options, far, left, on)
    p_mixed = np.maximum(p_mixed, _mixed(table, options, far, left, on)[1])
    furthest, furthest_tested = furthest_moves(raw, on), furthest_moves(table, on)

    decided: dict[str, Decision] = {}
    for name in there:
        decided[name] = Decision("already there", None, who_has_it(lacking[name]))
    for name in failed:
        reason = (
            f"{success[name]:.0%} of its edits show it, fewer than the {options.min_edit_success:.0%} that a "
            "judgement needs"
        )
        decided[name] = Decision("edit failed", None, reason)
    for j, name in enumerate(tested):
        p = PValues(float(p_mean[j]), None if p_raw is None else float(p_raw[j]), float(p_mixed[j]))
        moved = (int(counts[0, j]), int(counts[1, j]))
        of = reach.get(name) if isinstance(reach, Mapping) else reach
        of = replace(of or Reach(), still=options.margin)
        reported, tested_d = raw[on[:, j], j], table[on[:, j], j]
        elsewhere = float((tested_d - reported).mean())  # where D starts, its mean can be so much more and less
        decided[name] = decide_one(
            Measured(reported, of, furthest),
            Measured(tested_d, replace(of, low=of.low + elsewhere, high=of.high + elsewhere), furthest_tested),
            p, moved, options,
        )  # fmt: skip
    return {name: decided[name] for name in d}


def _on(table: NDArray[np.float64], names: Sequence[str], lacking: Mapping[str, NDArray[np.bool_]]) -> Mask:
    """Which images each feature is decided among, (images, features)."""
    on = np.ones(table.shape, dtype=bool)
    for j, name in enumerate(names):
        if name in lacking:
            if lacking[name].shape != on[:, j].shape:
                raise ValueError(f"{name!r}: {lacking[name].shape} says of {on[:, j].shape} images which lack it.")
            on[:, j] = lacking[name]
    return on


def who_has_it(without: NDArray[np.bool_]) -> str:
    """How many images an edit could not change."""
    left = int(without.sum())
    return f"{without.size - left} of {without.size} images are so already, and {left} are too few to judge it by"


def decide_controls(
    controls: Mapping[str, ArrayLike], options: DecisionOptions | None = None, *, reach: Reach | None = None
) -> dict[str, Decision]:
    """The same for the control prompts themselves, each against the others: a claim here is a warning.

    A family of its own, by Holm: the chance that any control prompt is called *raises* or *lowers*, where all do the
    same, is at most `level`. Of a single control prompt nothing can be said: *inconclusive*.
    """
    options = options or DecisionOptions()
    reach = replace(reach or Reach(), still=options.margin)
    if not controls:
        return {}
    table = stack(controls)
    if table.shape[1] < 2:
        return {name: Decision("inconclusive", None, "there is no other control prompt") for name in controls}
    against, settings = control_effects(table), options.replaced(error_rate="fwer", minimum_effect=0.0)
    alone = [
        float(_tests(table[:, [j]], np.delete(table, j, axis=1), settings)[0].p_raw[0]) for j in range(table.shape[1])
    ]
    p = adjust_holm(np.array(alone))
    counts, _ = _mixed(against, settings, options.margin, 0)
    furthest, found = furthest_moves(against), dict[str, Decision]()
    for j, name in enumerate(controls):
        alike = Measured(against[:, j], reach, furthest)
        counted = int(counts[0, j]), int(counts[1, j])
        found[name] = decide_one(alike, alike, PValues(float(p[j]), alone[j], 1.0), counted, settings)
    return found


def furthest_moves(table: NDArray[np.float64], on: Mask | None = None) -> tuple[float, float]:
    """How far edits move an image upwards and downwards, both >= 0: one edit in `RARE` moves one further.

    Args:
        table: (images, features); on which images each feature counts, all unless given.
    """
    moves = table[np.ones(table.shape, dtype=bool) if on is None else on]
    if not moves.size:
        return 0.0, 0.0
    up, down = np.quantile(moves, 1 - 1 / RARE, method="higher"), np.quantile(moves, 1 / RARE, method="lower")
    return max(0.0, float(up)), max(0.0, -float(down))


def _controls(controls: Controls | None, images: int | None, features: Sequence[str]) -> NDArray[np.float64]:
    """(images, control prompts); (images, features, control prompts) where features have controls of their own."""
    if isinstance(controls, Mapping):
        tables = [_controls(controls[feature], images, ()) for feature in features]
        if not tables or all(np.array_equal(table, tables[0]) for table in tables):
            return tables[0] if tables else np.empty((1, 0))
        if len({table.shape for table in tables}) > 1:
            raise ValueError("features have different numbers of control prompts; expected as many for each.")
        return np.stack(tables, axis=1)
    table = np.empty((images or 0, 0)) if controls is None else np.asarray(controls, dtype=np.float64)
    if table.ndim != 2 or (images is not None and len(table) != images):
        raise ValueError(f"controls have shape {table.shape}; expected (images, control prompts).")
    if not np.isfinite(table).all():
        raise ValueError("a paired difference of a control prompt is not a finite number.")
    return table if images is not None else np.empty((1, table.shape[1]))


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


def flips_for(options: DecisionOptions, family: int, stepwise: bool) -> int:
    """Random flips with which the smallest p-value there can be is half of what one claim in the family needs.

    Holm asks the strongest of m features for level / m, Benjamini & Yekutieli for level / (m Σ 1/i): among 200
    features for 0.00004, which 20,000 flips never reach. Max-T needs no more for more features.
    """
    if not stepwise or not family:
        return options.flips
    harmonic = float(np.sum(1.0 / np.arange(1, family + 1))) if options.error_rate == "fdr-by" else 1.0
    return max(options.flips, int(np.ceil(2.0 * family * harmonic / options.level)))


def _tests(
    d: NDArray[np.float64],
    controls: NDArray[np.float64],
    options: DecisionOptions,
    left: int = 0,
    on: Mask | None = None,
) -> list[SignFlips]:
    """The tests that a claim has to pass. With one control prompt, exchanging it and flipping signs are the same."""
    stepwise = options.error_rate == "fdr-by" or left > 0
    flips = flips_for(options, d.shape[1] + left, stepwise)
    chosen = {"minimum_effect": options.minimum_effect, "flips": flips, "seed": options.seed, "on": on}
    tests = [sign_flips(placebo_effects(d, controls), **chosen)]  # type: ignore[arg-type]
    if controls.shape[-1] > 1 and controls.any():
        tests.append(exchanges(d, controls, **chosen))  # type: ignore[arg-type]
    return tests


def _adjusted(
    d: NDArray[np.float64], controls: NDArray[np.float64], options: DecisionOptions, left: int, on: Mask
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Adjusted p-values of the means of D, and raw ones where the method has them."""
    if options.error_rate == "fdr-ebh":
        chosen = {"minimum_effect": options.minimum_effect, "level": options.level, "on": on}
        evidence = e_values(placebo_effects(d, controls), **chosen)  # type: ignore[arg-type]
        if controls.shape[-1] > 1 and controls.any():
            evidence = np.minimum(evidence, exchange_e_values(d, controls, **chosen))  # type: ignore[arg-type]
        return adjust_ebh(np.append(evidence, np.zeros(left)))[: len(evidence)], None
    tests = _tests(d, controls, options, left, on)
    raw = np.max([test.p_raw for test in tests], axis=0)
    if options.error_rate == "fwer":
        return (_with_left(adjust_holm, raw, left) if left else np.max([test.p_max for test in tests], axis=0)), raw
    return _with_left(adjust_by, raw, left), raw


def _with_left(
    adjust: Callable[[NDArray[np.float64]], NDArray[np.float64]], p: NDArray[np.float64], left: int
) -> NDArray[np.float64]:
    """Adjusted p-values of a family with `left` further features of p = 1."""
    return adjust(np.append(p, np.ones(left)))[: len(p)]


def _mixed(
    table: NDArray[np.float64], options: DecisionOptions, move: float, left: int, on: Mask | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Images moving up and down by more than `move`, (2, features), and adjusted p-values that both are many."""
    table = masked(table, on)
    images = np.full(table.shape[1], len(table)) if on is None else on.sum(axis=0)
    counts = np.stack([(table > move).sum(axis=0), (table < -move).sum(axis=0)])
    from scipy import special  # see effects.paired

    p = special.bdtrc(counts - 1, images, options.mixed_share).max(axis=0)  # of so many images or more
    return counts, _with_left(adjust_holm if options.error_rate == "fwer" else adjust_by, p, left)


def adjust_holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm (1979) adjusted p-values: family-wise error under any dependence."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p) else []
    return adjusted
