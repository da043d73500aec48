"""Whose options the truth benchmark edits with."""

from __future__ import annotations

from diffex_dagster.bench.truth import SETTINGS, editors, with_settings
from diffex_dagster.cli.bench import EditorSettings
from diffex_dagster.editing.ledits import LeditsEditorPart
from diffex_dagster.study import load_study
from tests.support.project import ROOT


def test_a_study_can_be_graded_as_somebody_writes_it_who_has_tuned_nothing() -> None:
    tuned = load_study(ROOT / "studies" / "avatars")
    assert with_settings(tuned, "tuned") is tuned and not tuned.calibrates
    for settings in SETTINGS:
        study = with_settings(tuned, settings)
        part, mine = study.editors["diffusion"], tuned.editors["diffusion"]
        assert isinstance(part, LeditsEditorPart) and isinstance(mine, LeditsEditorPart)
        assert part.checkpoint == mine.checkpoint and mine.vocabulary
        assert (part.prompts, part.source_prompts) == (
            {},
            "auto" if settings == "default" else "none",
        ) and part.mask == "intersection"
        assert study.calibrates == (settings in ("default", "no_vocabulary"))
        assert tuned.search.beam == 6 and study.search.beam is None and tuned.effects.min_edit_success == 0.4
        assert study.effects == type(study.effects)(control_prompts=tuned.effects.control_prompts)
        assert study.name != tuned.name and study.editors["exact"] == tuned.editors["exact"]
        assert settings in set(EditorSettings)
        assert editors(study) == {"exact": "exact", "diffusion": "diffusion"}
    authors = with_settings(tuned, "authors").editors["diffusion"]
    assert isinstance(authors, LeditsEditorPart)
    assert (authors.steps, authors.scale, authors.threshold) == (50, 10.0, 0.75)
