"""What the stages put into the report and the comparison, on the toy domain, whose answer is known."""

from __future__ import annotations

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.classifying.parts import Target
from diffex_dagster.cli.results import TableFormat, compare, show
from diffex_dagster.effects.paired import Reach, images_for_no_effect
from diffex_dagster.errors import StudyError
from diffex_dagster.judging.protocol import Pair
from diffex_dagster.report.comparison_page import render_comparison
from diffex_dagster.report.files import write_report
from diffex_dagster.report.markdown import comparison_markdown, report_markdown
from diffex_dagster.report.page import render_report
from diffex_dagster.report.schema import OF_CONTROLS, comparison_as_json, report_as_json, report_from_json
from diffex_dagster.report.verdict import comparison_verdict, verdict
from diffex_dagster.results import Comparison, Example, Report, opened
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.stages.comparison import compare_classifiers
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.edits import concepts_of
from diffex_dagster.stages.notes import groups_looked_into, turn_of
from diffex_dagster.stages.ranking import effect_where_shown
from diffex_dagster.stages.report import classifier_report, ranked_report
from diffex_dagster.stages.rules import Reliance, judge_rules, rules_for
from diffex_dagster.stages.scores import Paired
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.setup import reports_folder
from diffex_dagster.stages.study_effects import latest_report
from diffex_dagster.stages.versions import comparison_version
from diffex_dagster.store import Store, StoredPicture
from diffex_dagster.study import Study, load_study
from tests.support.explaining import explained
from tests.support.project import Run
from tests.support.toys import ColourJudge, prepared, write_study

RULES = [
    {"feature": "Red", "below": 0.05, "classifiers": ["v1", "v2"]},
    {"feature": "blue / plain blue", "below": 0.01, "severity": "warn"},
    {"feature": "Green", "below": 0.1},
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """v1 has a planted shortcut: red. v2 does not react to red at all."""
    return load_study(write_study(tmp_path_factory.mktemp("toy"), 12, rules=RULES))


@pytest.fixture(scope="module")
def store(study: Study) -> Store:
    work = prepared(study)
    for name in study.classifiers:
        run_search(work.subject(name))
    return work.store


@pytest.fixture(scope="module")
def explanation(study: Study, store: Store) -> Report:
    made, _ = classifier_report(at_work(study, store=store).subject("v1"), "diffex run toy")
    return made


@pytest.fixture(scope="module")
def comparison(study: Study, store: Store, explanation: Report) -> Comparison:
    return compare_classifiers(at_work(study, store=store), list(study.classifiers), "diffex compare toy")


def test_the_report_of_v1_names_the_planted_shortcut(explanation: Report) -> None:
    first, second, _ = verdict(explanation)
    assert first.startswith("v1 relies most on “red”: adding it raises the probability of “warm” by ")
    assert second.startswith("“Red” is behind 2 of the 4 strongest features; it also reacts to “plain blue” (−")


def test_the_comparison_says_that_v2_has_it_no_more(comparison: Comparison) -> None:
    first, _, _ = comparison_verdict(comparison)
    assert first.startswith("The biggest change is “red”")
    assert "to 0 points in v2" in first and first.endswith("so v2 hardly reacts to it any more, unlike v1.")


def test_every_picture_has_the_score_of_its_original(explanation: Report) -> None:
    # The toy editor's null edit is the original, so that both have the same score; "warm" of grey is a half.
    examples = [example for found in explanation.examples.values() for example in found]
    assert examples and all(example.score_original == example.score_null == 0.5 for example in examples)
    assert all(np.array_equal(np.asarray(opened(x.original)), np.asarray(opened(x.null))) for x in examples)


def test_a_report_holds_no_pixels_of_its_examples(explanation: Report) -> None:
    # Features times images of them would not fit into memory: each is read from the store where it is shown.
    pictures = [p for found in explanation.examples.values() for x in found for p in (x.original, x.null, x.edit)]
    assert len(pictures) > 100 and all(isinstance(each, StoredPicture) for each in pictures)


def test_the_settings_that_decide_the_numbers_are_shown(explanation: Report) -> None:
    shown = dict(explanation.settings)
    assert shown["Editor: factory"] == "tests.support.toys:PaintEditor" and shown["Control prompts"] == "flornip"
    assert shown["Error rate"] == "fwer, level 0.05" and shown["Image side"] == "16 pixels"


@pytest.mark.parametrize(
    ("target", "labels", "becomes", "rule"),
    [
        ({"label": "zebra"}, ("zebra", "horse"), "becomes “zebra”", "“zebra”, when it is the predicted class."),
        ({"labels": ["zebra", "tiger"]}, ("zebra", "tiger", "cat"), "becomes “zebra” or “tiger”", "is one of them."),
        ({"labels": ["zebra", "tiger"], "name": "striped"}, ("zebra", "tiger", "cat"), "becomes “striped”", "them."),
        ({"labels": list("abcd")}, tuple("abcde"), "becomes one of 4 classes", "is one of them."),
        ({"label": "hat", "measure": "sigmoid"}, ("hat", "tie"), "becomes “hat”", "its probability is above 0.5."),
        ({"label": "zebra", "measure": "margin", "against": "horse"}, ("zebra", "horse"), "becomes “zebra”", "class."),
        (
            {"measure": "value", "threshold": 60, "name": "age", "unit": "years"},
            ("y",),
            "rises above 60 years",
            "years.",
        ),
        (
            {"label": "price", "measure": "value", "threshold": 2.5},
            ("price",),
            "rises above 2.5",
            "price is above 2.5.",
        ),
        ({"measure": "value"}, ("age",), None, ""),
        ({"measure": "expected", "name": "age"}, ("20", "70"), None, ""),
        ({"measure": "function", "function": "a:b", "name": "confidence"}, ("a", "b"), None, ""),
    ],
)
def test_what_an_image_becomes_is_said_of_every_target(
    target: dict[str, Any], labels: tuple[str, ...], becomes: str | None, rule: str
) -> None:
    said = turn_of(labels, Target(**target))
    assert (said and said.becomes) == becomes
    assert said is None or said.rule.endswith(rule)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "every group but those whose edits succeed and move no image (gate: magnitude)."),
        ({"beam": 2}, "2 groups at most (gate: magnitude): first those whose images move by more than the noise floor"),
        ({"gate": "signed", "delta": 0.1}, "the 4 groups with the highest mean effect, where that is 0.1 or more"),
        ({"gate": "absolute", "beam": 1}, "the 1 group with the largest mean effect, up or down, however small"),
    ],
)
def test_which_groups_are_looked_into_goes_by_gate_and_beam(options: dict[str, Any], says: str) -> None:
    assert groups_looked_into(SearchOptions(**options)).startswith(f"The search looks into {says}")


def test_the_page_says_which_groups_were_looked_into(explanation: Report) -> None:
    for text in (render_report(explanation), html.unescape(report_markdown(explanation))):
        assert "The search looks into every group but those whose edits succeed" in text
        assert "enter the search" not in text
    read = render_report(replace(explanation, looked_into="", gate="signed"))  # a file says the gate alone
    assert "The search looks into" not in read and "(gate: signed)" in read


def test_options_of_a_users_own_editor_are_not_shown(tmp_path: Path) -> None:
    from diffex_dagster.stages.notes import settings_shown

    paint = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"key": "secret"}}
    assert "secret" not in str(settings_shown(load_study(write_study(tmp_path, editors={"paint": paint})), 0.02))


def test_images_go_by_the_names_of_their_files(explanation: Report, store: Store, tmp_path: Path) -> None:
    files = store.samples("toy")
    shown = [x for found in explanation.examples.values() for x in found]
    assert {x.image: x.file for x in shown} == files and all(files.values())
    page, _, table = (write_report(explanation, tmp_path)[i] for i in (0, 1, 4))
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * len(explanation.features)
    assert {row["image"]: row["file"] for row in rows} == files
    red = [row for row in rows if row["feature"] == "red"]
    assert {row["becomes"] for row in red} == {"True"} and {row["leaves"] for row in red} == {"False"}
    mean = next(f.effect for f in explanation.features if f.feature == "red")
    assert np.mean([float(row["effect"]) for row in red]) == pytest.approx(mean)
    image, name = next(iter(files.items()))
    assert f"{name} ({image[:8]})" in page.read_text("utf-8")


def test_pages_lead_only_to_pages_that_are_there(study: Study, store: Store) -> None:
    def links(page: str) -> list[str]:
        return re.findall(
            r'href="([^"#]*index\.html)"', (reports_folder(study, page) / "index.html").read_text("utf-8")
        )

    def report(name: str) -> None:
        subject = at_work(study, store=store).subject(name)
        ranked_report(subject, f"run of {name}", reports_folder(study, name), "diffex run toy")

    report("v1")
    assert links("v1") == []
    report("v2")
    assert links("v1") == ["../v2/index.html"] and links("v2") == ["../v1/index.html"]
    (reports_folder(study, "v2") / "index.html").unlink()
    report("v1")
    assert links("v1") == []


def test_flips_gained_and_lost_are_counted(comparison: Comparison, store: Store) -> None:
    rows = {row.feature: row for row in comparison.features}
    # Grey is undecided at a half, which is "cold": red makes v1 say "warm" on every image, and v2 on none.
    assert (rows["red"].flips_gained, rows["red"].flips_lost) == (0, 12)
    assert rows["red"].flip_rates == (1.0, 0.0)
    assert comparison_as_json(comparison)["examples"]["red"][0]["file"] in store.samples("toy").values()
    assert rows["red"].becomes == (12, 0) and rows["red"].leaves == (0, 0)
    assert comparison.turn is not None and comparison.turn.becomes == "becomes “warm”"
    assert (rows["blue/plain-blue"].flips_gained, rows["blue/plain-blue"].flips_lost) == (0, 0)
    assert comparison.images == 12 and comparison.noise_floor == 0.0 and comparison.editor == "paint"


def test_a_comparison_says_of_its_edits_what_the_reports_say(
    study: Study, store: Store, explanation: Report, comparison: Comparison
) -> None:
    unjudged, few, *others = comparison.caveats
    assert unjudged == explanation.caveats[0] and unjudged.startswith("Nobody judged whether these edits show what")
    assert few == "Only 12 images were used: intervals are wide and small changes stay undecided."
    # Of each of two probabilities a few images may move by 1: their difference takes twice the images of a report.
    (needed,) = [each for each in others if "cannot show that nothing changed" in each]
    number = int(re.search(r"From about (\d+) images on", needed)[1])  # type: ignore[index]
    assert number == images_for_no_effect(Reach(2.0, -2.0, 2.0, 0.02)) and 290 < number < 310
    (of_report,) = [each for each in explanation.caveats if "cannot show that an attribute has no effect" in each]
    assert 140 < int(re.search(r"From about (\d+) images on", of_report)[1]) < 160  # type: ignore[index]
    assert "±0.02 (effects.margin), a comparison may say “no change shown”." in needed
    assert comparison.warnings == () and not any("has no control prompts" in each for each in comparison.caveats)
    page, text = render_comparison(comparison), html.unescape(comparison_markdown(comparison))
    for told in (page[: page.index('id="ranking"')], text[: text.index("### Features")]):
        assert "Nobody judged whether these edits show what" in told


def test_a_comparison_says_that_there_are_no_control_prompts_and_that_its_judge_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Credulous(ColourJudge):
        absolute = binary = True

        def _of(self, picture: object, pair: tuple[str, str]) -> float:
            return 1.0  # it sees everything everywhere

    def compared(**changes: object) -> tuple[Comparison, Report]:
        study = load_study(write_study(tmp_path / str(len(list(tmp_path.iterdir()))), 6, **changes))
        work = prepared(study)
        for name in study.classifiers:
            run_search(work.subject(name))
        report, _ = classifier_report(work.subject("v1"), "diffex run")
        return compare_classifiers(work, list(study.classifiers), "diffex compare"), report

    bare, report = compared(effects={"control_prompts": []})
    (of_report,), (caveat,) = ([c for c in of.caveats if "has no control prompts" in c] for of in (report, bare))
    shared = of_report.partition(" “Raises”")[0]
    assert caveat.startswith(shared) and caveat.endswith("seems to rely more on everything.")
    monkeypatch.setattr("tests.support.toys.PaintEditor.judge", lambda self, draws: Credulous(), raising=False)
    judged, report = compared()
    assert judged.warnings and judged.warnings[0].startswith("The judge cannot be used: ")
    assert set(judged.warnings) <= set(report.warnings)
    assert not any(each.startswith("Nobody judged") for each in judged.caveats)
    page, text = render_comparison(judged), html.unescape(comparison_markdown(judged))
    assert page.index("<b>First mend this.</b> The judge cannot be used") < page.index('id="verdict"')
    assert "> **The judge cannot be used" in text
    version = comparison_version(judged, "editor", ["a", "b"])
    assert version != comparison_version(replace(judged, warnings=()), "editor", ["a", "b"])


def test_show_says_what_the_page_says_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = load_study(write_study(tmp_path, 6, effects={"control_prompts": ["flornip", "quazzle"]}))
    explained(study, "v1")
    file = reports_folder(study, "v1") / "report.json"
    data = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(data | {"warnings": ["The judge cannot be used: [b]x[/b]\x1b[2J."]}), "utf-8")

    def shown() -> list[str]:
        show(study, "v1", TableFormat.table)
        return capsys.readouterr().out.splitlines()

    warning, hint, nobody, controls = shown()[-4:]
    assert warning == "look at this first: The judge cannot be used: [b]x[/b][2J."
    assert hint.startswith("look at this first: The classifier says the same of all 6 images")
    assert nobody.startswith("look at this first: Nobody judged whether these edits show what they were asked for: ")
    assert controls.startswith("control prompts, each against the others: “flornip” ") and "“quazzle” " in controls
    data["features"] = data["features"][1:]  # of another run than the ranking
    file.write_text(json.dumps(data), "utf-8")
    assert not any("look at this first" in line for line in shown())
    file.unlink()
    assert "Red" in " ".join(shown())
    explained(study, "v2")
    compare(study, (), TableFormat.table)
    assert "look at this first: Nobody judged" in capsys.readouterr().out


def test_a_comparison_says_over_which_images_a_feature_is(comparison: Comparison) -> None:
    row = replace(comparison.features[0], images=9, among="without it", prevalence=0.25)
    page = render_comparison(replace(comparison, features=(row,)))
    assert "<dt>Images</dt><dd>9 without it</dd>" in page
    assert "<dt>Shown before any edit</dt><dd>25% of images</dd>" in page
    every = render_comparison(replace(comparison, features=(replace(row, among="all", prevalence=None),)))
    assert "<dt>Images</dt><dd>9</dd>" in every and "Shown before" not in every


def test_rules_are_judged_on_reliance_and_an_unmeasured_one_is_not_kept(comparison: Comparison) -> None:
    outcomes = {(rule.classifier, rule.text.split("“")[1].split("”")[0]): rule for rule in comparison.rules}
    assert set(outcomes) == {("v1", "Red"), ("v2", "Red"), ("v2", "blue / plain blue"), ("v2", "Green")}
    assert not outcomes["v1", "Red"].holds and "(Red)" in outcomes["v1", "Red"].text
    assert outcomes["v2", "Red"].holds
    assert not outcomes["v2", "blue / plain blue"].holds and outcomes["v2", "blue / plain blue"].severity == "warn"
    assert not outcomes["v2", "Green"].holds and "the corpus has no such feature" in outcomes["v2", "Green"].text
    assert "3 rules of the study are broken" in comparison_verdict(comparison)[2]


def relied(mean: float, images: int = 12, decision: str = "raises") -> Reliance:
    return Reliance(mean, images, decision)


def test_a_rule_on_a_group_speaks_of_everything_below_it(study: Study, store: Store) -> None:
    corpus = store.current_corpus(study.name)
    (rule, *_) = judge_rules(study, corpus, "v1", {"red": relied(0.01), "red/dark-red": relied(0.3)})
    assert not rule.holds and "measured 0.300 over 12 images (Dark red)" in rule.text
    (rule, *_) = judge_rules(study, corpus, "v1", {"blue": relied(0.9)})
    assert not rule.holds and "not measured (Red: not reached by the search" in rule.text
    assert [rule.feature for rule in rules_for(study, "v1")] == ["Red"]  # the others are for the newest version


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (relied(0.0, decision="edit failed"), "edit failed"),
        (relied(0.0, images=2, decision="already there"), "already there"),
        (relied(0.0, images=1, decision="inconclusive"), "1 image, fewer than 6"),
    ],
)
def test_edits_that_show_nothing_keep_no_rule(study: Study, store: Store, of: Reliance, why: str) -> None:
    """An edit that changed no pixel moves no classifier."""
    corpus = store.current_corpus(study.name)
    (rule, *_) = judge_rules(study, corpus, "v1", {f.id: of for f in corpus.walk()})
    assert not rule.holds and rule.measured is None and f"not measured (Red: {why}" in rule.text
    (rule, *_) = judge_rules(study, corpus, "v1", {f.id: of for f in corpus.walk()} | {"red": relied(0.01)})
    assert rule.holds and rule.measured == 0.01 and f"; not measured: Dark red: {why}" in rule.text


def test_a_report_of_one_image_keeps_rules_by_its_control_edits(study: Study, store: Store) -> None:
    corpus = store.current_corpus(study.name)
    one = {f.id: relied(0.01, images=1, decision="inconclusive") for f in corpus.walk()}
    (rule, *_) = judge_rules(study, corpus, "v1", one, one_image=True)
    assert rule.holds and "over 1 image (" in rule.text


def test_a_rule_for_nobody_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study.yaml: .*rules: classifier 'v3' is not one of classifiers \(v1, v2\)"):
        load_study(write_study(tmp_path, rules=[{"feature": "Red", "below": 0.05, "classifiers": ["v3"]}]))


def test_the_comparison_says_of_each_feature_what_it_tests_and_shows_its_pictures(comparison: Comparison) -> None:
    red = next(row for row in comparison.features if row.feature == "red")
    assert red.reliance == pytest.approx(tuple(abs(effect) for effect in red.effects))
    assert red.reliance_change == pytest.approx(red.reliance[1] - red.reliance[0])
    assert red.decision == "less reliant" and red.p_value is not None and red.p_value <= 0.05
    assert all(row.examples for row in comparison.features)


def test_an_edit_that_fails_in_the_reports_fails_in_the_comparison(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, 12, effects={"control_prompts": ["flornip"], "min_edit_strength": 0.3}))
    work, names = prepared(study), list(study.classifiers)
    for name in names:
        run_search(work.subject(name))
    report, _ = classifier_report(work.subject("v1"), "diffex run toy")
    failed = {row.feature for row in report.features if row.decision == "edit failed"}
    assert "light" in failed and "red" not in failed
    compared = {row.feature: row.decision for row in compare_classifiers(work, names, "").features}
    assert {feature for feature, decision in compared.items() if decision == "edit failed"} >= failed
    assert compared["red"] == "less reliant"


def test_effects_are_against_null_edits_also_where_a_control_prompt_paints(tmp_path: Path) -> None:
    """One of two control prompts paints half of the picture red: no effect is another for it."""
    quiet, loud = (
        explained(load_study(write_study(tmp_path / name, 12, effects={"control_prompts": words})), "v1")
        for name, words in (("quiet", ["flornip", "dorv"]), ("loud", ["flornip", "dark red patch"]))
    )
    effects = [{row.feature: row.effect for row in report.features} for report in (quiet, loud)]
    assert effects[0] == pytest.approx(effects[1])
    for report in (quiet, loud):
        for row in report.per_image:
            assert row.effect == pytest.approx(row.score_edit - row.score_null)
        assert all(each.effect == each.score_edit - each.score_null for of in report.examples.values() for each in of)
    blue = "blue/plain-blue"
    assert {row.feature: row.decision for row in quiet.features}[blue] == "lowers"
    controls = {control.prompt: control.against_null for control in loud.controls}
    assert controls["dark red patch"] > 0.1 and controls["flornip"] == 0.0
    page = render_report(loud)
    assert "stands against these edits too" in page and "differences to the null edits" in page


def test_a_report_of_before_whose_effects_are_less_the_control_prompts_says_so(
    diffex: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such effects stand in the store and in files, and are not set beside others without a word."""
    study = load_study(write_study(tmp_path, 12, effects={"control_prompts": ["flornip", "dark red patch"]}))
    monkeypatch.setattr(Paired, "effect", Paired.beyond_control)
    monkeypatch.setattr(Example, "effect", property(lambda self: self.score_edit - self.score_placebo))
    for name in study.classifiers:
        explained(study, name)
    written = json.loads((reports_folder(study, "v1") / "report.json").read_text())
    monkeypatch.undo()
    for of in written["examples"].values():
        for each in of:
            each["effect"] = each["score_edit"] - each["score_placebo"]
    assert OF_CONTROLS in report_from_json(written).caveats
    _, _, err = diffex("show", study.file, "v1")
    assert "this report is of an earlier version" in err
    status, _, err = diffex("compare", study.file)  # reads scores, and no report
    assert status == 0 and "earlier version" not in err
    v1 = prepared(study).subject("v1")
    latest = latest_report(v1)
    assert latest is not None and latest.differs == ("definition of effects",)

    again = explained(study, "v1")
    _, _, err = diffex("show", study.file, "v1")
    assert "earlier version" not in err
    latest = latest_report(v1)
    assert latest is not None and latest.differs == ()
    assert OF_CONTROLS not in report_from_json(report_as_json(again)).caveats


def test_what_is_looked_into_further_is_what_a_store_of_before_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of when effects were less the control prompts replays from its store: nothing is missing."""
    words = ["flornip", "dorv", "zolt", "skreel", "dark blue patch"]
    both = {"kind": "python", "factory": "tests.support.toys:WarmClassifier", "options": {"red": 2.0, "blue": 2.1}}
    effects = {"control_prompts": words, "side_effects": 1}
    study = load_study(write_study(tmp_path, 12, effects=effects, classifiers={"v1": both}))
    monkeypatch.setattr("tests.support.toys.PaintEditor.judge", lambda self, draws: ColourJudge(), raising=False)
    subject = prepared(study).subject("v1")
    with monkeypatch.context() as before:
        before.setattr(Paired, "effect", Paired.beyond_control)
        run_search(subject)
    _, searched = classifier_report(subject, "diffex run toy")
    red, blue = (searched.paired[concepts_of([subject.corpus[f]])] for f in ("red", "blue/plain-blue"))
    assert searched.crossed and red.effect.mean() < -blue.effect.mean()  # blue is the strongest,
    assert red.beyond_control.mean() > -blue.beyond_control.mean()  # and red was


def test_the_effect_where_edits_succeeded_stands_beside_that_of_all() -> None:
    d, on = np.array([0.4, 0.0, 0.5, 0.1, 0.6, 0.9]), np.array([True] * 5 + [False])
    some = np.array([True, False, True, False, True, True])
    assert effect_where_shown(d, on, some) == pytest.approx(0.5)
    assert effect_where_shown(d, on, np.ones(6, dtype=bool)) is None  # it is the effect
    assert effect_where_shown(d, on, np.array([True, True, False, False, False, True])) is None  # of two images
    assert effect_where_shown(d, on, None) is None


def test_a_report_says_what_the_effect_is_where_the_edit_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubtful(ColourJudge):
        def _of(self, picture: Image.Image, pair: Pair) -> float:
            return super()._of(picture, pair) if pair[0] < "8" or "red" not in pair[1] else 0.0

    monkeypatch.setattr("tests.support.toys.PaintEditor.judge", lambda self, draws: Doubtful(), raising=False)
    report = explained(load_study(write_study(tmp_path, 12)), "v1")
    rows = {row.feature: row for row in report.features}
    red, blue = rows["red"], rows["blue/plain-blue"]
    assert red.edit_success is not None and 0.0 < red.edit_success < 1.0 and blue.edit_success == 1.0
    shown = [row.effect for row in report.per_image if row.feature == "red" and row.counted and row.succeeded]
    assert red.effect_shown == pytest.approx(float(np.mean(shown))) and blue.effect_shown is None
    assert render_report(report).count("Effect where it succeeded") >= 1
