"""Worker processes as Ray actors, and which of them gets which batch.

Ray's own retries are not used: they are bound to one actor, and wait for ever where its machine is gone. A batch is the
same work wherever it is done, so what a lost worker had goes to any other, and another worker takes its place. Only
workers that are ready get work: any number of them may still be waiting for a machine.

A batch that ends the processes that work on it is cut in two until the one item is known. All else is finished first.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from diffex_dagster.errors import DiffExError, EditorError, at_the_boundary, first_line
from diffex_dagster.study.sections import Workers
from diffex_dagster.utils.secrets import logger
from diffex_dagster.version import __version__
from diffex_dagster.workers import connecting
from diffex_dagster.workers.bench import Hello, Problem

if TYPE_CHECKING:
    from diffex_dagster.study import Study

log = logger(__name__)
Item = TypeVar("Item")

SAY_EVERY = 30.0  # seconds between two sentences about waiting for workers
STARTS = 3  # workers that may end one after the other before the first is ready
TICK = 1.0  # seconds after which a caller that waits for results hears that none has come
WORTH = 8  # batches that are worth starting workers for, where one process could do the work at once


@dataclass(eq=False)
class _Batch(Generic[Item]):
    items: Sequence[Item]
    deaths: int = 0  # processes that ended while they worked on it
    cut: bool = False  # whether it is a part of one that ended several


@dataclass(eq=False)
class _Worker:
    actor: Any
    hello: Any  # the reference of its first answer, until that is there
    said: Hello | None = None
    batches: list[tuple[Any, _Batch[Any]]] = field(default_factory=list)  # (reference, batch), the oldest first
    made: int = 0

    def let_go(self) -> None:
        """Keep nothing of Ray's: it means nothing to the next one."""
        self.actor, self.hello, self.batches = None, None, []


class Pool:
    """Workers for one study, started at the first batch.

    Args:
        study: what they work on.
        options: how many, and where.
        gpus: for each worker.
        check: gets each worker's fingerprint before it gets work; raises where it would edit otherwise.
    """

    def __init__(self, study: Study, options: Workers, gpus: float, check: Callable[[Hello], None]) -> None:
        self.options, self.lost, self.remade = options, 0, 0
        self.study, self._gpus, self._check = study, gpus, check
        self._workers: list[_Worker] = []
        self._gone: list[_Worker] = []
        self._known: dict[str, _Worker] = {}  # picture -> the worker that had it last
        self._failed_starts = 0
        self._make: Callable[[], Any] | None = None
        self._end: Callable[[], object] = lambda: None

    @property
    def in_flight(self) -> int:
        """The most batches that are out at a time."""
        return self.options.count * self.options.ahead

    def helps(self, batches: int) -> bool:
        """Whether so many batches, which this process could work on itself, are worth handing out."""
        return batches > 1 and (any(worker.said for worker in self._workers) or batches >= WORTH)

    def gather(self, seconds: float) -> int:
        """Start the workers and wait until all are ready, or as long; returns how many are.

        Raises:
            DiffExError: what a worker says that cannot be used; no worker can be had.
        """
        self._start()
        end = time.monotonic() + seconds
        while (ready := sum(worker.said is not None for worker in self._workers)) < self.options.count:
            if time.monotonic() > end:
                break
            self._replenish()
            for _, answer in self._answers():
                if isinstance(answer, Problem):
                    raise answer.kind(answer.sentence)
        return ready

    def made(self) -> dict[str, int]:
        """How many items each worker has made, by "host pid"."""
        return {f"{w.said.host} {w.said.pid}": w.made for w in (*self._gone, *self._workers) if w.said}

    def gpus(self) -> list[str]:
        """The names of the GPUs that workers have said they work on, each once."""
        return sorted({w.said.gpu for w in (*self._gone, *self._workers) if w.said and w.said.gpu})

    def close(self) -> None:
        """End the workers, and Ray where it was started for them."""
        self._gone += self._workers
        self._workers, self._make = [], None
        self._known.clear()
        for worker in self._gone:
            worker.let_go()
        end, self._end = self._end, lambda: None
        end()
        connecting.OPEN.discard(self)

    def run(
        self,
        method: str,
        batches: Sequence[Sequence[Item]],
        given: Callable[[Sequence[Item]], tuple[Any, ...]],
        picture: Callable[[Item], str],
        named: Callable[[Item], str],
    ) -> Iterator[list[Any]]:
        """Have batches worked on; gives back what `Bench.<method>` returns for each, in the order that they finish.

        No batch goes out while nobody asks for the next result: never more than `in_flight` are out. Where none comes
        for a moment, an empty list says so, and a caller that collects results can keep those that are there.

        Args:
            method: of `Bench`.
            batches: cut beforehand, so that results do not depend on which worker is free.
            given: the arguments for a batch, made when it goes out.
            picture: of an item; its batches go to one worker where that has a place.
            named: an item in words, for messages.

        Raises:
            DiffExError: what a worker says, once the batches that are out are in; no worker can be had; an item ends
                every process that works on it (all others are finished first).
        """
        self._start()
        waiting = deque(_Batch[Item](batch) for batch in batches)
        poison: list[Item] = []
        problem: Problem | None = None
        idle_since = said_at = time.monotonic()
        try:
            while (waiting and problem is None) or any(worker.batches for worker in self._workers):
                self._replenish()
                while problem is None and waiting and (worker := self._free()):
                    batch = self._choose(waiting, worker, picture)
                    with_it = given(batch.items)
                    with _asking_ray():
                        call = getattr(worker.actor, method).remote(*with_it)
                    worker.batches.append((call, batch))
                    self._known |= dict.fromkeys(map(picture, batch.items), worker)
                now = time.monotonic()
                if any(worker.said for worker in self._workers):
                    idle_since = said_at = now
                elif now - idle_since > self.options.patience:
                    raise EditorError(
                        f"no worker has come within {self.options.patience:.0f} s (workers: {self.options.count}, "
                        f"gpus: {self._gpus:g} each): ask for fewer, or look at `ray status`; what was finished is kept"
                    )
                elif now - said_at > SAY_EVERY:
                    said_at = now
                    log.warning("waiting for workers: none of %d is there yet", self.options.count)
                heard = False
                for worker, answer in self._answers():
                    heard = True
                    if isinstance(answer, Problem):
                        problem = answer
                    elif isinstance(answer, _Lost):
                        self._requeue(answer.batches, waiting, poison)
                    else:
                        worker.made += len(answer)
                        yield answer
                if not heard:
                    yield []
        finally:
            self._forget()
        if problem is not None:
            raise problem.kind(problem.sentence)
        if poison:
            raise EditorError(
                f"{named(poison[0])} ends every process that works on it ({len(poison)} in all; memory, or a crash in "
                "a library): leave it out or mend it, and run again; all others are kept"
            )

    # -- workers ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._make is None:
            self._make, self._end = connecting.connected(self, self.study, self.options, self._gpus)

    def _replenish(self) -> None:
        """As many workers as are asked for, ready or not."""
        assert self._make is not None
        while len(self._workers) < self.options.count:
            with _asking_ray():
                actor = self._make()
                self._workers.append(_Worker(actor, actor.hello.remote()))

    def _free(self) -> _Worker | None:
        """A worker that is ready and has a place; the one with the fewest batches."""
        free = [w for w in self._workers if w.said and len(w.batches) < self.options.ahead]
        return min(free, key=lambda worker: len(worker.batches), default=None)

    def _choose(self, waiting: deque[_Batch[Item]], worker: _Worker, picture: Callable[[Item], str]) -> _Batch[Item]:
        """The next batch for a worker: one of a picture that it knows, else one that no other worker knows."""
        few = list(islice(waiting, 4 * self.in_flight))
        whose = [self._known.get(picture(batch.items[0])) for batch in few]
        chosen = next((b for b, of in zip(few, whose, strict=True) if of is worker), None)
        there = set(self._workers)
        chosen = chosen or next((b for b, of in zip(few, whose, strict=True) if of not in there), few[0])
        waiting.remove(chosen)
        return chosen

    def _answers(self) -> Iterator[tuple[_Worker, Any]]:
        """What has come in, after a wait of at most `TICK`."""
        import ray

        refs = {ref: worker for worker in self._workers for ref, _ in worker.batches}
        refs |= {worker.hello: worker for worker in self._workers if worker.hello is not None}
        with _asking_ray():
            ready, rest = ray.wait(list(refs), num_returns=1, timeout=TICK)
            if ready and rest:  # all that is there: each look at many is work
                ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        there = set(ready)
        for ref in [ref for ref in refs if ref in there]:  # the oldest of each worker first
            worker = refs[ref]
            if worker not in self._workers:  # it was lost with another of its batches a moment ago
                continue
            try:
                answer = ray.get(ref)
            except _lost_errors() as error:  # before the next: a worker may pass one on
                yield worker, _Lost(self._bury(worker, error))
                continue
            except ray.exceptions.RayError as error:
                self._discard(worker)
                what = getattr(error, "cause", None) or error
                raise EditorError(
                    f"a worker fails: {first_line(what)}; mend it and run again: what was finished is kept"
                ) from error
            if ref is worker.hello:
                worker.hello = None
                if isinstance(answer, Problem):
                    self._discard(worker)
                    yield worker, answer
                    continue
                try:
                    self._check(answer)
                except DiffExError:
                    self._discard(worker)  # the next run asks a new one, which may be another
                    raise
                worker.said, self._failed_starts = answer, 0
                continue
            worker.batches = [each for each in worker.batches if each[0] is not ref]
            yield worker, answer

    def _bury(self, worker: _Worker, error: Exception) -> list[_Batch[Any]]:
        """Take leave of a worker; what it had, the batch that it was working on first."""
        self._discard(worker)
        if worker.said is None:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                joined = connecting.with_a_token() and self.options.address != "local"
                remedy = " Or has the cluster no token? This process has one: then set RAY_AUTH_MODE=disabled"
                raise EditorError(
                    f"{self._failed_starts} workers ended before they were ready ({first_line(error)}): is "
                    f"diffex_dagster installed in the same version wherever Ray works?{remedy if joined else ''}"
                ) from error
            return []
        self.lost += 1
        batches = [batch for _, batch in worker.batches]
        self.remade += len(batches)
        log.warning(
            "a worker (%s, process %d) is gone; %d batches are made again by others",
            worker.said.host, worker.said.pid, len(batches),
        )  # fmt: skip
        if batches:
            batches[0].deaths += 1
        return batches

    def _requeue(self, batches: list[_Batch[Item]], waiting: deque[_Batch[Item]], poison: list[Item]) -> None:
        for batch in reversed(batches):
            few = 1 if batch.cut and len(batch.items) > 1 else self.options.tries
            if batch.deaths < few:
                waiting.appendleft(batch)
            elif len(batch.items) == 1:
                poison.append(batch.items[0])
            else:
                middle = len(batch.items) // 2
                waiting.append(_Batch(batch.items[:middle], cut=True))
                waiting.append(_Batch(batch.items[middle:], cut=True))

    def _forget(self) -> None:
        """End the workers that work on what nobody wants any more; others come when they are needed."""
        for worker in [worker for worker in self._workers if worker.batches]:
            self._discard(worker)

    def _discard(self, worker: _Worker) -> None:
        """End a worker, and let another take its place; it may be gone already, or not know that it is lost."""
        import ray

        self._workers.remove(worker)
        self._gone.append(worker)
        with contextlib.suppress(Exception):
            ray.kill(worker.actor)
        worker.actor = None


@dataclass(frozen=True)
class _Lost:
    batches: list[_Batch[Any]]


def _asking_ray() -> AbstractContextManager[None]:
    """Around a call of Ray itself: its head may be gone, or somebody has ended it."""
    remedy = "look at `ray status` and run again: what was finished is kept"
    return at_the_boundary("Ray fails while workers are at work", remedy, EditorError)


def _lost_errors() -> tuple[type[Exception], ...]:
    """What Ray raises where a worker, its machine, or what it gave back is gone: the same work is done by another."""
    from ray import exceptions

    return (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.OutOfMemoryError,  # Ray's own watch over a machine's memory ends processes
        exceptions.NodeDiedError,
        exceptions.LocalRayletDiedError,
        exceptions.ObjectLostError,  # also one that could not be fetched in time
    )


def differs(mine: Any, theirs: Hello, named: str) -> None:
    """Raise EditorError where a worker would make other edits than those that this process's fingerprint stands for.

    Args:
        mine: this process's editor.
        theirs: what the worker says of itself.
        named: what the editor is called in the study.
    """
    if theirs.version != __version__:
        raise EditorError(
            f"the worker on {theirs.host} has diffex_dagster {theirs.version or 'of an earlier version'}, this process "
            f"{__version__}: install the same version wherever Ray works"
        )
    if theirs.fingerprint == mine.fingerprint:
        return
    own = getattr(mine, "identity", None) or {}
    there = theirs.identity
    parts = [f"{key} {own[key]!r} here, {there.get(key)!r} there" for key in own if own[key] != there.get(key)]
    raise EditorError(
        f"the worker on {theirs.host} would make other edits than this process keeps them as "
        f"({'; '.join(parts) or 'its fingerprint is another'}): give {named} the same checkpoint, device and libraries "
        "everywhere"
    )
