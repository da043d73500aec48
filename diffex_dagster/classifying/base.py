"""What the adapters share: the loop over batches, and one look at what comes back."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from diffex_dagster.classifying.outputs import ENOUGH, Outputs, as_logits, contradiction, rows_of, sums_to_one
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.devices import made_in_batches

if TYPE_CHECKING:
    from diffex_dagster.classifying.gradcam import Differentiable

Task = Literal["classes", "labels", "values"]
"""What the outputs stand for: classes that compete, labels that do not (multi-label), or values (a regression)."""


class BatchedClassifier:
    """A classifier that scores a batch at a time. A kind of classifier overrides `_labels`, `_identity`, `_outputs`.

    `_outputs` lets an error pass as it is that says that memory did not suffice (`is_out_of_memory`).

    Args:
        name: how messages call it: its file, address or checkpoint.
        batch_size: pictures at a time; halved where memory does not suffice.
        outputs: what the model returns; where None, what the model says of itself, else logits.

    Attributes:
        columns: how many outputs the model returned for a picture; None before the first one.
    """

    def __init__(self, name: str, batch_size: int = 32, outputs: Outputs | None = None) -> None:
        self.name, self.batch_size, self.given_outputs = name, batch_size, outputs
        self.columns: int | None = None
        self._summing: int | None = 0  # rows so far that all sum to 1 although they should be logits; None: not all did

    def _labels(self) -> tuple[str, ...]:
        """Class names, without loading the weights."""
        raise NotImplementedError

    def _identity(self) -> Any:
        """Everything that changes an output, as JSON-serialisable data, without loading the weights."""
        raise NotImplementedError

    def _outputs(self, pictures: list[Image.Image]) -> Any:
        """RGB pictures -> what the model returns; see `outputs.rows_of` for the forms that are understood."""
        raise NotImplementedError

    def _says(self) -> tuple[Outputs, str] | None:
        """What the model says that its outputs are, and where; None where it says nothing. Loads no weights."""
        return None

    def differentiable(self) -> Differentiable | None:
        """The model for gradients, loading its weights; None where it is no torch module that can be looked into."""
        return None

    @functools.cached_property
    def outputs(self) -> Outputs:
        """What the model returns: as the study says, else as the model itself says, else logits.

        Raises:
            ClassifierError: the two contradict each other.
        """
        says = self._says()
        if self.given_outputs is None:
            return says[0] if says else "logits"
        one_for_two = says is not None and says[0] == "sigmoid" and self.given_outputs == "probabilities"
        if says and says[0] != self.given_outputs and not (one_for_two and len(self.labels) == 2):
            raise contradiction(self.name, f"the study says outputs: {self.given_outputs}", says[1], [says[0]])
        return self.given_outputs

    @property
    def task(self) -> Task | None:
        """What the outputs stand for, where the model says it."""
        one_for_two = len(self.labels) == 2 and self.columns == 1
        return "labels" if self.outputs == "sigmoid" and not one_for_two else None

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the output's columns."""
        return self._labels()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing and library versions."""
        parts = json.dumps([type(self).__name__, self.outputs, self._identity()], sort_keys=True, default=str)
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures -> logits, float64 of shape (len(pictures), len(labels)); see `outputs.as_logits`.

        Raises:
            ClassifierError: the model cannot be loaded or asked, what it returns fits neither pictures nor labels, or
                is not what the study says that it returns.
        """
        parts = [np.empty((0, len(self.labels)))]

        def asked(batch: Sequence[Image.Image]) -> Any:
            return self._outputs([picture.convert("RGB") for picture in batch])

        too_large = (
            f"{self.name}: one picture alone does not fit into the device's memory: choose another device, or end what "
            "else holds its memory"
        )
        made = made_in_batches(
            pictures, self.batch_size, asked, getattr(self, "device", "cpu"), too_large, ClassifierError
        )
        for batch, returned, at_once in made:
            self.batch_size = at_once
            parts.append(self._checked(returned, len(batch)))
        return np.concatenate(parts)

    def saw(self, logits: np.ndarray, columns: int | None) -> None:
        """Take notice of what the same classifier scored in another process, as if it had been here.

        Args:
            logits: of shape (pictures, classes).
            columns: of the classifier there.

        Raises:
            ClassifierError: what it returned is not what the study says that it returns.
        """
        self.columns = columns
        self._notice(logits if columns == logits.shape[1] else logits[:, -1:])

    def _checked(self, returned: Any, count: int) -> np.ndarray:
        rows = rows_of(returned, count, len(self.labels), self.name)
        self.columns = rows.shape[1]
        logits = as_logits(rows, self.outputs, len(self.labels), self.name)
        self._notice(rows)
        return logits

    def _notice(self, rows: np.ndarray) -> None:
        count = len(rows)
        if self.outputs == "logits" and self._summing is not None:
            self._summing = self._summing + count if sums_to_one(rows).all() else None
            if self._summing is not None and self._summing >= ENOUGH:
                said = "the study says that they are logits" if self.given_outputs else "nothing says what they are"
                seen = f"the outputs of {self._summing} pictures are 0 or more and sum to 1, as probabilities do"
                raise contradiction(self.name, said, seen, ["probabilities"])
