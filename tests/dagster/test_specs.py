"""The assets of the demo study are those that were reviewed."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from diffex_dagster.assets.editors import build_under_editors
from diffex_dagster.stages.settings import REVISIONS, stage_version
from diffex_dagster.study import load_study
from tests.support.specs import FILE, described
from tests.support.toys import write_study


def test_the_assets_are_the_reviewed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the change is meant: `python -m tests.support.specs`, and the difference goes into the review."""
    monkeypatch.delenv("DIFFEX_CODE_URL", raising=False)
    assert described() == FILE.read_text("utf-8")


def test_a_code_version_is_that_of_settings_and_a_revision_whatever_the_package_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the assets that are no stage; a release alone makes nothing out of date, a raised revision its asset."""
    paint = {"kind": "python", "factory": "tests.support.toys:PaintEditor"}
    asked = {"vlm": {"kind": "openai", "model": "a-model"}}
    editors = {"paint": paint, "other": dict(paint)}
    study = load_study(write_study(tmp_path, 2, editors=editors, second_editor="other", corpus=asked))

    def versions() -> dict[dg.AssetKey, str | None]:
        graph = build_under_editors(study).resolve_asset_graph()
        return {key: graph.get(key).code_version for key in graph.materializable_asset_keys}

    found = versions()
    assert {"corpus_suggestions", "editor_comparison", "ranked_report", "corpus"} <= {key.path[-1] for key in found}
    for key, version in found.items():
        prefix, *classifier, stage = key.path
        arm = study if prefix == study.prefix else study.with_editor("other")
        arm = arm.for_classifier(classifier[0]) if classifier else arm
        assert version == stage_version(arm, stage), key  # type: ignore[arg-type]
    for raised in ("corpus_suggestions", "editor_comparison"):
        monkeypatch.setitem(REVISIONS, raised, {"revision": 9})  # type: ignore[arg-type]
    assert {key.path[-1] for key, version in versions().items() if version != found[key]} == {
        "corpus_suggestions",
        "editor_comparison",
    }
