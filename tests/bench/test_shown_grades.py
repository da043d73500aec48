"""How `diffex run` grades a ranked list against the known truth of its world: what is not reported counts too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats

from diffex_dagster.cli.showing import _grade_line, graded
from diffex_dagster.results import RankedFeature
from diffex_dagster.stages.known_truth import true_effects
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.study import Study
from diffex_dagster.study.sections import SearchPart
from tests.support.toys import prepared

LEFT_OUT = "eyewear/round-glasses"


@pytest.fixture
def beamed(small: Study) -> Study:
    """The small study whose beam leaves out one of its five features, and which knows the truth."""
    search = SearchPart(beam=1, probes=1, joint_size=1)
    return small.changed(search=search, truth="diffex_dagster.worlds.redrawing:study_truth")


def everywhere(row: RankedFeature) -> float:
    return row.effect if row.effect_all is None else row.effect_all


def test_a_feature_that_is_not_reported_counts_as_one_without_an_effect(beamed: Study) -> None:
    subject = prepared(beamed).subject("colours")
    run_search(subject)
    ranking = classifier_report(subject, "diffex run small")[0].features
    assert LEFT_OUT not in {row.feature for row in ranking} and len(ranking) == 4
    found = graded(beamed, "colours", ranking)
    assert (found.reported.features, found.whole.features, found.exact) == (4, 5, True)

    every = [feature for feature in subject.corpus.walk() if feature.editable]
    true = true_effects(subject, [(feature.prompt, feature.direction) for feature in every])
    said = {row.feature: everywhere(row) for row in ranking}
    pairs = [(said.get(feature.id, 0.0), true[feature.prompt, feature.direction]) for feature in every]
    assert found.whole.spearman == pytest.approx(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    assert found.reported.spearman == pytest.approx(1.0) and found.whole.spearman < 1.0
    line = _grade_line(found)
    assert f"ρ {found.whole.spearman:.2f} over all 5 features (0 where none is reported)" in line
    assert "over 4 reported ones" in line and line.endswith("(exact edits: a plumbing check)")
    assert "plumbing" not in _grade_line(replace(found, exact=False))
