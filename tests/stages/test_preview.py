"""The preview of an editor: whose edits it makes, what it says of them, and that it spends nothing twice."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from diffex_dagster.cli.preview import make, show
from diffex_dagster.editing.ledits import LeditsEditor
from diffex_dagster.editing.python_editor import PythonEditorPart
from diffex_dagster.editing.settings import read_setting, worth_trying
from diffex_dagster.errors import DiffExError, StoreError
from diffex_dagster.report.preview_page import Preview, render_preview
from diffex_dagster.report.wording import SHOWS
from diffex_dagster.stages.calibration import calibrate
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.edits import level1_requests
from diffex_dagster.stages.preview import choose_features, preview, settings_grid
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from tests.support.calibrating import set_up
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
    found = {title: read_setting(setting) for title, setting in settings_grid(with_mask)}
    assert len(found) == 15 and found["scale 5, threshold 0.9"] == masked.own.model_copy(update={"scale": 5.0})
    # What calibration tries without a mask: what is not pushed has no skip.
    skipping = masked.model_copy(update={"skip": 0.1})
    free = dict(settings_grid(avatars.changed(editors={"diffusion": skipping})))
    tried = [each.text for each in worth_trying(skipping.own, skipping.steps)]
    for scale, skip, title in (
        (1, 0.0, "scale 1, no mask, skip 0"),
        (3, 0.1, "scale 3, no mask"),
        (5, 0.1, "scale 5, no mask"),
    ):
        setting = read_setting(free[title])
        assert (setting.scale, setting.mask, setting.skip) == (scale, "none", skip) and setting.text in tried
    inexact = skipping.model_copy(update={"correct_end": False, "zero_noise_steps": 0})  # whose null edits depend on it
    grid = dict(inexact.grid(LeditsEditor(inexact).alike))
    assert "scale 1, no mask, skip 0" not in grid and read_setting(grid["scale 1, no mask"]).skip == 0.1


def test_each_row_of_a_grid_is_judged_against_control_prompts_under_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that mean nothing redden a picture by a tenth of the knob, and so does "red sparkles"."""
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}
    file = write_study(tmp_path, 2, editors={"knob": knob}, effects={"control_prompts": ["red flornip"]})
    (tmp_path / "corpus.yaml").write_text("add:\n  - {name: Sparkles, group: Red, prompt: red sparkles}\n")
    study = load_study(file)
    monkeypatch.setattr("diffex_dagster.stages.preview.settings_grid", lambda *_: [("hard", "100"), ("gentle", "10")])
    work = StudyContext(study).changed(judge=ColourJudge(at_once=1000))
    found = preview(work, choose_features(study, corpus_now(study), ["red/sparkles"]), images=2, grid=True)
    assert [row.name for row in found.grid] == ["hard", "gentle"]
    gains = [[edit.gain for edit in row.edits] for row in (*found.rows, *found.grid)]
    assert gains == [pytest.approx([5.0, 5.0]), pytest.approx([7.5, 7.5]), pytest.approx([1.0, 1.0])]
    assert not any(edit.shows for row in (*found.rows, *found.grid) for edit in row.edits)


OWN = "the editor's own options"


def test_a_preview_says_what_a_run_would_first_find_and_what_each_row_was_edited_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before calibration edits are the editor's own, and the run's may be others; after it they are the run's."""
    monkeypatch.setattr(PythonEditorPart, "shown", lambda self: {"opacity": 50.0})
    names = ["dark red patch", "red patch", "blue patch"]
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor", "options": {"need": {names[0]: 70}}}
    study = load_study(write_study(tmp_path, 24, editors={"knob": knob}, calibrate=True, calibration={"budget": 1.0}))
    work, features = set_up(study), choose_features(study, corpus_now(study), names)
    before = preview(work, features, images=2)
    assert before.uncalibrated == (
        "Not calibrated yet: Dark red, Red and Plain blue. A run first finds their options, and its edits of them may "
        f"be others than these (diffex calibrate {tmp_path.name})."
    )
    assert [row.options for row in before.rows] == ["", "", ""]
    own = "The editor’s own options: opacity 50."
    assert all(said in render_preview(before) for said in (before.uncalibrated, own))
    printed = _printed(before, tmp_path)
    assert before.uncalibrated in printed and "options" not in printed.splitlines()[1]

    chosen = {prompt: choice.setting for (prompt, _), choice in calibrate(work).choices.items()}
    assert chosen[names[0]] in ("70", "100")
    after = preview(set_up(study), features, images=2)
    assert [row.options for row in after.rows] == [chosen[name] or OWN for name in names]
    assert after.uncalibrated == "" and "Not calibrated yet" not in render_preview(after) + _printed(after, tmp_path)
    assert (own in render_preview(after)) == ("" in [chosen[name] for name in names])
    run = [r for r in level1_requests(set_up(study)) if r.concepts and r.concepts[0].prompt in names]
    there = work.store.stored_edits(run, work.editor.fingerprint)
    assert len({r.image for r in there if r.concepts[0].prompt == "red patch"}) >= 2

    only = preview(set_up(study), features[:1], images=2)
    assert f'<span class="note">{chosen[names[0]]}</span>' in render_preview(only) and own not in render_preview(only)
    assert chosen[names[0]] in _printed(only, tmp_path).splitlines()[3]
    grid = [("gentle", "10")]
    monkeypatch.setattr("diffex_dagster.stages.preview.settings_grid", lambda *_: grid)
    assert own in render_preview(preview(set_up(study), features[:1], images=2, grid=True))  # the others in its rows

    new = "add:\n  - {name: Deep red, group: Red, prompt: deep red patch}\n"
    (tmp_path / "corpus.yaml").write_text(new)
    edited = choose_features(study, corpus_now(study), [names[0], "deep red patch"])
    one = preview(StudyContext(study), edited, images=2)
    assert one.uncalibrated.startswith("Not calibrated yet: Deep red. A run first")
    assert [row.options for row in one.rows] == [chosen[names[0]], OWN]


def _printed(found: Preview, page: Path) -> str:
    written = io.StringIO()
    show(found, page, Console(file=written, width=200), False)
    return written.getvalue()


def test_options_that_a_study_names_for_one_prompt_are_said_of_its_row(
    toy: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PythonEditorPart, "pinned", lambda self: {"red patch": '{"mask": "none", "scale": 3.0}'})
    assert not toy.calibrates
    found = preview(StudyContext(toy), choose_features(toy, corpus_now(toy), ["red", "blue/plain-blue"]), images=1)
    assert [row.options for row in found.rows] == ["scale 3, no mask", OWN] and not found.uncalibrated
