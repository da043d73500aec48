"""A study's editor, judges and classifiers on workers: the same protocols, fingerprints and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.classifying.asking import PORTION as SCORED_AT_ONCE
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.editing.batches import AT_ONCE, batches_of
from diffex_dagster.editing.image_prompts import ImagePrompt, ImagePrompts
from diffex_dagster.editing.protocol import Editor, EditRequest, FiledPicture
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.judging.asking import PORTION
from diffex_dagster.judging.protocol import Judge, Pair, traits_of
from diffex_dagster.store.files import InOrder, StoredPicture, StoredPictures
from diffex_dagster.workers.bench import Measurable, Sent
from diffex_dagster.workers.pool import WORTH, Pool

MEASURED_AT_ONCE = 16  # edits


class _Local:
    """Stands for an object of this process, which answers what costs nothing: its fingerprint, its options."""

    def __init__(self, local: Any) -> None:
        self._local = local

    @property
    def fingerprint(self) -> str:
        """What this process keeps the results under; workers that differ are refused."""
        return str(self._local.fingerprint)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # code that asks what it is hears what it stands for
        return type(self._local) if "_local" in self.__dict__ else object

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._local, name)


class RemoteEditor(_Local):
    """An `Editor` whose edits are made, and written, by workers.

    Args:
        words: that pictures are described in, where those are not in the study (see `TakesSourcePrompts`).
    """

    def __init__(self, local: Any, pool: Pool, words: Mapping[str, Any] | None = None) -> None:
        super().__init__(local)
        self.pool, self._words = pool, words
        self.shortened: set[tuple[str, str]] = set()  # as the workers' editors have it
        self.image_prompts = ImagePrompts()  # what one worker has found the others are told

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, FiledPicture]]]:
        """See `Editor.edit`; the pictures are written already."""
        answers = self.pool.run(
            "edit",
            self.batches(requests),
            self._asked(images),
            lambda request: request.image,
            _in_words,
        )
        for made in answers:
            self.shortened |= getattr(made, "shortened", frozenset())  # an empty answer says that none came
            found: Mapping[str, ImagePrompt] = getattr(made, "described", {})
            self.image_prompts.found |= {image: each for image, each in found.items() if image not in self._told}
            self.image_prompts.tell(found)
            yield made

    def _asked(self, images: Mapping[str, Image.Image]) -> Callable[[Sequence[EditRequest]], tuple[Any, ...]]:
        """What `Bench.edit` is given for a batch, with what is known by then of its pictures."""

        words, kept_under = self._words, "" if self._words is None else self.fingerprint

        def asked(batch: Sequence[EditRequest]) -> tuple[Any, ...]:
            told = {each.image: self._told[each.image] for each in batch if each.image in self._told}
            return _sent(images, [each.image for each in batch]), list(batch), words, told, kept_under

        return asked

    @property
    def _told(self) -> Mapping[str, ImagePrompt]:
        return self.image_prompts.told

    def batches(self, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
        """The requests as they are edited together: as the editor cuts them, whichever worker makes them."""
        return batches_of(self._local, requests)

    @property
    def at_once(self) -> int:
        """How many edits are worth asking for together, so that no worker waits for the last of them."""
        return 8 * self.pool.in_flight * AT_ONCE

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name == "with_source_prompts" and found:
            return lambda words: RemoteEditor(found(words), self.pool, words)
        return (lambda draws: judged_by_workers(found(draws), self)) if name == "judge" and found else found


class RemoteJudge(_Local):
    """A `Judge` whose questions workers answer."""

    def __init__(self, local: Any, pool: Pool) -> None:
        super().__init__(local)
        self.pool = pool

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """See `Judge.evidence`."""
        named = self.fingerprint
        yield from self.pool.run(
            "evidence",
            self.batches(pairs),
            lambda batch: (named, _sent(pictures, [key for key, _ in batch]), list(batch)),
            lambda pair: pair[0],
            lambda pair: f"the question whether a picture shows {pair[1]!r}",
        )

    def batches(self, pairs: Sequence[Pair]) -> list[list[Pair]]:
        """The pairs as one process would judge them together: portion by portion, as the judge cuts each."""
        portions = [pairs[start : start + PORTION] for start in range(0, len(pairs), PORTION)]
        return [list(batch) for portion in portions for batch in getattr(self._local, "batches", _by_picture)(portion)]

    @property
    def portions(self) -> int:
        """How many portions are worth asking for together, so that no worker waits for the last of them."""
        return self.pool.in_flight


class RemoteClassifier(_Local):
    """A `Classifier` which has workers score what is stored already; other pictures it scores itself.

    Args:
        local: scores in this process.
        name: what the study calls it.
    """

    def __init__(self, local: Any, name: str) -> None:
        super().__init__(local)
        self._name, self._editor = name, _nobody

    def ask_workers_of(self, editor: Callable[[], Any]) -> None:
        """Say whose workers score: those of the editor in use, which is asked for when there is something to score."""
        self._editor = editor

    @property
    def portions(self) -> int:
        """How many portions are worth asking for together, so that no worker waits for the last of them."""
        pool = _pool_of(self._editor())
        return max(pool.in_flight, WORTH) if pool else 1

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """See `Classifier.__call__`; the portions that workers get are those that one process would score."""
        pool = _pool_of(self._editor()) if isinstance(pictures, InOrder) else None
        if pool is None or not isinstance(pictures, InOrder) or not pool.helps(-(-len(pictures) // SCORED_AT_ONCE)):
            return np.asarray(self._local(list(pictures)))
        files = [each.relative for each in pictures.stored]
        name, fingerprint = self._name, self.fingerprint
        answers = pool.run(
            "score",
            [files[start : start + SCORED_AT_ONCE] for start in range(0, len(files), SCORED_AT_ONCE)],
            lambda batch: (name, fingerprint, list(batch)),
            str,
            lambda file: f"{name}'s score of {file}",
        )
        found: dict[str, np.ndarray] = {}
        saw = getattr(self._local, "saw", None)
        for batch in answers:
            found |= {file: outputs for file, outputs, _ in batch}
            if saw and batch:
                saw(np.stack([outputs for _, outputs, _ in batch]), batch[0][2])
        return np.stack([found[file] for file in files])


def _nobody() -> None:
    return None


def _by_picture(pairs: Sequence[Pair]) -> list[list[Pair]]:
    batches: list[list[Pair]] = [[]]
    for _, of in groupby(sorted(dict.fromkeys(pairs)), key=lambda pair: pair[0]):
        if len(batches[-1]) >= AT_ONCE:
            batches.append([])
        batches[-1] += of
    return [batch for batch in batches if batch]


def on_workers(editor: Editor, pool: Pool) -> Editor:
    """An editor whose edits are made by a pool of workers."""
    made: Any = RemoteEditor(editor, pool)
    return made


def judged_by_workers(judge: Judge, editor: Any) -> Judge:
    """A judge whose questions the workers of a remote editor answer; as it is where that has none.

    One that asks a server stays where its answers are kept, its key is and its requests are counted.
    """
    pool = _pool_of(editor)
    if pool is None or type(judge) is RemoteJudge or traits_of(judge).networked:
        return judge
    made: Any = RemoteJudge(judge, pool)
    return made


def scored_by_workers(classifier: Classifier, name: str) -> Classifier:
    """A classifier of a study which workers score with, once it is told whose (`RemoteClassifier.ask_workers_of`)."""
    made: Any = RemoteClassifier(classifier, name)
    return made


def measured_by_workers(
    editor: Any, pairs: Mapping[str, tuple[StoredPicture, StoredPicture]], masks: Mapping[str, Image.Image]
) -> dict[str, EditMetrics] | None:
    """What edits changed, measured by the workers of an editor; None where it has none, or it is not worth it.

    Args:
        editor: whose edits these are.
        pairs: key of an edit -> (edit, its null edit).
        masks: key of an edit -> where it was allowed to change its picture, of those of which it is known.
    """
    pool = _pool_of(editor)
    edits: list[Measurable] = sorted(((k, e.relative, n.relative) for k, (e, n) in pairs.items()), key=lambda of: of[2])
    batches = [edits[start : start + MEASURED_AT_ONCE] for start in range(0, len(edits), MEASURED_AT_ONCE)]
    if pool is None or not pool.helps(len(batches)):
        return None
    answers = pool.run(
        "measure",
        batches,
        lambda batch: ({key: masks[key] for key, _, _ in batch if key in masks}, list(batch)),
        lambda each: each[2],
        lambda each: f"what {each[1]} changed",
    )
    return {key: metrics for batch in answers for key, metrics in batch}


def _pool_of(editor: Any) -> Pool | None:
    pool = getattr(editor, "pool", None)
    return pool if isinstance(pool, Pool) else None


def _sent(pictures: Mapping[str, Image.Image], keys: Sequence[str]) -> Sent:
    """Pictures on their way to a worker: what is stored goes as the name of its file."""
    stored = pictures.stored if isinstance(pictures, StoredPictures) else {}
    return {key: stored[key].relative if key in stored else pictures[key] for key in dict.fromkeys(keys)}


def _in_words(request: EditRequest) -> str:
    what = " and ".join(f"{c.direction} {c.prompt!r}" for c in request.concepts) or "the null edit"
    return f"{what} on image {request.image[:12]} (seed {request.seed})"
