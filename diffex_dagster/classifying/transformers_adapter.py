"""A `transformers` image classifier as pictures -> logits, with the model's own image processor."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.errors import ClassifierError
from diffex_dagster.hashing import folder_fingerprint


class TransformersClassifier:
    """Loads on the first call; the labels and the fingerprint are known without loading the weights.

    Args:
        checkpoint: a folder written by `save_pretrained`, or a hub id.
        batch_size: pictures at a time.
        device: "auto" (the GPU where there is one), "cpu", "cuda" or "mps".
    """

    def __init__(self, checkpoint: str, batch_size: int = 32, device: str = "auto") -> None:
        self.checkpoint, self.batch_size, self.device = checkpoint, batch_size, device

    def _load(self, what: str, loader: Any) -> Any:
        local = Path(self.checkpoint).is_absolute()
        if local and not (Path(self.checkpoint) / "config.json").exists():
            raise ClassifierError(
                f"{self.checkpoint}: there is no classifier in this folder (no config.json); name a folder written by "
                "save_pretrained, or a hub id"
            )
        try:
            return loader.from_pretrained(self.checkpoint)
        except (OSError, ValueError, ImportError) as error:
            raise ClassifierError(
                f"{self.checkpoint}: the classifier's {what} cannot be loaded ({str(error).splitlines()[0]}); name a "
                "folder written by save_pretrained with its image processor, or a hub id that this machine can reach"
            ) from error

    @functools.cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return self._load("configuration", AutoConfig)

    @functools.cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageClassification

        from diffex_dagster.devices import load_quietly, pick_device

        load_quietly()
        model = self._load("weights", _SafetensorsOnly(AutoModelForImageClassification))
        return model.eval().to(pick_device(self.device))

    @functools.cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        return self._load("image processor", AutoImageProcessor)

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names from id2label."""
        names = self._config.id2label
        return tuple(names[i] for i in range(len(names)))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the folder's weights, configuration and processor; of the resolved commit for a hub id."""
        import transformers

        if Path(self.checkpoint).is_dir():
            content = folder_fingerprint(Path(self.checkpoint), (".safetensors", ".json"))
        else:
            content = f"{self.checkpoint}@{getattr(self._config, '_commit_hash', None)}"
        return hashlib.sha256(f"transformers {transformers.__version__} {content}".encode()).hexdigest()[:16]

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures -> logits, float64 of shape (len(pictures), len(labels)).

        Raises:
            ClassifierError: the model cannot be loaded, or its output has another number of classes than its labels.
        """
        import torch

        parts = [np.empty((0, len(self.labels)))]
        for start in range(0, len(pictures), self.batch_size):
            batch = [picture.convert("RGB") for picture in pictures[start : start + self.batch_size]]
            inputs = self._processor(images=batch, return_tensors="pt").to(self._model.device)
            with torch.inference_mode():
                parts.append(self._model(**inputs).logits.double().cpu().numpy())
        outputs = np.concatenate(parts)
        if outputs.shape[1] != len(self.labels):
            raise ClassifierError(
                f"{self.checkpoint}: the classifier returns {outputs.shape[1]} outputs but id2label names "
                f"{len(self.labels)}; mend id2label in config.json"
            )
        return outputs


class _SafetensorsOnly:
    """Never unpickles: weights come from safetensors or not at all."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def from_pretrained(self, checkpoint: str) -> Any:
        return self.loader.from_pretrained(checkpoint, use_safetensors=True)
