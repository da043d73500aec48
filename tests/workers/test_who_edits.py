"""Who makes edits: how many workers, what one differs in, what Dagster shows of them, and when there is no Ray."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffex_dagster.assets.common import edit_metadata
from diffex_dagster.cli.doctor_team import team_findings
from diffex_dagster.errors import EditorError
from diffex_dagster.stages.edits import EditCounts, ensure_edits
from diffex_dagster.study import load_study
from diffex_dagster.study.sections import Workers
from diffex_dagster.version import __version__
from diffex_dagster.workers.bench import Bench, Hello
from diffex_dagster.workers.connecting import _connect
from diffex_dagster.workers.pool import differs
from diffex_dagster.workers.remote import RemoteEditor
from tests.support.crew import Backwards, asked, crew_study, kept
from tests.support.project import Run
from tests.support.toys import edits_made, prepared, write_study


def test_batches_of_sixty_four_workers_that_come_back_in_any_order_are_the_bits_of_one_process(tmp_path: Path) -> None:
    whole, other = (prepared(crew_study(tmp_path / name)) for name in ("whole", "other"))
    requests = asked(list(whole.samples), *(f"word {i}" for i in range(12)))
    ensure_edits(whole.store, whole.editor, requests)
    pool: Any = Backwards(Bench(other.study), 64)
    assert ensure_edits(other.store, RemoteEditor(other.editor, pool), requests[::-1]).made == len(requests)
    assert kept(other.store, requests) == kept(whole.store, requests)


def test_a_refused_worker_is_told_by_what_it_differs_in() -> None:
    here = {"checkpoint": "ab12", "device": "cpu", "libraries": {"torch": "2.11.0"}}
    mine = SimpleNamespace(fingerprint="here", identity=here)
    with pytest.raises(EditorError, match=r"far has diffex_dagster of an earlier version, this process 0"):
        differs(mine, Hello("far", 1, "here"), "editors.sd15")
    differs(mine, Hello("far", 1, "here", {}, version=__version__), "editors.sd15")  # the same, whatever else it says
    there = Hello("far", 1, "there", here | {"device": "cuda", "libraries": {"torch": "2.10.0"}}, version=__version__)
    with pytest.raises(EditorError) as refused:
        differs(mine, there, "editors.sd15")
    said = str(refused.value)
    assert "the worker on far would make other edits" in said and "give editors.sd15 the same" in said
    assert "device 'cpu' here, 'cuda' there" in said and "{'torch': '2.10.0'} there" in said and "ab12" not in said
    with pytest.raises(EditorError, match="its fingerprint is another"):  # of an editor that says no more of itself
        differs(SimpleNamespace(fingerprint="here"), Hello("far", 1, "there", version=__version__), "editors.own")


def test_dagster_shows_who_made_a_stage_s_edits() -> None:
    crew = EditCounts(20, 2, 4.0, None, {"b 2": 12, "a 1": 8}, 1, ("NVIDIA H100",), 2)
    crew += EditCounts(10, 0, 1.0, None, {"a 1": 4, "c 3": 6}, 0, ("NVIDIA H200", "NVIDIA H100"), 1)
    shown = {
        "edits_made": 30, "edits_reused": 2, "edit_seconds": 5.0, "workers": 3,
        "edits_per_worker": {"a 1": 12, "b 2": 12, "c 3": 6}, "workers_lost": 1, "batches_remade": 3,
        "edits_per_second": 6.0, "gpus": "NVIDIA H100, NVIDIA H200",
    }  # fmt: skip
    assert edit_metadata(crew) == shown
    alone: dict[str, Any] = dict(edit_metadata(EditCounts(30, 2, 5.0)))
    assert alone == {"edits_made": 30, "edits_reused": 2, "edit_seconds": 5.0}


def test_without_workers_a_study_never_imports_ray(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it would fail
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    status, said, error = diffex("run", write_study(tmp_path / "toy", 2), "--classifier", "v1")
    assert status == 0 and " 0 edits made" not in said, error


def test_workers_without_ray_are_refused_before_an_edit_is_made(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFEX_WORKERS", "2")  # undone after the test, whatever the option sets
    monkeypatch.setitem(sys.modules, "ray", None)
    file = write_study(tmp_path / "toy", 2)
    status, _, error = diffex("run", file, "--classifier", "v1", "--workers", "2")
    assert status != 0 and "workers need Ray, which is not installed: pip install 'diffex-dagster[ray]'" in error
    assert edits_made(tmp_path / "toy") == []
    (finding,) = team_findings(load_study(file).changed(workers=Workers(count=2)))
    assert (finding.fine, finding.found) == (False, "Ray is not installed") and "diffex-dagster[ray]" in finding.remedy


def test_ray_takes_no_signal_from_its_process_and_starts_in_the_main_thread_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster cancels a run by a signal, which Ray would take for itself."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")

    def taken(error: Exception | None) -> Callable[..., None]:
        def init(**_: Any) -> None:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, lambda *_: None)
            if error:
                raise error

        return init

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    there = Workers(count=1, address="127.0.0.1:1")
    monkeypatch.setattr("ray.init", taken(None))
    _connect(there)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    monkeypatch.setattr("ray.init", taken(ConnectionError("nobody is there")))
    with pytest.raises(EditorError, match="nobody is there"):
        _connect(there)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    with ThreadPoolExecutor(1) as threads, pytest.raises(EditorError, match="by a process's main thread only"):
        threads.submit(_connect, there).result()
