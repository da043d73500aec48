"""From pictures to a report on the toy domain, whose answer is known; and what is reused."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffex_dagster.assets.running import Outcome, explain_study
from diffex_dagster.cli.showing import compare_latest, latest_ranking
from diffex_dagster.errors import ClassifierError, EditorError
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.stages.setup import build_classifier, build_store
from diffex_dagster.study import Study, load_study
from tests.support.toys import edits_made, write_study

ROOT = Path(__file__).parent.parent.parent
IMAGES = 8


def run(study: Study, *classifiers: str) -> Outcome:
    """Run as the command line does, without a bar."""
    seen: list[tuple[str, int, int, int]] = []
    outcome = explain_study(study, classifiers or tuple(study.classifiers), lambda *event: seen.append(event))
    assert all(done <= total for _, done, total, _ in seen)
    return outcome


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_effects_are_those_that_the_toy_was_built_with(explained: Study) -> None:
    toy = explained
    rows = {row.feature: row for row in latest_ranking(toy, "v1")}
    # The null edit is grey, so that log-odds start at 0; a patch moves them by weight × colour difference.
    expected = {
        "red": sigmoid(3 * 160 / 255) - 0.5,
        "red/dark-red": sigmoid(3 * 100 / 255) - 0.5,
        "blue/plain-blue": sigmoid(-2 * 160 / 255) - 0.5,
        "blue/dark-blue": sigmoid(-2 * 100 / 255) - 0.5,
        "light": 0.0,
    }
    assert {feature: rows[feature].effect for feature in expected} == pytest.approx(expected, abs=1e-9)
    assert [row.feature for row in latest_ranking(toy, "v1")][:3] == ["red", "blue/plain-blue", "red/dark-red"]
    assert (rows["red"].decision, rows["blue/plain-blue"].decision) == ("raises", "lowers")
    assert rows["red"].flip_rate == 1.0 and rows["red"].images == IMAGES
    # "bright" changes the picture but not the score, and its child changes nothing: the group is gated out.
    assert rows["light"].decision == "inconclusive"  # eight images that do not move show nothing of others
    assert rows["light"].ci_low == pytest.approx(-0.34, abs=0.02) and rows["light"].ci_high == -rows["light"].ci_low
    assert rows["light/unknown-thing"].decision == "edit failed"
    assert "blue" not in rows  # its own name is no edit
    # v2 does not look at red.
    assert {row.feature: row.effect for row in latest_ranking(toy, "v2")}["red"] == pytest.approx(0.0)


def test_seeds_of_an_image_are_averaged_within_it(tmp_path: Path) -> None:
    editors = {"paint": {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"fading": 40}}}
    file = write_study(tmp_path, editors=editors, effects={"control_prompts": ["flornip"], "seeds": 2})
    study = load_study(file)
    outcome = run(study, "v1")
    red = {row.feature: row for row in latest_ranking(study, "v1")}["red"]
    assert red.effect == pytest.approx((sigmoid(3 * 160 / 255) + sigmoid(3 * 120 / 255)) / 2 - 0.5)
    assert red.images == IMAGES  # two seeds are no more images
    made = edits_made(tmp_path)
    assert made.count((made[0][0], ("red patch",))) == 2
    run(study.changed(effects=study.effects.model_copy(update={"seeds": 1})), "v1")
    assert len(edits_made(tmp_path)) == len(made)  # the first seed's edits are there
    assert outcome.metadata["level1_edits"]["edits_made"] == 2 * IMAGES * 8


def test_the_beam_of_a_version_decides_what_is_expanded(explained: Study) -> None:
    outcome = run(explained)
    assert sorted(outcome.metadata["v1/level2_scores"]["groups_expanded"]) == ["blue", "red"]
    assert outcome.metadata["v2/level2_scores"]["groups_expanded"] == ["blue"]


def test_the_comparison_says_what_changed(explained: Study) -> None:
    rows = {row.feature: row for row in compare_latest(explained).features}
    assert rows["red"].decision == "less reliant"
    assert rows["red"].difference == pytest.approx(0.5 - sigmoid(3 * 160 / 255))
    assert rows["blue/plain-blue"].decision == "inconclusive"  # nothing changed, but 8 images do not show that


def test_an_edit_that_changes_nothing_is_marked(tmp_path: Path) -> None:
    file = write_study(tmp_path, search={"beam": 4})
    (tmp_path / "corpus.yaml").write_text("add: [{name: Glitter, prompt: glitter}]\n")
    study = load_study(file)
    outcome = run(study, "v1")
    rows = {row.feature: row for row in latest_ranking(study, "v1")}
    assert (rows["glitter"].decision, rows["glitter"].effect) == ("edit failed", 0.0)
    assert outcome.metadata["level1_edits"]["edits_made"] > 0


@pytest.mark.slow
def test_a_second_run_makes_no_edit_and_scores_nothing(toy: Study) -> None:
    first = run(toy)
    made = edits_made(toy.folder)
    assert first.total("edits_made") == len(made) == len(set(made))
    second = run(toy)
    assert edits_made(toy.folder) == made
    assert (second.total("edits_made"), second.total("pictures_scored")) == (0, 0)
    assert second.metadata["level1_edits"]["edits_reused"] == first.metadata["level1_edits"]["dagster/row_count"]


def test_a_second_classifier_makes_no_level1_edit(toy: Study) -> None:
    run(toy, "v1")
    outcome = run(toy, "v2")
    assert outcome.metadata["level1_edits"]["edits_made"] == 0
    assert outcome.metadata["v2/level2_scores"]["edits_made"] == 0  # v1 had expanded what v2 wants


def test_a_feature_added_to_the_corpus_is_all_that_is_edited(explained: Study) -> None:
    toy = explained
    made = edits_made(toy.folder)
    (toy.folder / "corpus.yaml").write_text("add:\n  - {group: Red, name: Ruby, prompt: ruby patch}\n")
    outcome = run(toy)
    new = edits_made(toy.folder)[len(made) :]
    assert {prompts for _, prompts in new} == {("ruby patch",)} and len(new) == IMAGES
    assert outcome.total("edits_made") == IMAGES


def test_a_changed_editor_shares_nothing(explained: Study) -> None:
    first = edits_made(explained.folder)
    editor = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"version": "2"}}
    again = load_study(write_study(explained.folder, editors={"paint": editor}))
    assert run(again).total("edits_made") == len(first) > 0
    assert edits_made(explained.folder) == 2 * first


RUN = "import sys; from diffex_dagster.cli.main import main; sys.argv = ['diffex', 'run', sys.argv[1]]; main()"


@pytest.mark.duckdb_file
@pytest.mark.slow
def test_kill_nine_in_the_middle_of_editing_loses_at_most_one_batch(tmp_path: Path) -> None:
    slow = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"pause": 0.2, "batch": 2}}
    study = load_study(write_study(tmp_path, editors={"paint": slow}))
    process = subprocess.Popen([sys.executable, "-c", RUN, str(study.file)], cwd=ROOT, start_new_session=True)
    try:
        while len(edits_made(tmp_path)) < 9:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = edits_made(tmp_path)
    kept = set(build_store(study).query("SELECT edit FROM edits")["edit"])
    assert len(before) - 2 <= len(kept) <= len(before)
    outcome = run(study)
    after = edits_made(tmp_path)
    repeated = len(after) - len(set(after))
    assert repeated == len(before) - len(kept) <= 2  # only the batch that was in flight
    assert outcome.total("edits_made") == len(after) - len(before)


def test_an_unknown_class_is_reported_before_any_edit(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, target={"label": "hot"}))
    with pytest.raises(ClassifierError, match=r"study\.yaml.*no class 'hot'; it knows cold, warm"):
        run(study)
    assert edits_made(tmp_path) == []


def test_a_failing_editor_keeps_what_was_finished(tmp_path: Path) -> None:
    from diffex_dagster.stages.edits import edit_requests
    from diffex_dagster.stages.sample_images import sample_images

    by_four = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"batch": 4}}
    work = StudyContext(load_study(write_study(tmp_path, editors={"paint": by_four})))
    store, editor, keys = work.store, work.editor, list(sample_images(work).keys)
    real = editor.edit

    def breaks(images, requests):
        for i, batch in enumerate(real(images, requests)):
            if i == 1:
                raise RuntimeError("the driver went away")
            yield batch

    editor.edit = breaks  # type: ignore[method-assign]
    requests = edit_requests(keys, [()], [0])
    with pytest.raises(EditorError, match="the driver went away"):
        ensure_edits(store, editor, requests)
    editor.edit = real  # type: ignore[method-assign]
    counts = ensure_edits(store, editor, requests)
    assert (counts.reused, counts.made) == (4, 4)


def test_progress_goes_to_who_asked_for_the_run(toy: Study) -> None:
    events: list[str] = []
    explain_study(toy, ["v1"], lambda stage, done, total, reused: events.append(stage))
    assert {"level-1 edits", "edits", "scores"} <= set(events)


def test_signed_gate_follows_the_paper(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, search={"gate": "signed", "delta": 0.05}))
    outcome = run(study, "v1")
    assert outcome.metadata["v1/level2_scores"]["groups_expanded"] == ["red"]


def test_scores_have_the_shape_that_the_labels_say(toy: Study) -> None:
    classifier = build_classifier(toy, "v1")
    from tests.support.toys import picture

    assert classifier([picture(1), picture(2)]).shape == (2, 2)
    assert np.isfinite(classifier([picture(1)])).all()


@pytest.mark.slow
def test_racing_spends_fewer_edits_and_reports_the_same_features(tmp_path: Path) -> None:
    """What cannot be among the two strongest is dropped, level 1 is shared, and a re-run costs nothing."""
    racing = {"allocation": "racing", "racing_top": 2, "racing_start": 4, "racing_tolerance": 0.02}
    whole = load_study(write_study(tmp_path / "whole", 12))
    raced = load_study(write_study(tmp_path / "raced", 12, search=racing))
    exhaustive, outcome = run(whole, "v1"), run(raced, "v1")
    assert outcome.total("edits_made") < exhaustive.total("edits_made")

    expected = latest_ranking(whole, "v1")
    rows = latest_ranking(raced, "v1")
    assert [(r.feature, r.effect, r.images) for r in rows[:2]] == [(r.feature, r.effect, 12) for r in expected[:2]]
    assert "light" not in {row.feature for row in rows}, "it left the race"
    assert all(row.images == 12 for row in rows)

    level2 = outcome.metadata["v1/level2_scores"]
    assert level2["edits_with_racing"] < level2["edits_without_racing"]
    assert "features left before all 12 images" in level2["racing"]
    assert run(raced, "v1").total("edits_made") == 0
    made = run(raced, "v2")
    assert made.metadata["level1_edits"]["edits_made"] == 0


def test_bounded_racing_needs_a_probability(tmp_path: Path) -> None:
    from diffex_dagster.errors import StudyError

    file = write_study(
        tmp_path,
        search={"allocation": "racing", "racing_bounds": "bounded"},
        target={"label": "warm", "measure": "logit"},
    )
    with pytest.raises(StudyError, match="racing_bounds 'bounded' needs effects that cannot leave"):
        load_study(file)
