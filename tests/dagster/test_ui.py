"""The three uses of the project on a real `dagster dev`: materialize in the UI, edit the corpus, add a version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from diffex_dagster.store import Store
from tests.support.browsers import chromium
from tests.support.ui import ROOT, DagsterDev, dagster_dev, until

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.browser]

AVATARS = ROOT / "studies" / "avatars"
V1, V2 = "persona_v1", "persona_v2"
SOURCES = ("corpus_overrides", "editor", "image_files", "proposal_inputs", "results")
OBSERVED = [f"avatars/{source}" for source in (*SOURCES, f"{V1}/classifier", f"{V2}/classifier")]
SHARED = ["avatars/sample_images", "avatars/vlm_corpus", "avatars/corpus", "avatars/level1_edits"]
COMPARISON = "avatars/classifier_comparison"
IMAGES = 8
# The null edit, three control prompts, and for each of the 14 groups three edits: its own, if it has one, and children.
LEVEL1 = (1 + 3 + 3 * 14) * IMAGES


def stages_of(version: str) -> list[str]:
    return [f"avatars/{version}/{stage}" for stage in ("level1_scores", "level2_scores", "ranked_report")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The avatars study with its exact editor and eight of its images, alone under a root of its own."""
    copy = tmp_path / "studies" / "avatars"
    shutil.copytree(AVATARS, copy, ignore=shutil.ignore_patterns("results", "bench", "editor"))
    yaml = YAML()
    study = yaml.load(AVATARS / "study.yaml")
    study["images"]["limit"] = IMAGES
    del study["truth"]  # which grades what is there, by drawing every attribute on every image
    study["editors"] = {"exact": study["editors"]["exact"]}
    yaml.dump(study, copy / "study.yaml")
    return copy


@pytest.fixture
def ui(tmp_path: Path, folder: Path) -> Iterator[DagsterDev]:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / ".dagster" / "dagster.yaml", home)
    with dagster_dev(tmp_path, home) as running:
        yield running


def edits(folder: Path) -> list[tuple[str, str]]:
    """Every edit in the database, (image, prompts), in the order in which they were made."""
    rows = Store(folder / "results").query("SELECT image, concepts FROM edits ORDER BY created, concepts, image")
    return [(row.image, row.concepts) for row in rows.itertuples()]


@pytest.mark.timeout(900)  # six processes start, and five runs; a busy machine takes long
def test_materialize_edit_the_corpus_and_add_a_version(ui: DagsterDev, folder: Path) -> None:
    # The first version: everything is made.
    first = ui.launch([*OBSERVED, *SHARED, *stages_of(V1)])
    assert first["avatars/level1_edits"]["edits_made"] == LEVEL1
    assert first[f"avatars/{V1}/ranked_report"]["top_effect"] > 0.3
    assert ui.unsynced() == {*stages_of(V2), COMPARISON}
    contact_sheet(ui)

    # The second version shares the edits: none of level 1 is made again.
    made = len(edits(folder))
    second = ui.launch(["avatars/level1_edits", *stages_of(V2), COMPARISON])
    assert second["avatars/level1_edits"]["edits_made"] == 0
    assert second["avatars/level1_edits"]["edits_reused"] == LEVEL1
    assert second[f"avatars/{V2}/level2_scores"]["edits_made"] == len(edits(folder)) - made
    assert ui.unsynced() == set()

    # One feature is edited in the corpus file: the merge is unsynced, then exactly what it touches.
    (folder / "corpus.yaml").write_text("prompt:\n  moustache: a walrus moustache\n")
    ui.launch(["avatars/corpus_overrides"])
    assert ui.unsynced() == {"avatars/corpus"}
    ui.launch(["avatars/corpus"])
    touched = {"avatars/level1_edits", *stages_of(V1), *stages_of(V2), COMPARISON}
    assert ui.unsynced() == touched

    made = len(edits(folder))
    after = ui.launch(touched)
    assert after["avatars/level1_edits"]["edits_made"] == IMAGES
    assert after[f"avatars/{V1}/level2_scores"]["edits_made"] == 0
    assert after[f"avatars/{V2}/level2_scores"]["edits_made"] == 0
    new = edits(folder)[made:]
    assert len({image for image, _ in new}) == IMAGES and {what for _, what in new} == {
        '[["a walrus moustache", "add"]]'
    }
    assert ui.unsynced() == set()
    check = ui.checks("avatars/level1_edits")["edits_changed_the_pictures"]["evaluation"]  # no avatar has a walrus's
    assert not check["success"] and check["severity"] == "WARN" and "walrus" in check["description"]

    # A third version is added while the UI runs: the automation explains it, with no edit of level 1.
    made, level1 = len(edits(folder)), {what for _, what in edits(folder)[:LEVEL1]}
    ui.switch_on("avatars_watch")
    ui.switch_on("avatars_automation")
    add_version(folder, "persona_v3")
    ui.reload()
    third = set(stages_of("persona_v3"))
    assert third <= ui.unsynced()
    until(lambda: not ui.unsynced() or None, "the automation has explained the third version", 400, every=2)
    assert not {what for _, what in edits(folder)[made:]} & level1
    page = folder / "results" / "reports" / "comparison" / "comparison.json"
    assert json.loads(page.read_text("utf-8"))["classifiers"] == [V1, V2, "persona_v3"]


def add_version(folder: Path, name: str) -> None:
    """The second version with another bias, as a third one in the study file."""
    shutil.copytree(folder / "classifiers" / V2, folder / "classifiers" / name)
    file = folder / "classifiers" / name / "model.safetensors"
    weights = load_file(file)
    bias = next(key for key in weights if key.startswith("classifier") and key.endswith("bias"))
    save_file(weights | {bias: weights[bias] + 0.25 * np.arange(len(weights[bias]), dtype=np.float32)}, file)
    yaml = YAML()
    study = yaml.load(folder / "study.yaml")
    study["classifiers"][name] = {"kind": "transformers", "checkpoint": f"classifiers/{name}"}
    yaml.dump(study, folder / "study.yaml")


def contact_sheet(ui: DagsterDev) -> None:
    """Open the asset's page as a person does, and its contact sheet: it is drawn, and not as a thumbnail."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(90_000)
        page.add_locator_handler(page.get_by_role("button", name="Skip", exact=True), lambda button: button.click())
        page.goto(f"{ui.url}/assets/avatars/level1_edits?view=overview")
        page.get_by_text("[Show Markdown]").click()
        sheet = page.get_by_role("img", name="contact sheet")
        sheet.wait_for()
        assert "One row of edits is one edited picture" in page.inner_text("body")
        width = sheet.evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert width > 500 and sheet.bounding_box()["width"] > 500

        # The report itself opens in the UI, whatever machine the browser is on.
        page.goto(f"{ui.url}/assets/avatars/{V1}/ranked_report?view=overview")
        page.locator("tr", has_text="report").get_by_text("[Show Markdown]").last.click()
        page.get_by_role("heading", name="Ranking").wait_for()
        shown = page.get_by_role("img", name="null edit and edit")
        assert shown.count() >= 10
        assert shown.first.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 128
        text = (
            page.get_by_role("dialog").inner_text() if page.get_by_role("dialog").count() else page.inner_text("body")
        )
        assert "persona_v1 relies most on" in text and "What to keep in mind" in text
