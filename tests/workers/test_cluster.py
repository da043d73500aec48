"""A real cluster of several Ray nodes: one is taken away, another comes late, and every edit is made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.workers.connecting import close_all
from tests.support.crew import asked, crew_study, kept, pids
from tests.support.toys import prepared

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without places, and one node with a place for a worker."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    try:
        yield made
    finally:
        close_all()
        ray.shutdown()
        made.shutdown()


def test_a_node_is_lost_and_a_late_one_takes_its_work(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert len(pool._gone) >= 2
    assert not any(worker.actor or worker.hello or worker.batches for worker in pool._gone)
