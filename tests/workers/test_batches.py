"""Which edits share a batch depends on neither the workers, nor what is claimed together, nor an end in the middle."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.editing.batches import batches_of
from diffex_dagster.editing.instruct import InstructEditor, InstructOptions
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.errors import EditorError
from diffex_dagster.stages import edits
from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.utils.groups import in_groups
from diffex_dagster.workers.bench import Bench
from diffex_dagster.workers.remote import RemoteEditor
from tests.support.crew import Backwards, BatchedEditor, asked, crew_study, kept
from tests.support.toys import prepared

PROMPTS = tuple(f"word {i}" for i in range(9))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, tuple[str, bytes]], list[EditRequest]]:
    """What one process keeps that claims all edits together, and the edits."""
    work = prepared(crew_study(tmp_path_factory.mktemp("whole")))
    requests = asked(list(work.samples), *PROMPTS)
    ensure_edits(work.store, work.editor, requests)
    return kept(work.store, requests), requests


class Ended(Exception):
    """Ends a run in the middle."""


@pytest.mark.parametrize(("at_once", "workers", "ends_after"), [(7, 0, None), (5, 0, 10), (30, 1, 10), (7, 3, None)])
def test_more_edits_than_are_claimed_together_get_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: tuple[dict[str, tuple[str, bytes]], list[EditRequest]],
    at_once: int,
    workers: int,
    ends_after: int | None,
) -> None:
    once, requests = whole
    assert len(requests) > 1.5 * at_once

    monkeypatch.setattr(edits, "AT_ONCE", at_once)
    monkeypatch.setattr(RemoteEditor, "at_once", at_once * workers)
    work = prepared(crew_study(tmp_path / "other"))
    pool: Any = Backwards(Bench(work.study), workers)
    editor: Any = RemoteEditor(work.editor, pool) if workers else work.editor

    def end(stage: str, done: int, total: int, reused: int) -> None:
        if done >= (ends_after or len(requests) + 1):
            raise Ended

    if ends_after:
        with pytest.raises(Ended):
            ensure_edits(work.store, editor, requests, end)
        assert 0 < work.store.count("edits") < len(requests)
    ensure_edits(work.store, editor, requests)
    assert kept(work.store, requests) == once


class Cutting(BatchedEditor):
    """Has no room for any picture's description, nor for that of an edit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})
        self.shortened: set[tuple[str, str]] = set()

    def edit(self, images: Any, requests: Sequence[EditRequest]) -> Iterator[Any]:
        for request in requests:
            self.shortened |= {(request.image, "")} | {(request.image, each.prompt) for each in request.concepts}
        yield from super().edit(images, requests)


class InTurn(Backwards):
    """Two workers in this process, who take turns; what they send arrives as from another."""

    def run(self, method: str, batches: Sequence[Any], given: Any, *_: Any) -> Iterator[Any]:
        benches = itertools.cycle([self.bench, self.other])
        for batch in batches:
            yield pickle.loads(pickle.dumps(getattr(next(benches), method)(*given(batch))))
            yield []


def test_workers_say_which_descriptions_were_cut_and_each_counts_once(tmp_path: Path) -> None:
    work = prepared(crew_study(tmp_path))
    requests = asked(list(work.samples), "red", "blue")
    pool: Any = InTurn(Bench(work.study), 2)
    pool.other = Bench(work.study)
    for bench in (pool.bench, pool.other):
        bench.__dict__["editor"] = Cutting(tmp_path)
    editor: Any = RemoteEditor(Cutting(tmp_path), pool)
    counts = ensure_edits(work.store, editor, requests)
    assert counts.made == len(requests) and counts.shortened == 3 * len(work.samples)
    again = ensure_edits(work.store, editor, asked(list(work.samples), "green"))
    assert again.made == again.shortened == len(work.samples)  # what was counted before is not counted again


def test_an_instruction_editor_says_which_edits_its_pipeline_gets_together() -> None:
    requests = asked([str(i) for i in range(5)], "red")
    batches = batches_of(InstructEditor(InstructOptions(checkpoint="x", batch_size=4)), requests)
    assert batches == [requests[:4], requests[4:8], requests[8:]]


class Clock:
    """Stands still unless it is told."""

    def __init__(self) -> None:
        self.time = 0.0

    def after(self, seconds: float, batch: list[int]) -> list[int]:
        self.time += seconds
        return batch


def test_what_comes_in_small_batches_is_kept_in_groups() -> None:
    clock = Clock()
    batches = (
        clock.after(wait, each) for wait, each in ((0, [1]), (0.5, [2]), (0.6, [3]), (0, [4]), (2, []), (0, [5]))
    )
    groups = in_groups(batches, most=4, seconds=1.0, now=lambda: clock.time)
    assert list(groups) == [[1, 2, 3], [4], [5]]
    full = in_groups([[1, 2], [3, 4], [5]], most=4, seconds=1.0, now=lambda: clock.time)
    assert list(full) == [[1, 2, 3, 4], [5]]


def test_groups_grow_where_keeping_one_takes_long() -> None:
    clock = Clock()
    groups = in_groups((clock.after(0.6, [i]) for i in range(9)), seconds=1.0, now=lambda: clock.time)
    assert next(groups) == [0, 1, 2]
    clock.time += 0.3  # it takes 0.3 s to keep it: the next lasts three seconds
    assert next(groups) == [3, 4, 5, 6, 7, 8]


def test_a_full_group_waits_too_where_keeping_one_takes_long() -> None:
    clock = Clock()
    groups = in_groups((clock.after(0.1, [i]) for i in range(200)), most=4, now=lambda: clock.time)
    sizes = []
    for group in groups:
        sizes.append(len(group))
        clock.time += 0.2 if len(sizes) < 3 else 20.0  # to keep it
    assert sizes[0] == 4 and all(20 <= size <= 22 for size in sizes[1:3])  # two seconds
    assert 100 <= sizes[3] <= 102 and sum(sizes) == 200  # ten seconds, and no longer


def test_what_came_before_an_error_is_kept_and_the_error_follows() -> None:
    def batches() -> Iterator[list[int]]:
        yield from ([1], [2])
        raise KeyboardInterrupt

    groups = in_groups(batches())
    assert next(groups) == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        next(groups)


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        (lambda requests: [requests[1:]], "gives back other requests than it was asked about; give back lists"),
        (lambda requests: [requests, requests], "gives back other requests than it was asked about; give back lists"),
        (lambda requests: 1 / 0, "fails for 2 edits.*division by zero.*give back lists of requests, each once"),
    ],
)
def test_no_edit_is_forgotten_by_an_editor_that_cuts_wrongly(batches: Any, says: str) -> None:
    class Wrong:
        def batches(self, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
            return batches(requests)  # type: ignore[no-any-return]

    editor: Any = Wrong()
    with pytest.raises(EditorError, match=f"`batches` of the editor Wrong {says}"):
        batches_of(editor, asked(["a"], "red"))
