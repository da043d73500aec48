"""Search on some images, report on others."""

from __future__ import annotations

from pathlib import Path

from diffex_dagster.assets.running import explain_study
from diffex_dagster.cli.showing import latest_ranking
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.notes import caveats
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.setup import build_store
from diffex_dagster.stages.splits import image_split
from diffex_dagster.study import load_study
from tests.support.toys import edits_made, write_study

IMAGES = 12


def test_effects_come_from_images_that_the_search_has_not_seen(tmp_path: Path) -> None:
    effects = {"control_prompts": ["flornip"], "confirmation": 0.5, "confirmation_from": 10}
    study = load_study(write_study(tmp_path, IMAGES, effects=effects))
    explain_study(study, ["v1"], lambda *event: None)
    store = build_store(study)
    of = image_split(study, list(store.samples(study.kept_as)))
    assert of.held_out and not set(of.discovery) & set(of.reported) and len(of.discovery + of.reported) == IMAGES
    rows = {row.feature: row for row in latest_ranking(study, "v1")}
    assert {row.images for row in rows.values()} == {len(of.reported)}
    kept = store.query("SELECT DISTINCT image FROM effects")["image"]
    assert set(kept) == set(of.reported)  # no discovery image has a part in a reported number
    searched = run_search(StudyContext(study).subject("v1"))
    assert len(searched.result.scores["red"]) == len(of.discovery)
    assert rows["red"].effect > 0.3 and searched.edits.made == 0
    # What only the search tried is never edited on confirmation images; what it found is, on both.
    made = {image for image, prompts in edits_made(tmp_path) if prompts == ("dark red patch",)}
    assert made == {*of.discovery, *of.reported}
    assert f"on {len(of.discovery)} images; effects and decisions come from {len(of.reported)} others" in " ".join(
        caveats(study, of)
    )


def test_a_small_study_uses_all_its_images_twice_and_says_so(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, 6))
    explain_study(study, ["v1"], lambda *event: None)
    of = image_split(study, list(build_store(study).samples(study.kept_as)))
    assert not of.held_out and len(of.reported) == 6
    assert "winner's curse). From 40 images on" in " ".join(caveats(study, of))
    for gate, warned in (("signed", True), ("absolute", True), ("magnitude", False)):
        by = study.changed(search=study.search.model_copy(update={"gate": gate}))
        assert ("claims are then false more often than the stated rate" in " ".join(caveats(by, of))) == warned, gate
    off = load_study(write_study(tmp_path, 6, effects={"confirmation": 0.0, "confirmation_from": 4}))
    assert not image_split(off, list(build_store(off).samples(off.kept_as))).held_out
