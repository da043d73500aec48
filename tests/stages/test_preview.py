"""The preview of an editor: whose edits it makes, what it says of them, and that it spends nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffex_dagster.cli.preview import make
from diffex_dagster.errors import DiffExError, StoreError
from diffex_dagster.report.preview_page import render_preview
from diffex_dagster.report.wording import SHOWS
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.preview import choose_features, preview, settings_grid
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from tests.support.toys import ColourJudge, write_study

AVATARS = Path(__file__).parent.parent.parent / "studies" / "avatars"


def test_features_are_named_or_spread_over_the_groups(toy: Study) -> None:
    corpus = corpus_now(toy)
    assert [f.id for f in choose_features(toy, corpus, ["RED", "blue/plain-blue"])] == ["red", "blue/plain-blue"]
    spread = choose_features(toy, corpus)
    assert len({f.id.split("/")[0] for f in spread}) == len(spread) >= 2
    with pytest.raises(DiffExError, match="the corpus has no 'wings'; it has: .*Dark red"):
        choose_features(toy, corpus, ["wings"])


def test_a_preview_makes_the_study_s_own_edits(toy: Study) -> None:
    work = StudyContext(toy)
    store, features = work.store, choose_features(toy, corpus_now(toy), ["red"])
    found = preview(work, features, images=2)
    assert (len(found.images), len(found.rows[0].edits)) == (2, 2)
    assert found.made == 2 * (2 + len(toy.effects.control_prompts)) and not found.judged and found.note
    assert all(edit.shows and edit.gain is None for edit in found.rows[0].edits)
    again = preview(work, features, images=2)
    assert (again.made, again.reused) == (0, found.made)
    # The study's own sample images are not touched, and its run finds the previewed edits.
    with pytest.raises(StoreError, match="no sample images yet"):
        store.samples(toy.name)
    sample_images(work)
    assert set(store.samples(f"{toy.name}_preview")) <= set(store.samples(toy.name))


def test_the_judge_s_verdict_and_what_else_an_edit_shows(toy: Study) -> None:
    features = choose_features(toy, corpus_now(toy), ["red", "blue/plain-blue"])
    found = preview(StudyContext(toy).changed(judge=ColourJudge()), features, images=2)
    red, blue = found.rows
    assert found.judged and not found.note
    assert all(edit.shows and edit.gain and edit.other is None for edit in (*red.edits, *blue.edits))
    page = render_preview(found)
    assert f"“Shows more of it”: {SHOWS}" in page
    assert page.count("✓") == 4 and "script-src" not in page and "<script" not in page
    assert page.count("<img") == 8  # two images, their null edits, two features


def test_the_page_is_written_beside_the_results_and_escapes_names(toy: Study) -> None:
    found, page = make(toy, ["red"], 1, False, silent)
    assert page == toy.results_folder / "preview" / f"{toy.editor_name}.html"
    text = page.read_text("utf-8")
    assert "Nobody judges these edits" in text and found.images[0] in text


def test_a_grid_varies_what_the_editor_has(toy: Study) -> None:
    with pytest.raises(DiffExError, match="an editor of kind 'python' has no options that --grid could try"):
        settings_grid(toy)
    avatars = load_study(AVATARS)
    titles = [title for title, _ in settings_grid(avatars)]
    assert "scale 1, skip 0" in titles and len(titles) == len(set(titles)) == 12  # it has no mask
    masked = avatars.editors["diffusion"].model_copy(update={"mask": "intersection"})
    with_mask = avatars.changed(editors={"diffusion": masked})
    assert "scale 5, threshold 0.9" in [title for title, _ in settings_grid(with_mask)]


def test_each_row_of_a_grid_is_judged_against_control_prompts_under_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that mean nothing redden a picture by a tenth of the knob, and so does "red sparkles"."""
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}
    file = write_study(tmp_path, 2, editors={"knob": knob}, effects={"control_prompts": ["red flornip"]})
    (tmp_path / "corpus.yaml").write_text("add:\n  - {name: Sparkles, group: Red, prompt: red sparkles}\n")
    study = load_study(file)
    monkeypatch.setattr("diffex_dagster.stages.preview.settings_grid", lambda _: [("hard", "100"), ("gentle", "10")])
    work = StudyContext(study).changed(judge=ColourJudge(at_once=1000))
    found = preview(work, choose_features(study, corpus_now(study), ["red/sparkles"]), images=2, grid=True)
    assert [row.name for row in found.grid] == ["hard", "gentle"]
    gains = [[edit.gain for edit in row.edits] for row in (*found.rows, *found.grid)]
    assert gains == [pytest.approx([5.0, 5.0]), pytest.approx([7.5, 7.5]), pytest.approx([1.0, 1.0])]
    assert not any(edit.shows for row in (*found.rows, *found.grid) for edit in row.edits)
