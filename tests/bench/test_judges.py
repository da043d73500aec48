"""The errors of judges: what is counted, and of whom."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffex_dagster.bench import judges
from diffex_dagster.bench.checkout import commit
from diffex_dagster.bench.judges import JudgeErrors, Rate, _percent, as_markdown, auc
from diffex_dagster.bench.truth import attributes
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.judging import Sight
from diffex_dagster.study import Study, load_study
from diffex_dagster.study.sections import ResultsPart
from diffex_dagster.worlds.avatars import WORLD
from diffex_dagster.worlds.exact import ExactJudge
from tests.support.chat_server import Reply, serving
from tests.support.checkpoints import save_random_clip
from tests.support.project import Run

AVATARS = Path(__file__).parents[2] / "studies" / "avatars"


def test_a_rate_has_its_interval_and_nothing_asked_has_none() -> None:
    none = {"share": None, "low": None, "high": None, "asked": 0, "pictures": 0}
    assert Rate((0, 0), (0, 0)).as_json() == Rate((), ()).as_json() == none
    once = Rate((0,) * 10, (1,) * 10).as_json()  # a question a picture: Clopper and Pearson's
    assert once == {"share": 0.0, "low": 0.0, "high": pytest.approx(0.3085, abs=1e-4), "asked": 10, "pictures": 10}


def test_many_questions_about_few_pictures_say_less_than_as_many_about_many() -> None:
    """Forty questions, half of them yes: of two pictures that answer all alike, or of forty."""
    alike, apart = Rate((10, 0, 10, 0), (10,) * 4), Rate((1, 0) * 20, (1,) * 40)
    assert (alike.share, alike.asked) == (apart.share, apart.asked) == (0.5, 40)
    (low, high), (least, most) = alike.interval(), apart.interval()
    assert low < 0.1 < least and most < 0.9 < high
    assert _percent(alike) == f"50% [{low:.0%}, {high:.0%}] of 40"


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)
    assert math.isnan(auc(np.array([]), np.array([1.0])))


def test_a_judge_without_a_level_gets_one_from_the_edits_that_it_says_show_an_attribute() -> None:
    evidence = np.array([[0.0, 3.0]] * 3 + [[0.0, 9.0]])
    shown, none = np.array([True, True, True, False]), Sight({}, None)
    assert judges._levels(none, ["a", "b"], ["a"] * 4, evidence, shown) == {"a": pytest.approx(2.25)}
    assert judges._levels(none, ["a"], ["a"] * 4, evidence, ~shown) == {}  # one edit says too little
    own = judges._levels(Sight({}, 0.5), ["a", "b"], ["a"] * 4, evidence, shown)
    assert own == {"a": pytest.approx(2.25), "b": 0.5}  # without edits, what words that mean nothing reach
    assert judges._levels(Sight({}, 0.5, binary=True), ["a"], ["a"] * 4, evidence, shown) == {"a": 0.5}


def test_judges_of_a_study_are_held_against_what_its_drawings_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that knows what was drawn errs nowhere; one that takes every hat for glasses as often as there are hats."""

    def mistaken(self: ExactJudge, request: object, prompt: str) -> float:
        state = self.editor.edited(request)
        return float(self.editor.world.has_feature(state, prompt) or ("glasses" in prompt and state["top"] == "hat"))

    study = load_study(AVATARS).with_editor("exact")
    study = study.changed(results=ResultsPart(folder=tmp_path))
    (knows,) = judges.judge_errors(study, drawings=6, changes=2)
    assert (knows.seen.share, knows.imagined.share, knows.shown.share, knows.mistaken.share) == (1.0, 0.0, 1.0, 0.0)
    assert knows.imagined.asked > knows.seen.asked >= 6 * 5 and knows.shown.asked == knows.mistaken.asked == 12
    assert set(knows.auc.values()) == {1.0} and knows.control_words == 0.0

    monkeypatch.setattr(ExactJudge, "evidence_of", mistaken)
    monkeypatch.setattr(ExactJudge, "fingerprint", "takes hats for glasses")
    monkeypatch.setattr(judges, "SEED", 702)  # other drawings, some of which wear a hat
    (errs,) = judges.judge_errors(study, drawings=30, changes=1)
    assert errs.seen.share == 1.0 and 0.0 < errs.imagined.share < 0.1 and errs.auc["eyewear"] < 1.0


def test_the_command_holds_clip_and_a_vision_language_model_against_drawings(
    small: Study, diffex: Run, tmp_path: Path
) -> None:
    """Both are asked what a study asks them: the model sees every background and nothing else; CLIP is a random one."""

    def sees(request: dict[str, Any], number: int) -> Reply:
        asked = re.findall(r'^(\d+)\. "(.*)"$', request["messages"][-1]["content"][0]["text"], re.MULTILINE)
        return Reply(json.dumps({i: "yes" if "background" in phrase else "no" for i, phrase in asked}))

    file = tmp_path / "judges.json"
    with serving(sees) as server:
        clip = f"{{kind: clip, checkpoint: {save_random_clip(tmp_path / 'clip')}, device: cpu}}"
        model = f"{{kind: vlm, model: a-vlm, base_url: '{server.url}'}}"
        size = ("--drawings", 4, "--changes", 1, "--json", file)
        status, out, err = diffex("bench", "judges", small.folder, "--judge", clip, "--judge", model, *size)
    assert status == 0, err
    written = json.loads(file.read_text("utf-8"))
    assert (written["drawings"], written["changes"], written["commit"]) == (4, 1, commit())
    by_clip, by_model = written["judges"]
    assert by_clip["shown"]["asked"] == by_model["shown"]["asked"] == 4 and 0.0 <= by_clip["mistaken"]["share"] <= 1.0
    backgrounds = sum("background" in phrase for phrase in attributes(WORLD))
    told = sum(by_model[kind]["share"] * by_model[kind]["asked"] for kind in ("imagined", "seen"))
    assert told == pytest.approx(4 * backgrounds)  # in every drawing, there or not
    assert by_model["control_words"] == 0.0 and by_model["auc"]["background"] == 0.5
    assert by_model["judge"] == "the vision-language model a-vlm"
    assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == [
        f"| {each['judge']}" for each in (by_clip, by_model)
    ]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["{kind: clip}"], "checkpoint.*write it as in a study file"),
        (["{kind: oracle}"], "write it as in a study file"),
        (["{kind: ["], "no YAML"),
        (["{kind: none}"] * 3, "two at a time"),
    ],
)
def test_what_is_no_judge_is_one_sentence(given: list[str], fault: str) -> None:
    with pytest.raises(DiffExError, match=fault):
        judges.judged_by(load_study(AVATARS), given)


def test_the_table_has_a_row_for_each_judge() -> None:
    def of(yes: int, asked: int) -> Rate:
        return Rate((1,) * yes + (0,) * (asked - yes), (1,) * asked)

    one = JudgeErrors("a judge", of(3, 4), of(1, 10), of(9, 10), of(0, 0), {"eyes": 0.625}, None)
    _, _, first, second = as_markdown([one, replace(one, judge="another", auc={})]).splitlines()
    assert first == ("| a judge | 75% [13%, 100%] of 4 | 10% [0%, 47%] of 10 | 90% [53%, 100%] of 10 | – | eyes 0.62 |")
    assert second.startswith("| another |") and second.endswith("| – |")
