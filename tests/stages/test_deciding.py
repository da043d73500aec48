"""What the decisions of a study are made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffex_dagster.editing.protocol import Concept
from diffex_dagster.effects.paired import Reach
from diffex_dagster.results import Control
from diffex_dagster.search.levels import GateOutcome
from diffex_dagster.stages.deciding import (
    control_differences,
    control_rows,
    control_warnings,
    decision_options,
    measure_reach,
    noise_warning,
)
from diffex_dagster.stages.edits import control_edits
from diffex_dagster.stages.scores import Paired
from diffex_dagster.study import Study, load_study
from tests.support.toys import write_study

REACH = Reach(1.0, -0.4, 0.6, 0.02)
FLORN, DORV = (Concept("florn"),), (Concept("dorv"),)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_study(write_study(tmp_path, effects={"control_prompts": ["florn", "dorv"]}))


def paired(florn: np.ndarray, dorv: np.ndarray, null: np.ndarray) -> dict[tuple, Paired]:
    flat = np.zeros(len(null))
    return {
        (): Paired(null, null, flat, (florn + dorv) / 2),
        FLORN: Paired(null, florn, flat, dorv),
        DORV: Paired(null, dorv, flat, florn),
    }


def test_the_reach_of_a_probability_is_what_is_left_of_it(study: Study) -> None:
    null = np.full(8, 0.25)
    reach = measure_reach(study, paired(null, null, null))
    assert (reach.furthest, reach.low, reach.high, reach.still) == (1.0, -0.25, 0.75, 0.02)


def test_the_margin_of_a_measure_without_limits_follows_its_spread(study: Study) -> None:
    logits = study.model_copy(update={"target": study.target.model_copy(update={"measure": "logit"})})
    null = np.linspace(-30.0, 20.0, 8)
    reach = measure_reach(logits, paired(null, null, null))
    assert reach.furthest == 50.0 and reach.still == pytest.approx(1.0)  # 0.02 of a logit would mean nothing
    assert decision_options(logits, reach).margin == pytest.approx(1.0)
    own = logits.model_copy(update={"effects": logits.effects.model_copy(update={"margin": 0.3})})
    assert measure_reach(own, paired(null, null, null)).still == 0.3


def test_control_prompts_are_rows_and_one_that_moves_the_score_is_a_warning(study: Study) -> None:
    rng = np.random.default_rng(0)
    null = rng.uniform(0.2, 0.6, 24)
    quiet = control_rows(study, paired(null + rng.normal(0, 0.01, 24), null + rng.normal(0, 0.01, 24), null), REACH)
    assert [row.prompt for row in quiet] == ["florn", "dorv"] and control_warnings(quiet) == ()
    loud = control_rows(study, paired(null + 0.3 + rng.normal(0, 0.02, 24), null, null), REACH)
    assert loud[0].decision == "raises" and loud[0].against_null == pytest.approx(0.3, abs=0.02)
    assert (
        "“florn” raises the score" in control_warnings(loud)[0]
        and "effects.control_prompts" in control_warnings(loud)[0]
    )


def test_a_noise_floor_that_holds_back_everything_is_said_with_its_remedy(study: Study) -> None:
    below = [GateOutcome("beard", True, "", 0.2, 0.29), GateOutcome("hat", True, "", None)]
    said = noise_warning(study, below, margin=0.02)
    assert "0.290" in said and "effects.control_prompts" in said and "“florn”, “dorv”" in said
    assert noise_warning(study, [*below, GateOutcome("eyewear", True, "", 0.3, 0.29)], margin=0.02) == ""
    assert noise_warning(study, [GateOutcome("beard", True, "", 0.005, 0.01)], margin=0.02) == ""  # nothing moves it
    assert noise_warning(study, [], margin=0.02) == ""
    # Each against the floor of the images that lack it: fewer images, a higher floor.
    few = GateOutcome("eyewear", False, "", 0.35, 0.4)
    assert "0.290" in noise_warning(study, [*below, few], margin=0.02)


def test_a_report_says_on_top_that_a_control_prompt_moves_the_score(study: Study) -> None:
    from dataclasses import replace

    from diffex_dagster.report.page import render_report
    from diffex_dagster.report.schema import report_as_json, report_from_json
    from tests.support.material import explanation

    rows = (Control("florn", 0.3, 0.2, 0.4, 0.31, 0.2, 0.4, 0.1, 24, "raises", 0.01),)
    told = replace(explanation(3), controls=rows, warnings=control_warnings(rows))
    page = render_report(told)
    assert page.index("First mend this.") < page.index('id="verdict"')
    assert "“florn”" in page
    back = report_from_json(report_as_json(told))
    assert back.controls == rows and back.warnings == told.warnings


def test_the_controls_of_a_decision_are_those_edited_like_the_feature(study: Study) -> None:
    """The same that its effect is held against."""
    hard = study.edited_with(["", '{"scale": 9.0}'])
    flat, drift = np.zeros(8), np.full(8, 0.1)
    of = {concepts: Paired(flat, drift if concepts[0].setting else flat, flat) for concepts in control_edits(hard)}
    feature = (Concept("a beard", setting='{"scale": 9.0}'),)
    assert control_differences(hard, of, feature).tolist() == [[0.1, 0.1]] * 8
    assert control_differences(hard, of, (Concept("a beard"),)).tolist() == [[0.0, 0.0]] * 8
