"""Which options to edit a prompt with: what to try next, and what to choose from what was tried. Plain functions.

All settings are tried on a few (prompt, image) pairs, the same for each; half of them goes on, on twice as many
pairs (successive halving, Jamieson and Talwalkar 2016), until a few finalists are left. Of the best of these, the same
push at the same place is tried without words of what else the picture shows, with other skips and with a later start.
Every prompt is tried with the finalists, as far as the budget goes. What is known of a prompt is pooled with its group,
its region and everything else, so that a prompt with few tries, or none, starts from what suits its like.

Nothing here knows a classifier: a try says whether an edit shows its attribute and how much it changed. A choice that
cannot follow a score cannot favour an effect, and decisions about effects stay what they are for options fixed
beforehand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

OWN = "the editor's own options"  # what the empty setting is called
FINALISTS = 3  # settings that every prompt is tried with: each that is chosen needs control edits of its own
PAIRS = 4  # (prompt, image) pairs of the first round
VARIANTS = 0.2  # of the budget goes to other skips and starts of the best finalist
WEIGHT = 2.0  # tries that what a prompt's like did counts for
# Of trying and choosing: raised where a try is made, judged or measured otherwise. 0 before it had a number; 2: an edit
# shows its attribute by the rule that reports have, and each kind of attribute has a setting that suits it; 3: a prompt
# is tried under the settings that suit its kind only.
METHOD = 3
NEAR = 0.85  # share of the best setting's success that a gentler one needs


@dataclass(frozen=True, order=True)
class Wanted:
    """A prompt that needs options: what it is pooled with is its group, and the region where it is known.

    Attributes:
        coarse: whether the corpus has finer words for it. It may mean any of these, so that no edit with little push
            draws one, and says less than they do of what suits most prompts.
    """

    prompt: str
    direction: Literal["add", "remove"]
    group: str
    region: str = ""
    coarse: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Try:
    """One edit of one image under one setting.

    Attributes:
        succeeded: whether it shows the attribute, by the rule of the study's reports and by more than a trace of what
            the best setting does, and changed the picture.
        harm: what it changed, from 0 (nothing) to 1: the picture, and attributes of other groups. What shows the
            attribute is in it, so that of two settings the one that draws it larger has more; the mask is not left out,
            since each setting has another.
        method: `METHOD` by which it was made: what another one found is not comparable.
    """

    wanted: Wanted
    image: str
    setting: str
    succeeded: bool
    harm: float
    method: int = METHOD

    @property
    def use(self) -> float:
        """0 for an edit that did not take; else the more the less it changed, below 1 since the attribute counts."""
        return (1.0 - self.harm) if self.succeeded else 0.0


@dataclass(frozen=True)
class Choice:
    """What a prompt is edited with.

    Attributes:
        success, harm: expected of its edits, pooled; None where nothing was tried (a pinned prompt, no budget).
        tries: edits of this prompt under this setting.
        why: in a few words.
        method: `METHOD` by which it was chosen.
    """

    setting: str
    success: float | None
    harm: float | None
    tries: int
    why: str
    method: int = METHOD

    @property
    def earlier(self) -> bool:
        """Whether it was chosen among tries, by a rule that is no longer the one in use."""
        return self.success is not None and self.method != METHOD


@dataclass(frozen=True)
class Round:
    """`arms` settings on the first `pairs` pairs, with `controls` control edits each."""

    arms: int
    pairs: int
    controls: int


def in_words(setting: str) -> str:
    """A setting as a person reads it."""
    try:
        options = json.loads(setting) if setting else None
    except ValueError:
        options = None
    if not isinstance(options, dict):
        return setting or OWN
    if options.get("mask") == "none":
        options = {name: value for name, value in options.items() if name != "threshold"} | {"mask": "no mask"}
    if options.get("warmup") == 0:
        del options["warmup"]
    if not options.pop("described", True):
        options["words"] = "none"
    first = [name for name in ("scale", "threshold", "mask") if name in options]
    shown = [*first, *(name for name in options if name not in first)]
    values = {name: options[name] if isinstance(options[name], str) else f"{options[name]:g}" for name in shown}
    return ", ".join(value if name == "mask" else f"{name} {value}" for name, value in values.items())


def in_turn(wanted: Sequence[Wanted], settings: Callable[[str | None, str | None], Sequence[str]]) -> list[str]:
    """The settings to start from: those that suit the kinds of attribute that these prompts are, in turn.

    Of every kind the first setting, the kind with most prompts first, then of every kind the second, and so on.

    Args:
        settings: of a region and a group of the corpus, the likeliest first (`Calibrates.settings`).
    """
    lists = suiting(wanted, settings)
    longest = max(map(len, lists), default=0)
    return list(dict.fromkeys(of[i] for i in range(longest) for of in lists if i < len(of)))


def suiting(
    wanted: Sequence[Wanted], settings: Callable[[str | None, str | None], Sequence[str]]
) -> list[tuple[str, ...]]:
    """The settings that suit each kind of attribute that these prompts are, the kind with most prompts first.

    Args:
        settings: as `in_turn` has them.
    """
    places = Counter((each.region or None, each.group) for each in wanted)
    kinds: Counter[tuple[str, ...]] = Counter()
    for place, count in places.items():
        kinds[tuple(settings(*place))] += count
    return [kind for kind, _ in kinds.most_common()]


def halving(arms: int, budget: int, pairs: int, controls: int) -> list[Round]:
    """The rounds of successive halving from as many settings as the budget allows; none where it allows too few.

    Args:
        arms: settings worth trying.
        budget: edits that all rounds together may take.
        pairs: (prompt, image) pairs that there are.
        controls: (control prompt, image) pairs that there are.
    """
    for start in range(arms, 1, -1):
        rounds = _rounds(start, pairs, controls)
        if cost(rounds) <= budget:
            return rounds
    return []


def _rounds(arms: int, pairs: int, controls: int) -> list[Round]:
    found, now = [], PAIRS
    while True:
        found.append(Round(arms, min(now, pairs), min(now // 2, controls)))  # controls hold for all prompts together
        if arms <= FINALISTS or now >= pairs:
            return found
        arms, now = max(FINALISTS, (arms + 1) // 2), now * 2


def cost(rounds: Sequence[Round]) -> int:
    """Edits that the rounds take: a round has the pairs of the one before, and more."""
    before, total = Round(0, 0, 0), 0
    for each in rounds:
        total += each.arms * (each.pairs - before.pairs + each.controls - before.controls)
        before = each
    return total


def interleaved(prompts: Iterable[Wanted]) -> list[Wanted]:
    """The first prompt of every group, then the second of each ...: any beginning is spread over the groups.

    Neighbours in a corpus are of one kind, so that the groups are taken far apart (as the bits of their numbers read
    backwards have them: van der Corput's sequence). Of a group, a coarse prompt comes last.
    """
    groups: dict[str, list[Wanted]] = {}
    for wanted in prompts:
        groups.setdefault(wanted.group, []).append(wanted)
    bits = len(groups).bit_length()
    apart = [of for _, of in sorted(enumerate(groups.values()), key=lambda each: f"{each[0]:0{bits}b}"[::-1])]
    typical = [sorted(of, key=lambda wanted: wanted.coarse) for of in apart]
    most = max(map(len, typical), default=0)
    return [of[i] for i in range(most) for of in typical if i < len(of)]


def spread(prompts: Sequence[Wanted], images: Mapping[Wanted, Sequence[str]]) -> list[tuple[Wanted, str]]:
    """(prompt, image) pairs, every prompt's first image before any one's second, spread over the groups."""
    most = max((len(of) for of in images.values()), default=0)
    return [(w, images[w][i]) for i in range(most) for w in interleaved(prompts) if i < len(images[w])]


def better(tries: Iterable[Try], arms: Sequence[str], keep: int, kinds: Sequence[Collection[str]] = ()) -> list[str]:
    """The settings that together are of most use: one after the other, each where those before it are of least.

    Not those of most use each: a prompt that only a hard setting shows needs one, however many do with a gentle one.

    Args:
        kinds: the settings that suit each kind of attribute, the kind with most prompts first: where there are no more
            places than kinds that have none yet, the next place goes to the first of these.

    Returns:
        `keep` of the settings, in the order of `arms`.
    """
    use: dict[str, dict[tuple[Wanted, str], float]] = {arm: {} for arm in arms}
    for each in tries:
        if each.setting in use:
            use[each.setting][each.wanted, each.image] = each.use
    served: dict[tuple[Wanted, str], float] = {}
    kept: list[str] = []

    def worth(arm: str) -> tuple[float, float]:
        more = sum(max(0.0, value - served.get(pair, 0.0)) for pair, value in use[arm].items())
        return round(more, 9), sum(use[arm].values())

    for places in range(min(keep, len(arms)), 0, -1):
        free = [arm for arm in arms if arm not in kept]
        waiting = [of for of in kinds if not any(arm in of for arm in kept) and any(arm in of for arm in free)]
        if len(waiting) >= places:
            free = [arm for arm in free if arm in waiting[0]]
        best = max(free, key=worth)  # the first of equals
        kept.append(best)
        for pair, value in use[best].items():
            served[pair] = max(value, served.get(pair, 0.0))
    return [arm for arm in arms if arm in kept]


def expected(wanted: Wanted, setting: str, tries: Sequence[Try]) -> tuple[float, float]:
    """(success, harm) that a prompt's edits under a setting are expected to have.

    The mean over its own tries, drawn towards that over its group, that towards its region, and that towards all: each
    counts as `WEIGHT` tries of the next.
    """
    levels: list[Callable[[Wanted], bool]] = [
        lambda w: True,
        lambda w: bool(w.region) and w.region == wanted.region,
        lambda w: w.group == wanted.group,
        lambda w: (w.prompt, w.direction) == (wanted.prompt, wanted.direction),
    ]
    of_setting = [each for each in tries if each.setting == setting]
    success, harm = 0.5, 0.5
    for like in levels:
        some = [each for each in of_setting if like(each.wanted)]
        success = (sum(each.succeeded for each in some) + WEIGHT * success) / (len(some) + WEIGHT)
        harm = (sum(each.harm for each in some) + WEIGHT * harm) / (len(some) + WEIGHT)
    return success, harm


def choose(wanted: Wanted, arms: Sequence[str], tries: Sequence[Try]) -> Choice:
    """The gentlest setting that succeeds about as often as the best.

    Args:
        arms: settings to choose from, the likeliest first; the first where nothing was tried at all.
        tries: of this prompt and of others.
    """
    known = [arm for arm in arms if any(each.setting == arm for each in tries)]
    if not known:
        return Choice(arms[0], None, None, 0, "nothing was tried")
    of = {arm: expected(wanted, arm, tries) for arm in known}
    best = max(success for success, _ in of.values())
    gentlest = min((arm for arm in known if of[arm][0] >= NEAR * best), key=lambda arm: of[arm][1])
    own = [each for each in tries if (each.wanted.prompt, each.wanted.direction) == (wanted.prompt, wanted.direction)]
    shown = [each for each in own if each.setting == gentlest]
    if not own:
        why = "as suits its group"
    elif not any(each.succeeded for each in own):
        why = "no setting that was tried shows it"
    else:
        why = f"shown by {sum(each.succeeded for each in shown)} of {len(shown)}"
    success, harm = of[gentlest]
    return Choice(gentlest, success, harm, len(shown), why)
