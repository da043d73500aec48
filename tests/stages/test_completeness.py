"""How much of a classifier the features explain, on a world whose truth is known: from pictures to the report."""

from __future__ import annotations

import html
import json
import math
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from diffex_dagster.bench.tiles import PLACES, draw_weights, group_of, sample
from diffex_dagster.errors import ClassifierError, CorpusError, StoreError
from diffex_dagster.results import Report
from diffex_dagster.stages import completeness as stage
from diffex_dagster.stages.absence import OtherWay
from diffex_dagster.stages.completeness import both_ways
from diffex_dagster.stages.judging import JudgedEdits, Sight
from diffex_dagster.stages.suggestions import question_of
from diffex_dagster.stages.versions import report_version
from diffex_dagster.study import load_study
from tests.support import material
from tests.support.explaining import explained
from tests.support.toys import prepared

WEIGHTS, TOP = draw_weights(1)


def write_tiles(folder: Path, left_out: str = "", **changes: Any) -> Path:
    """A study of 32 pictures of tiles with an exact editor, and a corpus of all places but the one left out."""
    (folder / "images").mkdir(parents=True)
    for i, picture in enumerate(sample(32, 0)):
        picture.save(folder / "images" / f"{i:02d}.png")
    groups = [group_of(place) for place in PLACES if place != left_out]
    (folder / "proposal.json").write_text(json.dumps({"categories": groups}))
    study = {
        "name": "tiles", "domain": "tiles", "images": {"size": 24},
        "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}, "overrides": "corpus.yaml"},
        "editors": {"paint": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileEditor"}},
        "classifiers": {
            "rule": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileClassifier",
                     "options": {"weights": WEIGHTS}},
            "shade": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileClassifier",
                      "options": {"shade": 4.0}},
        },
        "target": {"label": "yes"}, "search": {"probes": 2, "beam": 9}, "effects": {"control_prompts": ["flornip"]},
        "truth": "tests.support.tile_truth:tile_truth",
    } | changes  # fmt: skip
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(study, file)
    return folder


def of(report: Report) -> float:
    found = report.completeness
    assert found is not None and found.score is not None and found.low is not None and found.high is not None
    assert 0.0 <= found.low <= found.score <= found.high <= 1.0
    return found.score


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    """The reports of the rule and of a classifier that looks at nothing the corpus names."""
    study = load_study(write_tiles(tmp_path_factory.mktemp("whole") / "s"))
    return explained(study, "rule"), explained(study, "shade")


def test_a_rule_is_explained_and_less_so_without_its_strongest_group(
    whole: tuple[Report, Report], tmp_path: Path
) -> None:
    rule, shade = whole
    assert of(rule) > 0.9
    without = explained(load_study(write_tiles(tmp_path / "s", TOP)), "rule")
    assert of(without) < of(rule) - 0.3
    assert of(shade) < 0.1
    corpus_recall_is_said(rule, without, shade)


def corpus_recall_is_said(rule: Report, without: Report, shade: Report) -> None:
    """What the corpus lacks of what matters in truth, by the world that the study names."""
    from diffex_dagster.report.completeness import completeness_sentences

    whole, less, none = (report.completeness for report in (rule, without, shade))
    assert whole and less and none
    assert (whole.recall, whole.recall_of, whole.missing) == (1.0, len(WEIGHTS), ())
    lacking = {prompt for prompt in WEIGHTS if prompt.endswith(f"at the {TOP}")}
    assert set(less.missing) == lacking and less.recall == pytest.approx(1 - len(lacking) / len(WEIGHTS))
    assert abs(WEIGHTS[less.missing[0]]) > abs(WEIGHTS[less.missing[1]])  # the strongest first
    said = completeness_sentences(without)[-1]
    assert said.startswith(
        f"Of the {len(WEIGHTS)} attributes with the largest true effects on these images, the corpus"
    )
    assert f"names {len(WEIGHTS) - len(lacking)} (corpus recall 67%); it lacks “{less.missing[0]}” and “" in said
    assert none.recall is None and "no attribute of its world moves it" in completeness_sentences(shade)[-1]


def test_a_report_does_not_depend_on_who_knows_the_truth(
    whole: tuple[Report, Report], caplog: pytest.LogCaptureFixture
) -> None:
    from diffex_dagster.stages.known_truth import FAILS, NOT_ASKED, with_corpus_recall

    found = whole[0].completeness
    assert found
    broken: Any = SimpleNamespace(walk=lambda: [SimpleNamespace(prompt="broken", editable=True, direction="add")])
    subject: Any = SimpleNamespace(
        study=SimpleNamespace(truth="tests.support.tile_truth:tile_truth", folder=Path(), file="study.yaml",
                              classifiers={"rule": SimpleNamespace(service=False)}),
        name="rule", corpus=broken, split=SimpleNamespace(reported=range(32)),
    )  # fmt: skip
    failed = with_corpus_recall(replace(found, recall=None), subject, 0.02)
    assert failed.recall is None and failed.recall_why == FAILS
    assert "study.yaml: truth: tests.support.tile_truth:tile_truth fails" in caplog.text
    subject.study.truth = "tests.support.no_such_module:truth"
    assert with_corpus_recall(replace(found, recall=None), subject, 0.02).recall_why == FAILS
    subject.study.truth = "tests.support.tile_truth:tile_truth"
    subject.study.classifiers["rule"].service = True  # may cost, and nobody has agreed to it
    assert with_corpus_recall(replace(found, recall=None), subject, 0.02).recall_why == NOT_ASKED
    subject.study.truth = "builtins:print"  # knows effects, and not which attributes there are
    assert with_corpus_recall(found, subject, 0.02) is found
    subject.study.truth = None
    assert with_corpus_recall(found, subject, 0.02) is found


@pytest.mark.parametrize("error", [StoreError("the disk is full"), ClassifierError("gone"), RuntimeError("no memory")])
def test_only_errors_of_the_truth_itself_are_passed_over(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that lacks something because a disk was full would count as whole."""
    from diffex_dagster.stages import known_truth

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(known_truth, "picture_scores", fails)
    study = SimpleNamespace(truth="tests.stages.test_completeness:asks", folder=Path(), file="study.yaml")
    subject: Any = SimpleNamespace(
        study=study,
        classifier=None,
        store=SimpleNamespace(folder=Path()),
        samples={},
        split=SimpleNamespace(reported=()),
    )
    with pytest.raises(type(error)) as raised:
        known_truth.true_effects(subject, [("x", "add")])
    assert raised.value is error
    study.truth = "tests.stages.test_completeness:asks_nobody"
    with pytest.raises(known_truth.TruthError, match="study.yaml: truth: .*asks_nobody fails") as failed:
        known_truth.true_effects(subject, [("x", "add")])
    assert str(failed.value).count("mend it, or leave truth out of the study") == 1


def asks(folder: Path, prompts: Any, score: Any, images: Any, cache: Path) -> Any:
    return score([])


def asks_nobody(folder: Path, prompts: Any, score: Any, images: Any, cache: Path) -> Any:
    raise ZeroDivisionError


def test_the_images_that_are_explained_least_are_those_with_what_nobody_named(tmp_path: Path) -> None:
    from diffex_dagster.bench.tiles import marks_of

    report = explained(load_study(write_tiles(tmp_path / "s", TOP)), "rule")
    assert report.completeness
    least = report.completeness.least_explained
    missed = [abs(each.score - each.predicted) for each in least]
    assert missed == sorted(missed, reverse=True) and len(least) == 12
    first = marks_of(Image.open(tmp_path / "s" / "images" / least[0].file))
    named = {f"{colour} mark at the {place}" for place, colour in first.items() if place != TOP}
    assert set(least[0].shows) == named


def test_it_is_in_every_file_of_the_report(whole: tuple[Report, Report]) -> None:
    from diffex_dagster.report.markdown import report_markdown
    from diffex_dagster.report.page import render_report
    from diffex_dagster.report.schema import report_as_json, report_from_json

    rule, _ = whole
    score, first = f"{of(rule):.0%}", rule.features[0].feature
    spread = np.std([row.score_null for row in rule.per_image if row.feature == first])
    assert rule.completeness and rule.completeness.spread == pytest.approx(spread) and rule.completeness.varies
    for text in (render_report(rule), report_markdown(rule)):
        assert f"explains {score} of how the" in text and "no share of the causes" in text
        missed = spread * math.sqrt(1 - of(rule))
        over = (
            f"over the 32 images by {spread:.2g} (standard deviation; the prediction misses by {missed:.2g}, root mean"
        )
        assert f"{over} square)" in html.unescape(text)
    data = report_as_json(rule)
    assert data["completeness"]["score"] == pytest.approx(of(rule)) and data["completeness"]["features"] > 15
    assert "picture" not in data["completeness"]["least_explained"][0]
    assert report_from_json(data).completeness.score == pytest.approx(of(rule))  # type: ignore[union-attr]


def test_a_report_that_says_anything_else_of_it_has_another_version(whole: tuple[Report, Report]) -> None:
    rule, _ = whole
    said = rule.completeness
    assert said and said.least_explained
    before = report_version(rule)
    first, *rest = said.least_explained
    changed = [replace(said, **{each.name: _other(getattr(said, each.name))}) for each in fields(said)]
    for each in fields(first):
        if each.name != "picture":
            other = replace(first, **{each.name: _other(getattr(first, each.name))})
            changed.append(replace(said, least_explained=(other, *rest)))
    same = [found for found in changed if report_version(replace(rule, completeness=found)) == before]
    apart = {name for found in same for name in vars(said) if getattr(found, name) != getattr(said, name)}
    assert apart == {"recall", "recall_of", "missing", "recall_why"}  # the truth's: nothing follows from them
    assert report_version(replace(rule, completeness=replace(said))) == before


def _other(value: Any) -> Any:
    return value[1:] or "other" if isinstance(value, tuple | str) else (value or 0) + 1


@pytest.mark.slow
def test_where_it_cannot_be_known_it_says_why(tmp_path: Path) -> None:
    unjudged = explained(load_study(write_tiles(tmp_path / "a", judge={"kind": "none"})), "rule").completeness
    assert unjudged and unjudged.score is None and "nobody judges" in unjudged.why
    few = explained(load_study(write_tiles(tmp_path / "b", images={"size": 24, "limit": 6})), "rule").completeness
    assert few and few.score is None and "fewer than 8 images" in few.why


@pytest.mark.slow
def test_of_outputs_that_hardly_vary_there_is_nothing_to_explain(tmp_path: Path) -> None:
    """A share of nearly nothing would be near 1 here, as of any rule, and read as if something were found."""
    from diffex_dagster.report.completeness import completeness_sentences

    little = {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileClassifier",
              "options": {"weights": {prompt: weight / 100 for prompt, weight in WEIGHTS.items()}}}  # fmt: skip
    report = explained(load_study(write_tiles(tmp_path / "s", classifiers={"little": little})), "little")
    found = report.completeness
    assert found and found.score is None and found.varies is False and found.spread and found.spread < 0.01
    with pytest.raises(CorpusError, match="nothing can be refined where there is nothing to explain: what it says"):
        question_of(prepared(load_study(tmp_path / "s")).subject("little"))
    said = completeness_sentences(report)[0]
    assert said.startswith("There is nothing to explain of little: what it says of an image is at most 0.0")
    assert said.endswith("from the mean of all, and 0.02 does not matter to this study (`effects.margin`).")


def test_one_output_that_stands_out_is_something_to_explain() -> None:
    outputs = np.full(1000, 0.5)
    assert not stage.varies(outputs, 0.0) and "the same of all" in stage.why_nothing(outputs, 0.0)
    outputs[0] = 0.53
    assert stage.varies(outputs, 0.02) and not stage.varies(outputs, 0.05) and stage.varies(outputs, 0.0)


def test_a_probe_on_an_embedding_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffex_dagster.bench.tiles import TileJudge

    asked: list[int] = []

    def embeddings(self: TileJudge, pictures: Any) -> np.ndarray:
        asked.append(len(pictures))
        return np.stack([np.asarray(picture, float).ravel() / 255 for picture in pictures])

    monkeypatch.setattr(TileJudge, "embeddings", embeddings, raising=False)
    study = load_study(write_tiles(tmp_path / "s", TOP))
    found = [explained(study, "rule").completeness for _ in range(2)]
    assert asked == [32] and found[0] is not None and found[0].ceiling is not None and found[0].score is not None
    assert found[0].ceiling > found[0].score and found[0].ceiling_by == "the tile itself"
    assert found[1] is not None and found[1].ceiling == pytest.approx(found[0].ceiling)


def test_edits_the_other_way_count_only_where_they_took() -> None:
    """Removals that did nothing are no effects of nothing."""
    has = np.array([True, True, False, False])
    for took, removed in ((True, [0.6, 0.6]), (False, [math.nan, math.nan])):
        searched = SimpleNamespace(
            without={"a": ~has}, reversed={"a": OtherWay(np.array([-0.6, -0.6]), np.array([took, took]))}
        )
        measured: Any = SimpleNamespace(
            searched=searched, study=SimpleNamespace(effects=SimpleNamespace(min_edit_success=0.5)),
            succeeded={"a": np.array([False, False, True, True])},
            paired={"a": SimpleNamespace(effect=np.array([0.0, 0.0, 0.6, 0.6]))},
        )  # fmt: skip
        feature: Any = SimpleNamespace(id="a", direction="add")
        assert both_ways(measured, feature) == pytest.approx([*removed, 0.6, 0.6], nan_ok=True)
    measured.succeeded = {"a": np.zeros(4, dtype=bool)}
    assert np.isnan(both_ways(measured, feature)).all()


def test_a_judge_is_held_to_all_edits_and_one_that_says_yes_or_no_is_not_corrected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It sees four in five of what the edits were to bring; of those it calls a success it would see all."""
    gained, before = {"a": np.array([3.0, 3.0, 3.0, 3.0, 0.0, 0.0])}, np.array([0, 0, 0, 0, 0, 5.0])

    def edits(*_: Any) -> dict[str, JudgedEdits]:
        return {"a": JudgedEdits(before, before + gained["a"], gained["a"] > 1.0, True, 1.0)}

    monkeypatch.setattr(stage, "judged_edits", edits)
    feature: Any = SimpleNamespace(id="a", direction="add", prompt="glasses")
    searched: Any = SimpleNamespace(
        gains=gained, without={"a": np.array([True] * 5 + [False])},
        sight=Sight({}, 1.0), split=SimpleNamespace(reported=()),
    )  # fmt: skip
    work: Any = None
    assert stage.hit_rate(work, [feature], searched) == 0.8
    searched.gains["a"] = np.array([3.0, 3.0, 0.0, 0.0, 0.0, 0.0])  # the editor failed, or the judge is blind
    assert stage.hit_rate(work, [feature], searched) is None
    searched.sight = Sight({}, 0.5, binary=True)
    assert stage.hit_rate(work, [feature], searched) is None
    seen = np.array([True, False, False, False])
    assert stage.presence(seen, None, 0.04).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert 0 < stage.presence(seen, 0.8, 0.04)[1] < 1


@pytest.mark.slow
def test_without_an_edit_that_works_and_without_an_embedding_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffex_dagster.bench.tiles import TileEditor, TileJudge

    def embeddings(self: TileJudge, pictures: Any) -> np.ndarray:
        raise ClassifierError("no weights here")

    monkeypatch.setattr(TileJudge, "embeddings", embeddings, raising=False)
    study = load_study(write_tiles(tmp_path / "a", images={"size": 24, "limit": 10}))
    found = explained(study, "rule").completeness
    assert found and found.score is not None and found.ceiling is None and "no weights here" in found.ceiling_why
    monkeypatch.setattr(TileEditor, "_edited", lambda self, picture, request: picture)
    study = load_study(write_tiles(tmp_path / "b", images={"size": 24, "limit": 10}))
    failed = explained(study, "rule").completeness
    assert failed and failed.score is None and failed.features == 0 and "of no feature" in failed.why


def test_the_head_concludes_only_what_the_figures_support() -> None:
    from diffex_dagster.report.completeness import completeness_sentences

    report = material.explanation(4)
    assert report.completeness

    def said(**changes: Any) -> str:
        assert report.completeness
        intervals = {"low": 0.0, "high": 0.3, "fitted_low": 0.8, "fitted_high": 0.95, "ceiling_low": 0.8,
                     "ceiling_high": 0.95}  # fmt: skip
        figures = {"score": 0.1, "fitted": 0.9, "ceiling": 0.9, "scale": 3.0, **intervals, **changes}
        return " ".join(completeness_sentences(replace(report, completeness=replace(report.completeness, **figures))))

    weak = said()
    assert (
        "than the corpus names" not in weak and "by the edits, do not cause" not in weak and "draw too little" in weak
    )
    assert "do not cause them" in said(scale=1.0) and "do not cause" not in said(scale=1.0, high=0.85)
    assert "than the corpus names" in said(fitted=0.1, fitted_low=0.0, fitted_high=0.3)
    assert "word as it is" in said(corrected=False) and "word as it is" not in said(corrected=True)
    assert "not measured: no GPU." in said(ceiling=None, ceiling_why="no GPU")


def test_the_code_of_a_truth_beside_the_study_is_part_of_what_a_report_is_made_by(tmp_path: Path) -> None:
    from diffex_dagster.stages.settings import stage_version

    study, code = load_study(write_tiles(tmp_path / "s")), tmp_path / "s" / "mine.py"
    assert study.truth  # of an installed package, which is known by its revision
    mine, versions = study.changed(truth="mine:truth"), []
    for text in ("truth = 1", "truth = 2", "truth = 2  # a remark", "truth = "):
        code.write_text(text)
        versions.append((stage_version(mine, "ranked_report"), stage_version(mine, "level2_scores")))
    (first, search), (second, _), (third, _), _ = versions
    assert first != second == third and {each for _, each in versions} == {search}


def test_what_a_report_draws_to_grade_its_corpus_is_counted(tmp_path: Path) -> None:
    from diffex_dagster.stages import known_truth
    from diffex_dagster.stages.plan import plan_edits
    from diffex_dagster.stages.search import run_search

    study = load_study(write_tiles(tmp_path / "s"))
    rule = prepared(study).subject("rule")
    run_search(rule)
    planned = plan_edits(rule, ["rule"])[-1]
    attributes, drawings = known_truth.recall_cost(rule)
    assert planned.stage == "rule/ranked_report" and f"up to {drawings:,} drawings" in planned.note
    assert f"{attributes} attributes" in planned.note and (attributes + 1) * 32 == drawings
    untold = study.changed(truth=None)
    assert all("ranked_report" not in s.stage for s in plan_edits(prepared(untold).subject("rule"), ["rule"]))
    gone = study.changed(truth="no.such.module:truth")
    assert known_truth.recall_cost(prepared(gone).subject("rule")) == (0, 0)  # the run says how it fails
