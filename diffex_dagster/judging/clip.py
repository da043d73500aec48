"""CLIP direction: does the picture move towards the concept's words in CLIP space?

Evidence for a concept is ⟨E(picture), t⟩ with t the unit vector from the embedding of a neutral text to that of the
concept. From null edit to edit it rises by the length of the move times the directional similarity of StyleGAN-NADA
(Gal et al. 2022, arXiv 2108.00946, equation 4), so that its sign is the sign of that similarity.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.errors import ClassifierError, at_the_boundary
from diffex_dagster.judging.protocol import Pair
from diffex_dagster.utils.hashing import folder_fingerprint

_BATCH = 32


class ClipProbe:
    """A `ConceptProbe` on a CLIP model; loads at the first question.

    Args:
        checkpoint: a folder written by `save_pretrained` (model and processor), or a hub id.
        template: the sentence around a concept; around the domain alone it is the neutral text.
        domain: what the pictures show, the neutral text's subject.
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(self, checkpoint: str, domain: str, template: str = "a picture of {}", device: str = "auto") -> None:
        self.checkpoint, self.domain, self.template, self.device = checkpoint, domain, template, device
        self._texts: dict[str, np.ndarray] = {}

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the folder's weights, or of the hub id, with the texts around a concept."""
        folder = Path(self.checkpoint)
        content = folder_fingerprint(folder, (".safetensors", ".json")) if folder.is_dir() else self.checkpoint
        return hashlib.sha256(f"clip probe 1 {content} {self.domain} {self.template}".encode()).hexdigest()

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """See `ConceptProbe.evidence`; every picture is embedded once.

        Raises:
            ClassifierError: the model cannot be loaded.
        """
        of: dict[str, list[str]] = {}
        for key, prompt in dict.fromkeys(pairs):
            of.setdefault(key, []).append(prompt)
        keys = list(of)
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            embedded = self._pictures([pictures[key] for key in batch])
            yield [
                ((key, prompt), float(vector @ self._direction(prompt)))
                for key, vector in zip(batch, embedded, strict=True)
                for prompt in of[key]
            ]

    def _direction(self, prompt: str) -> np.ndarray:
        concept = f"{self.domain} with {prompt}" if self.domain else prompt
        step = self._text(self.template.format(concept)) - self._text(self.template.format(self.domain or "something"))
        length = float(np.linalg.norm(step))
        return step / length if length else step

    def _text(self, text: str) -> np.ndarray:
        import torch

        if text not in self._texts:
            model, processor = self._model
            inputs = processor(text=[text], return_tensors="pt", padding=True, truncation=True).to(model.device)
            with torch.inference_mode():
                self._texts[text] = _unit(_vectors(model.get_text_features(**inputs)))[0]
        return self._texts[text]

    def _pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        import torch

        model, processor = self._model
        inputs = processor(images=[p.convert("RGB") for p in pictures], return_tensors="pt").to(model.device)
        with torch.inference_mode():
            return _unit(_vectors(model.get_image_features(**inputs)))

    @functools.cached_property
    def _model(self) -> tuple[Any, Any]:
        from transformers import CLIPModel, CLIPProcessor

        from diffex_dagster.utils.devices import load_quietly, pick_device

        load_quietly()
        with at_the_boundary(
            f"{self.checkpoint}: the probe's CLIP model cannot be loaded",
            "name a folder written by save_pretrained with its processor, or a hub id that this machine can reach",
            ClassifierError,
        ):
            model = CLIPModel.from_pretrained(self.checkpoint, use_safetensors=True)
            processor = CLIPProcessor.from_pretrained(self.checkpoint)
        return model.eval().to(pick_device(self.device)), processor


def _vectors(features: Any) -> np.ndarray:
    """transformers 5 returns an output object where transformers 4 returned the tensor."""
    tensor = getattr(features, "pooler_output", features)
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float64)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
