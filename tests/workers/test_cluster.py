"""A real cluster of several Ray nodes: one is taken away, another comes late, and every edit is made once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.workers.connecting import close_all
from tests.support.crew import asked, crew_study, kept, pids
from tests.support.project import ROOT
from tests.support.toys import prepared

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
OWN = "DIFFEX_TEST_OWN_PROCESS"
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without places, and one node with a place for a worker."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    try:
        yield made
    finally:
        close_all()
        ray.shutdown()
        made.shutdown()


def test_a_node_is_lost_and_a_late_one_takes_its_work() -> None:
    """In a process of its own: what an earlier Ray of this one has left may end a worker of the same number here."""
    body = f"{__file__}::test_in_a_process_of_its_own"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", body]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {OWN: "1"}, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout[-4000:] + run.stderr[-2000:]


@pytest.mark.skipif(OWN not in os.environ, reason="run by the test before it")
def test_in_a_process_of_its_own(tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [f"word {i}" for i in range(24)]
    whole = prepared(crew_study(tmp_path / "whole"))
    requests = asked(list(whole.samples), *prompts)
    ensure_edits(whole.store, whole.editor, requests)

    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    crew = {"count": 2, "gpus": 1, "patience": 600}
    work = prepared(crew_study(tmp_path / "crew", crew, pause=0.5, together=2, alone=1))
    nodes = [cluster.add_node(**NODE, num_gpus=1)]

    def change(stage: str, done: int, total: int, reused: int) -> None:
        """Once the first node has made edits, another joins; once that has too, the first is taken away."""
        if done and len(nodes) == 1:
            nodes.append(cluster.add_node(**NODE, num_gpus=1))
        elif len(set(pids(work.study))) == 2 and nodes[0] in cluster.list_all_nodes():
            cluster.remove_node(nodes[0], allow_graceful=False)

    counts = ensure_edits(work.store, work.editor, requests, change)
    assert nodes[0] not in cluster.list_all_nodes() and counts.made == len(requests)
    assert kept(work.store, requests) == kept(whole.store, requests)
    assert counts.lost >= 1 and len(counts.by_worker) == 2 and min(counts.by_worker.values()) > 0
    assert len(requests) <= len(pids(work.study)) <= len(requests) + 8  # what the lost one had, at most
    pool = work.editor.pool  # type: ignore[attr-defined]
    pool.close()
    # A handle of an earlier Ray that is collected later would end the worker that has its number in the next one.
    assert len(pool._gone) >= 2
    assert not any(worker.actor or worker.hello or worker.batches for worker in pool._gone)
