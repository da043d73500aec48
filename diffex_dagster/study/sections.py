"""The other sections of a study file: corpus, search, effects, calibration, report, rules and workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from diffex_dagster.corpus.vlm.kinds import AnyVLMPart
from diffex_dagster.deployment import SharedResults
from diffex_dagster.effects.options import ClaimOptions
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.utils.config import Part
from diffex_dagster.utils.names import Name, Text


class CorpusPart(Part):
    """Where the features come from, and the user overrides."""

    renamed: ClassVar[Mapping[str, str]] = {"edits": "overrides"}

    vlm: AnyVLMPart | None = None
    starter: str | None = Field(None, description="a shipped corpus, for a study without a vision-language model")
    overrides: Path = Path("corpus.yaml")
    examples: tuple[Text, ...] = Field((), description="attributes that show the model what is meant")
    levels: Literal[2, 3] = 2
    groups: int = Field(20, ge=1, description="at most so many level-1 groups are asked for")
    max_children: int = Field(12, ge=1)
    leakage: tuple[Text, ...] = Field((), description="further words that restate the class")
    vague: tuple[Text, ...] = Field((), description="further words that name nothing to draw")
    context: tuple[Path, ...] = Field((), description="reference text for the model: .md, .txt, .csv, .pdf")
    context_tokens: int = Field(1500, ge=100)

    @model_validator(mode="after")
    def _one_origin(self) -> CorpusPart:
        if self.vlm and self.starter:
            raise ValueError("name a vlm or a starter, not both; what you add yourself goes into the overrides file")
        return self


class ResultsPart(SharedResults):
    """Where results are kept. A deployment's variables and resources come before it; no version holds any of it."""

    folder: Path = Field(Path("results"), description="for the database, the reports and, unless said, the pictures")


class SearchPart(SearchOptions):
    """How the tree is searched, and what is edited in pairs besides."""

    interactions: int = Field(
        0,
        ge=0,
        le=20,
        description="edit the strongest features of so many groups in pairs, to see whether they do more together or "
        "less than each adds up to: 4 take seven edits of every image, one of them towards two control prompts",
    )


class EffectsPart(ClaimOptions):
    """How effects are measured, and what may be claimed of them."""

    renamed: ClassVar[Mapping[str, str]] = {"nonsense": "control_prompts"}

    margin: float | None = Field(
        None,
        gt=0.0,
        description="effects inside ± this do not matter, in the unit of the target measure; left out: 0.02 of a "
        "probability, and 2% of the range of the scores where the measure has no limits",
    )
    side_effects: int = Field(
        8,
        ge=0,
        description="in the edits of so many of the strongest features the judge looks for every other attribute of "
        "the corpus that may account for their effects (*confounded with*)",
    )
    absence: int = Field(
        8,
        ge=0,
        description="of so many of the strongest features, edit the pictures that show them already the other way: "
        "do(1) − do(0); costs at most a tenth of the search's edits; 0 never does",
    )
    subgroups: tuple[Text, ...] = Field(
        (),
        description="columns of images.table (or of the dataset's metadata) by which effects are given for some of the "
        "images, besides the class that an image is taken for and how surely; `label` is the labels",
    )
    seeds: int = Field(
        1,
        ge=1,
        le=1000,
        description="edit each image under so many seeds, from the study's own on; averaged within the image",
    )
    confirmation: float = Field(
        0.5, ge=0.0, le=0.9, description="share of the images that the search does not see and the report speaks of"
    )
    confirmation_from: int = Field(
        40, ge=4, description="with fewer images than this, the search and the report share all of them"
    )
    control_prompts: tuple[Text, ...] = Field(
        ("flornip", "quazzle vint", "mibble oskarn"),
        description="control prompts, words that mean nothing: every claim is held against their edits, and they "
        "measure the noise floor; two or more",
    )
    min_edit_strength: float = Field(
        0.025,
        ge=0.0,
        le=1.0,
        description="an edit that changes no window of an eighth of the picture's side by so much on average (0 to 1) "
        "did not happen",
    )


class CalibrationPart(Part):
    """How the options of the editor are found; see `editing.calibration`."""

    images: int = Field(6, ge=1, description="try them on so many of the sample images")
    budget: float = Field(
        0.15, gt=0.0, le=1.0, description="the most edits this may take, as a share of those that the study makes"
    )


class ReportPart(Part):
    """What is on the report's page besides the effects."""

    gradcam: int = Field(
        3, ge=0, description="so many of the strongest features are shown with Grad-CAM, where the classifier is torch"
    )
    lpips: Literal["alex", "vgg", "squeeze"] | None = Field(
        None, description="measure the LPIPS of every edit against its null edit with this backbone (extra: lpips)"
    )


class RulePart(Part):
    """A limit on how far a feature may move a classifier; a broken one fails (or warns about) its asset's check."""

    feature: Text = Field(description="a feature or a group, by id, by 'Group / Name', or by its name")
    below: float = Field(gt=0.0, description="mean |effect| has to stay below this, in the unit of the target measure")
    classifiers: tuple[Name, ...] = Field((), description="classifiers the rule is for; the last one when left out")
    severity: Literal["fail", "warn"] = "fail"


class Workers(Part):
    """Processes that edit and judge, each with a model of its own.

    They are part of no version: any number of them makes the same edits.
    """

    count: int = Field(ge=1, le=4096, description="how many; with fewer places, those that there are begin")
    address: str | None = Field(None, description="of a Ray cluster, or auto; left out: RAY_ADDRESS, else this machine")
    gpus: float | None = Field(None, ge=0, le=16, description="for each; left out: 1 where the editor's device is cuda")
    ahead: int = Field(
        2, ge=1, le=64, description="batches that a worker has at a time: one at work, the others waiting"
    )
    tries: int = Field(2, ge=1, le=10, description="processes that a batch may end before it is cut in two")
    patience: float = Field(600.0, gt=0, description="seconds to wait while no worker is there")
