"""A common horizontal axis, in percent of the plot's width, so that bars need no script and no fixed size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from diffex_dagster.report.wording import signed


@dataclass(frozen=True)
class Axis:
    """Maps effects to 0–100 percent of the width, with room at both ends."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Position of a value, clamped to the plot (an endless interval ends at its edge); no number sits at zero."""
        if math.isnan(value):
            value = 0.0
        position = (value - self.low) / (self.high - self.low) * 100
        return round(min(100.0, max(0.0, position)), 2)

    def span(self, start: float, end: float) -> tuple[float, float]:
        """Left edge and width of a bar between two values."""
        left, right = sorted((self.at(start), self.at(end)))
        return left, round(right - left, 2)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers on the axis, about so many."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next((m * power for m in (1, 2, 5, 10) if m * power >= rough), 10 * power)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]

    def labelled_ticks(self, about: int = 5) -> list[tuple[float, str]]:
        """Ticks with as many decimals as their step needs; zero is "0"."""
        ticks = self.ticks(about)
        step = min((b - a for a, b in itertools.pairwise(ticks)), default=1.0)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(tick, signed(tick, digits) if tick else "0") for tick in ticks]


def axis_over(values: Iterable[float | None], pad: float = 0.06) -> Axis:
    """An axis that holds zero and every value, padded so that whiskers do not touch the edge."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    if high - low < 1e-9:
        low, high = -1.0, 1.0
    room = (high - low) * pad
    # Keep zero off the very edge, so that a bar that barely crosses it can be seen.
    return Axis(low - room, high + room)
