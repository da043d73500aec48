"""Calibration in the asset graph: a stage of its own, which an edited corpus asks for its new prompts only."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from diffex_dagster.assets.status import opened
from diffex_dagster.cli.calibrate import make
from diffex_dagster.editing.calibration import Choice
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from tests.support.lineage_lab import Lab
from tests.support.toys import edits_made, write_study

KNOB = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}


@pytest.mark.slow
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


@pytest.mark.slow
def test_whatever_changes_a_prompt_s_options_makes_what_was_edited_otherwise_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who pins a prompt, and the command that calibrates."""
    study = load_study(write_study(tmp_path / "toy", 3, editors={"knob": KNOB}, calibrate=True))
    with opened() as instance:
        lab = Lab(study, instance)
        lab.observe()
        later = [stage for stage in lab.unsynced() if stage not in ("sample_images", "vlm_corpus", "corpus")]
        lab.materialize()
        assert lab.unsynced() == [] and later[0] == "editor_calibration" and len(later) > 4

        monkeypatch.setattr(Study, "pinned", {"red patch": "30"})
        pinned = Lab(study, instance)
        assert pinned.unsynced() == later
        pinned.materialize("editor_calibration")
        assert pinned.unsynced() == later[1:]
        pinned.materialize(*later[1:])
        assert pinned.unsynced() == []

        harder = Choice("100", 1.0, 0.5, 1, "")
        monkeypatch.setattr("diffex_dagster.editing.calibration.choose", lambda *_: harder)
        found, _ = make(study, silent, again=True)
        assert {choice.setting for choice in found.choices.values()} == {"30", "100"}
        assert Lab(study, instance).unsynced() == later[1:]
