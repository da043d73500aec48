"""The pictures of a report: where the edits of the sample images are, what each changed, and which are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.effects.perceptual import Lpips
from diffex_dagster.results import Example
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edit_metrics import edit_metrics_of
from diffex_dagster.stages.edits import Concepts, concepts_of, edit_requests
from diffex_dagster.stages.scores import Paired
from diffex_dagster.store import StoredPicture, StoredPictures, edit_key

MANY_IMAGES = 32  # examples of a feature on the page; all of them in the database


@dataclass(frozen=True)
class Pictures:
    """Sample images of a study at work and their edits: where they are in the store. Each is read when it is needed."""

    work: StudyContext
    samples: StoredPictures
    _files: dict[EditRequest, str] = field(default_factory=dict)  # found so far

    def find(self, combinations: Iterable[Concepts]) -> None:
        """Look the edits of every image up at once; what `edits` has not got it looks up itself."""
        self._find(edit_requests(list(self.samples), combinations, [self.work.study.seed]))

    def _find(self, requests: Sequence[EditRequest]) -> None:
        self._files.update(self.work.store.stored_edits(requests, self.work.editor.fingerprint))

    def edits(self, concepts: Concepts, images: Sequence[str] | None = None) -> list[StoredPicture]:
        """The edit of every sample image, in their order."""
        requests = [EditRequest(image, concepts, self.work.study.seed) for image in images or self.samples]
        if missing := [request for request in requests if request not in self._files]:
            self._find(missing)
        return [StoredPicture(self.work.store.pictures, self._files[request]) for request in requests]

    def metrics(self, features: Sequence[Feature]) -> tuple[dict[str, list[EditMetrics]], str]:
        """Feature -> what its edit of each image changed; and why there is no LPIPS, where it was asked for."""
        study, editor, nulls = self.work.study, self.work.editor.fingerprint, self.edits(())
        asked = {}
        for feature in features:
            concepts = concepts_of([feature])
            requests = edit_requests(list(self.samples), [concepts], [study.seed])
            pairs = zip(self.edits(concepts), nulls, strict=True)
            asked[feature.id] = dict(zip((edit_key(r, editor) for r in requests), pairs, strict=True))
        lpips = Lpips(study.report.lpips) if study.report.lpips else None
        every = {key: pair for of_feature in asked.values() for key, pair in of_feature.items()}
        found, note = edit_metrics_of(self.work.store, every, lpips, self.work.editor)
        return {feature: [found[key] for key in of_feature] for feature, of_feature in asked.items()}, note


@dataclass(frozen=True)
class Album:
    """What the examples of every feature have in common.

    Attributes:
        pictures: the sample images and their edits.
        files: image key -> the name of the file that it was read from.
        originals: target measure of the unedited images, shape (images,).
    """

    pictures: Pictures
    files: Mapping[str, str]
    originals: np.ndarray

    def examples(
        self,
        concepts: Concepts,
        paired: Paired,
        succeeded: np.ndarray | None = None,
        on: np.ndarray | None = None,
    ) -> tuple[Example, ...]:
        """The images of one edit by descending effect; both ends where there are more than the page shows.

        Args:
            succeeded: whether each edit shows its attribute, (images,); None where nobody judges.
            on: the images that the effect is over, (images,); all when left out.
        """
        nulls, edits = self.pictures.edits(()), self.pictures.edits(concepts)
        examples = [
            Example(
                key,
                picture,
                nulls[i],
                edits[i],
                float(paired.null[i]),
                float(paired.edit[i]),
                bool(paired.flips[i]),
                succeeded=None if succeeded is None else bool(succeeded[i]),
                score_original=float(self.originals[i]),
                score_placebo=None if paired.placebo is None else float(paired.placebo[i]),
                becomes=paired.turn_of(i)[0],
                leaves=paired.turn_of(i)[1],
                file=self.files.get(key, ""),
                counted=on is None or bool(on[i]),
            )
            for i, (key, picture) in enumerate(self.pictures.samples.stored.items())
        ]
        examples.sort(key=lambda example: -example.effect)
        half = MANY_IMAGES // 2
        return tuple(examples if len(examples) <= MANY_IMAGES else examples[:half] + examples[-half:])
