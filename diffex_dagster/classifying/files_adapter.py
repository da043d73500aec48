"""What model files have in common, whatever runs them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from diffex_dagster.classifying.base import BatchedClassifier, Task
from diffex_dagster.classifying.manifests import Manifest, load_manifest, manifest_beside
from diffex_dagster.classifying.outputs import Outputs, rows_of
from diffex_dagster.classifying.parts import Preprocessing
from diffex_dagster.classifying.preprocessing import merged, read_labels
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.hashing import file_fingerprint


class FileClassifier(BatchedClassifier):
    """A model in a file, with labels, preprocessing and outputs from the study, a manifest and the file itself.

    Preprocessing is put together field by field: what the study says wins over a manifest, and a manifest over what the
    file says of its input (size, layout, channels).

    Args:
        file: the model.
        labels: class names in order, or a file with them.
        preprocessing: from a picture to the model's input; pixels in [0, 1] where nobody says more.
        manifest: see `load_manifest`; what lies beside the model when None.
        batch_size: pictures at a time; a model that was exported for a fixed number gets that number.
        device: "auto", "cpu", "cuda" or "mps".
        outputs: "logits", "probabilities" or "sigmoid"; where None, what manifest and file say.
    """

    def __init__(
        self,
        file: Path,
        labels: Sequence[str] | Path = (),
        preprocessing: Preprocessing | None = None,
        *,
        manifest: Path | None = None,
        batch_size: int = 32,
        device: str = "auto",
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__(str(file), batch_size, outputs)
        self.file, self.device, self.given_labels = file, device, labels
        self.given_preprocessing, self.given_manifest = preprocessing, manifest

    @functools.cached_property
    def _manifest(self) -> Manifest:
        return manifest_beside(self.file) if self.given_manifest is None else load_manifest(self.given_manifest)

    @functools.cached_property
    def _stated(self) -> Preprocessing:
        """What study and manifest say; the file's own facts are in its hash already."""
        return merged(self._manifest.preprocessing, self.given_preprocessing)

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the model's input."""
        return merged(self._facts(), self._manifest.preprocessing, self.given_preprocessing)

    def _facts(self) -> dict[str, Any]:
        """What the file says of its input, as fields of `Preprocessing`."""
        return {}

    @property
    def says_preparation(self) -> bool:
        """Whether study, manifest or file say how pixels become numbers; where none does, those are 0 to 1."""
        return bool({"scale", "mean", "std"} & self._stated.model_fields_set)

    def _says(self) -> tuple[Outputs, str] | None:
        said = self._manifest.outputs
        return (said, f"{self._manifest.file} says outputs: {said}") if said else None

    @property
    def task(self) -> Task | None:
        """What the outputs stand for, where the model's last operator or a configuration beside it says so."""
        return super().task or self._manifest.task

    def _own_labels(self) -> tuple[str, ...]:
        """What the file itself calls its classes."""
        return ()

    def _labels(self) -> tuple[str, ...]:
        own = self._own_labels()
        labels = read_labels(self.given_labels) or self._manifest.labels or own
        if own and labels != own and sorted(labels) == sorted(own):
            raise ClassifierError(
                f"{self.name}: labels: the model file itself has them in another order ({', '.join(own[:5])}"
                f"{', …' if len(own) > 5 else ''}); leave them out, or correct the order"
            )
        if not labels:
            raise ClassifierError(
                f"{self.name}: labels: a model file does not say what its outputs are; name the classes in their order"
            )
        return labels

    def _identity(self) -> Any:
        return version("torch"), self._content()

    def _content(self) -> Any:
        self._exists()
        return file_fingerprint(self.file), self.labels, self._stated.model_dump()

    def _exists(self) -> None:
        if not self.file.is_file():
            what = "this is a folder" if self.file.is_dir() else "there is no such model file"
            raise ClassifierError(f"{self.name}: file: {what}; export the model there")

    def _fixed(self, array: np.ndarray, count: int | None, run: Any) -> Any:
        """Run a model whose batch size is fixed at `count`: the last batch is filled up and cut again."""
        if count is None:
            return run(array)
        parts = []
        for start in range(0, len(array), count):
            part = array[start : start + count]
            filled = np.concatenate([part, np.repeat(part[-1:], count - len(part), axis=0)])
            parts.append(rows_of(run(filled), count, len(self.labels), self.name)[: len(part)])
        return np.concatenate(parts)
