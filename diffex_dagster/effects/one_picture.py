"""What one picture can say: whether an edit moved it by more than edits towards words that mean nothing do.

A study has many pictures, and the spread between them says what is chance. Of one picture there is none. What there is
are *control prompts*: k edits of the same picture towards words that mean nothing.

**What is tested.** That the feature is one more control prompt: x_0 of its edit and x_1, …, x_k of the control edits
are exchangeable (any of the k + 1 could have been any other). Each x is f(edit) − f(null edit), averaged over the s
seeds of the picture first. The statistic of a player is how far it lies from the mean of all k + 1, and

    p = #{ j in 0 … k : |x_j − mean| ≥ |x_0 − mean| } / (k + 1)

**Its error rate.** Under that hypothesis every one of the k + 1 is as likely to lie furthest out, so that p ≤ α has a
chance of α at most, whatever the distribution: skewed, heavy-tailed, different for every picture. The least p is
1 / (k + 1): at α = 0.05 fewer than 19 control prompts can claim nothing. The rate is for one feature on one picture. Of
F such features, α F are expected to stand out on a picture, which is said beside them.

**What it does not say.** The hypothesis is about edits, not about the attribute. A word that means something often
redraws more than one that means nothing does, and so moves the score further in either direction, also of a classifier
that does not look at the attribute: with three times the spread it stands out on nearly half of all pictures.
No control edit then says how much of the effect is the attribute. Such a feature is marked: `changes_more`.

**What seeds do.** They make each x less noisy, so that smaller effects are seen. They do not count as control prompts:
what a word means to the editor is the same under every seed, so that k · s values are not exchangeable with s others,
and a rule that took them so would claim far too often.

**Sets of edits.** n edits made together redraw more than one does. A set of n is therefore held against sets of n words
that mean nothing, no word in two of them; against single ones a pair of such words would stand out in 15 of 100 cases.

The same test, inverted, gives an interval of the effect: every shift of x_0 with which it would not stand out. So the
effect on one picture is x_0 less the mean of the control edits, as the test has it: they are all that there is to tell
chance by. Over several pictures the spread between these does, and an effect is against the null edits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from diffex_dagster.effects.signflip import TIE

WORDS = (
    "vask", "plorn", "drint", "murv", "zolt", "fenk", "quorl", "snarp", "twibe", "klont", "prusk", "drelf", "hulv",
    "jorb", "kresp", "lurm", "nasp", "ploov", "strev", "vront", "yint", "zimp", "blen", "gaspt", "thorl", "wusk",
    "crimb", "dazz", "ferb", "glane", "hortz", "ipsk", "julp", "kanve", "lond", "mevit", "norg", "ostrel", "pelk",
    "brask", "climt", "dwosk", "fralt", "gwesk", "hesk", "jovlt", "krint", "lerb", "mulst", "nefk", "orvat", "pruzz",
    "quimp", "rilph", "skelm", "trund", "ulbek", "vemp", "wirlt", "yesk", "zarn", "blusk", "crolk", "dreff", "fosk",
    "grelt", "hulm", "jesp", "kwerl", "losp", "morsk", "norlt", "pwent", "rulk", "sploor", "tasp", "vulk", "wimf",
    "zelp",
)  # fmt: skip
"""Further control prompts, short so that they fit any text encoder; a study's own come first."""


def fewest_controls(level: float = 0.05) -> int:
    """The fewest control prompts with which a picture can claim anything at this error rate: ⌈1 / level⌉ − 1."""
    return math.ceil(1.0 / level - 1e-9) - 1


def control_words(own: Iterable[str], count: int, but: Iterable[str] = ()) -> tuple[str, ...]:
    """So many control prompts, the study's own first; fewer where there are no more words.

    Args:
        own: those of the study; none means that it wants none.
        count: how many; fewer than its own are the first of them.
        but: words that mean something here (names and prompts of the corpus).
    """
    words = tuple(own)
    if not words:
        return ()
    taken = {word.casefold() for text in (*but, *words) for word in (text, *text.split())}
    more = [word for word in WORDS if word not in taken]
    return (*words, *more)[:count]


def changes_more(strength: float, controls: Iterable[float]) -> bool:
    """Whether an edit changes more of the picture than every control edit does: then they are no measure of its noise.

    Args:
        strength: how far the edit changed its null edit (`effects.edit_metrics`).
        controls: the same of the control edits; nothing is said without any.
    """
    least = list(controls)
    return bool(least) and strength > max(least) + TIE


def p_value(edit: float, controls: ArrayLike) -> float:
    """How often one of the k + 1 edits lies as far out as this one; 1 without control edits.

    Args:
        edit: f(edit) − f(null edit) of the feature, the mean over seeds.
        controls: the same of the control prompts, shape (k,).
    """
    x = np.append(float(edit), np.asarray(controls, dtype=np.float64))
    out = np.abs(x - x.mean())
    return float(np.mean(out >= out[0] - TIE))


def effect_interval(edit: float, controls: ArrayLike, level: float = 0.05) -> tuple[float, float]:
    """The effects that the picture does not rule out: those shifts of x_0 with which p would exceed the level.

    With r = ⌊level · (k + 1)⌋ players allowed to lie as far out (one at least), its confidence is 1 − r / (k + 1): 95%
    with 19 or with 39 control prompts at a level of 5%, and k / (k + 1) where there are too few to claim anything. A
    claim at that level and this interval never contradict each other.

    With x_0 − θ = u and S the sum of the k x_j, x_j lies as far out above as u up to

        h_j = max( x_j, (2 S − (k + 1) x_j) / (k − 1) ),

    so that u may be at most the r-th largest h_j; alike below, with the smaller of the two and the r-th smallest.

    Args:
        edit, controls: as of `p_value`.
        level: of the test.

    Returns:
        (low, high) around x_0 − mean x_j; (−inf, inf) with fewer than two control prompts, which say nothing of it.
    """
    x = np.asarray(controls, dtype=np.float64)
    k = x.size
    if k < 2:
        return -math.inf, math.inf
    allowed = max(1, math.floor(level * (k + 1) + 1e-9))
    mirrored = (2.0 * x.sum() - (k + 1) * x) / (k - 1)
    high = float(np.sort(np.maximum(x, mirrored))[-allowed])
    low = float(np.sort(np.minimum(x, mirrored))[allowed - 1])
    return float(edit) - high, float(edit) - low
