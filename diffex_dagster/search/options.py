"""What a study may choose about the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Gate = Literal["magnitude", "signed"]
JointDirections = Literal["both", "strongest"]


@dataclass(frozen=True)
class SearchOptions:
    """Options of one search; the defaults are the project's reading of DiffEx, Algorithm 1.

    Attributes:
        gate: "magnitude" keeps a node by mean |d| above the noise floor, so that a parent whose children push in
            opposite directions is not lost. "signed" is the paper's reading: mean d, the best `beam` with
            f >= `delta`, and a child survives only when it beats its parent.
        beam: how many nodes are expanded at a level (the paper's B).
        delta: the signed gate's threshold on mean d (the paper's δ), in the unit of the target measure.
        probes: how many descendants stand in for a node whose own name is not an edit ("hair colour").
        joint_size: the most features in a joint combination; 1 or less turns the joint search off.
        joint_width: how many extensions of a combination are tried at each step, the strongest single features first.
        joint_directions: "both" grows one combination upwards and one downwards and reports the stronger;
            "strongest" grows only in the direction of the strongest single feature, at half the edits.
        joint_gain: how much an extension must add to be kept; 0 is the paper's f(b') > f(b).
    """

    gate: Gate = "magnitude"
    beam: int = 4
    delta: float = 0.0
    probes: int = 2
    joint_size: int = 3
    joint_width: int = 3
    joint_directions: JointDirections = "both"
    joint_gain: float = 0.0

    def __post_init__(self) -> None:
        """Raises: ValueError: an option is out of range."""
        if self.gate not in get_args(Gate):
            raise ValueError(f"gate is {self.gate!r}; choose one of {', '.join(get_args(Gate))}.")
        if self.joint_directions not in get_args(JointDirections):
            choices = ", ".join(get_args(JointDirections))
            raise ValueError(f"joint_directions is {self.joint_directions!r}; choose one of {choices}.")
        for name in ("beam", "probes", "joint_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
