"""What a study may choose about the search: a study file's section `search` has these fields (`study.SearchPart`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diffex_dagster.utils.config import Part

Gate = Literal["magnitude", "signed", "absolute"]
Allocation = Literal["exhaustive", "racing"]
Bounds = Literal["normal", "bounded"]
JointDirections = Literal["both", "strongest"]
JointSearch = Literal["greedy", "published"]
BEAM = 4  # of a rule that is nothing without one


class SearchOptions(Part):
    """Options of one search; the defaults are the project's reading of DiffEx, Algorithm 1.

    Attributes:
        gate: "magnitude" keeps a node by mean |d| above the noise floor, so that a parent whose children push in
            opposite directions is not lost. "signed" is the paper's reading: mean d, the best `beam` with
            f >= `delta`, and a child survives only when it beats its parent. "absolute" is the rule of the authors'
            released code: |mean d|, the best `beam` whatever their size, every child survives.
        beam: how many nodes are expanded at a level, the strongest first (the paper's B). Left out, all in which an
            image moved: what a node's probes do says little of its other children. The rules of the paper and of its
            authors' code choose the best `BEAM` then.
        delta: the signed gate's threshold on mean d (the paper's δ), in the unit of the target measure.
        probes: how many edits a node competes with for a place in the beam: its own, where its name is an edit, and
            some of its children's; of its descendants alone, where it is not ("hair colour").
        joint_size: the most features in a joint combination; 1 turns the joint search off.
        joint_width: how many extensions of a combination are tried at each step, the strongest single features first.
        joint_directions: "both" grows one combination upwards and one downwards and reports the stronger;
            "strongest" grows only in the direction of the strongest single feature, at half the edits.
        joint_search: "greedy" extends one combination at a time by features of other groups; "published" is Algorithm 1
            of the paper, a beam over combinations in which a sub-feature joins its parent and features of one group
            may meet (`search.algorithm1`): upwards only, and many more edits.
        joint_gain: how much an extension must add to be kept; 0 is the paper's f(b') > f(b).
        allocation: "exhaustive" measures every feature on every image; "racing" stops spending images on features that
            can no longer be among the strongest (`search.racing`).
        racing_top: how many of the strongest features the race is after (k).
        racing_error: probability with which the race may miss one of them.
        racing_tolerance: a miss by less than this does not count, in the unit of the target measure.
        racing_gate_tolerance: groups whose mean |d| is this close are alike for the beam.
        racing_start: images that every feature is measured on; an effect that none of them shows is not seen,
            and a study of no more images has nothing to save.
        racing_growth: by how much the images grow from one look to the next.
        racing_bounds: "normal" suits tens of images and is approximate (`search.posterior`); "bounded" holds for any
            effects that a probability allows, and saves edits from some hundred images on (`search.bounds`).
    """

    gate: Gate = "magnitude"
    beam: int | None = Field(None, ge=1)
    delta: float = 0.0
    probes: int = Field(2, ge=1)
    joint_size: int = Field(3, ge=1)
    joint_width: int = Field(3, ge=1)
    joint_directions: JointDirections = "both"
    joint_search: JointSearch = "greedy"
    joint_gain: float = 0.0
    allocation: Allocation = "exhaustive"
    racing_top: int = Field(5, ge=1)
    racing_error: float = Field(0.05, gt=0.0, lt=1.0)
    racing_tolerance: float = Field(0.0, ge=0.0)
    racing_gate_tolerance: float = Field(0.01, ge=0.0)
    racing_start: int = Field(24, ge=2)
    racing_growth: float = Field(1.5, gt=1.0, le=100.0)
    racing_bounds: Bounds = "normal"

    @property
    def places(self) -> int | None:
        """How many nodes the gate keeps at a level; None for all that have anything to say."""
        return self.beam or (None if self.gate == "magnitude" else BEAM)
