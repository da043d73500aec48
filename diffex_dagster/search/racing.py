"""Racing: spend images on the features that could still matter (`allocation: racing`).

Every feature is measured on the first few images of a random order. At each level of the tree, groups go on round by
round until it is known which of them the beam keeps, `racing_gate_tolerance` apart. When all levels are expanded, only
features go on that could still be among the `racing_top` strongest by |mean d|; these are measured on all images.

All intervals hold together with probability 1 − `racing_error` (exactly with bounds "bounded", approximately with
"normal"), so that with this probability every feature that left is weaker than the k-th strongest, or stronger by less
than `racing_tolerance`: the finalists hold the top k of what was looked at within that tolerance (PAC top-k).

What a report says stays valid: a finalist is measured on all images, and the decisions count every feature that raced,
those that left as not significant (`effects.deciding.decide`, `left`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.search import bounds
from diffex_dagster.search.options import SearchOptions

Array = NDArray[np.float64]
Kind = Literal["effect", "magnitude", "signed"]
ScoreOn = Callable[[Sequence[str], Sequence[int]], Mapping[str, Array]]


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
        arms: how many features there are in all, which share the error probability.
        options: of the search.
        low, high: what d cannot leave.
        before: the target measure of each image's null edit, in the images' own order; narrows the bounds "normal".
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
        for lap in self._laps():
            open_ = {arm for arm, values in self.seen.items() if not values} or self._open(needs)
            going = [arm for arm, values in self.seen.items() if arm in open_ and len(values) < lap]
            if going:
                self._measure(going, lap, score)

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
        chance = f"{how}{1 - options.racing_error:.0%}"
        return (
            f"The search raced: {len(self.left)} of {len(self.seen)} features left before all {self.images} images "
            f"were spent on them, which took {self.spent} edits instead of {self.exhaustive}. With a probability of "
            f"{chance} the {options.racing_top} strongest features that the search looked at are "
            f"among those measured on all images{near if options.racing_tolerance else ''}. Features that left are "
            "not listed."
        )

    # ------------------------------------------------------------------------------------------------------------------

    def _laps(self) -> list[int]:
        """After how many images it is looked who goes on; the last is all of them."""
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

    def _open(self, needs: Sequence[Need]) -> set[str]:
        """The arms that a need still asks for."""
        found: set[str] = set()
        for need in needs:
            ends = self._ends(need.kind, error=self.options.racing_error)
            low = {name: max(ends[arm][0] for arm in arms) for name, arms in need.competitors.items()}
            high = {name: max(ends[arm][1] for arm in arms) for name, arms in need.competitors.items()}
            possible = [name for name in low if high[name] > need.floor]
            bar = _nth(sorted((low[name] for name in possible), reverse=True), need.top)
            above = [name for name in possible if high[name] >= bar + need.tolerance]
            # A near tie within the tolerance may leave fewer than k above the bar: the k with the highest lows stay.
            ranked = sorted(possible, key=lambda name: low[name], reverse=True)[: need.top]
            within = [name for name in possible if name in set(above) | set(ranked)]
            if not need.finish and len(within) <= need.top:
                continue  # it is known who they are
            if not need.finish:
                rest = _nth(sorted((high[name] for name in within), reverse=True), need.top + 1)
                within = [name for name in within if low[name] <= rest - need.tolerance]
            for name in within:
                # An arm that cannot be its competitor's strongest says nothing more about it.
                best = max(ends[arm][0] for arm in need.competitors[name])
                found |= {arm for arm in need.competitors[name] if ends[arm][1] >= best}
        return found

    def _ends(self, kind: Kind, error: float) -> dict[str, tuple[float, float]]:
        """Arm -> lower and upper end of what a need compares, for all arms seen."""
        ends: dict[str, tuple[float, float]] = {}
        by_count: dict[int, list[str]] = {}
        for arm in self.seen:
            by_count.setdefault(len(self.seen[arm]), []).append(arm)
        for arms in by_count.values():
            values: Array = np.array([self.seen[arm] for arm in arms])
            if kind == "magnitude":
                reach = max(abs(self.low), abs(self.high))
                lower, upper = self._bounds(np.abs(values), 0.0, reach, error)
            else:
                lower, upper = self._bounds(values, self.low, self.high, error)
            if kind == "effect":
                lower, upper = np.maximum(0.0, np.maximum(lower, -upper)), np.maximum(np.abs(lower), np.abs(upper))
            ends |= dict(zip(arms, zip(lower.tolist(), upper.tolist(), strict=True), strict=True))
        return ends

    def _bounds(self, values: Array, low: float, high: float, error: float) -> tuple[Array, Array]:
        each = error / max(self.arms, len(self.seen))
        if self.options.racing_bounds == "bounded":
            return bounds.bounded(values, low, high, self.images, each)
        known = np.array([self.before[i] for i in self.order]) if len(self.before) else np.zeros(self.images)
        return bounds.normal(values, low, high, known, each, looks=max(len(self._laps()) - 1, 1))


def _nth(ordered: Sequence[float], n: int) -> float:
    """The n-th of descending values (1 is the largest); minus infinity where there are fewer."""
    return ordered[n - 1] if len(ordered) >= n else -math.inf
