"""What a study file says about a classifier: one class for each kind, validated without loading a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Reference = Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")]  # module:attribute
Channels3 = float | tuple[float, float, float]
Pixels = Annotated[int, Field(ge=1, le=8192)]
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """A piece of a study file: unknown keys are errors, values never change.

    Fields that a later version added are left out of what is written down while they have their default: results are
    kept under hashes of it, and a new field must not make results of before look old.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in written.items()
            if name not in self.later or getattr(self, name) != fields[name].default
        }


def _as_text(value: Any) -> Any:
    """A class name as YAML reads it: a whole number is the text that it was written as."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} is no class name; put it in quotes")


Label = Annotated[str, BeforeValidator(_as_text)]


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
        return tuple(_as_text(each) for each in value)
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


class Target(Part):
    """What an effect is measured in."""

    later: ClassVar[frozenset[str]] = frozenset({"labels", "values", "name", "unit"})

    label: Label = Field("", description="the class (or regression output) that is explained")
    labels: tuple[Label, ...] = Field((), description="several classes as one: the sum of their probabilities")
    measure: Literal["probability", "sigmoid", "logit", "margin", "value", "expected", "function"] = Field(
        "probability",
        description="probability (softmax), sigmoid (multi-label), logit, margin between two classes, value (of a "
        "regression), expected (the mean of ordered classes), or a function of your own",
    )
    against: Label | None = Field(None, description="the other class of a margin")
    threshold: float | None = Field(
        None, description="an image flips when its measure crosses this; when left out, when its class changes"
    )
    function: Reference | None = Field(
        None,
        description="`module:function` from outputs (N, C), as the classifier returns them, and labels to the measure",
    )
    values: dict[Label, float] | None = Field(
        None, description="of expected: what each class stands for; its own name where that is a number"
    )
    name: str | None = Field(None, description="what is measured, in words: age")
    unit: str | None = Field(None, description="of the measure: years")

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
        if (self.measure == "margin") != (self.against is not None):
            raise ValueError("a margin needs 'against', the class it is measured from, and nothing else does")
        if (self.measure == "function") != (self.function is not None):
            raise ValueError("measure: function needs 'function' (module:function), and nothing else does")
        if not self.label and self.measure not in ("value", "expected", "function"):
            raise ValueError(f"a {self.measure} needs 'label', the class that is explained; add it")
        if self.labels and self.measure != "probability":
            raise ValueError("several 'labels' are summed as probabilities; leave 'measure' out, or name one 'label'")
        if self.values is not None and self.measure != "expected":
            raise ValueError("'values' belong to measure: expected, which is their mean; add it, or leave them out")
        if self.measure == "expected" and self.label:
            raise ValueError("measure: expected is of all classes; leave 'label' out, and call it with 'name'")
        return self

    @property
    def members(self) -> tuple[str, ...]:
        """The classes that are explained: several where they are summed, none for a value or a function."""
        return self.labels or ((self.label,) if self.label else ())

    @property
    def bounded(self) -> bool:
        """Whether the measure is a probability, so that no effect can leave [−1, 1]."""
        return self.measure in ("probability", "sigmoid")

    def describe(self) -> str:
        """The unit of an effect in words."""
        unit = f" ({self.unit})" if self.unit else ""
        match self.measure:
            case "margin":
                return f'margin of "{self.label}" over "{self.against}" ({self.unit or "logits"})'
            case "value":
                return (f'value of "{self.label}"' if self.label else (self.name or "value of the output")) + unit
            case "expected":
                return f"expected {self.name or 'value'}" + unit
            case "function":
                return (self.name or f"{self.function}") + (f' of "{self.label}"' if self.label else "") + unit
            case "sigmoid":
                return f'probability of "{self.label}" (sigmoid)'
            case _:
                return f'{self.measure} of "{self.label}"'


class ClassifierPart(Part):
    """What every kind of classifier has."""

    target: Target | None = Field(None, description="explain this instead of the study's target")
    batch_size: int = Field(32, ge=1, description="pictures at a time")
    device: str = Field("auto", description="auto (the GPU where there is one), cpu, cuda, cuda:1, mps")


class TransformersPart(ClassifierPart):
    """A `transformers` image classifier, with its own image processor and id2label."""

    kind: Literal["transformers"] = "transformers"
    checkpoint: str = Field(description="a hub id, or a folder beside the study file")
    revision: str | None = Field(None, description="of a hub model: a branch, tag or commit")


class ClipPart(ClassifierPart):
    """Zero-shot classification with CLIP (or SigLIP): a class is a sentence."""

    kind: Literal["clip"] = "clip"
    checkpoint: str = Field("openai/clip-vit-base-patch32", description="a hub id, or a folder beside the study file")
    revision: str | None = None
    labels: tuple[Label, ...] = Field(min_length=1, description="the classes, in words")
    template: str = Field("a photo of a {}", pattern=r"\{\}", description="the sentence; {} is the class")


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


class OnnxPart(TensorPart):
    """An ONNX file, run by onnxruntime (`pip install diffex-dagster[onnx]`)."""

    kind: Literal["onnx"] = "onnx"
    file: Path
    manifest: Path | None = Field(
        None, description="a JSON or YAML file, or a folder of a hub model, that gives labels and preprocessing"
    )
    output: str | None = Field(None, description="name of the output to read; the first one when left out")


class TorchFilePart(TensorPart):
    """A TorchScript file (`torch.jit.save`) or an exported program (`torch.export.save`)."""

    later: ClassVar[frozenset[str]] = frozenset({"trusted"})

    kind: Literal["torchscript", "torch_export"]
    file: Path
    manifest: Path | None = None
    trusted: bool = Field(
        False, description="load it although it could run code: you know who made it (docs/howto/classifier.md)"
    )


class TimmPart(TensorPart):
    """A timm model (`pip install diffex-dagster[timm]`), with the preprocessing of its pretrained configuration."""

    kind: Literal["timm"] = "timm"
    model: str = Field(description="timm's name of it, or hf-hub:owner/name")
    weights: Path | None = Field(None, description="a .safetensors file; the pretrained weights when left out")


class HttpPart(ClassifierPart):
    """A service that answers with one row of outputs for each picture."""

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://")
    labels: Labels
    format: Literal["plain", "kserve"] = Field(
        "plain",
        description='plain: {"images": [base64 PNG]} -> {"outputs": [[...]]}; kserve (also TensorFlow Serving): '
        '{"instances": [{"b64": ...}]} -> {"predictions": [[...]]}',
    )
    outputs: Literal["sigmoid", "logits", "probabilities"] = "probabilities"
    key_env: str | None = Field(None, description="environment variable that holds a bearer token")
    version: str = Field("", description="say here when the model behind the address changes: scores are kept by it")
    parameters: dict[str, Any] = Field(default_factory=dict, description="further fields of the request")
    timeout_s: float = Field(60.0, gt=0, le=86400)
    retries: int = Field(4, ge=0, description="after 429, 5xx, a timeout or a lost connection")


class PythonPart(TensorPart):
    """Code of the user's own.

    `callable` names a function (or module, or any callable object) that takes a list of RGB pictures or a float tensor
    N×3×H×W in [0, 1] and returns N×C; `factory` names something that is called with `folder` and `options` and makes a
    `Classifier`.
    """

    kind: Literal["python"] = "python"
    callable: Reference | None = None
    takes: Literal["pictures", "tensor"] = Field("pictures", description="what the callable takes")
    files: tuple[Path, ...] = Field((), description="weights that it reads: their content is part of the fingerprint")
    version: str = Field("", description="say here when something changed that neither its module nor files show")
    factory: Reference | None = None
    options: dict[str, Any] = Field(default_factory=dict, description="for the factory")

    @model_validator(mode="after")
    def _one_of(self) -> PythonPart:
        if (self.callable is None) == (self.factory is None):
            raise ValueError("name either 'callable' (pictures -> outputs) or 'factory' (makes a Classifier)")
        return self


# What a kind's own name stands for: {python: module:callable} means {kind: python, callable: module:callable}.
SHORT_FORMS = {
    "python": "callable", "transformers": "checkpoint", "clip": "checkpoint", "onnx": "file", "torchscript": "file",
    "torch_export": "file", "timm": "model", "http": "url",
}  # fmt: skip


def _short_form(value: Any) -> Any:
    if isinstance(value, dict) and "kind" not in value:
        for kind in SHORT_FORMS.keys() & value.keys():
            rest = {key: given for key, given in value.items() if key != kind}
            return {"kind": kind, SHORT_FORMS[kind]: value[kind], **rest}
    return value


AnyClassifierPart = Annotated[
    Annotated[
        TransformersPart | ClipPart | OnnxPart | TorchFilePart | TimmPart | HttpPart | PythonPart,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_short_form),
]
