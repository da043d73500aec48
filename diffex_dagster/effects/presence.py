"""Which pictures show an attribute already, and what it does where it is put and where it is taken away.

An edit can only add what is not there. Over all pictures its effect is that of the attribute times the share of
pictures that lack it, so that a common attribute looks weak whatever the classifier does. What a report ranks and
decides about is therefore the effect among the pictures that the edit can change: those *without* the attribute (for a
feature that is removed, those with it). How many that leaves is part of the finding: the *prevalence*.

Which pictures these are is decided on their null edits, and on what a judge says of the edits (`seen_between`), before
anything is known of a classifier, so that
the tests of `effects.deciding` hold among them as among all: given the pictures, an effect is as likely as its
opposite, or exchangeable with those of the control prompts.

Where the attribute is also taken away from the pictures that show it, the two arms make up

    do(1) − do(0) = 1/n [ Σ over pictures without it of d_i(put) − Σ over pictures with it of d_i(taken away) ]

the causal concept effect, CaCE, of Goyal et al. (2019), equation 1: every picture with the attribute against the same
picture without it. Nothing else in this project is called so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffex_dagster.effects.paired import unseen_share

Mask = NDArray[np.bool_]
CHANCE = 0.1
"""The share of pictures in which a judge may see what means nothing."""

BY_CHANCE = 0.25
"""The share of edits towards words that mean nothing that a judge may take for successes."""
BETWEEN = 0.75
"""How far from pictures without an attribute to pictures with it the evidence is from which one shows it. The share of
pictures that show an attribute comes out least biased with it, of 2/3 to 0.85: docs/decisions/0036-levels.md."""

YES = 0.5
"""The evidence above which a judge that only says yes (1) or no (0) sees an attribute."""


def seen_from(of_controls: ArrayLike) -> float:
    """The evidence above which a judge sees an attribute in a picture.

    Args:
        of_controls: evidence of the control prompts (words that mean nothing) in null edits, any shape.

    Returns:
        What `CHANCE` of them exceed, and never below 0, the evidence of saying nothing; 0 without control prompts.
    """
    values = np.asarray(of_controls, dtype=np.float64)
    return max(0.0, float(np.quantile(values, 1.0 - CHANCE))) if values.size else 0.0


def seen_between(before: ArrayLike, after: ArrayLike, succeeded: ArrayLike) -> float | None:
    """The same for one attribute, from the edits that succeeded: words differ in how much evidence they give.

    Args:
        before, after: evidence in null edits and edits, (images,).
        succeeded: which of the edits made the difference that they were meant to, (images,) booleans.

    Returns:
        `BETWEEN` of the way from the typical picture without the attribute to the typical one with it. None where no
        more than `BY_CHANCE` of the edits succeeded, or fewer than three: these say nothing of either.
    """
    on = np.asarray(succeeded, dtype=bool)
    if on.sum() < 3 or on.mean() <= BY_CHANCE:
        return None
    low, high = sorted(float(np.median(np.asarray(x, dtype=np.float64)[on])) for x in (before, after))
    return low + BETWEEN * (high - low)


def least_images(level: float = 0.05) -> int:
    """The fewest images of which a claim can come: 2 / 2^n, the least p-value of n signs, is `level` or less."""
    return max(1, math.ceil(math.log2(2.0 / level)))


def enough(without: ArrayLike, level: float = 0.05) -> bool:
    """Whether the pictures that an edit can change are enough to speak of: `least_images`, or half of all."""
    mask = np.asarray(without, dtype=bool)
    return bool(mask.sum() >= min(least_images(level), math.ceil(mask.size / 2)))


def share_interval(count: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper & Pearson's (1934) interval of a share of which `count` of `images` were seen."""
    tail = (1.0 - confidence) / 2.0
    return 1.0 - unseen_share(images - count, images, tail), unseen_share(count, images, tail)


def clustered_interval(yes: ArrayLike, asked: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share of questions, several of which are about the same picture (Korn and Graubard 1998).

    Answers about one picture resemble each other, so that the questions are worth fewer independent ones: as many as
    would give the variance that the shares of the pictures have, less for few pictures (Student's t), and never more
    than were asked. Clopper and Pearson's interval is that of so many. Where all answers are the same, nothing says how
    alike they are, and only the few pictures count against it.

    Args:
        yes, asked: of each picture, (pictures,); at least one question.
    """
    from scipy import special  # scipy.stats takes a second to import

    said, of = np.asarray(yes, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    said, of = said[of > 0], of[of > 0]
    pictures, questions, tail = said.size, float(of.sum()), (1.0 - confidence) / 2.0
    share = float(said.sum()) / questions
    if pictures == 1:
        worth = 1.0
    else:
        variance = pictures / (pictures - 1) * float(((said - share * of) ** 2).sum()) / questions**2
        few = special.stdtrit(questions - 1, 1.0 - tail) / special.stdtrit(pictures - 1, 1.0 - tail)
        alike = share * (1.0 - share) / variance if variance > 0 else questions
        worth = float(min(questions, alike * few**2))
    there, absent = share * worth, (1.0 - share) * worth
    low = 0.0 if share == 0.0 else float(special.betaincinv(there, absent + 1.0, tail))
    high = 1.0 if share == 1.0 else float(special.betaincinv(there + 1.0, absent, 1.0 - tail))
    return low, high


@dataclass(frozen=True)
class Prevalence:
    """How many pictures show an attribute before any edit, as a judge sees them."""

    share: float
    low: float
    high: float
    images: int


def prevalence(shown: ArrayLike, confidence: float = 0.95) -> Prevalence:
    """Of which of the images show the attribute, (images,) booleans, at least one."""
    seen = np.asarray(shown, dtype=bool)
    return Prevalence(float(seen.mean()), *share_interval(int(seen.sum()), seen.size, confidence), seen.size)


def both_arms(put: ArrayLike, without: ArrayLike, taken: ArrayLike) -> NDArray[np.float64]:
    """do(1) − do(0) of every picture, shape (images,).

    Args:
        put: d of the edit that puts the attribute there, (images,); only its values where `without` count.
        without: which pictures lack it, (images,).
        taken: d of the edit that takes it away on the others, in their order.

    Raises:
        ValueError: the numbers of pictures do not fit.
    """
    lacking = np.asarray(without, dtype=bool)
    added, removed = np.asarray(put, dtype=np.float64), np.asarray(taken, dtype=np.float64)
    if added.shape != lacking.shape or removed.shape != (int((~lacking).sum()),):
        raise ValueError(f"{added.shape} effects, {removed.shape} of them taken away, do not fit {lacking.shape}.")
    effect = np.array(added)
    effect[~lacking] = -removed
    return effect
