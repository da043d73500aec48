"""Calibration in the asset graph: a stage of its own, which an edited corpus asks for its new prompts only."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from diffex_dagster.study import load_study
from tests.support.lineage_lab import Lab
from tests.support.toys import edits_made, write_study

KNOB = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}


def test_a_new_prompt_is_calibrated_and_edited_and_nothing_else(tmp_path: Path) -> None:
    file = write_study(tmp_path / "toy", 8, editors={"knob": KNOB}, calibrate=True, calibration={"budget": 1.0})
    lab = Lab(load_study(file), dg.DagsterInstance.ephemeral())
    graph = lab.definitions.resolve_asset_graph()
    stage = dg.AssetKey(["toy", "editor_calibration"])
    assert stage in graph.get(dg.AssetKey(["toy", "level1_edits"])).parent_keys
    assert {key.path[-1] for key in graph.get(stage).parent_keys} == {"editor", "results", "sample_images", "corpus"}
    lab.observe()
    lab.materialize()
    assert lab.unsynced() == []
    event = lab.instance.get_latest_materialization_event(stage)
    assert event is not None and event.asset_materialization is not None
    said = event.asset_materialization.metadata
    assert said["prompts_calibrated"].value == 6
    assert 0 < said["edits_made"].value <= said["edits_allowed"].value
    assert Path(str(said["page"].value)).is_file()

    before = edits_made(tmp_path / "toy")
    (tmp_path / "toy" / "corpus.yaml").write_text("add:\n  - {name: Pale, group: Red, prompt: pale red patch}\n")
    lab.observe()
    assert "editor_calibration" in lab.unsynced() or "corpus" in lab.unsynced()
    lab.by_hand()
    assert lab.unsynced() == []
    new = {prompts for _, prompts in edits_made(tmp_path / "toy")[len(before) :]}
    assert ("pale red patch",) in new and all("pale red patch" in prompts or prompts == ("flornip",) for prompts in new)
