"""A `transformers` image classifier as pictures -> logits, with the model's own image processor."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.gradcam import Differentiable
from diffex_dagster.errors import ClassifierError, first_line
from diffex_dagster.utils.hashing import folder_fingerprint


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

    def load(self, what: str, loader: Any, **options: Any) -> Any:
        """`loader.from_pretrained` of the checkpoint; ClassifierError says what cannot be loaded and the remedy."""
        if Path(self.name).is_absolute() and not (Path(self.name) / "config.json").exists():
            raise ClassifierError(
                f"{self.name}: there is no classifier in this folder (no config.json); name a folder written by "
                "save_pretrained, or a hub id"
            )
        if not Path(self.name).is_absolute():
            options["revision"] = self.revision
        try:
            return loader.from_pretrained(self.name, **options)
        except (OSError, ValueError, ImportError) as error:
            raise ClassifierError(
                f"{self.name}: the classifier's {what} cannot be loaded ({first_line(error)}); name a "
                "folder written by save_pretrained with its image processor, or a hub id that this machine can reach"
            ) from error

    @functools.cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return self.load("configuration", AutoConfig)

    @functools.cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageClassification

        return self.place(AutoModelForImageClassification)

    def place(self, loader: Any) -> Any:
        """The model, in evaluation mode on its device. Never unpickled: its weights are safetensors, or it fails."""
        from diffex_dagster.utils.devices import load_quietly, pick_device

        load_quietly()
        return self.load("weights", loader, use_safetensors=True).eval().to(pick_device(self.device))

    @functools.cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        return self.load("image processor", AutoImageProcessor)

    def _labels(self) -> tuple[str, ...]:
        names = self._written_labels() or self._config.id2label
        return tuple(names[i] for i in range(len(names)))

    def _written_labels(self) -> dict[int, str]:
        """What a folder's configuration calls its classes, read without importing `transformers` (two seconds)."""
        try:
            written = json.loads((Path(self.name) / "config.json").read_text("utf-8"))
            return {int(number): str(name) for number, name in written["id2label"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # `transformers` knows what it means, or says what is wrong

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
            return self._processor(images=list(pictures), return_tensors="pt").to(model.device)["pixel_values"]

        return Differentiable(model, inputs, lambda pixels: model(pixel_values=pixels).logits, _crop(self._processor))

    def _outputs(self, pictures: list[Image.Image]) -> np.ndarray:
        import torch

        inputs = self._processor(images=pictures, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            return np.asarray(self._model(**inputs).logits.double().cpu().numpy())


def _crop(processor: Any) -> float:
    """The share of a square picture's side that an image processor's centre crop leaves."""
    size, crop = getattr(processor, "size", None) or {}, getattr(processor, "crop_size", None) or {}
    scaled = size.get("shortest_edge") or size.get("height")
    resized = scaled if getattr(processor, "do_resize", False) else None
    if not getattr(processor, "do_center_crop", False) or not resized or "height" not in crop:
        return 1.0
    return min(1.0, float(crop["height"] / resized))
