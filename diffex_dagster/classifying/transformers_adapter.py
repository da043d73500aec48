"""A `transformers` image classifier as pictures -> logits, with the model's own image processor."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from diffex_dagster.classifying.base import BatchedClassifier, Task
from diffex_dagster.classifying.gradcam import Differentiable
from diffex_dagster.classifying.labels import in_order
from diffex_dagster.classifying.manifests import labels_of_config
from diffex_dagster.classifying.parts import ClassifierPart, Where
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.errors import ClassifierError, in_words
from diffex_dagster.utils.devices import is_out_of_memory, torchvision_problem
from diffex_dagster.utils.hashing import folder_fingerprint


class TransformersPart(ClassifierPart):
    """A `transformers` image classifier, with its own image processor and id2label."""

    short: ClassVar[str] = "checkpoint"

    kind: Literal["transformers"] = "transformers"
    checkpoint: str = Field(description="a hub id, or a folder beside the study file")
    revision: str | None = Field(None, description="of a hub model: a branch, tag or commit")

    def build(self, where: Where) -> Classifier:
        """A `TransformersClassifier`."""
        name = where.checkpoint(self.checkpoint)
        return TransformersClassifier(name, revision=self.revision, **self.common(where))


class TransformersClassifier(BatchedClassifier):
    """Loads on the first call; the labels and the fingerprint are known without loading the weights.

    Args:
        checkpoint: a folder written by `save_pretrained`, or a hub id.
        batch_size: pictures at a time.
        device: "auto" (the GPU where there is one), "cpu", "cuda" or "mps".
        revision: of a hub model.
    """

    def __init__(
        self, checkpoint: str, batch_size: int = 32, device: str = "auto", revision: str | None = None
    ) -> None:
        super().__init__(checkpoint, batch_size)
        self.device, self.revision = device, revision

    def load(self, what: str, loader: str, **options: Any) -> Any:
        """`from_pretrained` of the class of transformers that is called so, with this checkpoint.

        Nothing in a checkpoint is executed: weights are safetensors, and code beside them is not run.

        Raises:
            ClassifierError: it cannot be loaded; the message says what and the remedy.
        """
        if Path(self.name).is_absolute() and not (Path(self.name) / "config.json").exists():
            raise ClassifierError(
                f"{self.name}: there is no classifier in this folder (no config.json); name a folder written by "
                "save_pretrained, or a hub id"
            )
        if not Path(self.name).is_absolute():
            options["revision"] = self.revision
        try:
            import transformers

            return getattr(transformers, loader).from_pretrained(self.name, trust_remote_code=False, **options)
        except Exception as error:  # transformers, the hub, safetensors and the file's own values each raise their own
            raise ClassifierError(
                f"{self.name}: the classifier's {what} cannot be loaded ({in_words(error)}); {_remedy(error)}"
            ) from error

    @functools.cached_property
    def _config(self) -> Any:
        return self.load("configuration", "AutoConfig")

    @functools.cached_property
    def _model(self) -> Any:
        return self.place("AutoModelForImageClassification")

    def place(self, loader: str) -> Any:
        """The model, in evaluation mode on its device, in float32 whatever its weights were saved in."""
        import torch

        from diffex_dagster.utils.devices import load_quietly, pick_device

        load_quietly()
        model = self.load("weights", loader, use_safetensors=True, dtype=torch.float32)
        return model.eval().to(pick_device(self.device))

    @functools.cached_property
    def _processor(self) -> Any:
        return self.load("image processor", "AutoImageProcessor")

    def _labels(self) -> tuple[str, ...]:
        written = self._written()
        if written.get("id2label"):
            return labels_of_config(written, Path(self.name) / "config.json")
        return in_order(dict(self._config.id2label), f"{self.name}: id2label")

    def _written(self) -> dict[str, Any]:
        """What a folder's configuration says, read without importing `transformers` (two seconds)."""
        try:
            written = json.loads((Path(self.name) / "config.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}  # `transformers` knows what it means, or says what is wrong
        return written if isinstance(written, dict) else {}

    @property
    def task(self) -> Task | None:
        """What the configuration says that the outputs are for."""
        said = self._written() or self._config.to_dict()
        tasks: dict[Any, Task] = {
            "multi_label_classification": "labels",
            "regression": "values",
            "single_label_classification": "classes",
        }
        return tasks.get(said.get("problem_type"))

    def _identity(self) -> Any:
        """The folder's weights, configuration and processor; the resolved commit for a hub id."""
        if Path(self.name).is_dir():
            content = folder_fingerprint(Path(self.name), (".safetensors", ".json"))
        else:
            content = f"{self.name}@{getattr(self._config, '_commit_hash', None)}"
        return version("transformers"), content

    def differentiable(self) -> Differentiable | None:
        """The model and its image processor, for gradients."""
        model = self._model

        def inputs(pictures: Sequence[Image.Image]) -> Any:
            return self._prepared(list(pictures))

        return Differentiable(model, inputs, lambda pixels: model(pixel_values=pixels).logits, _crop(self._processor))

    def _prepared(self, pictures: list[Image.Image]) -> Any:
        """What the image processor makes of pictures: a tensor on the model's device, in its number type."""
        processor, model = self._processor, self._model
        try:
            return processor(images=pictures, return_tensors="pt")["pixel_values"].to(model.device, model.dtype)
        except Exception as error:  # whatever a configuration makes of pictures
            if is_out_of_memory(error):
                raise  # a smaller batch may fit
            raise ClassifierError(
                f"{self.name}: the classifier's image processor failed ({in_words(error)}); correct its "
                "preprocessor_config.json"
            ) from error

    def _ask(self, pixels: Any, **further: Any) -> Any:
        import torch

        try:
            with torch.inference_mode():
                return self._model(pixel_values=pixels, **further)
        except Exception as error:  # whatever a model makes of pixels
            if is_out_of_memory(error):
                raise  # a smaller batch may fit
            raise ClassifierError(
                f"{self.name}: the classifier failed on pixels of shape {tuple(pixels.shape)} "
                f"({in_words(error)}); check that its image processor and weights belong together, and batch_size"
            ) from error

    def _outputs(self, pictures: list[Image.Image]) -> Any:
        return self._ask(self._prepared(pictures))


def _remedy(error: Exception) -> str:
    if problem := torchvision_problem():
        return problem
    cause = f"{type(error).__name__} {error}"
    if "afetensor" in cause and (
        "incomplete" in cause.lower() or "header" in cause.lower() or "buffer" in cause.lower()
    ):
        return "the file of weights is damaged or cut off: get it again"
    if "trust_remote_code" in cause:
        return "it needs code of its own, which is not run: export it to ONNX, or write a python classifier"
    return "name a folder written by save_pretrained with its image processor, or a hub id that this machine can reach"


def _crop(processor: Any) -> float:
    """The share of a square picture's side that an image processor's centre crop leaves."""
    size, crop = getattr(processor, "size", None) or {}, getattr(processor, "crop_size", None) or {}
    scaled = size.get("shortest_edge") or size.get("height")
    resized = scaled if getattr(processor, "do_resize", False) else None
    if not getattr(processor, "do_center_crop", False) or not resized or "height" not in crop:
        return 1.0
    return min(1.0, float(crop["height"] / resized))
