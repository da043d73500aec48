"""The benchmark of truth: an exact arm must come out exact, and each mark must be able to fail."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from scipy import stats

from diffex_dagster.bench import baselines, exam_tables, truth, truth_tables
from diffex_dagster.bench.marks import Marked, Point, TrueEffects, presence_marks, sight_marks
from diffex_dagster.bench.racing import all_subjects
from diffex_dagster.bench.resampling import resample
from diffex_dagster.classifying.parts import Target
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.study import Study, load_study
from diffex_dagster.worlds import avatars, redrawing
from tests.support.toys import prepared

AVATARS = Path(__file__).parent.parent.parent / "studies" / "avatars"
OPTIONS = DecisionOptions(flips=499)
DOUBLED = {"label": "yes", "measure": "function", "function": "tests.bench.test_truth:doubled_logit"}


def doubled_logit(logits: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    return 2 * logits[:, labels.index("yes")]


@pytest.mark.slow
def test_the_exact_arm_is_exact(graded: tuple[Study, truth.Benchmark]) -> None:
    study, found = graded
    figures = truth_tables.as_json(found)
    json.dumps(figures, allow_nan=False)
    mean = figures["arms"]["exact"]["mean"]
    assert mean["effect_mae"] == pytest.approx(0.0, abs=1e-6)
    assert (mean["sign_accuracy"], mean["precision_at_5"]) == (1.0, 1.0)
    assert {"spearman", "kendall", "recall_at_10", "coverage", "fdr", "beam_recall"} <= set(mean)
    (marked,) = found.arms["exact"]
    assert max(marked.points, key=lambda p: abs(p.true)).name in ("Red clothes", "Blue clothes")
    assert {p.name: p.true for p in marked.points}["Earrings"] == 0.0  # the world cannot draw them
    assert found.images == 6 and marked.resampled is not None
    assert mean["plain_mae"] == pytest.approx(0.0, abs=1e-6) and mean["prevalence_mae"] == pytest.approx(0.0)
    assert mean["both_mae"] == pytest.approx(0.0, abs=1e-6) and marked.both >= 1
    # The signed gate looks upwards only: what lowers the class is claimed by nobody. Over all images, what some show
    # already counts as not moved.
    claims = figures["arms"]["exact"]["paper"]["classifiers"]["colours"]
    assert claims["coverage"] is None and claims["effect_mae"] > 1e-6
    shared = figures["arms"]["exact"]["shared"]
    assert shared["ours"]["effect_mae"] == pytest.approx(0.0, abs=1e-6) and shared["ours"]["beam_recall"] is None
    assert marked.ours_shared.features == marked.paper_shared.features <= marked.ours.features
    # A reading says nothing of what it never edited: an effect of 0.
    true = {point.feature: point.true for point in marked.points}
    assert marked.ours_whole.features == marked.paper_whole.features == len(true) == 5
    unsaid = abs(true["eyewear/round-glasses"])
    assert marked.paper_whole.effect_mae >= unsaid / len(true) - 1e-6 and unsaid > 1e-4
    assert figures["arms"]["exact"]["whole"]["ours"]["effect_mae"] == marked.ours_whole.effect_mae
    assert truth_tables.figure(found).startswith(b"\x89PNG")
    scope = truth.Scope(population=12, resamples=3)
    again = truth.grade_all(study, truth.editors(study, "exact"), truth.subjects(study), scope)
    assert truth_tables.as_json(again) == figures


def test_the_truth_is_that_of_the_pictures_without_a_feature_and_of_both_ways() -> None:
    """Two of three pictures wear glasses: the one that does not is the effect, and all three are do(1) − do(0)."""
    bare = avatars.WORLD.sample_state(random.Random(1)) | {"eyewear": "none"}
    states = [bare, bare | {"eyewear": "round"}, bare | {"eyewear": "round"}]
    corpus = Corpus((Feature("round-glasses", "Round glasses", "round glasses"),))
    effects = {("round glasses", False): np.array([0.4, 0.0, 0.0]), ("round glasses", True): np.array([0, -0.1, -0.3])}
    found = truth.truth_of(effects, states, corpus, avatars.WORLD)
    assert found.effects() == {"round-glasses": pytest.approx(0.4)}
    np.testing.assert_allclose(found.both["round-glasses"], [0.4, 0.1, 0.3])


def _read(baseline: baselines.Baseline, toy: Study) -> baselines.Reading:
    return baselines.read(baseline, prepared(toy).subject("v1"))


def test_the_paper_s_reading_takes_the_original_as_base(toy: Study) -> None:
    found = _read(baselines.PAPER, toy)
    assert found.kept[0] == "red" and found.claims is not None
    assert found.effects["red"] == pytest.approx(1 / (1 + math.exp(-3 * 160 / 255)) - 0.5)
    assert found.effects["blue/plain-blue"] < 0 and "blue/plain-blue" not in found.claims
    assert found.claims["red"] == "raises" and "red/dark-red" not in found.claims  # it does not beat its parent


def test_the_released_procedure_lists_both_directions_and_claims_nothing(toy: Study) -> None:
    (released,) = baselines.BASELINES["released"]
    found = _read(released, toy)
    assert found.claims is None and {"red", "blue"} <= set(found.kept)
    assert found.effects["red"] > 0 > found.effects["blue/plain-blue"]


def test_algorithm_1_edits_a_sub_feature_together_with_its_parent(toy: Study) -> None:
    (published,) = baselines.BASELINES["Algorithm 1"]
    found = _read(published, toy)
    assert found.claims is not None and found.claims["red"] == "raises" and "blue/plain-blue" not in found.claims
    # A patch of darker red over the red one: less red, and not kept.
    assert found.effects["red/dark-red"] < found.effects["red"] and "red/dark-red" not in found.claims


@pytest.mark.slow
def test_a_measure_without_limits_is_graded_in_its_own_unit(small: Study) -> None:
    """Twice the logit: every effect is twice as large, and what counts as relevant, null or off is too."""
    graded, units = {}, {}
    for factor, target in ((1, Target(label="yes", measure="logit")), (2, Target(**DOUBLED))):
        study = small.changed(target=target)
        (subject,) = truth.subjects(study)
        assert subject.target == target and subject.asked != "yes"
        found = truth.grade_all(
            study, truth.editors(study, "exact"), [subject], truth.Scope(population=12, resamples=2)
        )
        (graded[factor],) = found.arms["exact"]
        classifier = StudyContext(study).subject("colours").classifier
        states = redrawing.sample_states(12, truth.SEED)
        units[factor] = truth.Truth(states, avatars.WORLD, 64, study.results_folder / "d").unit(subject, classifier)
    assert units[2] == pytest.approx(2 * units[1]) and units[1] > 0.5
    one, two = graded[1], graded[2]
    assert [p.true * 2 for p in one.points] == pytest.approx([p.true for p in two.points])
    assert one.ours.effect_mae == pytest.approx(0.0, abs=1e-5) and one.ours.relevant == two.ours.relevant > 0
    assert one.ours.relevant == sum(abs(p.true) > 0.02 * units[1] for p in one.points)
    assert one.ours.missed.keys() == two.ours.missed.keys()
    assert one.resampled is not None and two.resampled is not None
    assert one.resampled.coverage == pytest.approx(two.resampled.coverage)
    assert one.corpus_recall == two.corpus_recall


def test_a_random_beam_is_drawn_without_looking_at_scores(toy: Study) -> None:
    draws = [_read(replace(each, beam=1), toy) for each in baselines.BASELINES["random beam"]]
    assert len({each.kept[0] for each in draws}) > 1  # the strongest group is not always the one
    for each in draws:
        assert len(each.kept) == 1 and {feature.split("/")[0] for feature in each.effects} == set(each.kept)


def _printed(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def test_the_exact_arm_shows_no_agreement_of_a_drawing_with_itself(graded: tuple[Study, truth.Benchmark]) -> None:
    arm = truth_tables.as_json(graded[1])["arms"]["exact"]
    shown = truth_tables.table("exact", arm, "own")
    assert [str(column.header) for column in shown.columns] == [
        "classifier", "MAE had", "cover", "FDR", "beam", "ρ whole", "corpus", "decoys", "controls"
    ]  # fmt: skip
    said = _printed(shown)
    assert said.splitlines()[0].strip() == "own, exact arm" and "both edited" not in said
    cells = next(line.split() for line in said.splitlines() if line.strip().startswith("mean"))
    assert cells[5] == f"{arm['mean']['spearman_whole']:.2f}" and "P@5" not in said
    diffusion = truth_tables.table("diffusion", arm)
    assert len(diffusion.columns) == 1 + len(truth_tables.COLUMNS)


@pytest.mark.slow
def test_the_table_of_the_terminal_cuts_no_word(graded: tuple[Study, truth.Benchmark]) -> None:
    """As `diffex bench truth` prints it where the output goes to a file."""
    arm = truth_tables.as_json(graded[1])["arms"]["exact"]
    said = _printed(truth_tables.table("diffusion", arm))
    assert "…" not in said and "features that both edited" in said
    assert all(heading in said for heading in truth_tables.COLUMNS.values())
    assert set(truth_tables.MARKS) - set(truth_tables.COLUMNS) == set(truth_tables.IN_FILES) <= set(arm["mean"])


@pytest.mark.slow
def test_a_choice_undone_is_graded_like_the_pipeline(graded: tuple[Study, truth.Benchmark]) -> None:
    small, found = graded
    figures = truth_tables.as_json(found)["arms"]["exact"]
    assert set(figures["baselines"]) == {*baselines.BASELINES, *baselines.variants(small)}
    assert figures["baselines"]["ours, beam of 6"]["mean"]["beam_recall"] == 1.0  # of two groups
    assert figures["baselines"]["released"]["mean"]["fdr"] is None  # a list claims nothing
    assert figures["baselines"]["paper"]["classifiers"]["colours"]["spearman"] == figures["paper"]["mean"]["spearman"]


def test_subjects_are_found_and_their_class_is_named(small: Study) -> None:
    names = {each.name: each.label for each in truth.subjects(load_study(AVATARS))}
    assert names["persona_v1"] == "senior" and names["opposite_children"] == "yes"
    assert len(names) >= 8  # the personas and six rules
    (one,) = truth.subjects(small, [AVATARS / "classifiers" / "persona_v1"], "junior")
    assert (one.name, one.label) == ("persona_v1", "junior")
    with pytest.raises(DiffExError, match=r"--label.*junior, senior"):
        truth.subjects(small, [AVATARS / "classifiers" / "persona_v1"], "child")
    several = truth.subjects(small, [AVATARS / "classifiers" / name for name in ("persona_v1", "persona_v2")], "junior")
    assert [each.name for each in several] == ["persona_v1", "persona_v2"]
    with pytest.raises(DiffExError, match="two folders have the same name"):
        truth.subjects(
            small, [AVATARS / "classifiers" / "persona_v1", AVATARS / "bench" / ".." / "classifiers" / "persona_v1"]
        )
    with pytest.raises(DiffExError, match="diffusion arm needs one of kind 'ledits'"):
        truth.editors(small)


def test_claims_with_a_mark_are_counted_apart() -> None:
    def point(feature: str, decision: str, other: str | None = None) -> Point:
        return Point(feature, feature, 0.2, 0.3, 0.1, 0.5, decision, None, other)

    points = (point("a", "raises", "B"), point("b", "raises", "A"), point("c", "lowers"), point("d", "lowers"))
    quiet = point("e", "inconclusive")
    of = SimpleNamespace(
        points=(*points, quiet), ours=SimpleNamespace(false_discoveries={"a": "no effect", "c": "another size"})
    )
    assert Marked.fdr_unmarked.fget(of) == 0.5 and Marked.true_marked.fget(of) == 0.5  # type: ignore[attr-defined]
    none = SimpleNamespace(points=(quiet,), ours=of.ours)
    assert Marked.fdr_unmarked.fget(none) == 0.0 and math.isnan(Marked.true_marked.fget(none))  # type: ignore[attr-defined]


def test_a_study_of_fewer_images_keeps_nothing_of_another_s_choices() -> None:
    study = load_study(AVATARS)
    names = {truth.benched(study, images).kept_as for images in (None, 12, 24)}
    assert len(names) == 3 and study.kept_as not in names


def test_what_a_judge_sees_is_held_against_what_the_images_show() -> None:
    put, gone = SimpleNamespace(feature="a", direction="add"), SimpleNamespace(feature="b", direction="remove")
    lacking = {
        "a": np.array([True, True, False, False]),
        "b": np.array([True, False, False, False]),
    }  # b: those with it
    true = TrueEffects({}, lacking, {})
    seen = {"a": np.array([True, False, True, False]), "b": np.array([True, False, False, False])}
    marks = sight_marks([put, gone], seen, true)  # type: ignore[list-item]
    assert marks == {"had_seen": pytest.approx(2 / 3), "had_imagined": pytest.approx(1 / 5)}
    assert all(math.isnan(value) for value in sight_marks([put], {}, true).values())  # type: ignore[list-item]


def test_errors_of_claims_are_marked_with_the_failed_edits_and_without_them() -> None:
    def row(feature: str, effect: float, decision: str, shown: float | None) -> SimpleNamespace:
        of = {"direction": "add", "effect_all": None, "cace": None, "prevalence": None}
        return SimpleNamespace(feature=feature, effect=effect, decision=decision, effect_shown=shown, **of)

    d = {name: np.array([0.4, 0.4, 0.0]) for name in "abc"}
    lacking = dict.fromkeys(d, np.array([True, True, False]))
    rows = [row("a", 0.2, "raises", 0.4), row("b", 0.3, "lowers", None), row("c", 0.0, "inconclusive", 0.9)]
    marks = presence_marks(rows, TrueEffects(d, lacking, {}))  # type: ignore[arg-type]
    assert marks["claim_mae"] == pytest.approx(0.15) and marks["claim_shown_mae"] == pytest.approx(0.05)
    none = presence_marks(rows[2:], TrueEffects(d, lacking, {}))  # type: ignore[arg-type]
    assert math.isnan(none["claim_mae"]) and math.isnan(none["claim_shown_mae"])


def test_the_truth_of_few_drawings_says_how_far_it_may_be_off() -> None:
    """Effects of 60 drawings of a world differ from the world's by their standard error."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.3, 0.4, size=(500, 60))
    everywhere = np.ones(60, dtype=bool)
    errors = [TrueEffects({"a": d}, {"a": everywhere}, {}).errors()["a"] for d in drawn]
    assert np.mean(errors) == pytest.approx(drawn.mean(axis=1).std(), rel=0.1)
    some = np.arange(60) < 15  # an effect is of the drawings that can be changed
    of_some = TrueEffects({"a": drawn[0]}, {"a": some}, {})
    assert of_some.errors()["a"] == pytest.approx(stats.sem(drawn[0][:15]))
    assert math.isnan(TrueEffects({"a": drawn[0]}, {"a": np.arange(60) < 1}, {}).errors()["a"])

    def line(error: float | None) -> str:
        return truth_tables.population_line({"classifiers": {"v1": {"population_error": error}}}, 60)

    assert "60 drawings" in line(0.05) and "up to 0.050" in line(0.05) and "larger --population" in line(0.05)
    assert "larger" not in line(0.01) and line(None) == ""


def test_racing_is_counted_for_the_same_classifiers() -> None:
    found = all_subjects(load_study(AVATARS / "study.yaml"))
    assert list(found) == [subject.name for subject in truth.subjects(load_study(AVATARS / "study.yaml"))]
    rule = found["opposite_children"]
    assert (list(rule.classifiers), rule.for_classifier("opposite_children").target.label) == (
        ["opposite_children"],
        "yes",
    )


def test_redrawing_changes_one_feature_and_is_kept(tmp_path: Path) -> None:
    states = redrawing.sample_states(4)
    features = [("round glasses", False), ("earrings", False), ("eyewear", True)]
    drawn = redrawing.redraw(states, features, 64, tmp_path)
    effects = drawn.effects(lambda pictures: np.array([np.asarray(each).mean() for each in pictures]))
    assert list(effects) == features
    assert not effects["earrings", False].any()
    for feature, d in effects.items():
        for i, state in enumerate(states):
            changed = avatars.set_feature(state, *feature)
            moved = avatars.draw(changed).tobytes() != avatars.draw(state).tobytes()
            assert bool(d[i]) <= moved
    again = redrawing.redraw(states, features, 64, tmp_path)
    assert (again.pixels == drawn.pixels).all() and (again.index == drawn.index).all()
    assert len(list(tmp_path.iterdir())) == 4  # as they are, and a file a feature


def test_what_was_drawn_for_one_list_of_features_is_not_drawn_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = redrawing.sample_states(3)
    glasses, hat = ("round glasses", False), ("a wide hat", False)
    first = redrawing.redraw(states, [glasses], 64, tmp_path)
    draw, drawn_now = avatars.WORLD.draw, []
    monkeypatch.setattr(avatars.WORLD, "draw", lambda *args: drawn_now.append(args) or draw(*args))
    both = redrawing.redraw(states, [hat, glasses], 64, tmp_path)
    assert len(drawn_now) == sum(avatars.set_feature(state, *hat) != state for state in states)
    assert (both.pixels[both.index[:, 0] == 1] == first.pixels).all()


def test_resampling_keeps_the_promised_rates_and_notices_broken_ones() -> None:
    rng = np.random.default_rng(0)
    null = rng.normal(0, 0.1, (300, 10))
    null -= null.mean(axis=0)
    real = rng.normal(0.3, 0.1, (300, 2))
    effects = {f"n{j}": null[:, j] for j in range(10)} | {f"r{j}": real[:, j] for j in range(2)}
    half = {name: np.arange(300) < 150 for name in effects}
    among = resample({n: np.where(half[n], d, 9.0) for n, d in effects.items()}, 40, OPTIONS, 20, without=half)
    assert among.found == 1.0 and among.coverage > 0.9  # those that have it already have no part
    good = resample(effects, 20, OPTIONS, 60)
    assert good.found == 1.0 and good.coverage > 0.9
    assert good.any_false <= 0.15 and good.fdr <= 0.05  # 5%, and three standard errors of 60 studies
    lenient = DecisionOptions(flips=499, level=0.9, confidence=0.51, margin=0.0)  # a claim's interval holds no zero
    broken = resample(effects, 20, lenient, 30)
    assert broken.any_false > 0.5 and broken.fdr > good.fdr
    assert 0.0 < broken.any_wrong_way <= broken.any_false
    nothing = resample({"a": np.zeros(50)}, 10, OPTIONS, 5)
    assert math.isnan(nothing.coverage) and math.isnan(nothing.found) and nothing.fdr == 0.0


@pytest.mark.slow
def test_a_baseline_read_for_some_classifiers_stands_beside_the_pipeline_on_the_same_ones(small: Study) -> None:
    some = truth.subjects(small)[0]
    chosen = [some, replace(some, name="second")]
    arms = {"diffusion": truth.editors(small, "exact")["exact"]}  # only the arm's name decides
    graded = truth.grade_all(small, arms, chosen, truth.Scope(population=12, resamples=2, combinations=1))
    arm = truth_tables.as_json(graded)["arms"]["diffusion"]
    published = arm["baselines"][baselines.COMBINATIONS]
    assert list(published["classifiers"]) == [some.name]
    assert published["ours"]["mean"]["beam_recall"] == arm["classifiers"][some.name]["beam_recall"]
    assert "ours" not in arm["baselines"]["paper"] and len(arm["baselines"]["paper"]["classifiers"]) == 2
    rows = exam_tables.as_markdown(
        exam_tables.published(
            {"commit": "1", "proposals": {"own": truth_tables.as_json(graded)}, "classifiers": {"a": 1, "b": 1}}
        )
    ).splitlines()
    (with_count,) = [row for row in rows if row.startswith(f"| {baselines.COMBINATIONS} (1 classifiers)")]
    assert rows[rows.index(with_count) + 1].startswith("| this project on the same (1 classifiers) |")


@pytest.mark.parametrize(("combinations", "undescribed", "read"), [(0, 1, (0, 1)), (1, None, (1, 1)), (1, 0, (1, 0))])
def test_algorithm_1_and_the_pipeline_without_descriptions_are_read_for_as_many_classifiers_as_is_said(
    small: Study, monkeypatch: pytest.MonkeyPatch, combinations: int, undescribed: int | None, read: tuple[int, int]
) -> None:
    some, asked = truth.subjects(small)[0], []

    def noted(subject: object, true: object, world: object, unit: float, combined: bool, plain: bool) -> None:
        asked.append((combined, plain))
        raise ZeroDivisionError  # nothing of what follows is needed

    monkeypatch.setattr(truth, "mark", noted)
    arms = {"diffusion": truth.editors(small, "exact")["exact"]}  # only the arm's name decides
    scope = truth.Scope(population=12, resamples=2, combinations=combinations, undescribed=undescribed)
    with pytest.raises(ZeroDivisionError):
        truth.grade_all(small, arms, [some], scope)
    assert asked == [tuple(map(bool, read))]


def test_the_pipeline_without_descriptions_edits_and_keeps_its_judge(toy: Study) -> None:
    class Describing:
        def __init__(self, words: str) -> None:
            self.fingerprint = f"describes {words}"

        def with_source_prompts(self, vocabulary: dict[str, object]) -> Describing:
            return Describing(", ".join(vocabulary) or "nothing")

    subject = prepared(toy).subject("v1")
    assert baselines.undescribed(subject) is None  # it paints what it is told
    described = subject.changed(editor=Describing("mouths"), judge="the judge")
    plain = baselines.undescribed(described)
    assert plain is not None and plain.editor.fingerprint == "describes nothing" and plain.judge == "the judge"
    assert baselines.undescribed(subject.changed(editor=Describing("nothing"))) is None
