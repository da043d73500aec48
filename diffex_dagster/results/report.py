"""A report: one classifier of one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator, PlainSerializer

from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect
from diffex_dagster.results.common import (
    SHARE,
    WITH_PICTURES,
    Among,
    Confounder,
    Direction,
    Example,
    ImageRow,
    Picture,
    Turn,
)
from diffex_dagster.results.completeness import Completeness
from diffex_dagster.utils.columns import Column, Inner, Maybe, Number, Says, Within


@dataclass(frozen=True)
class RankedFeature:
    """One row of the ranked list: an effect of a feature on the target measure over the sample images."""

    rank: Annotated[int, Says("1 is the strongest", minimum=1), Column(listed=True)]
    feature: Annotated[str, Says("feature id: path of slugs in the corpus")]
    name: Annotated[str, Column(listed=True)]
    group: Annotated[str, Says("name of the level-1 group"), Column(listed=True)]
    level: Annotated[int, Says("1 for a group", minimum=1)]
    direction: Direction
    prompt: Annotated[str, Says("the edit prompt")]
    effect: Annotated[
        Number,
        Says(
            "mean over images of f(edit) less f(null edit), in the unit of the target; `among` says over which images"
        ),
        Column(listed=True),
    ]
    ci_low: Annotated[Number, Says("lower end of the 95% interval of the effect"), Column(listed=True)]
    ci_high: Annotated[Number, Says("upper end"), Column(listed=True)]
    flip_rate: Annotated[Number, Says("share of images whose predicted class changes, 0 to 1"), Column(listed=True)]
    images: Annotated[int, Says("images behind the row"), Column(listed=True)]
    decision: Annotated[
        str,
        Says("raises, lowers, mixed, no effect shown, inconclusive, already there or edit failed"),
        Column(listed=True),
    ]
    magnitude: Annotated[Number, Says("mean over images of the size of that difference: mean |d|")]
    sign_agreement: Annotated[Number, Says("share of images that move in the direction of the mean")]
    p_value: Annotated[Maybe, Says("adjusted, of the decision; null where it was not tested")] = None
    edit_strength: Annotated[
        Maybe,
        Says(
            "mean absolute pixel change against the null edit in the most changed window, an eighth of the side, 0 to 1"
        ),
    ] = None
    edit_success: Annotated[
        Maybe, Says("share of edits that show the attribute, 0 to 1, where a judge is configured")
    ] = None
    ssim: Annotated[
        Maybe,
        Says("mean structural similarity of edit and null edit, 1 where they are the same", minimum=-1, maximum=1),
    ] = None
    lpips: Annotated[
        Maybe,
        Says("mean LPIPS of edit and null edit, 0 where they are the same; null where it was not asked for", minimum=0),
    ] = None
    inside_mask: Annotated[
        Maybe,
        Says("mean share of the change that lies inside the editor's mask; null where edits have none", **SHARE),
    ] = None
    mask_area: Annotated[
        Maybe, Says("mean share of the picture that the mask covers; null where edits have none", **SHARE)
    ] = None
    becomes: Annotated[
        int | None, Says("images that the edits make the explained class; null where none is explained")
    ] = None
    leaves: Annotated[int | None, Says("images that the edits make another one")] = None
    among: Among = "all"
    prevalence: Annotated[
        Maybe, Says("share of images that show the attribute before any edit, by the judge", **SHARE)
    ] = None
    prevalence_low: Annotated[Maybe, Says("lower end of its interval (Clopper and Pearson)", **SHARE)] = None
    prevalence_high: Annotated[Maybe, Says("upper end", **SHARE)] = None
    effect_all: Annotated[Maybe, Says("the same effect over all images; null where the row is about all")] = None
    effect_shown: Annotated[
        Maybe,
        Says(
            "mean over those of the row's images whose edit shows the attribute; null where all of them do, fewer than "
            "three, or nobody judges"
        ),
    ] = None
    other_way: Annotated[
        Maybe,
        Says("mean effect of the edit the other way, on images that are so already; null where it was not made"),
    ] = None
    other_way_success: Annotated[Maybe, Says("share of these edits that did it", **SHARE)] = None
    other_way_images: Annotated[int | None, Says("how many")] = None
    cace: Annotated[
        Maybe,
        Says(
            "do(1) - do(0), the causal concept effect (Goyal et al. 2019): every image with the attribute against the "
            "same image without it; null where an arm is missing"
        ),
    ] = None
    cace_low: Annotated[Maybe, Says("lower end of its interval")] = None
    cace_high: Annotated[Maybe, Says("upper end")] = None
    confounded_with: Annotated[
        Confounder | None,
        Says(
            "the feature that accounts for a decided effect, or that nothing tells from it; absent in reports from "
            "before it"
        ),
    ] = None
    citation: Annotated[str | None, Says("the passage of reference text that named it, e.g. guideline.pdf, page 3")] = (
        None
    )


@dataclass(frozen=True)
class Control:
    """What the edits towards one control prompt did: words that mean nothing, the placebo of a study."""

    prompt: str
    effect: Annotated[
        Number,
        Says("mean difference to the edits of the other control prompts; to the null edits where there is none"),
    ]
    ci_low: Number
    ci_high: Number
    against_null: Annotated[Number, Says("mean difference to the null edits: what an edit towards nothing does")]
    null_low: Number
    null_high: Number
    flip_rate: Number
    images: int
    decision: Annotated[str, Says("as of a feature; raises or lowers is a warning")]
    p_value: Maybe = None


@dataclass(frozen=True)
class JudgeCheck:
    """How the judge of edits does on pictures of which something is known. Shares of pictures."""

    evidence: Annotated[
        Maybe,
        Says(
            "from which on it sees an attribute of which too few edits succeeded to have a level of its own, in its "
            "own unit; null where it is not known then"
        ),
    ]
    control_words: Annotated[
        Maybe, Says("share of null edits in which it sees a control prompt, which nothing shows", **SHARE)
    ]
    after_edit: Annotated[
        Maybe,
        Says(
            "share of the edits that were to put their attribute into an image that lacked it, failed ones too, in "
            "which it sees it; null of a judge that only says yes or no",
            **SHARE,
        ),
    ]
    name: Annotated[str, Says("the judge")] = ""
    second: Annotated[str | None, Says("the second judge, of the reported edits; null where there is none")] = None
    agreement: Annotated[Maybe, Says("share of these edits of which both say the same", **SHARE)] = None
    kappa: Annotated[Maybe, Says("the same beyond chance (Cohen's kappa); null where chance alone agrees always")] = (
        None
    )
    second_success: Annotated[Maybe, Says("share of these edits that succeeded, as the second sees them", **SHARE)] = (
        None
    )
    second_control_words: Annotated[Maybe, Says("as control_words, of the second", **SHARE)] = None


@dataclass(frozen=True)
class JointCombination:
    """Features edited together, and what they do together."""

    features: Annotated[tuple[str, ...], Says("feature ids")]
    names: tuple[str, ...]
    effect: Number
    ci_low: Number
    ci_high: Number
    flip_rate: Number
    images: int
    examples: tuple[Example, ...] = ()
    becomes: Annotated[
        int | None, Says("images that the edits make the explained class; null where none is explained")
    ] = None
    leaves: Annotated[int | None, Says("images that the edits make another one")] = None


@dataclass(frozen=True)
class Group:
    """A level-1 group of the corpus, whether the beam kept it, and why."""

    feature: str
    name: str
    kept: Annotated[bool, Says("whether the beam kept the group")]
    reason: Annotated[
        str, Says("e.g. mean |d| 0.21 above the noise floor 0.02; a search takes d against the control edits")
    ]
    magnitude: Maybe


@dataclass(frozen=True)
class AttributionExample:
    """Grad-CAM on one image: maps of shape (height, width), >= 0, in the unit of the classifier's evidence."""

    __pydantic_config__ = WITH_PICTURES

    image: str  # key of the sample image
    null: Image.Image
    null_map: NDArray[np.float64]
    edit: Image.Image
    edit_map: NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """Attribution maps (Grad-CAM) before and after the edits of a feature: means over images, NaN without any."""

    feature: str
    name: str
    changed: Annotated[Number, Says("share of the picture that the edit changes visibly")]
    before: Annotated[Number, Says("share of the map that lies there, on the null edit")]
    after: Annotated[Number, Says("share of the map that lies there, on the edit")]
    images: Annotated[int, Says("where the edit changed something and the map is not empty", minimum=0)]
    example: Annotated[AttributionExample | None, Inner] = None


@dataclass(frozen=True)
class Drop:
    """Something that cleaning or merging left out of the corpus."""

    name: str
    reason: str


def _read_drops(value: Any) -> Any:
    return [(each["name"], each["reason"]) if isinstance(each, dict) else each for each in value]


Drops = Annotated[
    tuple[tuple[str, str], ...],
    BeforeValidator(_read_drops),
    PlainSerializer(lambda pairs: [Drop(*pair) for pair in pairs], return_type=list[Drop]),
    Says("what was left out, and why"),
]


@dataclass(frozen=True)
class Shots:
    """Pictures of every image of a report, and what divides the images; every tuple is in their order.

    Attributes:
        images: keys.
        originals, nulls: the images and their null edits.
        edits: feature id -> its edit of each image.
        columns: what is known of the images before any edit: name -> value, None where there is none.
    """

    __pydantic_config__ = WITH_PICTURES

    images: tuple[str, ...]
    originals: tuple[Picture, ...]
    nulls: tuple[Picture, ...]
    edits: Mapping[str, tuple[Picture, ...]]
    columns: Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True)
class Report:
    """Everything on the report page of one study and classifier version."""

    __pydantic_config__ = WITH_PICTURES

    study: str
    title: str
    domain: str
    classifier: Annotated[str, Within("classifier", "name")]
    classifier_fingerprint: Annotated[
        str, Within("classifier", "fingerprint"), Says("hash of weights and preprocessing")
    ]
    labels: Annotated[tuple[str, ...], Within("classifier", "labels")]
    target: Annotated[str, Says('what an effect is measured in, e.g. probability of "senior", or age (years)')]
    baseline: Annotated[Number, Says("mean target measure over the null edits")]
    editor: Annotated[str, Within("editor", "name")]
    editor_fingerprint: Annotated[str, Within("editor", "fingerprint"), Says("hash of all that changes pixels")]
    corpus_version: str
    created: Annotated[datetime, Says("ISO 8601")]
    command: Annotated[str, Says("reproduces the report")]
    images: Annotated[int, Says("sample images of the study")]
    noise_floor: Annotated[Number, Says("mean size of the effect that one control prompt has against the others")]
    gate: str
    features: Annotated[tuple[RankedFeature, ...], Says("in rank order")]
    groups: tuple[Group, ...]
    joint: Annotated[JointCombination | None, Says("features edited together, and what they do together")]
    drops: Drops
    examples: Annotated[dict[str, tuple[Example, ...]], Says("feature id to its images, by descending effect")]
    caveats: tuple[str, ...] = ()
    settings: Annotated[tuple[tuple[str, str], ...], Says("(what, value) pairs: more of the method")] = ()
    side_effects: Annotated[
        tuple[SideEffect, ...],
        Says(
            "what the edits of the strongest features do to each other, the largest leaks first; absent or empty where "
            "nobody judges edits"
        ),
    ] = ()
    subgroups: Annotated[
        tuple[SubgroupEffect, ...],
        Says(
            "the effects among some of the images, by feature: by the class that the original is taken for, by how "
            "surely, and by columns of the image table; absent or empty where nothing divides the images"
        ),
    ] = ()
    interactions: Annotated[
        tuple[Interaction, ...],
        Says(
            "what the strongest features do in pairs beyond adding up, found ones first; absent or empty where none "
            "were edited together"
        ),
    ] = ()
    attributions: Annotated[
        tuple[Attribution, ...],
        Says(
            "attribution maps (Grad-CAM) of the strongest features: means over the images; absent or empty where none "
            "was made"
        ),
    ] = ()
    warnings: Annotated[
        tuple[str, ...],
        Says(
            "what to mend before the numbers are believed, e.g. control prompts that move the score; absent or empty "
            "where nothing is wrong"
        ),
    ] = ()
    hints: Annotated[
        tuple[str, ...],
        Says(
            "what looks wrong about the classifier's scores of the sample images, e.g. that nobody says how pixels "
            "become its input; absent or empty where nothing does"
        ),
    ] = ()
    controls: Annotated[
        tuple[Control, ...],
        Says(
            "what the edits towards the control prompts (words that mean nothing) did: every claim stands against "
            "them too; absent or empty where the study has none"
        ),
    ] = ()
    judge: Annotated[
        JudgeCheck | None,
        Says(
            "the judge of which pictures show an attribute, on pictures of which something is known; null where there "
            "is none; absent in reports from before it"
        ),
    ] = None
    completeness: Annotated[
        Completeness | None,
        Says(
            "how much of what the classifier says of the images, as they are, the features explain; absent in reports "
            "from before it"
        ),
    ] = None
    method: Annotated[str, Inner] = ""  # how the editor in use makes edits and null edits, in a sentence or two
    looked_into: Annotated[str, Inner] = ""  # which groups the search looks into, in a sentence or two
    links: Annotated[tuple[tuple[str, str], ...], Inner] = ()  # other pages of the study: (what, relative address)
    turn: Annotated[
        Turn | None,
        Says("how it is said that an image becomes the explained class; null where the target explains none"),
    ] = None
    per_image: Annotated[tuple[ImageRow, ...], Inner] = ()  # every feature on every image
    gallery: Annotated[Shots | None, Inner] = None  # their pictures; None in reports that were read from their files
    margin: Annotated[
        Maybe,
        Says(
            "effects inside ± this do not matter to the study, in the unit of the target: what “no effect shown” is "
            "held against; absent in reports from before it"
        ),
    ] = None
    unit: Annotated[str, Says("of an effect, e.g. years; empty where the measure has none")] = ""
    bounded: Annotated[bool, Says("the measure is a probability: an effect of 0.1 is 10 percentage points")] = False
