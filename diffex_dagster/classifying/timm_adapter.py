"""A timm model with the preprocessing of its pretrained configuration.

timm itself imports torchvision, so it comes with the extra `timm` and not with the base install.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.gradcam import Differentiable
from diffex_dagster.classifying.manifests import of_timm
from diffex_dagster.classifying.outputs import Outputs
from diffex_dagster.classifying.parts import Preprocessing, TensorPart, Where
from diffex_dagster.classifying.preprocessing import as_array, merged, read_labels
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.torch_modules import module_for_gradients, run_torch
from diffex_dagster.errors import ClassifierError, in_words
from diffex_dagster.utils.devices import torchvision_problem
from diffex_dagster.utils.hashing import file_fingerprint


class TimmPart(TensorPart):
    """A timm model (`pip install diffex-dagster[timm]`), with the preprocessing of its pretrained configuration."""

    short: ClassVar[str] = "model"

    kind: Literal["timm"] = "timm"
    model: str = Field(description="timm's name of it, or hf-hub:owner/name")
    weights: Path | None = Field(None, description="a .safetensors file; the pretrained weights when left out")

    def build(self, where: Where) -> Classifier:
        """A `TimmClassifier`."""
        weights = None if self.weights is None else where.path(self.weights)
        return TimmClassifier(self.model, weights=weights, **self.common(where))


class TimmClassifier(BatchedClassifier):
    """Any model that `timm.create_model` makes.

    Args:
        model: timm's name of it ("resnet50.a1_in1k"), or "hf-hub:owner/name".
        labels: class names in order, or a file with one a line; the configuration's own where it has them.
        weights: a .safetensors file of trained weights; timm's pretrained ones when None.
        preprocessing: instead of the pretrained configuration's.
        batch_size: pictures at a time.
        device: "auto", "cpu", "cuda" or "mps".
        outputs: "logits", "probabilities" or "sigmoid"; logits when None.
    """

    def __init__(
        self,
        model: str,
        labels: Sequence[str] | Path = (),
        weights: Path | None = None,
        preprocessing: Preprocessing | None = None,
        *,
        batch_size: int = 32,
        device: str = "auto",
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__(model, batch_size, outputs)
        self.weights, self.given_preprocessing, self.device = weights, preprocessing, device
        self.given_labels = read_labels(labels)

    @functools.cached_property
    def _timm(self) -> Any:
        try:
            import timm
        except Exception as error:  # a torchvision that does not fit torch raises RuntimeError
            remedy = torchvision_problem() or (
                "run `pip install diffex-dagster[timm]`, with the torchvision that belongs to the installed torch"
            )
            raise ClassifierError(f"{self.name}: timm cannot be imported ({in_words(error)}); {remedy}") from error
        return timm

    @functools.cached_property
    def _model(self) -> tuple[Any, str]:
        from diffex_dagster.utils.devices import pick_device

        device = pick_device(self.device)
        timm = self._timm
        # With another number of classes timm would give pretrained weights a new head of random numbers.
        own = bool(self.given_labels) and self.weights is not None
        options: dict[str, Any] = {"num_classes": len(self.given_labels)} if own else {}
        try:
            model = timm.create_model(self.name, pretrained=self.weights is None, **options)
            if self.weights is not None:
                from safetensors.torch import load_file

                model.load_state_dict(load_file(self.weights))
        except Exception as error:  # timm, the hub and safetensors each raise their own
            raise ClassifierError(
                f"{self.name}: the timm model cannot be loaded ({in_words(error)}); check its name with "
                "timm.list_models(), the number of labels, and the weights file"
            ) from error
        return model.eval().to(device), device

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """The study's, or that of the pretrained configuration."""
        return merged(of_timm(self._model[0].pretrained_cfg, self.name), self.given_preprocessing)

    def _labels(self) -> tuple[str, ...]:
        if self.given_labels:
            return self.given_labels
        names = self._model[0].pretrained_cfg.get("label_names")
        if not names:
            raise ClassifierError(f"{self.name}: labels: the timm model names no classes; list them in their order")
        return tuple(names)

    def _identity(self) -> Any:
        if self.weights is None:
            content: Any = dict(self._model[0].pretrained_cfg)  # names the checkpoint that was downloaded
        elif self.weights.is_file():
            content = file_fingerprint(self.weights)
        else:
            raise ClassifierError(f"{self.weights}: weights: there is no such file; name a .safetensors file")
        return self._timm.__version__, self.name, content, self.labels, self.preprocessing.model_dump()

    def differentiable(self) -> Differentiable | None:
        """The model with its preprocessing, for gradients."""
        model, device = self._model
        return module_for_gradients(model, self.preprocessing, device, self.outputs, len(self.labels))

    def _outputs(self, pictures: list[Image.Image]) -> Any:
        model, device = self._model
        return run_torch(model, as_array(pictures, self.preprocessing), device)
