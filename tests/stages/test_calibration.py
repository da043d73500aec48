"""Calibration of a toy editor with one knob: what it chooses, what it costs, what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.cli.calibrate import make
from diffex_dagster.editing.calibration import METHOD
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.editing.settings import PromptOptions
from diffex_dagster.errors import StoreError, StudyError
from diffex_dagster.judging.protocol import Pair
from diffex_dagster.report.wording import SHOWS
from diffex_dagster.stages.calibration import (
    Calibration,
    budget_of,
    calibrate,
    calibration_rows,
    study_edits,
    wanted_prompts,
)
from diffex_dagster.stages.calibration_page import page_of, write_page
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.edits import control_edits, level1_edits
from diffex_dagster.stages.plan import plan_edits
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.settings import STAGES, stage_version
from diffex_dagster.stages.setup import build_editor
from diffex_dagster.stages.trying import Trying
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from tests.support import toys
from tests.support.calibrating import set_up
from tests.support.toys import ColourJudge, edits_made, write_study

KNOB = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}
NEED = {"dark red patch": 70}


def study_in(folder: Path, images: int = 8, **changes: Any) -> Study:
    editors = {"paint": {**KNOB, "options": {"need": NEED}}}
    fields: dict[str, Any] = {"editors": editors, "calibrate": True, "calibration": {"budget": 1.0}} | changes
    return load_study(write_study(folder, images, **fields))


def chosen(found: Calibration) -> dict[str, str]:
    return {prompt: choice.setting for (prompt, _), choice in found.choices.items()}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_in(tmp_path)


def test_each_prompt_gets_the_gentlest_knob_that_shows_it(tmp_path: Path) -> None:
    study = study_in(tmp_path, images=24)  # whose edits pay for all six settings
    work = set_up(study)
    found = calibrate(work)
    assert 0 < found.edits.made <= found.budget and len(found.images) == 6
    of = chosen(found)
    assert of["dark red patch"] in ("70", "100"), found.choices  # below, no paint sticks
    assert of["red patch"] in ("", "10", "30", "50") and of["blue patch"] in ("", "10", "30", "50")
    harms = {each.setting: each.harm for each in found.tries if each.wanted.prompt == "red patch"}
    assert harms["100"] > harms.get("", harms.get("50", 0.0))
    again = calibrate(work)
    assert (again.edits.made, again.new, again.version) == (0, [], found.version)


def test_a_trace_of_an_attribute_is_not_the_gentlest_edit_that_shows_it(tmp_path: Path) -> None:
    """A knob of 10 gains a tenth of what the last one does, more than control prompts and enough to be seen."""
    found = calibrate(set_up(study_in(tmp_path, images=24)))
    took: dict[str, set[bool]] = {}
    for each in found.tries:
        if each.wanted.prompt == "red patch":
            took.setdefault(each.setting, set()).add(each.succeeded)
    assert took["10"] == {False} and took["100"] == {True}, took
    assert chosen(found)["red patch"] in ("", "30", "50")


def test_variants_of_the_best_setting_are_tried_though_the_budget_never_reaches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffex_dagster.stages.calibration.budget_of", lambda *_: 90)
    found = {}
    for varies in (True, False):
        work = set_up(study_in(tmp_path / str(varies), images=6))
        if varies:
            work.editor.__dict__["_made"].variants = lambda setting: ["70"]
        found[varies] = calibrate(work)
        assert found[varies].edits.made <= 90
    assert "70" in found[True].finalists and chosen(found[True])["dark red patch"] == "70"
    assert not {"70", "100"} & {each.setting for each in found[False].tries}  # of six settings, the first four


def test_the_same_study_chooses_the_same_and_never_above_its_budget(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        study = study_in(tmp_path / name, calibration={"budget": 0.6, "images": 3})
        work = set_up(study)
        found.append(calibrate(work))
        allowed = 0.6 * study_edits(study, work.corpus, 8)
        nulls = 3
        assert len(edits_made(study.folder)) - nulls <= allowed
    assert found[0].choices == found[1].choices


def test_without_a_budget_the_editor_s_own_options_stay(tmp_path: Path) -> None:
    study = study_in(tmp_path, calibration={"budget": 0.01})
    found = calibrate(set_up(study))
    assert set(chosen(found).values()) == {""} and found.edits.made == 0
    assert "too few to try anything with" in found.note
    # Nothing was tried, so that more budget finds options for the same prompts.
    more = calibrate(set_up(study.changed(calibration=study.calibration.model_copy(update={"budget": 1.0}))))
    assert len(more.new) == 6 and more.edits.made > 0 and more.note == ""
    assert all(choice.success is not None for choice in more.choices.values())


@pytest.mark.parametrize("budget", [0.05, 0.5, 1.0])
def test_a_later_calibration_pays_for_missing_edits_only_and_keeps_to_its_budget(tmp_path: Path, budget: float) -> None:
    study = study_in(tmp_path, images=8)
    first = calibrate(set_up(study))
    lines = [f"  - {{name: Red {i}, group: Red, prompt: red patch {i}}}\n" for i in range(4)]
    (tmp_path / "corpus.yaml").write_text("add:\n" + "".join(lines))
    edited = set_up(study.changed(calibration=study.calibration.model_copy(update={"budget": budget})))
    later = calibrate(edited)
    assert {w.prompt for w in later.new} == {f"red patch {i}" for i in range(4)} and later.finalists == first.finalists
    tries = [each for each in later.tries if each.wanted in later.new]
    assert later.edits.made == len(tries) <= later.budget  # the control edits are those of the first calibration
    assert len(tries) == min(later.budget // len(first.finalists), 4 * len(later.images)) * len(first.finalists)
    assert bool(tries) == (later.budget >= len(first.finalists)) and later.kept == len(first.choices)


def test_tries_by_an_earlier_rule_decide_no_new_prompt_and_its_choices_stay(tmp_path: Path) -> None:
    study = study_in(tmp_path, images=24)
    first = calibrate(set_up(study))
    store, editor = set_up(study).store, set_up(study).editor.fingerprint
    for table in ("calibrations", "tries"):
        store.database.write(lambda c, of=table: c.execute(f"UPDATE {of} SET method = NULL"))
    kept, final = store.tries(study.name, editor)
    assert kept and final == [] and {each.method for each in kept} == {0}
    (tmp_path / "corpus.yaml").write_text("add:\n  - {name: Red 1, group: Red, prompt: red patch 1}\n")
    work = set_up(load_study(study.file))
    later = calibrate(work)
    (new,) = later.new
    mine = [each for each in later.tries if each.method == METHOD]
    assert {each.wanted for each in mine} <= {new} and set(later.finalists) <= {"", "10", "30"}, later.finalists
    before = {of: choice.setting for of, choice in first.choices.items()}
    assert {of: choice.setting for of, choice in later.choices.items() if choice.earlier} == before
    whys = {str(row["prompt"]): str(row["why"]) for row in calibration_rows(later)}
    assert "earlier rule" in whys["red patch"] and "earlier rule" not in whys["red patch 1"]
    page = write_page(work.study, page_of(work, later)).read_text("utf-8")
    assert page.count("; chosen by an earlier rule") == len(before) and "--again" in page
    edits = study_edits(work.study, work.store.current_corpus(study.name), 24)
    assert 0 < later.budget < edits / 6  # one of seven prompts has its part of a budget that is all of them
    assert f"of the {later.budget} that it was allowed ({later.budget / edits:.0%} of the study’s {edits} edits" in page
    assert calibrate(work).edits.made == 0


def test_a_new_prompt_that_shows_a_known_one_too_changes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the known prompts' own edits gain is known from the calibration before."""
    monkeypatch.setitem(toys.PAINTS, "red everywhere", (slice(0, 16), (150, 40, 150)))  # the right half is blue too
    monkeypatch.setitem(toys.PAINTS, "red on the left", (slice(0, 8), (150, 40, 150)))
    study = study_in(tmp_path)
    calibrate(set_up(study))
    prompts = ("red everywhere", "red on the left")
    lines = [f"  - {{name: {prompt}, group: Red, prompt: {prompt}}}\n" for prompt in prompts]
    (tmp_path / "corpus.yaml").write_text("add:\n" + "".join(lines))
    edited = set_up(load_study(study.file))
    before, final = edited.store.tries(study.name, edited.editor.fingerprint)
    new = [w for w in wanted_prompts(edited.corpus) if w.prompt in prompts]
    trying = Trying(edited, list(edited.samples)[:2])
    trying.run(new, edited.editor.settings, before, final, 60)
    spilling = trying.tries
    trying._whole = {}
    without = trying.tries
    gained = {
        p: [a.harm - b.harm for a, b in zip(spilling, without, strict=True) if a.wanted.prompt == p] for p in prompts
    }
    assert min(gained["red everywhere"]) > 0.1 > max(map(abs, gained["red on the left"]))


def test_a_whole_search_on_calibrated_edits_and_an_edited_corpus(study: Study) -> None:
    """Edits carry their settings through search and report, controls are edited like the features, and a new prompt
    costs its own calibration and edits, nothing else."""
    work = set_up(study)
    with pytest.raises(StoreError, match="materialize editor_calibration first"):
        level1_edits(work)
    planned = {stage.stage: stage for stage in plan_edits(work, [])}
    assert planned["editor_calibration"].edits_missing > 0 and "6 prompts" in planned["editor_calibration"].note
    before = calibrate(work)
    settings = set(chosen(before).values())
    worked, corpus = work.calibrated().study, work.corpus
    assert {f.setting for f in corpus.walk() if f.editable} == settings == set(worked.control_settings)
    assert corpus.version == work.store.current_corpus(study.name).version
    assert {c.setting for (c,) in control_edits(worked)} == settings
    level1_edits(work)
    note = {stage.stage: stage.note for stage in plan_edits(work, ["v1"])}["v1/level2_scores"]
    joint = int(note.split(" edits of the groups it keeps, ")[1].split()[0])
    assert f"up to {joint} edits" in note, note  # level 1 has made every single feature's, under the settings found
    run_search(work.subject("v1"))
    report, searched = classifier_report(work.subject("v1"), "test")
    by = {row.prompt: row for row in report.features}
    assert by["red patch"].effect > 0.0
    assert len(report.controls) == len(settings) * len(study.effects.control_prompts)
    for concepts, paired in searched.paired.items():
        if concepts and concepts[0].prompt == "red patch":
            control = next(c for c in control_edits(worked) if c[0].setting == concepts[0].setting)
            assert paired.placebo is not None and (paired.placebo == searched.paired[control].edit).all()

    made = len(edits_made(study.folder))
    (study.folder / "corpus.yaml").write_text("add:\n  - {name: Deep red, group: Red, prompt: dark red patch two}\n")
    edited = set_up(load_study(study.file))
    after = calibrate(edited)
    assert [w.prompt for w in after.new] == ["dark red patch two"]
    assert {p: s for p, s in chosen(after).items() if p in chosen(before)} == chosen(before)
    level1_edits(edited)
    new = edits_made(study.folder)[made:]
    assert ("dark red patch two",) in {prompts for _, prompts in new}
    assert {prompts for _, prompts in new} <= {("dark red patch two",), ("flornip",)}


def test_a_region_bounds_what_is_chosen(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    work = set_up(study, "Left")
    assert {w.region for w in wanted_prompts(work.corpus) if w.group == "red"} == {"left"}
    found = calibrate(work)
    assert chosen(found)["dark red patch"] in ("", "10", "30")


def _apart(region: str | None = None, group: str | None = None) -> list[str]:
    """Settings of which none suits both kinds of attribute."""
    return ["10", "30", "70"] if region == "left" else ["50", "100"]


def test_a_prompt_is_tried_under_settings_that_suit_its_kind_only(tmp_path: Path) -> None:
    """What it is never edited with would else decide which settings are kept, and how large a gain is asked for."""
    work = set_up(study_in(tmp_path), region="left")
    editor: Any = work.editor
    trying = Trying(work, list(work.samples))
    trying.run(wanted_prompts(work.corpus), editor.settings, (), (), 200)
    tried = {each.wanted.group: set[str]() for each in trying.tries}
    for each in trying.tries:
        tried[each.wanted.group].add(each.setting)
    assert tried["red"] <= set(editor.settings("left")) < set(editor.settings())
    assert tried["blue"] - set(editor.settings("left"))  # others are tried harder
    assert trying.counts.made <= 200


def test_kinds_without_a_setting_in_common_each_get_one_that_was_tried(tmp_path: Path) -> None:
    work = set_up(study_in(tmp_path, images=24), "Left")
    work.editor.__dict__["_made"].settings = _apart
    found = calibrate(work)
    for wanted in wanted_prompts(work.corpus):
        choice = found.choices[wanted.prompt, wanted.direction]
        assert choice.setting in _apart(wanted.region or None) and choice.success is not None, wanted
    assert calibrate(work).new == []


def test_a_new_kind_of_attribute_is_tried_with_what_suits_it(tmp_path: Path) -> None:
    """The first calibration knew no prompt on the left: its finalists suit none."""
    study = study_in(tmp_path, images=24)
    work = set_up(study)
    work.editor.__dict__["_made"].settings = _apart
    first = calibrate(work)
    assert set(first.finalists) <= {"50", "100"}
    new = "{name: Far red, group: Red, prompt: red patch far, region: Left}"
    (tmp_path / "corpus.yaml").write_text(f"add:\n  - {new}\n")
    edited = set_up(study)
    edited.editor.__dict__["_made"].settings = _apart
    assert [each.region for each in calibrate(edited).new] == ["left"]
    later = calibrate(edited)
    choice = later.choices["red patch far", "add"]
    assert choice.setting in _apart("left") and choice.success is not None and later.new == []
    assert all(later.choices[of] == known for of, known in first.choices.items())


class RestlessJudge(ColourJudge):
    """Its evidence for words that mean nothing differs between pictures by more than any edit gains."""

    binary = False

    def _of(self, picture: Image.Image, pair: Pair) -> float:
        nothing = not {"red", "blue", "bright", "sparkles"} & set(pair[1].split())
        return 1e4 * float(np.asarray(picture).mean()) if nothing else super()._of(picture, pair)


class OneWordJudge(RestlessJudge):
    """The same, but it says that it only says yes or no: how its answers differ says nothing."""

    binary = True


@pytest.mark.parametrize("judge", [RestlessJudge, OneWordJudge])
def test_an_edit_gains_more_than_pictures_differ_by(tmp_path: Path, judge: type[RestlessJudge]) -> None:
    work = set_up(study_in(tmp_path, images=24))
    work.editor.__dict__["_made"].judge = lambda draws: judge(at_once=1000)
    work.editor.__dict__["_made"]._paint = _ignoring_nothing(work.editor.__dict__["_made"]._paint)
    assert any(each.succeeded for each in calibrate(work).tries) == judge.binary


def _ignoring_nothing(paint: Callable[..., Image.Image]) -> Callable[..., Image.Image]:
    """An editor that takes no notice of words that mean nothing."""

    def painted(image: Image.Image, request: EditRequest) -> Image.Image:
        known = all({"red", "blue", "bright", "sparkles"} & set(each.prompt.split()) for each in request.concepts)
        return paint(image, request) if known else image

    return painted


def test_who_calibrates(tmp_path: Path) -> None:
    scenes = load_study(Path(__file__).parents[2] / "studies" / "scenes")
    assert scenes.calibrates and not scenes.changed(calibrate=False).calibrates
    assert not scenes.with_editor("exact").calibrates
    avatars = load_study(Path(__file__).parents[2] / "studies" / "avatars")
    assert not avatars.calibrates  # it sets options
    for_other_checkpoints = "leave skip, mask, scale, prompts and\n    # source_prompts out"
    assert for_other_checkpoints in avatars.file.read_text("utf-8")
    part = avatars.editors["diffusion"]
    left = part.model_dump(exclude={"skip", "mask", "scale", "prompts", "source_prompts"}, exclude_unset=True)
    bare = avatars.changed(editors={"diffusion": type(part)(**left)})
    assert bare.calibrates and not bare.pinned and bare.finds_source_prompts
    assert not load_study(write_study(tmp_path)).calibrates
    with pytest.raises(StudyError, match="calibrate: true finds options by a judge's word"):
        study_in(tmp_path, judge={"kind": "none"})
    with pytest.raises(StudyError, match="does not look for the options of its editor"):
        make(load_study(write_study(tmp_path)), silent)


def test_an_editor_without_options_keeps_its_own(tmp_path: Path) -> None:
    study = study_in(tmp_path, editors={"paint": {"kind": "python", "factory": "tests.support.toys:PaintEditor"}})
    work = set_up(study)
    found = calibrate(work)
    assert "has no options to try" in found.note and set(chosen(found).values()) == {""}
    assert work.calibrated().study.control_settings == ("",)


def test_pinned_prompts_are_not_calibrated_and_change_no_other_edit(tmp_path: Path) -> None:
    scenes = load_study(Path(__file__).parents[2] / "studies" / "scenes")
    part = scenes.editors["diffusion"]
    five = part.model_copy(update={"prompts": {"a dog": PromptOptions(scale=5.0)}})
    pinned = scenes.changed(editors={"diffusion": five})
    assert set(pinned.pinned) == {"a dog"} and '"scale": 5.0' in pinned.pinned["a dog"]
    assert build_editor(pinned).fingerprint == build_editor(scenes).fingerprint
    changed = {stage for stage in STAGES if stage_version(pinned, stage) != stage_version(scenes, stage)}
    assert changed == set(STAGES) - {"sample_images", "vlm_corpus", "corpus"}  # all of them at once
    other = part.model_copy(update={"prompts": {"a dog": PromptOptions(scale=9.0)}})
    again = scenes.changed(editors={"diffusion": other})
    assert stage_version(again, "editor_calibration") != stage_version(pinned, "editor_calibration")


def test_the_command_writes_a_page(study: Study) -> None:
    said: list[str] = []
    found, page = make(study, silent, said.append)
    every = study_edits(study, corpus_now(study), 8)
    tried = f"tried first: at most {found.budget} edits to find the options of 6 prompts"
    assert said == [f"{tried}, for the study's {every} edits, joint ones apart"]
    text = page.read_text("utf-8")
    assert page == study.results_folder / "calibration" / study.name / "paint.html"
    assert f"“Shown”: {SHOWS} The gain is also" in text
    assert "dark red patch" in text and "<script" not in text and text.count("chosen</b>") >= 4
    assert f"made {found.edits.made} edits of the {found.budget} that it was allowed" in text
    assert budget_of(study, corpus_now(study), [], 8) == 0
    again, page = make(study, silent, said.append)
    assert said[1:] == ["no edits are to be tried"]
    assert again.edits.made == 0 and "that it was allowed" not in page.read_text("utf-8")
