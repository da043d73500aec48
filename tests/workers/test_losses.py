"""What a pool does with each way to lose a worker: Ray's errors, without its processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.errors import EditorError
from diffex_dagster.judging.vlm import VlmJudge
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.setup import build_judge
from diffex_dagster.study.sections import Workers
from diffex_dagster.version import __version__
from diffex_dagster.workers import connecting
from diffex_dagster.workers.bench import Hello, Problem
from diffex_dagster.workers.connecting import TRIES, _connect, close_all
from diffex_dagster.workers.pool import Pool
from diffex_dagster.workers.remote import RemoteJudge
from tests.support.crew import crew_study

exceptions = pytest.importorskip("ray.exceptions", reason="the extra `ray` is not installed")
LOST: dict[str, Callable[[], Exception]] = {
    "died": exceptions.ActorDiedError,
    "memory": lambda: exceptions.OutOfMemoryError("the machine runs out of memory"),
    "machine": lambda: exceptions.NodeDiedError("the machine is gone"),
    "answer": lambda: exceptions.ObjectLostError("ab", None, ""),
    "late answer": lambda: exceptions.ObjectFetchTimedOutError("ab", None, ""),
    "question": lambda: exceptions.RayTaskError(
        "edit", "in a worker", exceptions.ObjectLostError("ab", None, "")
    ).as_instanceof_cause(),
}


class Crew:
    """Workers of a pool that are told what befalls them; a call is answered when it is looked at."""

    def __init__(
        self, patch: pytest.MonkeyPatch, work: Callable[[list[int]], Any], hellos: Iterator[Any] | None = None
    ) -> None:
        self.ended, self.refused, self.started = list[Any](), list[str](), 0
        self.work, self.hellos = work, hellos
        patch.setattr("ray.wait", lambda refs, **_: (refs[:1], refs[1:]))
        patch.setattr("ray.get", lambda ref: ref())
        patch.setattr("ray.kill", self.ended.append)
        study: Any = None
        self.pool = Pool(study, Workers(count=1, ahead=1, patience=0.5), 0.0, self.check)
        self.pool._make = self.worker

    def worker(self) -> Any:
        self.started += 1
        said = next(self.hellos) if self.hellos else Hello("host", self.started, "same", version=__version__)

        def hello() -> Any:
            if isinstance(said, Exception):
                raise said
            return said

        def call(what: Callable[..., Any]) -> Any:
            return type("Method", (), {"remote": staticmethod(lambda *given: lambda: what(*given))})

        return type("Actor", (), {"hello": call(hello), "edit": call(lambda items: self.work(items))})

    def check(self, hello: Hello) -> None:
        if hello.fingerprint != "same":
            raise EditorError(f"{hello.host} would make other edits")

    def run(self, batches: Sequence[Sequence[int]]) -> list[int]:
        made = list[int]()
        self.made = made
        for answer in self.pool.run("edit", batches, lambda batch: (list(batch),), str, lambda item: f"edit {item}"):
            made += answer
        return made


@pytest.mark.parametrize("how", LOST)
def test_what_a_lost_worker_had_is_made_by_another(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    errors = [LOST[how]()]

    def work(items: list[int]) -> list[int]:
        if 5 in items and errors:
            raise errors.pop()
        return items

    crew = Crew(monkeypatch, work)
    assert sorted(crew.run([[1, 2, 3], [4, 5, 6], [7]])) == [1, 2, 3, 4, 5, 6, 7]
    assert (crew.pool.lost, crew.pool.remade, crew.started, len(crew.ended)) == (1, 1, 2, 1)


def test_an_edit_that_always_takes_all_memory_is_named_and_all_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(items: list[int]) -> list[int]:
        if 5 in items:
            raise LOST["memory"]()
        return items

    crew = Crew(monkeypatch, work)
    with pytest.raises(EditorError, match=r"edit 5 ends every process that works on it \(1 in all; memory"):
        crew.run([[1, 2, 3], [4, 5, 6], [7]])
    assert sorted(crew.made) == [1, 2, 3, 4, 6, 7]


def test_whatever_else_ray_says_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(items: list[int]) -> list[int]:
        raise exceptions.RaySystemError("no such thing")

    with pytest.raises(EditorError, match="a worker fails: System error: no such thing; mend it and run again"):
        Crew(monkeypatch, work).run([[1]])


def test_what_ray_says_while_it_is_waited_for_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew(monkeypatch, lambda items: items)

    def gone(refs: list[Any], **_: Any) -> None:
        raise exceptions.RaySystemError("the head is gone")

    monkeypatch.setattr("ray.wait", gone)
    with pytest.raises(EditorError, match=r"Ray fails while workers .*the head is gone.*what was finished is kept"):
        crew.run([[1]])


def test_a_worker_that_cannot_be_asked_any_more_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew(monkeypatch, lambda items: items)

    def cannot() -> Any:
        raise ConnectionError("no such cluster")

    crew.pool._make = cannot
    with pytest.raises(EditorError, match=r"Ray fails while workers are at work \(.*no such cluster\)"):
        crew.run([[1]])


def test_nobody_waits_in_silence_and_what_came_can_be_kept_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew(monkeypatch, lambda items: items)
    quiet = iter([True, False, True])
    monkeypatch.setattr("ray.wait", lambda refs, **_: ([], refs) if next(quiet, False) else (refs[:1], refs[1:]))
    answers = list(crew.pool.run("edit", [[1], [2]], lambda batch: (list(batch),), str, str))
    assert [answer for answer in answers if answer] == [[1], [2]] and answers.count([]) >= 2


def test_nothing_of_a_ray_that_has_ended_is_kept_when_the_next_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Actors are numbered anew: a handle that is collected during the next Ray would end the actor of its number there.
    made = list[Any]()

    class Remote:
        def options(self, **_: Any) -> Any:
            return self

        def remote(self, *_: Any) -> Any:
            made.append(Crew(monkeypatch, lambda items: items).worker())
            return made[-1]

    def ended(left: Pool) -> bool:
        return all(worker.actor is worker.hello is None and not worker.batches for worker in left._gone)

    starts = list[bool]()
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.remote", lambda _: Remote())
    monkeypatch.setattr("ray.get_runtime_context", lambda: type("There", (), {"get_node_id": lambda _: "a node"})())
    study: Any = None
    first, second = (Pool(study, Workers(count=2), 0.0, lambda _: None) for _ in range(2))
    monkeypatch.setattr(connecting, "_connect", lambda _: starts.append(len(first._gone) == len(made) and ended(first)))
    monkeypatch.setattr(connecting, "_STARTED", [])
    for pool in (first, second):
        pool._start()
        pool._replenish()
    assert starts == [True, True] and len(made) == 4 and len(first._gone) == 2
    assert [worker.actor for worker in second._workers] == made[2:]
    first._start()  # one that is used again starts anew
    assert ended(second) and first._make is not None
    close_all()
    assert not any(pool in connecting.OPEN for pool in (first, second))


def test_ray_is_started_again_where_the_machine_was_too_busy_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [RuntimeError("no such node"), RuntimeError("The current node timed out during startup.")]
    asked = list[str]()

    def init(address: str, **_: Any) -> None:
        asked.append(address)
        if errors:
            raise errors.pop()

    monkeypatch.setattr("ray.init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(EditorError, match=r"Ray cannot be used on this machine \(.*no such node"):
        _connect(Workers(count=1))
    assert asked == ["local", "local"]
    errors = [RuntimeError("The current node timed out during startup.")]
    with pytest.raises(EditorError, match=r"Ray cannot be used at 127.0.0.1:1 \(.*timed out during startup"):
        _connect(Workers(count=1, address="127.0.0.1:1"))
    errors = [RuntimeError("The current node timed out during startup.")]
    _connect(Workers(count=1))


def test_what_a_ray_that_did_not_start_in_time_has_started_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import node

    ended = list[object]()

    def late(self: object, *_: Any, **__: Any) -> None:
        raise RuntimeError("The current node timed out during startup.")

    def end(self: object, **_: bool) -> None:
        ended.append(self)

    monkeypatch.setattr(node.Node, "__init__", late)
    monkeypatch.setattr(node.Node, "kill_all_processes", end)  # refused where Ray calls it otherwise
    monkeypatch.setattr("ray.init", lambda **_: node.Node())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(EditorError, match="timed out during startup"):
        _connect(Workers(count=1))
    assert len(ended) == len(set(map(id, ended))) == TRIES


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (Hello("far", 1, "another", version=__version__), "far would make other edits"),
        (Problem(EditorError, "there is no checkpoint"), "there is no checkpoint"),
        (exceptions.RayTaskError("hello", "in a worker", ValueError("broken")), "a worker fails: broken"),
    ],
)
def test_a_refused_worker_is_ended_and_the_next_run_asks_a_new_one(
    monkeypatch: pytest.MonkeyPatch, said: Any, says: str
) -> None:
    crew = Crew(monkeypatch, lambda items: items, iter([said, Hello("near", 2, "same", version=__version__)]))
    with pytest.raises(EditorError, match=says):
        crew.run([[1]])
    assert len(crew.ended) == 1 and crew.pool.made() == {}
    assert crew.run([[1], [2]]) == [1, 2]
    assert crew.pool.made() == {"near 2": 2}


def test_a_judge_that_asks_a_server_is_asked_by_the_process_in_charge(tmp_path: Path) -> None:
    named = {"kind": "vlm", "model": "good-vlm", "base_url": "http://127.0.0.1:1/v1"}
    work = StudyContext(crew_study(tmp_path / "asks", 2, judge=named))
    assert type(work.judge) is VlmJudge and work.judge.client.cache is work.store
    own = crew_study(tmp_path / "own", 2)
    assert type(build_judge(own, StudyContext(own).editor)) is RemoteJudge
