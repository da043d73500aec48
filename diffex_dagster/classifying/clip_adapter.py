"""CLIP (or SigLIP) zero-shot: a class is a sentence, its logit the scaled cosine of picture and sentence."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from diffex_dagster.classifying.base import Task
from diffex_dagster.classifying.parts import ClassifierPart, Label, Where
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.transformers_adapter import TransformersClassifier


class ClipPart(ClassifierPart):
    """Zero-shot classification with CLIP (or SigLIP): a class is a sentence."""

    short: ClassVar[str] = "checkpoint"

    kind: Literal["clip"] = "clip"
    checkpoint: str = Field("openai/clip-vit-base-patch32", description="a hub id, or a folder beside the study file")
    revision: str | None = None
    labels: tuple[Label, ...] = Field(min_length=1, description="the classes, in words")
    template: str = Field("a photo of a {}", pattern=r"\{\}", description="the sentence; {} is the class")

    def build(self, where: Where) -> Classifier:
        """A `ClipClassifier`."""
        name = where.checkpoint(self.checkpoint)
        return ClipClassifier(name, self.labels, self.template, revision=self.revision, **self.common(where))


class ClipClassifier(TransformersClassifier):
    """Zero-shot classification, as in Radford et al. 2021 (arXiv 2103.00020), section 3.1.

    Args:
        checkpoint: a folder written by `save_pretrained` with its processor, or a hub id.
        labels: the classes, in words.
        template: the sentence of a class; "{}" is its label.
    """

    def __init__(
        self,
        checkpoint: str,
        labels: Sequence[str],
        template: str = "a photo of a {}",
        batch_size: int = 32,
        device: str = "auto",
        revision: str | None = None,
    ) -> None:
        super().__init__(checkpoint, batch_size, device, revision)
        self.classes, self.template = tuple(labels), template

    @functools.cached_property
    def _model(self) -> Any:
        return self.place("AutoModelForZeroShotImageClassification")

    @functools.cached_property
    def _text(self) -> Any:
        """The token ids of the sentences, which every batch shares."""
        tokenizer = self.load("tokenizer", "AutoTokenizer")
        # SigLIP was trained with every sentence padded to its longest.
        padding = "max_length" if "siglip" in self._config.model_type else True
        sentences = [self.template.replace("{}", label) for label in self.classes]
        return tokenizer(sentences, padding=padding, truncation=True, return_tensors="pt").to(self._model.device)

    def _labels(self) -> tuple[str, ...]:
        return self.classes

    def _identity(self) -> Any:
        return super()._identity(), self.classes, self.template

    @property
    def task(self) -> Task | None:
        """Sentences compete, whatever the configuration was trained for."""
        return "classes"

    def _outputs(self, pictures: list[Image.Image]) -> Any:
        return self._ask(self._prepared(pictures), **self._text).logits_per_image
