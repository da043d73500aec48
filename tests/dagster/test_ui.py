"""The three uses of the project on a real `dagster dev`: materialize in the UI, edit the corpus, add a version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browsers import chromium
from tests.dagster.ui import ROOT, DagsterDev, dagster_dev
from tests.toys import edits_made, write_study

pytestmark = [pytest.mark.slow, pytest.mark.browser]

OBSERVED = ["toy/corpus_edits", "toy/v1/classifier", "toy/v2/classifier"]
SHARED = ["toy/sample_images", "toy/vlm_corpus", "toy/corpus", "toy/level1_edits"]
IMAGES = 8


def stages_of(version: str) -> list[str]:
    return [f"toy/{version}/{stage}" for stage in ("level1_scores", "level2_scores", "ranked_report")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The toy study, alone under a root of its own."""
    paint = {"kind": "python", "factory": "tests.toys:PaintEditor", "options": {"batch": 64}}
    return write_study(tmp_path / "studies" / "toy", IMAGES, editors={"paint": paint}).parent


@pytest.fixture
def ui(tmp_path: Path, folder: Path) -> Iterator[DagsterDev]:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / ".dagster" / "dagster.yaml", home)
    with dagster_dev(tmp_path, home) as running:
        yield running


@pytest.mark.timeout(900)  # six processes start, and five runs; a busy machine takes long
def test_materialize_edit_the_corpus_and_add_a_version(ui: DagsterDev, folder: Path) -> None:
    # The first version: everything is made. Six combinations at level 1: null, flornip, red, two blues, bright.
    first = ui.launch([*OBSERVED, *SHARED, *stages_of("v1")])
    assert first["toy/level1_edits"]["edits_made"] == 6 * IMAGES
    assert first["toy/v1/ranked_report"]["top_effect"] > 0.1
    assert ui.unsynced() == {*stages_of("v2"), "toy/classifier_comparison"}
    assert all(check["evaluation"]["success"] for check in ui.checks("toy/level1_edits").values())
    assert contact_sheet_width(ui) > 500

    # The second version shares the edits: none of level 1 is made again.
    made = len(edits_made(folder))
    second = ui.launch(["toy/level1_edits", *stages_of("v2"), "toy/classifier_comparison"])
    assert second["toy/level1_edits"]["edits_made"] == 0
    assert second["toy/level1_edits"]["edits_reused"] == 6 * IMAGES
    assert second["toy/v2/level2_scores"]["edits_made"] == len(edits_made(folder)) - made
    assert ui.unsynced() == set()

    # One feature is edited in the corpus file: the merge is unsynced, then exactly what it touches.
    (folder / "corpus.yaml").write_text("prompt:\n  light: glow\n")
    ui.launch(["toy/corpus_edits"])
    assert ui.unsynced() == {"toy/corpus"}
    ui.launch(["toy/corpus"])
    touched = {"toy/level1_edits", "toy/v1/level2_scores", "toy/v2/level2_scores"}
    assert ui.unsynced() == touched

    made = len(edits_made(folder))
    after = ui.launch({*touched, *stages_of("v1"), *stages_of("v2"), "toy/classifier_comparison"})
    assert after["toy/level1_edits"]["edits_made"] == IMAGES
    assert after["toy/v1/level2_scores"]["edits_made"] == after["toy/v2/level2_scores"]["edits_made"] == 0
    new = edits_made(folder)[made:]
    assert len({image for image, _ in new}) == IMAGES and {prompts for _, prompts in new} == {("glow",)}
    assert ui.unsynced() == set()
    check = ui.checks("toy/level1_edits")["edits_changed_the_pictures"]["evaluation"]  # this editor cannot draw a glow
    assert not check["success"] and check["severity"] == "WARN" and "glow" in check["description"]


def contact_sheet_width(ui: DagsterDev) -> int:
    """Open the asset's page as a person does, and its contact sheet; the picture's width once it is drawn."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(90_000)
        page.add_locator_handler(page.get_by_role("button", name="Skip", exact=True), lambda button: button.click())
        page.goto(f"{ui.url}/assets/toy/level1_edits?view=overview")
        page.get_by_text("[Show Markdown]").click()
        sheet = page.get_by_role("img", name="contact sheet")
        sheet.wait_for()
        assert "One row of edits is one edited picture" in page.inner_text("body")
        return int(sheet.evaluate("image => image.decode().then(() => image.naturalWidth)"))
