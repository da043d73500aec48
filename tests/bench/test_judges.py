"""The errors of judges: what is counted, and of whom."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffex_dagster.bench import judges
from diffex_dagster.bench.judges import JudgeErrors, Rate, as_markdown, auc
from diffex_dagster.stages.judging import Sight
from diffex_dagster.study import load_study
from diffex_dagster.study.sections import ResultsPart
from diffex_dagster.worlds.exact import ExactJudge

AVATARS = Path(__file__).parents[2] / "studies" / "avatars"


def test_a_rate_has_its_interval_and_nothing_asked_has_none() -> None:
    assert Rate(0, 10).as_json() == {"share": 0.0, "low": 0.0, "high": pytest.approx(0.3085, abs=1e-4), "asked": 10}
    assert Rate(0, 0).as_json() == {"share": None, "low": None, "high": None, "asked": 0}


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)
    assert math.isnan(auc(np.array([]), np.array([1.0])))


def test_a_judge_without_a_level_gets_one_from_the_edits_that_it_says_show_an_attribute() -> None:
    evidence = np.array([[0.0, 3.0]] * 3 + [[0.0, 9.0]])
    shown, none = np.array([True, True, True, False]), Sight({}, None)
    assert judges._levels(none, ["a", "b"], ["a"] * 4, evidence, shown) == {"a": pytest.approx(2.0)}
    assert judges._levels(none, ["a"], ["a"] * 4, evidence, ~shown) == {}  # one edit says too little
    assert judges._levels(Sight({}, 0.5), ["a", "b"], ["a"] * 4, evidence, shown) == {"a": 0.5, "b": 0.5}


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


def test_the_table_has_a_row_for_each_judge() -> None:
    one = JudgeErrors("a judge", Rate(3, 4), Rate(1, 10), Rate(9, 10), Rate(0, 0), {"eyes": 0.625}, None)
    _, _, first, second = as_markdown([one, replace(one, judge="another", auc={})]).splitlines()
    assert first == ("| a judge | 75% [19%, 99%] of 4 | 10% [0%, 45%] of 10 | 90% [55%, 100%] of 10 | – | eyes 0.62 |")
    assert second.startswith("| another |") and second.endswith("| – |")
