"""What a search has found for one classifier, as plain data: the stages after it read it, and do not search."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.effects.noise import noise_floor
from diffex_dagster.effects.presence import Mask
from diffex_dagster.search.levels import GateOutcome
from diffex_dagster.search.run import SearchResult
from diffex_dagster.stages.absence import OtherWay
from diffex_dagster.stages.edits import Concepts, EditCounts
from diffex_dagster.stages.interactions import PairEdits
from diffex_dagster.stages.judging import Sight
from diffex_dagster.stages.scores import Paired
from diffex_dagster.stages.splits import Split


@dataclass(frozen=True)
class Noise:
    """What editing moves the target measure by when nothing is asked for: mean |D|, and |D| of a single image."""

    floor: float
    image: float
    controls: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)), compare=False)
    _known: dict[tuple[int, int | None], float] = field(default_factory=dict, compare=False, repr=False)

    def floor_of(self, edits: int, images: int | None = None) -> float:
        """The floor of the strongest of so many edits, of a mean over so many images (all when left out)."""
        if edits < 2 and images is None:
            return self.floor
        if (edits, images) not in self._known:
            self._known[edits, images] = noise_floor(self.controls, strongest_of=edits, over=images)
        return self._known[edits, images]


@dataclass(frozen=True)
class Level1:
    """Level 1 of one classifier: effects, the noise floor, and what the gate made of every group."""

    effects: dict[str, NDArray[np.float64]]  # feature id -> D, shape (images,)
    noise: Noise
    gate: list[GateOutcome]
    scored: int  # pictures that the classifier scored now
    warning: str = ""  # why the noise floor holds back everything, where it does


@dataclass
class Searched:
    """A finished search, with every combination that was scored and what it cost.

    The search has seen `split.discovery`; `paired` and `gains` are over `split.reported`, in that order.
    """

    result: SearchResult
    noise: Noise
    split: Split
    paired: dict[Concepts, Paired]
    gains: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # feature id -> gain in evidence of itself
    judged: bool = False  # whether somebody judged what the edits show
    sight: Sight = field(default_factory=lambda: Sight({}, None))  # what it takes for the judge to see something
    chance: dict[str, float] = field(default_factory=dict)  # feature id -> gain that its edits have to exceed
    shown: dict[str, Mask] = field(default_factory=dict)  # feature id -> null edits that show its attribute already
    without: dict[str, Mask] = field(default_factory=dict)  # feature id -> images that its edit can change
    reversed: dict[str, OtherWay] = field(default_factory=dict)  # feature id -> its edit the other way, on the others
    second: dict[str, NDArray[np.bool_]] = field(
        default_factory=dict
    )  # feature id -> edits that show it, by the second
    second_sight: Sight = field(default_factory=lambda: Sight({}, None))  # of the second judge
    crossed: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict)  # (edited, looked for) -> gain
    pairs: list[PairEdits] = field(default_factory=list)  # of the strongest features, edited together
    edits: EditCounts = field(default_factory=EditCounts)
    scored: int = 0
