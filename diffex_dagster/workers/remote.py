"""A study's editor and judge on workers: the same protocols, the same fingerprints, the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from PIL import Image

from diffex_dagster.editing.batches import AT_ONCE, batches_of
from diffex_dagster.editing.protocol import Editor, EditRequest, FiledPicture
from diffex_dagster.judging.asking import PORTION
from diffex_dagster.judging.protocol import ConceptProbe, Pair
from diffex_dagster.workers.pool import Pool


class _Local:
    """Stands for an object of this process, which answers what costs nothing: its fingerprint, its options."""

    def __init__(self, local: Any, pool: Pool) -> None:
        self._local, self.pool = local, pool

    @property
    def fingerprint(self) -> str:
        """What this process keeps the results under; workers that differ are refused."""
        return str(self._local.fingerprint)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # whoever asks what it is hears what it stands for
        return type(self._local) if "_local" in self.__dict__ else object

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._local, name)


class RemoteEditor(_Local):
    """An `Editor` whose edits are made, and written, by workers.

    Args:
        words: that pictures are described in, where those are not in the study (`DescribesPictures.describing`).
    """

    def __init__(self, local: Any, pool: Pool, words: Mapping[str, Any] | None = None) -> None:
        super().__init__(local, pool)
        self._words = words

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, FiledPicture]]]:
        """See `Editor.edit`; the pictures are written already."""
        yield from self.pool.run(
            "edit",
            self.batches(requests),
            lambda batch: (
                {key: images[key] for key in dict.fromkeys(each.image for each in batch)},
                list(batch),
                self._words,
            ),
            lambda request: request.image,
            _in_words,
        )

    def batches(self, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
        """The requests as they are edited together: as the editor cuts them, whoever makes them."""
        return batches_of(self._local, requests)

    @property
    def at_once(self) -> int:
        """How many edits are worth asking for together, so that no worker waits for the last of them."""
        return 8 * self.pool.in_flight * AT_ONCE

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name == "describing" and found:
            return lambda words: RemoteEditor(found(words), self.pool, words)
        return (lambda draws: judged_by_workers(found(draws), self)) if name == "judge" and found else found


class RemoteJudge(_Local):
    """A `ConceptProbe` whose questions workers answer."""

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """See `ConceptProbe.evidence`."""
        named = self.fingerprint
        yield from self.pool.run(
            "evidence",
            self.batches(pairs),
            lambda batch: (named, {key: pictures[key] for key in dict.fromkeys(key for key, _ in batch)}, list(batch)),
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


def judged_by_workers(probe: ConceptProbe, editor: Any) -> ConceptProbe:
    """A judge whose questions the workers of a remote editor answer; as it is where that has none.

    One that asks a server stays where its answers are kept, its key is and its requests are counted.
    """
    pool = getattr(editor, "pool", None)
    if not isinstance(pool, Pool) or type(probe) is RemoteJudge or getattr(probe, "networked", False):
        return probe
    made: Any = RemoteJudge(probe, pool)
    return made


def _in_words(request: EditRequest) -> str:
    what = " and ".join(f"{c.direction} {c.prompt!r}" for c in request.concepts) or "the null edit"
    return f"{what} on image {request.image[:12]} (seed {request.seed})"
