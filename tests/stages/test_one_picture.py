"""Single pictures: what moves one, what flips it, what is noise, and that the study stays what it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.cli import explain as cli
from diffex_dagster.editing.precomputed import PrecomputedEditorPart
from diffex_dagster.errors import DiffExError, StoreError, StudyError
from diffex_dagster.report.image_model import ImageFinding
from diffex_dagster.report.image_page import as_html, in_lines, render_image
from diffex_dagster.report.wording import REDRAWS
from diffex_dagster.results import Confounder
from diffex_dagster.search.flipping import FlipOptions
from diffex_dagster.stages.asked_images import find_asked, named_apart
from diffex_dagster.stages.context import StudyContext, at_work
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.one_picture import explain_images, plan_images
from diffex_dagster.stages.picture_edits import Wishes, asked_of
from diffex_dagster.stages.sample_images import sample_images, samples_version
from diffex_dagster.stages.setup import image_page, image_pages, reports_folder
from diffex_dagster.store import Store
from diffex_dagster.study import Study, load_study
from tests.support.explaining import explained
from tests.support.project import Run
from tests.support.toys import Choosy, ColourJudge, WarmClassifier, edits_made, picture, write_study


@pytest.fixture
def toy(tmp_path: Path) -> Study:
    """The toy study, whose editor makes many edits at a time."""
    part = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"batch": 128}}
    return load_study(write_study(tmp_path / "toy", editors={"paint": part}))


def asked_about(
    study: Study, need: float, pictures: Sequence[Image.Image], judge: object = None, wishes: Wishes | None = None
) -> list[ImageFinding]:
    of = study.changed(target=study.target.model_copy(update={"label": "yes"}))
    work = at_work(of, classifiers={"v1": Choosy(need)})
    work = work.changed(judge=judge)
    keys = work.store.put_images({f"{i}.png": each for i, each in enumerate(pictures)})
    asked = asked_of(work.subject("v1"), corpus_now(study), wishes)
    return explain_images(asked, {key: name for name, key in keys.items()}, "diffex explain")


def test_the_fewest_edits_that_flip_it(toy: Study) -> None:
    one, both, none = (asked_about(toy, need, [picture(90)])[0] for need in (0.5, 0.8, 9.0))
    assert one.decision == "“no”" and not one.no_flip and one.largest == 1
    assert one.flips[0].score_before < 0.5 < one.flips[0].score_after
    assert "becomes “yes”" in one.flips[0].decision
    assert {each.features for each in one.flips} == {("red",), ("blue/plain-blue",)}
    assert one.flips[0].distance <= one.flips[1].distance
    assert both.largest == 2 and {len(each.features) for each in both.flips} == {2}
    assert ("blue/plain-blue", "red") in {each.features for each in both.flips}
    assert [each.distance for each in both.flips] == sorted(each.distance for each in both.flips)
    assert not none.flips and none.no_flip.startswith("Nothing in this corpus flips it") and none.largest >= 2


def test_effects_are_this_picture_s_own_and_noise_is_told_from_them(toy: Study) -> None:
    found = asked_about(toy, 0.5, [picture(90), picture(140)])
    for finding in found:
        by = {f.feature: f for f in finding.features}
        assert [f.rank for f in finding.features] == list(range(1, len(by) + 1))
        assert by["red"].verdict == "raises" and by["red"].p_value == pytest.approx(1 / 20)
        assert by["red"].effect == pytest.approx(by["red"].score_edit - by["red"].score_null)
        assert by["light/unknown-thing"].verdict == "edit failed"  # it changes no pixel
        assert by["red"].redraws and not by["light/unknown-thing"].redraws  # control edits change no pixel either
        assert by["light"].verdict == "within the noise" and by["light"].p_value == 1.0
        assert len(finding.controls) == 19 == finding.least_controls and finding.controls[0][0] == "flornip"
        assert finding.expected == pytest.approx(0.05 * 5)
    assert found[0].image != found[1].image and found[0].file == "0.png"


def test_too_few_control_prompts_claim_nothing(toy: Study) -> None:
    (finding,) = asked_about(toy, 0.5, [picture(90)], wishes=Wishes(FlipOptions(), 5))
    assert {f.verdict for f in finding.features} == {"inconclusive", "within the noise", "edit failed"}
    assert "With 5 control prompts nothing can be claimed" in finding.warnings[0] and np.isnan(finding.expected)
    none = toy.changed(effects=toy.effects.model_copy(update={"control_prompts": ()}))
    (finding,) = asked_about(none, 0.5, [picture(90)])
    assert "no control prompts" in finding.warnings[0] and not finding.controls
    assert not {f.verdict for f in finding.features} & {"raises", "lowers"}


def test_as_many_control_prompts_as_were_asked_for_or_a_sentence(toy: Study) -> None:
    def words(wanted: int | None, of: Study = toy) -> tuple[str, ...]:
        asked = asked_of(StudyContext(of).subject("v1"), corpus_now(of), Wishes(FlipOptions(), wanted))
        return tuple(asked.subject.study.effects.control_prompts)

    own = toy.effects.control_prompts
    assert words(1) == own[:1] and words(len(own)) == own and len(words(None)) == 19 and len(words(30)) == 30
    with pytest.raises(StudyError, match="100 control prompts were asked for and .* are there"):
        words(100)
    (toy.folder / "edits" / "null").mkdir(parents=True)
    picture(90).save(toy.folder / "edits" / "null" / "03.png")
    other = {"kind": "precomputed", "folder": str(toy.folder / "edits")}
    made = toy.changed(editors={"paint": PrecomputedEditorPart.model_validate(other)})
    assert words(None, made) == own  # the other tool has made no others
    with pytest.raises(StudyError, match="its edits were made by another tool"):
        words(19, made)


def test_a_flip_counts_where_the_judge_sees_the_attribute(toy: Study) -> None:
    class Blind(ColourJudge):
        fingerprint = "blind to red"

        def _of(self, picture: Image.Image, pair: tuple[str, str]) -> float:
            return 0.0 if "red" in pair[1] else super()._of(picture, pair)

    seen = asked_about(toy, 0.5, [picture(90)], ColourJudge())[0]
    assert seen.judge and seen.flips[0].shown == (True,)
    blind = asked_about(toy, 0.5, [picture(90)], Blind())[0]
    assert {each.features for each in blind.flips} == {("blue/plain-blue",)}
    assert ("red",) in {each.features for each in blind.unseen}
    assert {f.verdict for f in blind.features if "red" in f.feature} == {"edit failed"}


def test_pictures_beside_the_study_leave_it_as_it_is_and_cost_nothing_twice(
    toy: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained(toy, "v1")
    work = StudyContext(toy)
    before = (dict(work.samples), samples_version(work.samples), work.store.count("reports"))
    rows = work.store.latest_ranking(toy.kept_as, "v1", work.editor.fingerprint)
    picture(171).resize((64, 48)).save(tmp_path / "new.png")
    own = next(iter(work.samples.values()))

    said: list[str] = []
    assert cli.make(cli.Images(toy, "v1", [own], Wishes()), lambda *_: None, only_plan=True, say=said.append) == []
    made = len(edits_made(toy.folder))
    found = cli.make(
        cli.Images(toy, "v1", [own, str(tmp_path / "new.png")], Wishes()), lambda *_: None, say=said.append
    )
    cost = len(edits_made(toy.folder)) - made
    assert cost == sum(finding.edits_made for finding, _ in found[:1]) > 0
    assert "1 image, each edited towards 6 features, 19 control prompts" in said[0] and "edits to make" in said[1]
    (mine, page), (new, _) = found
    assert (mine.sample, new.sample) == (True, False) and mine.study_images == 8
    assert {f.feature: f.study_effect for f in mine.features if f.study_effect} == {
        row.feature: row.effect for row in rows if row.effect
    }
    assert not any(f.study_mark for f in mine.features)
    other = Confounder("light", "Light", 0.5, 0.01, -0.02, 0.04)
    with monkeypatch.context() as patched:
        marked = [replace(row, confounded_with=other if row.feature == "red" else None) for row in rows]
        patched.setattr(Store, "latest_ranking", lambda *_: marked)
        ((again, _),) = cli.make(cli.Images(toy, "v1", [own], Wishes()), lambda *_: None, say=lambda _: None)
    assert {f.feature: f.study_mark for f in again.features if f.study_mark} == {"red": "confounded with Light"}
    store = StudyContext(toy).store
    assert (store.samples(toy.kept_as), samples_version(store.samples(toy.kept_as)), store.count("reports")) == before
    assert store.image_name(new.image) == "new.png"
    made = len(edits_made(toy.folder))
    with monkeypatch.context() as patched:  # nothing to edit: no place in the pool is taken
        patched.setattr(cli, "in_gpu_pool", lambda *_: pytest.fail("it waits for a GPU"))
        again = cli.make(
            cli.Images(toy, "v1", [own, str(tmp_path / "new.png")], Wishes()), lambda *_: None, say=said.append
        )
    assert len(edits_made(toy.folder)) == made
    assert [f.features[0].effect for f, _ in again] == [f.features[0].effect for f, _ in found]

    # The pages, what they link to, and the report that links to them.
    text = page.read_text("utf-8")
    assert page == image_page(toy, "v1", mine.image) and 'href="../index.html"' in text and "<script" not in text
    assert json.loads(page.with_suffix(".json").read_text())["flips"][0]["features"]
    report = (reports_folder(toy, "v1") / "index.html").read_text("utf-8")
    assert f'{{"{mine.image}": "images/{mine.image}.html"' in report and new.image in report
    explained(toy, "v1")
    assert (reports_folder(toy, "v1") / "index.html").read_text("utf-8") == report

    # A page of other weights stays, and the report does not link to it; effects of others are not shown either.
    assert set(image_pages(toy, "v1")) == {mine.image, new.image}
    for part in ("classifier", "target", "editor", "corpus_version"):
        data = json.loads(page.with_suffix(".json").read_text("utf-8"))
        data["made_with"] |= {part: "another"}
        page.with_suffix(".json").write_text(json.dumps(data))
        assert set(image_pages(toy, "v1")) == {new.image} and page.exists()
        data["made_with"] |= {part: mine.made_with[part]}
        page.with_suffix(".json").write_text(json.dumps(data))
    assert set(image_pages(toy, "v1")) == {mine.image, new.image}
    cold = toy.changed(target=toy.target.model_copy(update={"label": "cold"}))
    assert image_pages(cold, "v1") == {}
    names = {mine.image: own}
    other = at_work(toy, classifiers={"v1": WarmClassifier(tmp_path, {"red": 0.5})})
    (later,) = explain_images(asked_of(other.subject("v1"), corpus_now(toy)), names, "")
    assert later.study_images == 0 and "latest report is of another classifier" in later.no_study
    assert not any(f.study_effect for f in later.features) and "another classifier" in render_image(later)
    assert not mine.no_study


def test_who_is_asked_about_is_found_by_name_key_or_file(
    toy: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = StudyContext(toy)
    assert [name for name, _ in find_asked(work, ["03.png"]).values()] == ["03.png"]  # before anything was read
    sample_images(work)
    key = next(key for key, name in work.samples.items() if name == "03.png")
    assert list(find_asked(work, ["03.png", key, key[:10], str(toy.folder / "images" / "03.png")])) == [key]
    with pytest.raises(DiffExError, match=r"wings\.png: no image of the study and no file is called so"):
        find_asked(work, ["wings.png"])
    monkeypatch.chdir(tmp_path)
    picture(90 + 4 * 3).save("03.png")
    assert list(find_asked(work, ["03.png"])) == [key]  # the same picture
    picture(200).save("03.png")
    with pytest.raises(DiffExError, match=r"03\.png: one of the study's images is called so, and so is another"):
        find_asked(work, ["03.png"])
    assert key not in find_asked(work, ["./03.png"]) and list(find_asked(work, [key[:12]])) == [key]
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DiffExError, match=r"text\.png: it cannot be read as a picture"):
        find_asked(work, [str(tmp_path / "text.png")])


def test_a_plan_makes_nothing(toy: Study) -> None:
    work = StudyContext(toy).to_read()
    found = find_asked(work, ["03.png", "04.png"])
    planned = plan_images(asked_of(work.subject("v1"), corpus_now(toy), Wishes()), list(found))
    assert (planned.edits_missing, planned.edits_reused, planned.edits_most) == (
        2 * (1 + 19 + 6),
        0,
        2 * (32 + 19 + 19),
    )
    assert planned.seconds is None and not work.store.exists() and edits_made(toy.folder) == []


def test_what_a_study_finds_out_first_has_to_be_known(toy: Study) -> None:
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}
    part = type(toy.editor_part).model_validate(knob)
    of = toy.changed(editors={"paint": part}, calibrate=True)
    assert of.calibrates
    with pytest.raises(StoreError, match="nobody has looked yet with which options"):
        asked_of(StudyContext(of).subject("v1"), corpus_now(toy))


def test_the_page_the_lines_and_the_notebook_say_the_same(toy: Study) -> None:
    (finding,) = asked_about(toy, 0.8, [picture(90)], ColourJudge())
    page, text, html = render_image(finding, "../index.html"), in_lines(finding), as_html(finding)
    for said in (page, text, html):
        assert "No single feature of this corpus flips it" in said and "together" in said
        assert REDRAWS in said  # the toy's control edits change no pixel
    assert "held against 19 edits towards 2 control prompts together" in page
    assert "raises" in text and "<img" in html and 'src="http' not in page and "default-src &#39;none&#39;" in page


def test_the_command(diffex: Run, toy: Study) -> None:
    status, out, err = diffex("explain", toy.file, "v1", "03.png", "--format", "json")
    assert status == 0, err
    (data,) = json.loads(out)
    assert data["file"] == "03.png" and data["features"][0]["rank"] == 1 and "edits to make" in err
    status, out, _ = diffex("explain", toy.file, "v1", "03.png")
    assert status == 0 and "becomes “warm” with “Dark red” alone" in out and "page:" in out
    status, _, err = diffex("explain", toy.file, "v1", "nobody.png", "--plan")
    assert status == 1 and "nobody.png: there is no such file" in err


def test_a_study_of_one_image_decides_by_its_control_edits(diffex: Run, tmp_path: Path) -> None:
    part = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"batch": 128}}
    study = load_study(write_study(tmp_path / "one", image_count=1, editors={"paint": part}))
    status, out, err = diffex("plan", study.file, "--format", "json")
    assert status == 0, err
    planned = {row["stage"]: row for row in json.loads(out)}["level1_edits"]
    assert planned["edits_missing"] == 1 + 19 + 6  # nothing, control prompts, features
    report = explained(study, "v1")
    by = {row.feature: row for row in report.features}
    assert len(report.controls) == 19 and report.images == 1
    assert by["red"].decision == "raises" and by["red"].p_value == pytest.approx(1 / 20)
    assert by["red"].ci_low == pytest.approx(by["red"].effect) == by["red"].ci_high  # control edits do nothing here
    assert by["blue/plain-blue"].decision == "lowers"
    assert dict(report.settings)["Error rate"].startswith("each feature for itself, against the control edits")
    (marked,) = [caveat for caveat in report.caveats if REDRAWS in caveat]
    assert "“Red”" in marked and "“Unknown thing”" not in marked
    assert any(caveat.startswith("Decisions are made on one image alone") for caveat in report.caveats)


def test_pictures_are_kept_under_the_names_of_their_files() -> None:
    found = {"a": ("/one/x.png", picture(1)), "b": ("~/two/x.png", picture(2)), "c": ("y.png", picture(3))}
    kept = named_apart(found)
    assert list(kept) == ["x.png", "x (2).png", "y.png"] and list(kept.values()) == [p for _, p in found.values()]


def test_a_report_on_the_one_image_that_was_held_out_follows_the_same_rule(tmp_path: Path) -> None:
    part = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"batch": 128}}
    effects = {"control_prompts": ["flornip"], "confirmation": 0.25, "confirmation_from": 4}
    study = load_study(write_study(tmp_path / "four", image_count=4, editors={"paint": part}, effects=effects))
    report = explained(study, "v1")
    assert report.images == 1 and len(report.controls) == 19
    assert {row.feature: row for row in report.features}["red"].decision == "raises"
    assert any(caveat.startswith("Decisions are made on one image alone") for caveat in report.caveats)
    assert "each feature for itself" in dict(report.settings)["Error rate"]
