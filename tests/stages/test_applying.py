"""What a study found, applied to other pictures: who carries it, who depends on it, and that it costs nothing twice."""

from __future__ import annotations

import csv
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diffex_dagster
from diffex_dagster.classifying.target import boundary, measure, of_class
from diffex_dagster.cli import apply as cli
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.effects.at_risk import beyond, shifted, taken_away
from diffex_dagster.effects.presence import YES, share_interval
from diffex_dagster.errors import DiffExError, StoreError, StudyError
from diffex_dagster.report.applied_model import Applied
from diffex_dagster.report.applied_page import in_lines, render_applied, seen_in
from diffex_dagster.results import Confounder, RankedFeature
from diffex_dagster.stages import applying
from diffex_dagster.stages.applying import apply_study
from diffex_dagster.stages.asked_of_pictures import Wanted, asked_of_pictures, plan_apply
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.folder_pictures import read_folder
from diffex_dagster.stages.judge_check import check_sight
from diffex_dagster.stages.judging import sight_of
from diffex_dagster.stages.picture_sight import LEAST_QUESTIONS
from diffex_dagster.store import Store
from diffex_dagster.study import Study, load_study
from tests.support.explaining import explained
from tests.support.material import HOSTILE
from tests.support.project import AVATARS, Run
from tests.support.toys import ColourJudge, KnobEditor, edits_made, picture, prepared, write_study


@pytest.fixture
def toy(tmp_path: Path) -> Study:
    """The toy study, whose editor judges its edits."""
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor", "options": {"batch": 128}}
    return load_study(write_study(tmp_path / "toy", editors={"knob": knob}))


def painted(shade: int, red: bool = False, blue: bool = False) -> Image.Image:
    """A picture with opaque paint, as the toy editor puts half of."""
    pixels = np.asarray(picture(shade)).copy()
    if red:
        pixels[:, :8] = (145, 65, 65)
    if blue:
        pixels[:, 8:] = (65, 65, 145)
    return Image.fromarray(pixels)


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Eight files: red ones, others, a copy, one that is broken, and one in a folder."""
    folder = tmp_path / "others"
    (folder / "more").mkdir(parents=True)
    painted(90, red=True).save(folder / "red.png")
    painted(120, red=True, blue=True).save(folder / "both.png")
    painted(100).save(folder / "plain.png")
    painted(104, blue=True).save(folder / "blue.png")
    painted(90, red=True).save(folder / "more" / "red again.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("")
    return folder


def applied(study: Study, folder: Path, wanted: Wanted | None = None) -> tuple[Applied, Path]:
    found = cli.make(cli.Pictures(study, "v1", folder, wanted or Wanted()), lambda *_: None, say=lambda _: None)
    assert found is not None
    return found


def test_who_carries_an_attribute_and_whose_decision_hangs_on_it(toy: Study, others: Path) -> None:
    report = explained(toy, "v1")
    before = StudyContext(toy).store.count("reports"), len(edits_made(toy.folder)), dict(StudyContext(toy).samples)
    found, page = applied(toy, others, Wanted(("Red",)))
    of = {f.feature: f for f in found.features}
    assert next(iter(of)) == "red" and of["red"].named and of["red"].carriers == 2 and found.images == 5
    assert found.different == 4 and found.unread == (("broken.png", "not a picture of a known format"),)
    rows = found.at_risk("red")
    assert {row.file for row in rows} == {"red.png", "both.png", "more/red again.png"}
    effect = next(f.effect for f in report.features if f.feature == "red")
    assert effect > 0 and of["red"].shift == pytest.approx(-effect) and not of["red"].removed
    for row in rows:
        assert row.after == pytest.approx(row.score - effect) and row.boundary == pytest.approx(0.5)
        assert row.changes == (row.score > 0.5 > row.after or row.score < 0.5 < row.after)
        assert row.beyond == pytest.approx((0.5 - row.after) * (1 if row.score > 0.5 else -1))
    assert [row.beyond for row in rows] == sorted((row.beyond for row in rows), reverse=True)
    different = {row.image: row for row in rows}.values()  # a copy counts once, and is in the list
    assert of["red"].at_risk == sum(bool(row.changes) for row in different) > 0
    assert of["red"].score_with == pytest.approx(np.mean([row.score for row in different]))
    assert of["red"].prevalence == 2 / 4
    assert (of["red"].prevalence_low, of["red"].prevalence_high) == pytest.approx(share_interval(2, 4))
    assert of["red"].edits_judged == 8 and of["red"].seen_in_edits == 1.0
    assert found.left_out == ("1 other file (.txt 1)",)
    assert not any(row.carries for row in found.rows if row.file == "plain.png")
    work = StudyContext(toy)
    assert (work.store.count("reports"), len(edits_made(toy.folder)), dict(work.samples)) == before

    with (page.parent / "images.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(found.features) * 5 and table[0]["file"] == rows[0].file and table[0]["place"] == "1"
    data = json.loads((page.parent / "applied.json").read_text("utf-8"))
    assert data["features"][0]["carriers"] == 2 and data["unread"] == [["broken.png", found.unread[0][1]]]
    text = page.read_text("utf-8")
    assert "broken.png" in text and text.count("<img") == sum(len(found.at_risk(f)) for f in of)
    assert "in 2 of 4 different images" in text and "1 other file (.txt 1)" in text
    assert "at risk" in in_lines(found) and page.parent.name.startswith("others-")


def test_an_attribute_that_carries_a_mark_is_applied_with_a_warning(
    toy: Study, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained(toy, "v1")
    found, _ = applied(toy, others, Wanted(("Red", "Light")))
    assert not any("By the study's report" in each for each in found.warnings)
    assert all(f.relation is f.confounded_with is None for f in found.features)
    apart = Confounder("light", "Light", 0.5, 0.01, -0.02, 0.04)
    marks = {"red": apart, "light": replace(apart, name="Red", direct=math.nan)}
    ranking = Store.latest_ranking

    def marked(self: Store, *of: str) -> list[RankedFeature]:
        return [replace(row, confounded_with=marks.get(row.feature)) for row in ranking(self, *of)]

    monkeypatch.setattr(Store, "latest_ranking", marked)
    found, _ = applied(toy, others, Wanted(("Red", "Light")))
    assert [(f.relation, f.confounded_with) for f in found.features[:2]] == [
        ("confounded with", "Light"), ("cannot be told from", "Red"),
    ]  # fmt: skip
    (warning,) = [each for each in found.warnings if "By the study's report" in each]
    assert "“Red” is confounded with Light and “Light” cannot be told from Red: the effect may be" in warning
    assert "By the study's report" in in_lines(found)


def test_nothing_is_asked_twice_and_a_plan_keeps_nothing(toy: Study, others: Path) -> None:
    explained(toy, "v1")
    said: list[str] = []
    assert cli.make(cli.Pictures(toy, "v1", others, Wanted()), lambda *_: None, only_plan=True, say=said.append) is None
    images, scores = (StudyContext(toy).store.count(table) for table in ("images", "scores"))
    assert said[0].startswith("5 images (4 different)") and "no edit" in said[0] and "4 to score" in said[0]
    assert "broken.png cannot be read as a picture" in said[1] and said[2] == "left out: 1 other file (.txt 1)"
    applied(toy, others)
    store = StudyContext(toy).store
    assert store.count("images") == images + 4 and store.count("scores") == scores + 4
    subject = StudyContext(toy).subject("v1")
    planned = plan_apply(asked_of_pictures(subject, read_folder(toy, others), Wanted()))
    assert not (planned.questions_missing or planned.scores_missing or planned.edits_missing)
    assert not planned.on_this_machine and planned.requests is None


def test_null_edits_are_judged_where_they_are_asked_for(toy: Study, others: Path) -> None:
    explained(toy, "v1")
    made = len(edits_made(toy.folder))
    planned = plan_apply(
        asked_of_pictures(StudyContext(toy).subject("v1"), read_folder(toy, others), Wanted(null_edits=True))
    )
    assert planned.edits_missing == 4 and planned.on_this_machine
    found, page = applied(toy, others, Wanted(null_edits=True))
    assert found.null_edits and len(edits_made(toy.folder)) == made + 4
    assert {row.file for row in found.at_risk("red")} == {"red.png", "both.png", "more/red again.png"}
    assert "Null edits of the images were judged" in page.read_text("utf-8") and "--null-edits" in found.command


def test_what_cannot_be_applied_is_one_sentence(toy: Study, others: Path, tmp_path: Path) -> None:
    def ask(of: Study, wanted: Wanted | None = None, classifier: str = "v1") -> None:
        asked_of_pictures(StudyContext(of).subject(classifier), read_folder(of, others), wanted or Wanted())

    with pytest.raises(StoreError, match="there is no report of v1 yet; run the study"):
        ask(toy)
    explained(toy, "v1")
    with pytest.raises(StudyError, match="the report has no attribute 'green'; it has red"):
        ask(toy, Wanted(("green",)))
    with pytest.raises(StoreError, match="is of another target"):
        ask(toy.changed(target=toy.target.model_copy(update={"label": "cold"})))
    with pytest.raises(StudyError, match="there is no such folder"):
        read_folder(toy, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.png").write_bytes(b"")
    with pytest.raises(StudyError, match=r"there is no picture in it; x.png cannot be read"):
        read_folder(toy, tmp_path / "empty")
    (tmp_path / "empty" / "x.png").rename(tmp_path / "empty" / "\x1b[2J.png")
    with pytest.raises(StudyError) as raised:
        read_folder(toy, tmp_path / "empty")
    assert "\x1b" not in str(raised.value)  # a name must not clear a terminal
    unjudged = load_study(write_study(tmp_path / "plain"))
    with pytest.raises(StudyError, match="nobody can say which pictures show an attribute"):
        ask(unjudged)


def test_a_shortcut_that_the_study_did_not_show_is_marked(toy: Study, others: Path) -> None:
    explained(toy, "v1")
    found, _ = applied(toy, others, Wanted(("light",), top=0))
    assert [f.feature for f in found.features] == ["light"] and "did not show" in found.warnings[0]


def test_the_command_prints_the_working_list(toy: Study, others: Path, diffex: Run, tmp_path: Path) -> None:
    explained(toy, "v1")
    arguments = "apply", str(toy.folder), "v1", "--images", str(others), "--shortcut", "red"
    status, out, err = diffex(*arguments, "--to", str(tmp_path / "list"))
    assert status == 0 and "red.png" in out and "at risk" in out and "broken.png cannot be read" in err
    assert (tmp_path / "list" / "index.html").is_file()
    status, out, _ = diffex(*arguments, "--format", "csv")
    assert status == 0 and out.splitlines()[0].startswith("feature,name,place,image,file,carries")
    status, out, _ = diffex(*arguments, "--format", "json")
    assert status == 0 and json.loads(out)["classifier"] == "v1"


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_asked(toy: Study, others: Path) -> None:
    explained(toy, "v1")
    scores = StudyContext(toy).store.count("scores")
    taken = others / "red.png"
    for folder in (taken, taken / "below"):
        with pytest.raises(DiffExError, match="cannot be written to .*red.png.*: choose a folder"):
            cli.make(cli.Pictures(toy, "v1", others, Wanted()), lambda *_: None, output=folder, say=lambda _: None)
    assert StudyContext(toy).store.count("scores") == scores


class HalfBlind(ColourJudge):
    """Sees a colour in every second image only, as a number from 0 to 1 that compares across prompts."""

    absolute, fingerprint, binary = True, "half blind", False

    def _of(self, picture: Image.Image, pair: tuple[str, str]) -> float:
        shade = int(np.asarray(picture)[0, 12, 1])  # green, where no edit towards red paints
        return float(super()._of(picture, pair) > 20 and "red" in pair[1] and shade // 4 % 2 == 1)


class YesOrNo(HalfBlind):
    fingerprint, binary = "yes or no", True


def judged_by(judge: type[ColourJudge], folder: Path, monkeypatch: pytest.MonkeyPatch, images: int = 8) -> Study:
    """A toy study with a held-out half."""
    monkeypatch.setattr(KnobEditor, "judge", lambda self, draws: judge(at_once=1000))
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor", "options": {"batch": 128}}
    split = {"control_prompts": ["flornip"], "confirmation": 0.5, "confirmation_from": 8}
    return load_study(write_study(folder, images, editors={"knob": knob}, effects=split))


def test_a_study_that_holds_images_out_knows_its_own_edits(
    tmp_path: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge whose level comes from the edits that succeeded, one attribute at a time."""
    study = judged_by(ColourJudge, tmp_path / "study", monkeypatch, 16)
    explained(study, "v1")
    found, _ = applied(study, others, Wanted(("red",)))
    red = next(f for f in found.features if f.feature == "red")
    reported = len(StudyContext(study).subject("v1").split.reported)
    assert red.carriers == 2 and (red.seen_in_edits, red.edits_judged) == (1.0, reported) and 3 <= reported < 16
    assert not any("is not known" in each for each in found.warnings)
    proposal = tmp_path / "study" / "proposal.json"
    proposal.write_text(proposal.read_text().replace('"bright"', '"brilliant"'))
    study = load_study(study.file)
    work = prepared(study)
    found = apply_study(asked_of_pictures(work.subject("v1"), read_folder(study, others), Wanted(("red", "light"))), "")
    of = {f.feature: f for f in found.features}
    assert of["red"].carriers == 2 and of["light"].carriers is None  # the one does not cost the other
    assert any("“Light” is not known: the corpus does not have it now" in each for each in found.warnings)
    monkeypatch.setattr(ColourJudge, "fingerprint", "other colours")
    found, _ = applied(load_study(study.file), others, Wanted(("red",)))
    assert {f.carriers for f in found.features} == {None}
    assert any("“Red” is not known: this judge has not been asked" in each for each in found.warnings)


def test_how_often_a_judge_sees_what_an_edit_put_there_is_not_its_own_choice(
    tmp_path: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = judged_by(HalfBlind, tmp_path / "half", monkeypatch, 16)
    report = explained(study, "v1")
    assert report.judge is not None and report.judge.evidence == 0.0
    red = (StudyContext(study).subject("v1").corpus["red"],)
    subject = StudyContext(study).subject("v1")
    reported = subject.split.reported
    order = list(subject.samples)
    expected = np.mean([(90 + 4 * order.index(image)) // 4 % 2 == 1 for image in reported])
    assert 0 < expected < 1
    check = check_sight(subject, red, sight_of(subject, subject.split.discovery))
    assert check.after_edit == pytest.approx(expected)
    found, page = applied(study, others, Wanted(("red",)))
    of = next(f for f in found.features if f.feature == "red")
    assert (of.seen_in_edits, of.edits_judged) == (pytest.approx(expected), len(reported)) and of.level == 0.0
    assert found.level_by == "study" and found.control_words == 0.0 and "Its levels are the study" in page.read_text()

    monkeypatch.setattr(HalfBlind, "fingerprint", "half blind, asked again")
    few, _ = applied(load_study(study.file), others, Wanted(("red",)))
    assert few.features[0].carriers is None and any("are too few to find its level" in each for each in few.warnings)
    for shade in range(60, 60 + LEAST_QUESTIONS):
        picture(shade).save(others / f"{shade}.png")
    many, page = applied(load_study(study.file), others, Wanted(("red",)))
    assert many.level_by == "images" and many.features[0].carriers is not None
    assert "its level is set on these" in page.read_text()


def test_nothing_is_claimed_of_how_much_a_judge_sees_that_only_says_yes_or_no(
    tmp_path: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its verdict on an edit is whether it sees it: an edit that failed and a blind judge look the same."""
    study = judged_by(YesOrNo, tmp_path / "binary", monkeypatch)
    report = explained(study, "v1")
    assert report.judge is not None and report.judge.after_edit is None and report.judge.control_words == 0.0
    found, _ = applied(study, others, Wanted(("red",)))
    assert {f.seen_in_edits for f in found.features} == {None} and found.level_by == ""
    assert all(seen_in(f) == "–" for f in found.features) and found.features[0].level == YES


def test_null_edits_that_are_taken_for_different_things_say_so(toy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is the mean over seeds, so that the first seed's decision is not that of the picture."""

    def scores(subject: Subject, requests: list[EditRequest]) -> tuple[dict[EditRequest, np.ndarray], int]:
        return {r: np.array([0.0, 1.0 if r.seed == toy.seed or r.image == "a" else -2.0]) for r in requests}, 0

    study = toy.changed(effects=toy.effects.model_copy(update={"seeds": 2}))
    monkeypatch.setattr(applying, "ensure_scores", scores)
    found = applying._scored(StudyContext(study).subject("v1"), ["a", "b"], null_edits=True)
    assert found.decision == {"a": "“warm”", "b": "differs by seed"}
    assert found.measure["b"] == pytest.approx((1 / (1 + np.exp(-1.0)) + 1 / (1 + np.exp(2.0))) / 2)


def test_in_python(toy: Study, others: Path, tmp_path: Path) -> None:
    explained(toy, "v1")
    found = diffex_dagster.apply_to(others, "v1", toy, "red", progress=False)
    frame = found.at_risk("red")
    assert frame["place"].tolist() == [1, 2, 3] and frame["carries"].all()
    assert len(found.to_frame()) == 5 * len(found.found.features) and "red.png" in repr(found)
    assert found.to_html(tmp_path / "page").is_file() and json.loads(found.to_json())["images"] == 5
    with pytest.raises(
        DiffExError, match=r"a\.json: this file cannot be written \(.* is no folder\); name another one"
    ):
        found.to_json(tmp_path / "page" / "index.html" / "a.json")
    with pytest.raises(StudyError, match="'green' was not looked for"):
        found.at_risk("green")
    with pytest.raises(StudyError, match="there is no 'v9'"):
        diffex_dagster.apply_to(others, "v9", toy)
    with pytest.raises(DiffExError):
        diffex_dagster.apply_to(others / "nowhere", "v1", toy)


def test_names_are_escaped(toy: Study, tmp_path: Path) -> None:
    explained(toy, "v1")
    folder = tmp_path / "named <b>so"
    folder.mkdir()
    painted(90, red=True).save(folder / "<img src=x onerror=alert(1)>.png")
    (folder / "=1+1.png").write_bytes(b"no")
    found, page = applied(toy, folder, Wanted(("red",)))
    text = page.read_text("utf-8")
    assert "<img src=x" not in text and "<b>so" not in text and HOSTILE not in text
    assert "&lt;img src=x" in text and "=1+1.png" in render_applied(found)
    assert "\n'=1+1" not in (page.parent / "images.csv").read_text("utf-8")


def test_where_the_decision_changes_is_where_the_prediction_does(toy: Study) -> None:
    """Against the predicted class itself, for each measure and number of classes."""
    logits = np.random.default_rng(1).normal(scale=2, size=(200, 4))
    for labels, target in (
        (("a", "warm"), {}),
        (("a", "warm", "b", "c"), {}),
        (("a", "warm", "b", "c"), {"label": None, "labels": ("warm", "b")}),
        (("a", "warm", "b", "c"), {"measure": "logit"}),
        (("a", "warm", "b", "c"), {"measure": "margin", "against": "b"}),
        (("a", "warm", "b", "c"), {"measure": "sigmoid"}),
        (("a", "warm"), {"threshold": 0.7}),
    ):
        of = type(toy.target).model_validate({"label": "warm"} | {k: v for k, v in target.items() if v is not None} if
                                             target.get("label", 1) else {"labels": target["labels"]})  # fmt: skip

        some = logits[:, : len(labels)]
        edge = boundary(some, labels, of)
        assert edge is not None
        assert (measure(some, labels, of) > edge).tolist() == of_class(some, labels, of).tolist()
    number = type(toy.target).model_validate({"measure": "value", "name": "age"})
    assert boundary(logits[:, :1], ("age",), number) is None


def test_what_taking_an_attribute_away_does() -> None:
    def row(**fields: object) -> RankedFeature:
        known = {"rank": 1, "feature": "a", "name": "A", "group": "A", "level": 1, "direction": "add", "prompt": "a",
                 "effect": 0.3, "ci_low": 0.1, "ci_high": 0.4, "flip_rate": 0.0, "images": 9, "decision": "raises",
                 "magnitude": 0.3, "sign_agreement": 1.0}  # fmt: skip
        return RankedFeature(**(known | fields))  # type: ignore[arg-type]

    added = taken_away(row(), 0.5)
    assert (added.mean, added.low, added.high, added.removed) == (-0.3, -0.4, -0.1, False)
    measured = row(other_way=-0.2, other_way_success=0.8, other_way_images=9)
    assert (taken_away(measured, 0.5).mean, taken_away(measured, 0.5).removed) == (-0.2, True)
    assert taken_away(measured, 0.9).mean == -0.3  # too few of these edits succeeded
    few = row(other_way=-0.2, other_way_success=1.0, other_way_images=5)
    assert taken_away(few, 0.5).mean == -0.3
    assert taken_away(row(direction="remove"), 0.5).mean == 0.3
    assert shifted([0.1, 0.9], -0.3, True).tolist() == [0.0, pytest.approx(0.6)]
    assert beyond([True, True, False], [0.4, 0.6, 0.6], 0.5).tolist() == pytest.approx([0.1, -0.1, 0.1])


def test_listed_avatars_truly_carry_the_attribute_and_depend_on_it(tmp_path: Path) -> None:
    """Drawn pictures, whose attributes are known: the exact editor and its judge."""
    from diffex_dagster.worlds.avatars import WORLD

    rng = random.Random(77)
    states = {}
    for where, count in (("images", 8), ("new", 24)):
        (tmp_path / "study" / where).mkdir(parents=True)
        for i in range(count):
            name = f"{where}_{i:02d}.png"
            states[name] = WORLD.sample_state(rng)
            WORLD.draw(states[name]).save(tmp_path / "study" / where / name)
    (tmp_path / "study" / "images" / "attributes.json").write_text(json.dumps(states))
    classifier = {"kind": "transformers", "checkpoint": str(AVATARS / "classifiers" / "persona_v1")}
    file = write_study(
        tmp_path / "study", 0, name="drawn", domain="avatars", images={"folder": "images", "size": 64},
        editors={"exact": {"kind": "python", "factory": "diffex_dagster.worlds.avatars:ExactEditor"}},
        classifiers={"v1": classifier}, target={"label": "senior"}, effects={"control_prompts": ["florn", "dorv"]},
    )  # fmt: skip
    words = [("Eyewear", "eyewear"), ("Grey hair", "grey hair"), ("Beanie", "a beanie")]
    tree = {"categories": [{"name": name, "prompt": prompt} for name, prompt in words]}
    (file.parent / "proposal.json").write_text(json.dumps(tree))
    study = load_study(file)
    explained(study, "v1")
    found, _ = applied(study, file.parent / "new", Wanted(tuple(name for name, _ in words)))
    assert found.control_words is None and found.images == 24
    for name, prompt in words:
        of = next(f for f in found.features if f.name == name)
        truth = {f for f, state in states.items() if f.startswith("new") and WORLD.has_feature(state, prompt)}
        assert {row.file for row in found.at_risk(of.feature)} == truth and of.carriers == len(truth)
    # Drawn again without it, the pictures lose as the list says: in the same direction on average.
    rows = found.at_risk(next(f.feature for f in found.features if f.name == "Eyewear"))
    assert len(rows) >= 5 and rows[0].after is not None
    without = [WORLD.draw(WORLD.set_feature(states[row.file], "eyewear", remove=True)) for row in rows]
    subject = StudyContext(study).subject("v1")
    true = measure(subject.classifier(without), subject.classifier.labels, study.target)
    before = np.array([row.score for row in rows])
    expected = np.array([row.after or 0.0 for row in rows]) - before
    assert np.mean(true - before) < -0.05 and np.mean(expected) < -0.05
