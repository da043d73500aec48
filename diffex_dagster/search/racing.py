"""Racing: spend images on the features that could still matter (`allocation: racing`).

Every feature is measured on the first few images of a random order. At each level of the tree, groups go on round by
round until it is known which of them the beam keeps, `racing_gate_tolerance` apart. When all levels are expanded, only
features go on that could still be among the `racing_top` strongest by |mean d|; these are measured on all images.

With probability 1 − `racing_error` (exactly with bounds "bounded", approximately with "normal") every feature that left
is weaker than the k-th strongest, or stronger by less than `racing_tolerance`: the finalists hold the top k of what was
looked at within that tolerance (PAC top-k). "bounded" has an interval for each feature, all of which hold together;
"normal" counts, over draws of all means at once (`search.posterior`), how often a feature that left would be missed. A
feature that left comes back where later images say that it might be missed after all.

What a report says stays valid: a finalist is measured on all images, and the decisions count every feature that raced,
those that left as not significant (`effects.deciding.decide`, `left`).
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.search.bounds import bounded
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.posterior import draw_means

Array = NDArray[np.float64]
Kind = Literal["effect", "magnitude", "signed"]
ScoreOn = Callable[[Sequence[str], Sequence[int]], Mapping[str, Array]]
_DRAWS = 1000  # of all means, at least: a probability of 1% is known to within 0.3%


@dataclass(frozen=True)
class Need:
    """Something that the race has to find out: which competitors are the `top` strongest.

    Attributes:
        competitors: name -> the arms that speak for it, the strongest of them counting.
        kind: what is compared: |mean d| ("effect"), mean |d| ("magnitude") or mean d ("signed").
        finish: whether those that could be in the top are measured on all images; otherwise it is enough to know them.
        tolerance: differences smaller than this do not matter.
        floor: competitors at or below this value cannot win.
    """

    competitors: Mapping[str, tuple[str, ...]]
    top: int
    kind: Kind
    finish: bool
    tolerance: float = 0.0
    floor: float = -math.inf


@dataclass
class Race:
    """The state of a race over a finite set of images, through all levels of a search.

    Args:
        order: the images' numbers in the order in which they are spent, each once.
        arms: how many features there are in all, which share the error probability of the bounds "bounded".
        options: of the search.
        low, high: what d cannot leave.
        before: the target measure of each image's null edit, in the images' own order; narrows the draws of "normal".
    """

    order: Sequence[int]
    arms: int
    options: SearchOptions
    low: float = -1.0
    high: float = 1.0
    before: Sequence[float] = ()
    seen: dict[str, list[float]] = field(default_factory=dict)  # arm -> d of the first images in `order`

    @property
    def images(self) -> int:
        return len(self.order)

    @property
    def spent(self) -> int:
        """Edits asked for: one an arm and image."""
        return sum(len(values) for values in self.seen.values())

    @property
    def exhaustive(self) -> int:
        """Edits that the same arms cost on all images."""
        return len(self.seen) * self.images

    @property
    def left(self) -> dict[str, int]:
        """Arms that were not measured on all images -> on how many."""
        return {arm: len(values) for arm, values in self.seen.items() if len(values) < self.images}

    def run(self, arms: Iterable[str], needs: Sequence[Need], score: ScoreOn) -> None:
        """Measure `arms` on the first images, then all arms that the needs ask for, until every need is met.

        An arm that left at an earlier level goes on where a need asks for it again.

        Args:
            score: measures arms on images; the answer maps each arm to d, one value an image, in the order asked.
        """
        self.seen |= {arm: [] for arm in arms if arm not in self.seen}
        unsettled = self._unsettled_by_bounds if self.options.racing_bounds == "bounded" else self._unsettled_by_draws
        for lap in itertools.chain(self._laps(), itertools.repeat(self.images)):
            open_ = {arm for arm, values in self.seen.items() if not values}
            open_ = open_ or {arm for need in needs for arm in unsettled(need)}
            going = [arm for arm, values in self.seen.items() if arm in open_ and len(values) < lap]
            if going:
                self._measure(going, lap, score)
            elif lap == self.images:
                return

    def result(self) -> dict[str, Array]:
        """Arm -> d: of all images in their own order, or of fewer in the order of the race."""
        whole = {}
        for arm, values in self.seen.items():
            d = np.array(values)
            if len(values) == self.images:
                d = np.empty(self.images)
                d[np.asarray(self.order)] = values
            whole[arm] = d
        return whole

    def finalists(self) -> list[str]:
        """The arms that were measured on all images."""
        return [arm for arm, values in self.seen.items() if len(values) == self.images]

    def describe(self) -> str:
        """What the race guarantees and what it saved, as a sentence for a report."""
        options = self.options
        near = f" (or weaker than the last of them by less than {options.racing_tolerance:g})"
        how = "" if options.racing_bounds == "bounded" else "about "
        breaks = (
            ""
            if options.racing_bounds == "bounded"
            else f"; that does not hold where a few images in a hundred carry an effect, since the first "
            f"{options.racing_start} may not show it: a race from more images (racing_start), racing_bounds: bounded, "
            "or allocation: exhaustive keeps such features"
        )
        chance = f"{how}{1 - options.racing_error:.0%}"
        return (
            f"The search raced: {len(self.left)} of {len(self.seen)} features left before all {self.images} images "
            f"were spent on them, which took {self.spent} edits instead of {self.exhaustive}. With a probability of "
            f"{chance} the {options.racing_top} strongest features that the search looked at are "
            f"among those measured on all images{near if options.racing_tolerance else ''}{breaks}. Features that "
            "left are not listed."
        )

    # ------------------------------------------------------------------------------------------------------------------

    def _laps(self) -> list[int]:
        """After how many images it is asked which features go on; the last is all of them."""
        laps, at = [], float(self.options.racing_start)
        while at < self.images:
            laps.append(int(at))
            at = max(at * self.options.racing_growth, at + 1)
        return [*laps, self.images]

    def _measure(self, arms: Sequence[str], upto: int, score: ScoreOn) -> None:
        by_start: dict[int, list[str]] = {}
        for arm in arms:
            by_start.setdefault(len(self.seen[arm]), []).append(arm)
        for start, group in by_start.items():
            answers = score(group, [self.order[i] for i in range(start, upto)])
            for arm in group:
                self.seen[arm] += [float(x) for x in answers[arm]]

    def _unsettled_by_bounds(self, need: Need) -> set[str]:
        """The arms that a need still asks for, as far as the intervals tell."""
        ends = self._ends(need.kind)
        low = {name: max(ends[arm][0] for arm in arms) for name, arms in need.competitors.items()}
        high = {name: max(ends[arm][1] for arm in arms) for name, arms in need.competitors.items()}
        possible = [name for name in low if high[name] > need.floor]
        bar = _nth(sorted((low[name] for name in possible), reverse=True), need.top)
        above = [name for name in possible if high[name] >= bar + need.tolerance]
        # A near tie within the tolerance may leave fewer than k above the bar: the k with the highest lows stay.
        ranked = sorted(possible, key=lambda name: low[name], reverse=True)[: need.top]
        within = [name for name in possible if name in set(above) | set(ranked)]
        if not need.finish and len(within) <= need.top:
            return set()  # it is known which they are
        if not need.finish:
            rest = _nth(sorted((high[name] for name in within), reverse=True), need.top + 1)
            within = [name for name in within if low[name] <= rest - need.tolerance]
        found: set[str] = set()
        for name in within:
            # An arm that cannot be its competitor's strongest says nothing more about it.
            best = max(ends[arm][0] for arm in need.competitors[name])
            found |= {arm for arm in need.competitors[name] if ends[arm][1] >= best}
        return found

    def _unsettled_by_draws(self, need: Need) -> set[str]:
        """The arms that a need still asks for: without them its answer is too likely wrong.

        A draw's probability speaks of one look. Among near ties each look is another chance to drop the wrong one, so
        that the looks share `racing_error`.
        """
        names, error = list(need.competitors), self.options.racing_error / max(len(self._laps()) - 1, 1)
        arms = list(dict.fromkeys(arm for name in names for arm in need.competitors[name]))
        if not arms:
            return set()
        row = {arm: i for i, arm in enumerate(arms)}
        drawn = self._draw(arms, need)
        values = np.array([drawn[[row[arm] for arm in need.competitors[name]]].max(axis=0) for name in names])
        spent = np.array([max(len(self.seen[arm]) for arm in need.competitors[name]) for name in names])
        going = _contenders(values, spent, need, error) if need.finish else _undecided(values, need, error)
        found: set[str] = set()
        for i in going:
            of = need.competitors[names[i]]
            strongest = drawn[[row[arm] for arm in of]] >= values[i]
            # An arm that is hardly ever its competitor's strongest says nothing more about it.
            found |= {arm for arm, share in zip(of, strongest.mean(axis=1), strict=True) if share > error}
        return found

    def _draw(self, arms: Sequence[str], need: Need) -> Array:
        """(arms, draws) of what a need compares.

        An arm that is only to be known is judged by the plain means of the images seen, without regression, as the gate
        will.
        """
        draws = max(_DRAWS, math.ceil(10 / self.options.racing_error))  # or no draw could show so small an error
        regressed = need.finish and len(self.before) > 0
        known = np.array([self.before[i] for i in self.order]) if regressed else np.zeros(self.images)
        values = [self._compared(np.array(self.seen[arm]), need.kind).tolist() for arm in arms]
        means = draw_means(values, *self._limits(need.kind), known, draws)
        return np.abs(means) if need.kind == "effect" else means

    def _ends(self, kind: Kind) -> dict[str, tuple[float, float]]:
        """Arm -> lower and upper end of what a need compares, for all arms seen."""
        ends: dict[str, tuple[float, float]] = {}
        each = self.options.racing_error / max(self.arms, len(self.seen))
        by_count: dict[int, list[str]] = {}
        for arm in self.seen:
            by_count.setdefault(len(self.seen[arm]), []).append(arm)
        for arms in by_count.values():
            values = self._compared(np.array([self.seen[arm] for arm in arms]), kind)
            lower, upper = bounded(values, *self._limits(kind), self.images, each)
            if kind == "effect":
                lower, upper = np.maximum(0.0, np.maximum(lower, -upper)), np.maximum(np.abs(lower), np.abs(upper))
            ends |= dict(zip(arms, zip(lower.tolist(), upper.tolist(), strict=True), strict=True))
        return ends

    def _compared(self, values: Array, kind: Kind) -> Array:
        """The values whose mean a need compares."""
        return np.abs(values) if kind == "magnitude" else values

    def _limits(self, kind: Kind) -> tuple[float, float]:
        """What those values cannot leave."""
        return (0.0, max(abs(self.low), abs(self.high))) if kind == "magnitude" else (self.low, self.high)


def _contenders(values: Array, spent: NDArray[np.int64], need: Need, error: float) -> list[int]:
    """The fewest competitors among which are the top k, but for a share `error` of the draws and the need's tolerance.

    Args:
        values: (competitors, draws).
        spent: (competitors,), images that each was seen on; of near ties those go on that went on before.
    """
    count = len(values)
    if count <= need.top:
        return list(range(count))
    bar = np.partition(values, count - need.top, axis=0)[count - need.top]
    likely, mean = (values >= bar).mean(axis=1), values.mean(axis=1)

    def fewest(order: NDArray[np.int64]) -> list[int]:
        def enough(going: int) -> bool:
            kept, left = values[order[:going]], values[order[going:]]
            last_in = np.partition(kept, going - need.top, axis=0)[going - need.top]
            return float((left.max(axis=0) > last_in + need.tolerance).mean()) <= error

        going = bisect.bisect_left(range(need.top, count), True, key=enough) + need.top  # more going, fewer missed
        return order[:going].tolist()

    return min(fewest(np.lexsort((-mean, -likely, -spent))), fewest(np.lexsort((-mean, -likely))), key=len)


def _undecided(values: Array, need: Need, error: float) -> list[int]:
    """The competitors without which it is known of all others, but for a share `error` of the draws, which win.

    Args:
        values: (competitors, draws).
    """
    ordered = np.vstack([-np.sort(-values, axis=0), np.full(values.shape[1], -math.inf)])
    last_in, first_out = (np.maximum(ordered[min(i, len(values))], need.floor) for i in (need.top - 1, need.top))
    belongs = (values >= last_in) & (values > need.floor)
    likely = belongs.mean(axis=1)
    chosen = (np.argsort(np.argsort(-likely, kind="stable")) < need.top) & ((values > need.floor).mean(axis=1) > 0.5)
    wrongly_in = ~belongs & (values < last_in - need.tolerance)
    wrongly_out = belongs & (values >= first_out + need.tolerance)
    wrong = np.where(chosen[:, None], wrongly_in, wrongly_out)
    order = np.argsort(wrong.mean(axis=1), kind="stable")
    together = np.maximum.accumulate(wrong[order], axis=0).mean(axis=1)
    return [int(i) for i in order[together > error]]


def _nth(ordered: Sequence[float], n: int) -> float:
    """The n-th of descending values (1 is the largest); minus infinity where there are fewer."""
    return ordered[n - 1] if len(ordered) >= n else -math.inf
