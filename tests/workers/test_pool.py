"""Edits and answers of workers are those of one process, whatever befalls the workers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from diffex_dagster.assets.common import edit_metadata
from diffex_dagster.cli import doctor_team
from diffex_dagster.editing.protocol import Concept
from diffex_dagster.errors import EditorError
from diffex_dagster.stages import scores
from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.stages.judging import ensure_evidence, first_metrics
from diffex_dagster.stages.scores import ensure_scores
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from diffex_dagster.study.sections import Workers
from diffex_dagster.workers import machines, remote
from diffex_dagster.workers.bench import Bench, Problem
from tests.support.crew import asked, crew_study, kept, pids
from tests.support.toys import picture, prepared

pytestmark = pytest.mark.usefixtures("ray_here")
PROMPTS = ("red", "green", "blue")


def make(study: Study, *prompts: str) -> tuple[dict[str, tuple[str, bytes]], dict[str, int]]:
    """Make the edits of a study, and have them judged, scored and measured; returns what is kept of them, and how much
    of it each worker made.
    """
    work = prepared(study)
    requests = asked(list(work.samples), *prompts)
    counts = ensure_edits(work.store, work.editor, requests)
    assert counts.made == len(requests)
    evidence = ensure_evidence(work, [(request, "red") for request in requests])
    outputs, scored = ensure_scores(work.subject("v1"), requests)
    assert scored == len(requests)
    metrics = first_metrics(work, [(Concept(prompt),) for prompt in prompts], list(work.samples))
    said = {repr(asked): (str(value), b"") for asked, value in (evidence | metrics).items()}
    said |= {repr(("score", request)): (str(of.tolist()), b"") for request, of in outputs.items()}
    pool = getattr(work.editor, "pool", None)
    return kept(work.store, requests) | said, pool.made() if pool else {}


@pytest.mark.slow
def test_the_same_bits_for_one_process_and_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (remote, scores):
        monkeypatch.setattr(module, "SCORED_AT_ONCE" if module is remote else "PORTION", 5)
    monkeypatch.setattr(remote, "MEASURED_AT_ONCE", 4)
    alone, _ = make(crew_study(tmp_path / "alone"), *PROMPTS)
    edits = 8 * (1 + len(PROMPTS))
    for workers in (1, 2, 3):
        study = crew_study(tmp_path / f"{workers}", workers, together=workers)
        found, made = make(study, *PROMPTS)
        assert found == alone
        assert len(set(pids(study))) == workers and os.getpid() not in pids(study)
        files = len({file for file, mask in found.values() if file.startswith("pictures/")})
        assert sum(made.values()) >= edits + edits + files + 8 * len(PROMPTS)  # edited, judged, scored, measured


def test_a_worker_that_is_killed_costs_nothing_but_its_batches(tmp_path: Path) -> None:
    prompts = ("red", "once killed")
    whole = prepared(crew_study(tmp_path / "whole"))
    (whole.study.folder / "once-killed").touch()  # this process is to live
    requests = asked(list(whole.samples), *prompts)
    ensure_edits(whole.store, whole.editor, requests)
    work = prepared(crew_study(tmp_path / "crew", 2))
    counts = ensure_edits(work.store, work.editor, requests)
    assert counts.made == len(requests) == sum(counts.by_worker.values())
    assert counts.lost == 1 and edit_metadata(counts)["workers_lost"] == 1
    assert work.editor.pool.lost == 1 and (remade := work.editor.pool.remade) >= 1  # type: ignore[attr-defined]
    # The batch that killed noted no edit; the others that it had may have been done and not yet given back.
    batch = max(map(len, work.editor.batches(requests)))  # type: ignore[attr-defined]
    assert len(requests) <= len(pids(work.study)) <= len(requests) + batch * (remade - 1)
    assert kept(work.store, requests) == kept(whole.store, requests)


@pytest.mark.slow
def test_an_edit_that_ends_every_process_is_named_and_all_others_are_kept(tmp_path: Path) -> None:
    work = prepared(crew_study(tmp_path / "crew", 2))
    images = list(work.samples)
    requests = asked(images, "red") + asked(images[:1], "never")[1:]
    with pytest.raises(EditorError, match="add 'never' on image .* ends every process .*all others are kept"):
        ensure_edits(work.store, work.editor, requests)
    assert set(work.store.stored_edits(requests, "batched")) == set(requests[:-1])


def test_an_error_of_the_editor_arrives_as_its_sentence(tmp_path: Path) -> None:
    work = prepared(crew_study(tmp_path / "crew", 1))
    with pytest.raises(EditorError, match="the model is of another kind.*what it gave back before is kept"):
        ensure_edits(work.store, work.editor, asked(list(work.samples)[:1], "wrong"))
    fine = asked(list(work.samples)[:1], "red")
    assert ensure_edits(work.store, work.editor, fine).made + ensure_edits(work.store, work.editor, fine).reused >= 2


def test_a_worker_that_would_edit_otherwise_is_refused(tmp_path: Path) -> None:
    study = crew_study(tmp_path / "crew", 1, driver=os.getpid())
    work = prepared(study)
    with pytest.raises(EditorError, match="would make other edits than this process keeps them as .*editors.batched"):
        ensure_edits(work.store, work.editor, asked(list(work.samples)[:1]))
    assert pids(study) == [] and work.store.count("edits") == 0


def test_no_more_batches_are_out_than_are_asked_for(tmp_path: Path) -> None:
    study = crew_study(tmp_path / "crew", {"count": 2, "ahead": 2})
    work = prepared(study)
    requests = asked(list(work.samples), *PROMPTS)
    made = work.editor.edit(work.store.images(list(work.samples)), requests)
    first = next(made)
    batches = work.editor.batches(requests)  # type: ignore[attr-defined]
    out = sum(len(worker.batches) for worker in work.editor.pool._workers)  # type: ignore[attr-defined]
    assert out <= 4 < len(batches)
    assert sorted(r for batch in [first, *made] for r, _ in batch) == sorted(requests)


def test_a_judge_is_asked_by_its_fingerprint_and_another_one_is_refused(tmp_path: Path) -> None:
    bench = Bench(crew_study(tmp_path / "crew", second_judge={"kind": "diffusion", "draws": 5}))
    pairs = [("one", "red")]
    (answer,) = bench.evidence("shade", {"one": picture(90)}, pairs)  # type: ignore[misc]
    (other,) = bench.evidence("shade of 5", {"one": picture(90)}, pairs)  # type: ignore[misc]
    assert other[1] - answer[1] == pytest.approx(5.0)
    refused = bench.evidence("another", {"one": picture(90)}, pairs)
    assert isinstance(refused, Problem) and "would judge otherwise" in refused.sentence


def test_a_store_says_when_a_worker_wrote_where_it_cannot_be_seen(tmp_path: Path) -> None:
    from diffex_dagster.editing.protocol import FiledPicture
    from diffex_dagster.errors import StoreError

    [request] = asked(["image"])
    with pytest.raises(StoreError, match="a worker wrote this picture and it is not here.*DIFFEX_PICTURES"):
        Store(tmp_path).put_edits([(request, FiledPicture("pictures/aa/none.png", (8, 8)))], "batched")


@pytest.mark.slow
def test_doctor_asks_the_machines_of_a_cluster_what_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    here = {**machines.installed(), "torch": "1.0.0+cpu"}
    monkeypatch.setattr(doctor_team, "installed", lambda: here)
    address = ray.get_runtime_context().gcs_address
    study = crew_study(tmp_path).changed(workers=Workers(count=2, address=address))
    there, other = doctor_team.team_findings(study)
    assert there.fine and there.found == f"2 of them, at {address}: 1 machine, 0 GPUs"
    assert list((tmp_path / "results").rglob("*")) == []  # what the machine wrote there is removed again
    assert other.fine is False and "torch 1.0.0+cpu here, " in other.found and other.found.count(" here, ") == 1
    (silent,) = doctor_team.team_findings(study.changed(workers=Workers(count=2, address="127.0.0.1:1")))
    assert silent.fine is False and "nobody answers at 127.0.0.1:1" in silent.found
    error = "Traceback\nAuthenticationError: wrong token: Bearer abcdefghijkl"
    refused = subprocess.CompletedProcess[str]([], 1, "", error)
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "abcdefghijkl")
        patch.setattr("diffex_dagster.cli.doctor_team.subprocess.run", lambda *_, **__: refused)
        for mode, said in (("token", "is set"), ("disabled", "is not set")):
            patch.setenv("RAY_AUTH_MODE", mode)
            (no,) = doctor_team.team_findings(study)
            assert no.fine is False and f"at {address} cannot be used (AuthenticationError: wrong token" in no.found
            assert no.found.endswith(f"RAY_AUTH_MODE=token {said}") and "abcdefghijkl" not in no.found
            assert "wants RAY_AUTH_MODE=token and that token here" in no.remedy
    monkeypatch.setattr(doctor_team, "WAIT_S", 0.01)
    (late,) = doctor_team.team_findings(study)
    assert late.fine is False and late.found.endswith(f"at {address} have not answered within 0 s")
    (alone,) = doctor_team.team_findings(study.changed(workers=Workers(count=2, address="local")))
    assert alone.fine and "on a Ray of this machine's own" in alone.found
    assert machines.differing({"torch": "2.1+cpu"}, {"torch": "2.1+cu130"}) == []
