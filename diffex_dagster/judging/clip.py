"""CLIP direction: does the picture move towards the concept's words in CLIP space?

Evidence for a concept is ⟨E(picture), t⟩ with t the unit vector from the embedding of a neutral text to that of the
concept. From null edit to edit it rises by the length of the move times the directional similarity of StyleGAN-NADA
(Gal et al. 2022, arXiv 2108.00946, equation 4), so that its sign is the sign of that similarity.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image
from pydantic import Field

from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import ClassifierError, StudyError, at_the_boundary
from diffex_dagster.judging.parts import JudgePart, Where
from diffex_dagster.judging.protocol import Judge, Pair
from diffex_dagster.utils.hashing import folder_fingerprint
from diffex_dagster.utils.hub import cached_folder, hub_is_off, is_hub_id
from diffex_dagster.utils.weights import check_weights

_BATCH = 32
Item = TypeVar("Item")


class ClipJudgePart(JudgePart):
    """Judge edits with a CLIP model: a hub id, or a folder beside the study file."""

    kind: Literal["clip"] = "clip"
    checkpoint: str
    template: str = Field("a picture of {}", pattern=r"\{\}", description="the sentence around a concept")
    device: str = "auto"

    def build(self, where: Where, editor: Editor) -> Judge:
        """A `ClipJudge`, whatever the editor is."""
        device = where.device if self.device == "auto" else self.device
        return ClipJudge(where.checkpoint(self.checkpoint), where.domain, self.template, device or "auto")

    def works_on(self) -> str:
        """Its `device`."""
        return self.device

    def check(self, where: Where, to_be_loaded: bool = True) -> str:
        """Whether the model is in its folder, or can be had from the hub."""
        folder = Path(where.checkpoint(self.checkpoint))
        if not is_hub_id(where.checkpoint, self.checkpoint):
            if absent := missing_of_clip(folder):
                raise StudyError(
                    f"{where.field}.checkpoint: {folder} holds no {absent}; name a folder that save_pretrained of "
                    "model and processor wrote, or a hub id"
                )
            check_weights(folder, StudyError)
        elif to_be_loaded and hub_is_off():
            absent = missing_of_clip(cached) if (cached := cached_folder(self.checkpoint)) else "config.json"
            if absent:
                raise StudyError(
                    f"{where.field}.checkpoint: {self.checkpoint} is not on this machine ({absent} is missing), and "
                    "HF_HUB_OFFLINE is set; unset it, or name the checkpoint's folder"
                )
        return "is there, or comes from the hub"


class ClipJudge:
    """A `Judge` on a CLIP model; loads at the first question.

    Args:
        checkpoint: a folder written by `save_pretrained` (model and processor), or a hub id.
        template: the sentence around a concept; around the domain alone it is the neutral text.
        domain: what the pictures show, the neutral text's subject.
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(self, checkpoint: str, domain: str, template: str = "a picture of {}", device: str = "auto") -> None:
        self.checkpoint, self.domain, self.template, self.device = checkpoint, domain, template, device
        self._texts: dict[str, np.ndarray] = {}
        self._at_once = _BATCH  # pictures: halved where memory does not suffice

    @property
    def name(self) -> str:
        """As a report says it."""
        return f"CLIP ({Path(self.checkpoint).name})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the folder's weights, or of the hub id, with the texts around a concept."""
        folder = Path(self.checkpoint)
        content = folder_fingerprint(folder, (".safetensors", ".json")) if folder.is_dir() else self.checkpoint
        return hashlib.sha256(f"clip probe 1 {content} {self.domain} {self.template}".encode()).hexdigest()

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """See `Judge.evidence`; every picture is embedded once.

        Raises:
            ClassifierError: the model cannot be loaded.
        """
        of: dict[str, list[str]] = {}
        for key, prompt in dict.fromkeys(pairs):
            of.setdefault(key, []).append(prompt)
        for batch, embedded in self._embedded(list(of), lambda batch: [pictures[key] for key in batch]):
            yield [
                ((key, prompt), float(vector @ self._direction(prompt)))
                for key, vector in zip(batch, embedded, strict=True)
                for prompt in of[key]
            ]

    def embeddings(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Where pictures lie in the model's space, (pictures, numbers), each of length 1.

        Raises:
            ClassifierError: the model cannot be loaded.
        """
        return np.concatenate([vectors for _, vectors in self._embedded(pictures, list)])

    def _embedded(
        self, items: Sequence[Item], shown: Callable[[Sequence[Item]], list[Image.Image]]
    ) -> Iterator[tuple[Sequence[Item], np.ndarray]]:
        """A batch at a time, fewer where memory does not suffice: what pictures are of, and their unit vectors."""
        from diffex_dagster.utils.devices import made_in_batches

        too_large = (
            f"{self.checkpoint}: one picture alone does not fit into the memory of the judge's device: choose another "
            "one, a smaller CLIP model, or end what else holds the memory"
        )
        made = made_in_batches(
            items, self._at_once, lambda batch: self._pictures(shown(batch)), self.device, too_large, ClassifierError
        )
        for batch, vectors, at_once in made:
            self._at_once = at_once
            yield batch, vectors

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
            f"{self.checkpoint}: the judge's CLIP model cannot be loaded",
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


def missing_of_clip(folder: Path) -> str:
    """What a folder lacks of a CLIP model with its processor, in words; "" where all is there. Loads nothing."""

    def there(*names: str) -> bool:
        return all((folder / name).is_file() and (folder / name).stat().st_size > 0 for name in names)

    if not there("config.json"):
        return "model (config.json)"
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not there("model.safetensors"):
        try:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return f"list of weights that can be read ({index.name})"
        if absent := sorted(shard for shard in shards if not there(str(shard))):
            return f"weights {absent[0]}, which {index.name} names"
    elif not there("model.safetensors"):
        other = " (pytorch_model.bin can run code and is not read)" if there("pytorch_model.bin") else ""
        return f"weights model.safetensors{other}"
    if not there("preprocessor_config.json") and not there("processor_config.json"):
        return "image processor (preprocessor_config.json)"
    if not there("tokenizer.json") and not there("vocab.json", "merges.txt"):
        return "tokenizer (tokenizer.json, or vocab.json with merges.txt)"
    return ""
