"""What a study file says about a classifier: one class for each kind, validated without loading a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Reference = Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")]  # module:attribute
Channels3 = float | tuple[float, float, float]


class Part(BaseModel):
    """A piece of a study file: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(Part):
    """From a picture to what the model was trained on: resize, scale to numbers, normalise."""

    size: int | tuple[int, int] | None = Field(
        None, description="side in pixels, or [height, width]; the pictures' own when left out"
    )
    resize: Literal["stretch", "crop", "pad"] = Field(
        "stretch", description="how a picture of another shape is made to fit: stretched, centre cut out, black bars"
    )
    crop_pct: float = Field(1.0, gt=0.0, le=1.0, description="with crop: the share of the shorter side that is kept")
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear"
    scale: float = Field(1 / 255, gt=0.0, description="pixels (0 to 255) are multiplied with it first")
    mean: Channels3 = Field(0.0, description="subtracted after scaling; one number, or one for each channel")
    std: Channels3 = Field(1.0, description="divided by after that")
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"


class Target(Part):
    """What an effect is measured in."""

    label: str = Field("", description="the class (or regression output) that is explained")
    measure: Literal["probability", "sigmoid", "logit", "margin", "value", "function"] = Field(
        "probability",
        description="probability (softmax), sigmoid (multi-label), logit, margin between two classes, value (of a "
        "regression), or a function of your own",
    )
    against: str | None = Field(None, description="the other class of a margin")
    threshold: float | None = Field(
        None, description="an image flips when its measure crosses this; when left out, when its class changes"
    )
    function: Reference | None = Field(
        None, description="`module:function` from outputs (N, C) and labels to the measure (N,)"
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Target:
        if (self.measure == "margin") != (self.against is not None):
            raise ValueError("a margin needs 'against', the class it is measured from, and nothing else does")
        if (self.measure == "function") != (self.function is not None):
            raise ValueError("measure: function needs 'function' (module:function), and nothing else does")
        if not self.label and self.measure not in ("value", "function"):
            raise ValueError(f"a {self.measure} needs 'label', the class that is explained; add it")
        return self

    def describe(self) -> str:
        """The unit of an effect in words."""
        match self.measure:
            case "margin":
                return f'margin of "{self.label}" over "{self.against}" (logits)'
            case "value":
                return f'value of "{self.label}"' if self.label else "value of the output"
            case "function":
                return f"{self.function}" + (f' of "{self.label}"' if self.label else "")
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
    labels: tuple[str, ...] = Field(min_length=1, description="the classes, in words")
    template: str = Field("a photo of a {}", pattern=r"\{\}", description="the sentence; {} is the class")


class TensorPart(ClassifierPart):
    """What the kinds have that take an array of numbers and return one."""

    labels: tuple[str, ...] | Path = Field((), description="class names in order, or a file with one a line")
    preprocessing: Preprocessing | None = Field(None, description="left out: from the manifest, else pixels in [0, 1]")
    outputs: Literal["logits", "probabilities"] = Field("logits", description="what the model returns")


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

    kind: Literal["torchscript", "torch_export"]
    file: Path
    manifest: Path | None = None


class TimmPart(TensorPart):
    """A timm model (`pip install diffex-dagster[timm]`), with the preprocessing of its pretrained configuration."""

    kind: Literal["timm"] = "timm"
    model: str = Field(description="timm's name of it, or hf-hub:owner/name")
    weights: Path | None = Field(None, description="a .safetensors file; the pretrained weights when left out")


class HttpPart(ClassifierPart):
    """A service that answers with one row of outputs for each picture."""

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://")
    labels: tuple[str, ...] | Path
    format: Literal["plain", "kserve"] = Field(
        "plain",
        description='plain: {"images": [base64 PNG]} -> {"outputs": [[...]]}; kserve (also TensorFlow Serving): '
        '{"instances": [{"b64": ...}]} -> {"predictions": [[...]]}',
    )
    outputs: Literal["logits", "probabilities"] = "probabilities"
    key_env: str | None = Field(None, description="environment variable that holds a bearer token")
    version: str = Field("", description="say here when the model behind the address changes: scores are kept by it")
    parameters: dict[str, Any] = Field(default_factory=dict, description="further fields of the request")
    timeout_s: float = Field(60.0, gt=0)
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
