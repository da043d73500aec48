"""The demo checkpoint, from pictures to the report: two workers make of it what one process makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from diffex_dagster.stages import scores
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import load_study
from diffex_dagster.workers import remote
from tests.support.project import AVATARS, Run
from tests.support.toys import write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TREE = {
    "categories": [
        {"name": "Eyewear", "editable": False, "children": [{"name": "Shades", "prompt": "black shades"}]},
        {"name": "Beard", "prompt": "a light beard"},
    ]
}
KEPT = {  # table -> its rows, without when and by which run they were made
    "edits": "edit, image, concepts, editor, seed, file",
    "masks": "edit, width, height, mask",
    "scores": "subject, classifier, outputs",
    "evidence": "subject, concept, probe, value",
    "changes": "edit, strength, ssim, inside, area, lpips",
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as Ray gives a worker: on a CPU their number decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written(folder: Path) -> Path:
    """A study of four avatars and two features, edited and judged by the demo checkpoint in a few steps."""
    editor = {
        "kind": "ledits", "checkpoint": str(AVATARS / "editor"), "device": "cpu", "steps": 4, "skip": 0.0,
        "mask": "none", "scale": 1.0, "source_prompts": "none",
    }  # fmt: skip
    persona = {"kind": "transformers", "checkpoint": str(AVATARS / "classifiers" / "persona_v1"), "device": "cpu"}
    file = write_study(
        folder, 0, name="avatars", domain="drawn avatars", editors={"sd": editor}, classifiers={"v1": persona},
        images={"folder": str(AVATARS / "images"), "size": 64, "limit": 4}, target={"label": "senior"},
        effects={"control_prompts": ["florn"]},
    )  # fmt: skip
    (folder / "proposal.json").write_text(json.dumps(TREE))
    return file


def test_the_whole_report_is_the_same_with_and_without_workers(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch, one_thread: None, ray_here: None
) -> None:
    monkeypatch.setattr(scores, "PORTION", 8)  # so that few edits are several portions
    monkeypatch.setattr(remote, "SCORED_AT_ONCE", 8)
    monkeypatch.setattr(remote, "MEASURED_AT_ONCE", 2)
    found: list[tuple[dict[str, list[Any]], dict[str, Any]]] = []
    for workers in ("0", "2"):
        monkeypatch.setenv("DIFFEX_WORKERS", workers)
        file = written(tmp_path / workers)
        status, _, said = diffex("run", file, "--classifier", "v1")
        assert status == 0, said
        store = build_store(load_study(file))
        rows = {of: store.rows(f"SELECT {what} FROM {of} ORDER BY ALL") for of, what in KEPT.items()}
        report = json.loads((file.parent / "results" / "reports" / "v1" / "report.json").read_text("utf-8"))
        found.append((rows, report))
    (alone, report), (crew, its_report) = found
    assert crew == alone and len(alone["edits"]) >= 16 and alone["evidence"] and alone["changes"]
    assert all(feature["edit_success"] is not None for feature in report["features"]) and report["features"]
    for each in (report, its_report):
        del each["created"], each["command"]  # when, and with which file
    assert its_report == report
