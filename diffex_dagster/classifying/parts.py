"""What a study file says about classifiers of every kind, validated without loading a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from diffex_dagster.classifying.measures.base import Measure
from diffex_dagster.classifying.measures.fields import Label as Label
from diffex_dagster.classifying.measures.fields import TargetFields, as_text
from diffex_dagster.classifying.measures.kinds import MEASURES, MeasureName
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.utils import config
from diffex_dagster.utils.config import Part

Channels3 = float | tuple[float, float, float]
Pixels = Annotated[int, Field(ge=1, le=8192)]
Positive = Annotated[float, Field(gt=0)]


def _as_labels(value: Any) -> Any:
    """Class names in a list, a mapping from their numbers, or the name of a file."""
    if isinstance(value, dict):
        from diffex_dagster.classifying.labels import names_of
        from diffex_dagster.errors import ClassifierError

        try:
            return names_of(value, "labels")
        except ClassifierError as error:
            raise ValueError(str(error).removeprefix("labels: ")) from error
    if isinstance(value, list | tuple):
        return tuple(as_text(each) for each in value)
    if isinstance(value, str | Path):
        return Path(value)
    raise ValueError("write a list of class names in the outputs' order, or the name of a file with them")


Labels = Annotated[tuple[str, ...] | Path, BeforeValidator(_as_labels)]


class Preprocessing(Part):
    """From a picture to what the model was trained on: resize, scale to numbers, normalise."""

    size: Pixels | tuple[Pixels, Pixels] | None = Field(
        None, description="side in pixels, or [height, width]; the pictures' own when left out"
    )
    resize: Literal["stretch", "crop", "pad"] = Field(
        "stretch", description="how a picture of another shape is made to fit: stretched, centre cut out, black bars"
    )
    crop_pct: float = Field(1.0, gt=0.0, le=1.0, description="with crop: the share of the shorter side that is kept")
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear"
    scale: float = Field(1 / 255, gt=0.0, description="pixels (0 to 255) are multiplied with it first")
    mean: Channels3 = Field(0.0, description="subtracted after scaling; one number, or one for each channel")
    std: Positive | tuple[Positive, Positive, Positive] = Field(1.0, description="divided by after that")
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"


class Target(TargetFields):
    """What an effect is measured in."""

    measure: MeasureName = Field(
        "probability",
        description="probability (softmax), sigmoid (multi-label), logit, margin between two classes, value (of a "
        "regression), expected (the mean of ordered classes), or a function of your own",
    )

    @model_validator(mode="before")
    @classmethod
    def _several_are_one(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or not isinstance(fields.get("labels"), list | tuple) or not fields["labels"]:
            return fields
        together = fields.get("name") or " + ".join(str(label) for label in fields["labels"])
        if fields.get("label") not in (None, "", together):
            raise ValueError("'label' and 'labels' both say what is explained; keep one of them")
        return {**fields, "label": together}

    @model_validator(mode="after")
    def _goes_together(self) -> Target:
        for name, kind in MEASURES.items():
            kind.own_fields(self, name == self.measure)
        if not self.label and self.kind.of_a_class:
            raise ValueError(f"a {self.measure} needs 'label', the class that is explained; add it")
        return self

    @property
    def kind(self) -> Measure:
        """The measure, which knows its bounds, its words and its numbers."""
        return MEASURES[self.measure]

    @property
    def members(self) -> tuple[str, ...]:
        """The classes that are explained: several where they are summed, none for a value or a function."""
        return self.labels or ((self.label,) if self.label else ())

    @property
    def bounded(self) -> bool:
        """Whether the measure is a probability, so that no effect can leave [−1, 1]."""
        return self.kind.bounded

    @property
    def effect_unit(self) -> str:
        """The unit of an effect, as the measure gives it: `years`, `logits`; "" where it has none."""
        return self.kind.unit(self)

    def describe(self) -> str:
        """What an effect is measured in, in words with its unit: `probability of "senior"`, `age (years)`."""
        return self.kind.quantity(self) + (f" ({self.effect_unit})" if self.effect_unit else "")


@dataclass(frozen=True)
class Where(config.Where):
    """Where a classifier is in a study file, and where it works.

    Attributes:
        written: the part's fields as the file writes them, variables unresolved (`${HOST}/score`).
        url: the address of a service in this deployment; the part's own when None.
    """

    field: str = "classifier"
    written: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    url: str | None = None


class ClassifierPart(Part):
    """What every kind of classifier has.

    A kind is a subclass beside its adapter, with `kind`, and one line in `classifying.kinds`.
    """

    service: ClassVar[bool] = False  # whether it answers over a network, where an answer may cost money
    short: ClassVar[str] = (
        ""  # the field that a kind's own name stands for: {onnx: m.onnx} is {kind: onnx, file: m.onnx}
    )

    target: Target | None = Field(None, description="explain this instead of the study's target")
    batch_size: int = Field(32, ge=1, description="pictures at a time")
    device: str = Field("auto", description="auto (the GPU where there is one), cpu, cuda, cuda:1, mps")

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """What a study file calls it: one name, or several."""
        return get_args(cls.model_fields["kind"].annotation)

    def build(self, where: Where) -> Classifier:
        """The classifier. Nothing is loaded before it is used.

        Raises:
            StudyError: a module that the part names cannot be imported, or its factory fails.
        """
        raise NotImplementedError

    def common(self, where: Where) -> dict[str, Any]:
        """Arguments that the adapters share."""
        return {"batch_size": self.batch_size, "device": self.device}


class TensorPart(ClassifierPart):
    """What the kinds have that take an array of numbers and return one."""

    labels: Labels = Field((), description="class names in order, or a file with them")
    preprocessing: Preprocessing | None = Field(
        None, description="what is left out comes from the manifest and the model file, else pixels in [0, 1]"
    )
    outputs: Literal["sigmoid", "logits", "probabilities"] = Field(
        "logits",
        description="what the model returns: logits, probabilities that sum to 1, or sigmoid, one probability for each "
        "class; left out: what the model says of itself",
    )

    @property
    def stated_outputs(self) -> Literal["sigmoid", "logits", "probabilities"] | None:
        """What the study says of the outputs; None where it says nothing."""
        return self.outputs if "outputs" in self.model_fields_set else None

    def common(self, where: Where) -> dict[str, Any]:
        """Those of every kind, and labels, preprocessing and what the outputs are."""
        labels = where.path(self.labels) if isinstance(self.labels, Path) else self.labels
        said = {"labels": labels, "preprocessing": self.preprocessing, "outputs": self.stated_outputs}
        return super().common(where) | said
