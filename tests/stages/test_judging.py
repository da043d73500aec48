"""Edit checks on the toy domain: who is asked what, what is kept, and what a failed edit does to the report."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.editing.protocol import Concept
from diffex_dagster.errors import StudyError
from diffex_dagster.judging.protocol import Pair
from diffex_dagster.report.schema import load_schema
from diffex_dagster.stages import judging
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import concepts_of, control_edits, edit_requests, make_edits
from diffex_dagster.stages.judging import gains
from diffex_dagster.stages.ranking import edits_that_succeeded
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.setup import build_editor, build_judge, build_store, reports_folder
from diffex_dagster.study import Study, load_study
from tests.support.toys import ColourJudge, PaintEditor, picture, write_study

RED, BLUE = Concept("red patch"), Concept("blue patch")


def test_an_answer_is_asked_for_once_and_kept(toy: Study) -> None:
    judge = ColourJudge()
    work = StudyContext(toy).changed(judge=judge)
    images = list(sample_images(work).keys)
    make_edits(work, edit_requests(images, [(), (RED,), (BLUE,)], toy.seeds))
    found = gains(work, [((RED,), RED), ((BLUE,), RED)], images)
    assert found[(RED,), RED] == pytest.approx(np.full(len(images), 160.0))
    assert found[(BLUE,), RED] == pytest.approx(np.zeros(len(images)))
    assert len(judge.asked) == len(set(judge.asked)) == 3 * len(images)  # the null edit is shared
    removed = Concept("red patch", "remove")
    make_edits(work, edit_requests(images, [(removed,)], toy.seeds))
    again = gains(work, [((RED,), RED), ((RED,), removed)], images)
    assert len(judge.asked) == 3 * len(images)
    assert again[(RED,), removed] == pytest.approx(-found[(RED,), RED])  # what removal is meant to do is a gain


def test_an_edit_succeeded_when_evidence_rose_and_pixels_changed(toy: Study) -> None:
    strength = {"a": np.array([0.1, 0.1, 0.0]), "b": np.array([0.1, 0.1, 0.1])}
    succeeded = edits_that_succeeded(toy, strength, {"a": np.array([0.3, 0.1, 0.3])}, chance={"a": 0.2})
    assert {feature: list(values) for feature, values in succeeded.items()} == {"a": [True, False, False]}


def test_chance_is_what_a_quarter_of_the_control_edits_reach() -> None:
    assert judging.chance_gain([np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0])]) == 3.0
    assert judging.chance_gain([np.array([-2.0, -1.0])]) == 0.0
    assert judging.chance_gain([]) == 0.0


def test_evidence_differs_between_pictures_by_what_one_in_four_lies_above_the_middle() -> None:
    assert judging.evidence_spread([np.array([0.0, 1.0, 2.0, 3.0, 4.0])]) == 1.0
    assert judging.evidence_spread([np.array([10.0, 11.0, 12.0, 13.0, 14.0]), np.full(5, 3.0)]) == 0.0  # of each word
    assert judging.evidence_spread([np.array([7.0])]) == judging.evidence_spread([]) == 0.0


class BrightJudge(ColourJudge):
    """Takes bright pictures for a little of anything."""

    fingerprint = "bright"

    def __init__(self, binary: bool = False) -> None:
        super().__init__()
        self.binary = binary

    def _of(self, picture: Image.Image, pair: Pair) -> float:
        bright = float(np.asarray(picture).mean())
        return float(bright > 100) if self.binary else bright


def test_what_an_editor_takes_no_notice_of_does_not_make_any_gain_enough(tmp_path: Path) -> None:
    """Control edits that change nothing gain nothing: what pictures differ by of themselves is no gain either."""
    folder = write_study(tmp_path, 5, effects={"control_prompts": ["flornip", "quazzle"]}).parent
    for i in range(5):
        picture(90 + 10 * i).save(folder / "images" / f"{i:02}.png")
    work = StudyContext(load_study(folder)).changed(judge=BrightJudge())
    images = list(sample_images(work).keys)
    make_edits(work, edit_requests(images, [(), *control_edits(work.study), (RED,)], work.seeds))
    found = gains(work, [(c, c[0]) for c in control_edits(work.study)], images)
    assert not np.any(list(found.values()))
    assert judging.sight_of(work, images).chances == pytest.approx({"": 10.0})
    yes_or_no = work.changed(judge=BrightJudge(binary=True))
    assert judging.sight_of(yes_or_no, images).chances == {"": 0.0}  # it is taken at its word


def test_an_edit_succeeded_by_more_than_control_prompts_under_the_same_options_reach(tmp_path: Path) -> None:
    """A hard push reddens whatever it is asked for, so that it has to redden more to show something."""
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor"}
    study = load_study(write_study(tmp_path, 4, editors={"knob": knob}, effects={"control_prompts": ["red flornip"]}))
    study = study.edited_with(["10", "20", "30", "100"])
    work = StudyContext(study).changed(judge=ColourJudge(at_once=1000))
    images = list(sample_images(work).keys)
    features = [
        Feature(id=f"{prompt} {at}", name=prompt, prompt=prompt, setting=at)
        for prompt in ("red sparkles", "red patch")
        for at in ("30", "100")
    ]
    own = [concepts_of([feature]) for feature in features]
    make_edits(work, edit_requests(images, [(), *control_edits(study), *own], work.seeds))
    sight = judging.sight_of(work, images)
    assert sight.chances == pytest.approx({"10": 1.0, "20": 2.0, "30": 3.0, "100": 7.5})
    assert [sight.chance(concepts[0]) for concepts in own] == pytest.approx([3.0, 7.5, 3.0, 7.5])
    assert sight.chance(Concept("red patch", setting="70")) == pytest.approx(7.5)  # nothing is known of it
    failed = judging.failed_edits(work, features, images)
    assert failed == {"red sparkles 30": 0.0, "red sparkles 100": 0.0}  # they do what control prompts do


@pytest.mark.slow
def test_a_feature_that_its_edits_do_not_show_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge calls the blue patch unseen: a feature with a strong effect is then marked, with its share."""
    from diffex_dagster.assets.running import explain_study
    from diffex_dagster.cli.showing import latest_ranking

    class Blind(ColourJudge):
        def evidence(self, pictures, pairs):
            for batch in super().evidence(pictures, pairs):
                yield [(pair, -value if "blue" in pair[1] else value) for pair, value in batch]

    judge = Blind()
    monkeypatch.setattr(PaintEditor, "judge", lambda self, draws: judge, raising=False)
    study = load_study(write_study(tmp_path))
    explain_study(study, ["v1"], lambda *event: None)
    rows = {row.feature: row for row in latest_ranking(study, "v1")}
    assert (rows["red"].decision, rows["red"].edit_success) == ("raises", 1.0)
    assert (rows["blue/plain-blue"].decision, rows["blue/plain-blue"].edit_success) == ("edit failed", 0.0)
    assert rows["blue/plain-blue"].effect < -0.2  # the estimate is shown all the same
    asked = len(judge.asked)
    explain_study(study, ["v1"], lambda *event: None)
    assert len(judge.asked) == asked == len(set(judge.asked))


@pytest.mark.slow
def test_an_effect_that_an_edit_borrows_is_marked_wherever_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of a red patch comes with every lighter picture; the classifier does not react to light."""
    from diffex_dagster.assets.running import explain_study
    from diffex_dagster.cli.results import TableFormat, show
    from diffex_dagster.cli.showing import latest_ranking

    class Seeing(ColourJudge):
        def evidence(self, pictures, pairs):
            for [((key, prompt), value)] in super().evidence(pictures, pairs):
                light = np.asarray(pictures[key], dtype=float)[0, :, 1].max()  # a patch leaves the other half as it is
                yield [((key, prompt), light if prompt == "bright" else value)]

    monkeypatch.setattr(PaintEditor, "judge", lambda self, draws: Seeing(), raising=False)
    paint = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"entangled": 80}}
    effects = {"control_prompts": ["flornip"], "margin": 0.05}
    study = load_study(write_study(tmp_path, 12, editors={"paint": paint}, effects=effects))
    explain_study(study, ["v1"], lambda *event: None)
    rows = {row.feature: row for row in latest_ranking(study, "v1")}
    light, other = rows["light"], rows["light"].confounded_with
    assert light.decision == "raises" and light.effect == pytest.approx(0.22, abs=0.02)
    assert other is not None and (other.feature, other.name) == ("red/dark-red", "Dark red")
    assert other.leak == pytest.approx(0.8) and abs(other.direct) < 0.05  # the larger leak, of two that would do
    assert rows["red"].confounded_with is None

    folder = reports_folder(study, "v1")
    data = json.loads((folder / "report.json").read_text("utf-8"))
    jsonschema.validate(data, load_schema("report-1"))
    marked = [(each["edited"], each["looked_for"]) for each in data["side_effects"] if each["confounded"]]
    assert marked == [("light", "red/dark-red"), ("light", "red")]
    written = {row["feature"]: row["confounded_with"] for row in data["features"]}
    assert written["light"] == vars(other) and written["red"] is None
    assert (folder / "index.html").read_text("utf-8").count("confounded with Dark red") >= 2
    kept = build_store(study).query("SELECT edited, looked_for, leak FROM side_effects WHERE confounded ORDER BY leak")
    assert kept.values.tolist() == [
        ["light", "red", pytest.approx(0.5)],
        ["light", "red/dark-red", pytest.approx(0.8)],
    ]
    for output in TableFormat:
        show(study, "v1", output)
        shown = " ".join(capsys.readouterr().out.split())
        assert ("confounded with Dark red" if output is TableFormat.table else "confounded_with") in shown


def test_a_study_chooses_its_judge(tmp_path: Path) -> None:
    from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
    from diffex_dagster.judging.clip import ClipJudge
    from diffex_dagster.judging.diffusion import DiffusionJudge

    diffusion = LeditsEditor(LeditsOptions(checkpoint=str(tmp_path)))
    toy = load_study(write_study(tmp_path))
    assert build_judge(toy, build_editor(toy)) is None  # the default judges the diffusion editor's edits only
    assert isinstance(build_judge(toy, diffusion), DiffusionJudge)
    none = load_study(write_study(tmp_path, judge={"kind": "none"}))
    assert build_judge(none, diffusion) is None
    clip = load_study(write_study(tmp_path, judge={"kind": "clip", "checkpoint": "models/clip"}))
    assert isinstance(build_judge(clip, build_editor(clip)), ClipJudge)


class Wrapped:
    """An editor that notes what is asked of another one, and passes everything on."""

    def __init__(self, editor: object) -> None:
        self.editor, self.asked = editor, []

    def __getattr__(self, name: str) -> object:
        self.asked.append(name)
        return getattr(self.editor, name)


def test_an_editor_is_asked_for_its_judge_whatever_it_is(tmp_path: Path) -> None:
    from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
    from diffex_dagster.judging.diffusion import DiffusionJudge

    toy = load_study(write_study(tmp_path, judge={"kind": "diffusion", "draws": 3}))
    wrapped = Wrapped(LeditsEditor(LeditsOptions(checkpoint=str(tmp_path))))
    judge = build_judge(toy, wrapped)
    assert isinstance(judge, DiffusionJudge) and judge.draws == 3 and wrapped.asked == ["judge"]

    class Judging:
        def judge(self, draws: int) -> ColourJudge:
            return ColourJudge()

    assert isinstance(build_judge(toy, Judging()), ColourJudge)


@pytest.mark.slow
def test_where_nobody_judges_edits_the_report_says_so_at_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffex_dagster.assets.running import explain_study

    def page(**changes: object) -> tuple[str, list[str]]:
        study = load_study(write_study(tmp_path, **changes))
        explain_study(study, ["v1"], lambda *event: None)
        folder = reports_folder(study, "v1")
        html = (folder / "index.html").read_text("utf-8")
        return html[: html.index('id="ranking"')], json.loads((folder / "report.json").read_text("utf-8"))["caveats"]

    top, caveats = page()
    assert "Nobody judged whether these edits show what they were asked for: the editor paint has no judge" in top
    assert caveats[0].startswith("Nobody judged")
    top, caveats = page(judge={"kind": "none"})
    assert "Nobody judged" in top and "judge: {kind: none}" in caveats[0]
    monkeypatch.setattr("tests.support.toys.PaintEditor.judge", lambda self, draws: ColourJudge(), raising=False)
    top, caveats = page()
    assert "Nobody judged" not in top + " ".join(caveats)


def test_draws_are_checked(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"judge\.draws"):
        load_study(write_study(tmp_path, judge={"kind": "diffusion", "draws": 0}))
