"""What reports and comparisons show, as plain data: the stages fill it in, the renderers and the store read it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect

Picture = Image.Image | Callable[[], Image.Image]
"""A picture, or what reads it when it is needed: a report of many features has more pictures than fit into memory."""


def opened(picture: Picture) -> Image.Image:
    """The pixels of a picture."""
    return picture if isinstance(picture, Image.Image) else picture()


@dataclass(frozen=True)
class Turn:
    """How it is said that an edit changes what a picture is taken for."""

    subject: str  # e.g. 'the prediction', or 'age'
    becomes: str  # e.g. 'becomes “zebra”', or 'rises above 60 years'
    leaves: str  # e.g. 'stops being “zebra”', or 'falls below 60 years'
    rule: str  # when a picture is of the class, in a sentence
    among: int = 2  # classes that the prediction is one of; 2 where a threshold decides


@dataclass(frozen=True)
class Example:
    """One image under one feature: original, null edit, edit, and what the classifier says of the last two."""

    image: str  # key of the sample image
    original: Picture
    null: Picture
    edit: Picture
    score_null: float  # target measure f(null)
    score_edit: float  # target measure f(edit)
    flipped: bool  # the predicted class differs between null and edit
    score_original: float | None = None  # target measure f(original), where it was scored
    succeeded: bool | None = None  # whether the edit shows the attribute, where a judge is configured
    score_placebo: float | None = None  # mean target measure of the control edits, where the study has any
    becomes: bool | None = None  # the edit makes it the explained class; None where no class is explained
    leaves: bool | None = None  # the edit makes it another class
    file: str = ""  # the name of the file that the image was read from
    counted: bool = True  # whether the effect of the feature is over this image too: not where it shows it already

    @property
    def effect(self) -> float:
        """f(edit) less the mean of f over the control edits, or less f(null) where there are none."""
        return self.score_edit - (self.score_null if self.score_placebo is None else self.score_placebo)


@dataclass(frozen=True)
class Confounder:
    """Another feature whose side effect accounts for what a feature was found to do; see `effects.confounding`."""

    feature: str  # id of the other one
    name: str  # its name
    leak: float  # share of a whole edit of it that the feature's edits contain, in [−1, 1]; below zero: undo
    direct: float  # what is left of the effect, in the unit of the target measure
    direct_low: float
    direct_high: float


@dataclass(frozen=True)
class RankedFeature:
    """One row of the ranked list: an effect of a feature on the target measure over the sample images."""

    rank: int
    feature: str  # feature id, e.g. "eyewear/round-glasses"
    name: str
    prompt: str
    direction: str  # add | remove
    group: str  # name of its level-1 group
    level: int
    effect: float  # mean difference to the control edits (the null edits without any), in the target measure's unit,
    # over the images that the edit can change, or over all of them: see `among`
    ci_low: float
    ci_high: float
    magnitude: float  # mean |d|
    sign_agreement: float  # share of images that move in the direction of the mean
    flip_rate: float  # share of images whose predicted class changes
    images: int
    decision: str  # e.g. "raises", "lowers", "mixed", "no effect shown", "inconclusive", "already there", "edit failed"
    p_value: float | None = None
    edit_strength: float | None = None  # mean pixel change in the most changed window, in [0, 1]
    edit_success: float | None = None  # share of those images' edits that show it, where a judge is configured
    ssim: float | None = None  # mean structural similarity of edit and null edit, 1 where they are the same
    lpips: float | None = None  # mean perceptual distance of them, 0 where they are the same; where it was asked for
    inside_mask: float | None = None  # mean share of the change inside the editor's mask, where it has one
    mask_area: float | None = None  # mean share of the picture that the mask covers
    confounded_with: Confounder | None = None  # of a decided effect that does not stand on its own
    among: str = "all"  # the images that the effect is over: "without it", "with it" (of what is removed), or "all"
    prevalence: float | None = None  # share of images that show the attribute already, where a judge is configured
    prevalence_low: float | None = None
    prevalence_high: float | None = None
    effect_all: float | None = None  # the same effect over all images, where it is over some of them
    other_way: float | None = None  # mean effect of the edit the other way, on the images that are so already
    other_way_success: float | None = None  # share of these edits that did it
    other_way_images: int | None = None
    cace: float | None = None  # do(1) − do(0): every image with the attribute against the same image without it
    cace_low: float | None = None
    cace_high: float | None = None
    citation: str | None = None  # the passage of reference text that named it, e.g. "guideline.pdf, page 3"
    becomes: int | None = None  # images that its edits make the explained class; None where no class is explained
    leaves: int | None = None  # images that stop being of the explained class


@dataclass(frozen=True)
class Control:
    """What the edits towards one control prompt did: words that mean nothing, the placebo of a study."""

    prompt: str
    effect: float  # mean difference to the other control prompts' edits; to the null edits where there is no other
    ci_low: float
    ci_high: float
    against_null: float  # mean difference to the null edits: what an edit towards nothing does
    null_low: float
    null_high: float
    flip_rate: float
    images: int
    decision: str  # as of a feature; "raises" or "lowers" is a warning
    p_value: float | None = None


@dataclass(frozen=True)
class JudgeCheck:
    """How the judge of edits does on pictures of which something is known. Shares of pictures."""

    evidence: float | None  # from which on it sees an attribute, in its own unit; None: another for each attribute
    control_words: float | None  # null edits in which it sees a control prompt, which nothing shows
    after_edit: float | None  # edits that raised the evidence of their attribute in which it sees it; None without any
    name: str = ""  # who judges
    second: str | None = None  # who judged the reported edits too; None where nobody did
    agreement: float | None = None  # share of these edits of which both say the same
    kappa: float | None = None  # the same beyond chance (Cohen's kappa); None where chance alone agrees always
    second_success: float | None = None  # share of these edits that succeeded, as the second sees them
    second_control_words: float | None = None  # as `control_words`, of the second


@dataclass(frozen=True)
class JointCombination:
    """Features edited together, and what they do together."""

    features: tuple[str, ...]  # feature ids
    names: tuple[str, ...]
    effect: float
    ci_low: float
    ci_high: float
    flip_rate: float
    images: int
    examples: tuple[Example, ...] = ()
    becomes: int | None = None  # as of a feature
    leaves: int | None = None


@dataclass(frozen=True)
class Group:
    """A level-1 group of the corpus, whether the beam kept it, and why."""

    feature: str
    name: str
    kept: bool
    reason: str  # e.g. "mean |d| 0.21 above the noise floor 0.02" or "below the noise floor"
    magnitude: float | None


@dataclass(frozen=True)
class AttributionExample:
    """Grad-CAM on one image: maps of shape (height, width), >= 0, in the unit of the classifier's evidence."""

    image: str  # key of the sample image
    null: Image.Image
    null_map: NDArray[np.float64]
    edit: Image.Image
    edit_map: NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """Attribution maps (Grad-CAM) before and after the edits of a feature: means over images, NaN where there is none.

    Attributes:
        changed: the share of the picture that an edit changes visibly.
        before, after: the share of the Grad-CAM map that lies there, on the null edit and on the edit.
        images: where the edit changed something and the map is not empty.
    """

    feature: str
    name: str
    changed: float
    before: float
    after: float
    images: int
    example: AttributionExample | None = None


@dataclass(frozen=True)
class Report:
    """Everything on the report page of one study and classifier version."""

    study: str
    title: str
    domain: str
    classifier: str
    classifier_fingerprint: str
    labels: tuple[str, ...]
    target: str  # what an effect is measured in, e.g. 'probability of "senior"'
    baseline: float  # mean f over the null edits
    editor: str
    editor_fingerprint: str
    corpus_version: str
    created: datetime
    command: str  # the command that reproduces it
    images: int
    noise_floor: float
    gate: str
    features: tuple[RankedFeature, ...]  # by rank
    groups: tuple[Group, ...]
    joint: JointCombination | None
    drops: tuple[tuple[str, str], ...]  # (what was left out, why)
    examples: dict[str, tuple[Example, ...]]  # feature id -> every example, by descending effect
    caveats: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()  # more of the method, (what, value), e.g. ("guidance scale", "5")
    side_effects: tuple[SideEffect, ...] = ()  # of the strongest features on each other, the largest leaks first
    subgroups: tuple[SubgroupEffect, ...] = ()  # the effects among some of the images, by feature
    interactions: tuple[Interaction, ...] = ()  # of the strongest features in pairs, where they were edited so
    attributions: tuple[
        Attribution, ...
    ] = ()  # Grad-CAM of the strongest features, where the classifier is a torch module
    warnings: tuple[str, ...] = ()  # what to mend before anything on the page is believed
    hints: tuple[str, ...] = ()  # what looks wrong about the classifier's scores of the sample images
    controls: tuple[Control, ...] = ()  # the control prompts, which every effect is held against
    judge: JudgeCheck | None = None  # who judges which pictures show an attribute, where anybody does
    method: str = ""  # how the editor in use makes edits and null edits, in a sentence or two
    links: tuple[tuple[str, str], ...] = ()  # other pages of the study: (what, address relative to the page)
    turn: Turn | None = None  # what it is called that an image becomes the explained class; None where none is
    per_image: tuple[dict[str, Any], ...] = ()  # every feature on every image, as rows of a table


@dataclass(frozen=True)
class ComparedFeature:
    """One feature under two classifier versions: paired difference of its effects on the same edits."""

    feature: str
    name: str
    group: str
    level: int
    effects: tuple[float, ...]  # one for each version
    ranks: tuple[int, ...]
    flip_rates: tuple[float, ...]
    difference: float  # mean over images of d_last − d_first
    ci_low: float
    ci_high: float
    images: int
    decision: (
        str  # "more reliant", "less reliant", "direction changed", "no change shown", "inconclusive", "already there",
        # "edit failed"
    )
    examples: tuple[tuple[Example, Example], ...] = ()  # the images that explain it, under the first and last version
    flips_gained: int | None = None  # become the explained class or leave it under the last only
    flips_lost: int | None = None  # the same under the first only
    reliance: tuple[float, ...] = ()  # mean |d|, one for each version: what more and less reliant speak of
    reliance_change: float = math.nan  # mean over images of |d_last| − |d_first|
    reliance_low: float = math.nan
    reliance_high: float = math.nan
    p_value: float | None = None  # adjusted, of the change that the decision speaks of; None where it was not tested
    edit_success: float | None = None  # share of edits that show the attribute, where a judge is configured
    direction: str = "add"
    prompt: str = ""
    becomes: tuple[int, ...] = ()  # images that become the explained class under each version; empty where none is
    leaves: tuple[int, ...] = ()  # images that stop being it
    among: str = "all"  # the images that the effects are over, as of `RankedFeature`
    prevalence: float | None = None  # share of images that show the attribute already, where a judge is configured


@dataclass(frozen=True)
class RuleOutcome:
    """Whether one classifier keeps one rule of the study. What could not be measured is not kept: nothing was shown."""

    classifier: str
    text: str  # the rule in words, with what was measured
    holds: bool
    severity: str = "fail"  # fail | warn
    feature: str = ""  # as the rule names it
    measured: float | None = None  # mean |d|; None where nothing was measured


@dataclass(frozen=True)
class Comparison:
    """Everything on the comparison page of a study: versions in the order of the study file."""

    study: str
    title: str
    classifiers: tuple[str, ...]
    target: str
    created: datetime
    command: str
    features: tuple[ComparedFeature, ...]  # by descending |difference|
    caveats: tuple[str, ...] = ()
    noise_floor: float | None = None
    editor: str | None = None
    corpus_version: str | None = None
    images: int | None = None
    rules: tuple[RuleOutcome, ...] = ()  # the sensitivity rules of the study
    links: tuple[tuple[str, str], ...] = ()  # other pages of the study: (what, address relative to the page)
    turn: Turn | None = None  # as of an explanation


@dataclass(frozen=True)
class UnderEditor:
    """What the report under one editor says of a feature, with its edit of one image."""

    effect: float
    ci_low: float
    ci_high: float
    decision: str
    edit_success: float | None = None
    confounded_with: str | None = None  # the name of the other feature
    picture: Picture | None = None


@dataclass(frozen=True)
class AgreedFeature:
    """One feature under two editors; None where the search of one did not reach it."""

    feature: str
    name: str
    prompt: str
    direction: str
    group: str
    level: int
    verdict: str  # as of `effects.agreement.agree`
    editors: tuple[UnderEditor | None, UnderEditor | None]


@dataclass(frozen=True)
class EditorComparison:
    """What of a classifier's explanation does not depend on who made the edits."""

    study: str
    title: str
    classifier: str
    target: str
    editors: tuple[str, str]
    created: datetime
    command: str
    images: int
    features: tuple[AgreedFeature, ...]  # those that hold first
    judged: int  # features that both editors' reports judged
    spearman: float  # rank correlation of both editors' effects over these; NaN with fewer than three
    same_sign: float  # of these, of what either claims to raise or lower: share of one sign; NaN without any
    nulls: tuple[Picture | None, Picture | None] = (None, None)  # of the image that the pictures show
    error_rate: str = "fwer"  # that each report's decisions hold
