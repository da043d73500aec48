"""`diffex bench stages`: what each run of a study makes again. No time is judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.bench import stages
from diffex_dagster.bench.stages import Run, as_json, as_markdown, measure
from diffex_dagster.errors import DiffExError
from diffex_dagster.study import load_study
from tests.support.toys import edits_made, write_study


def here(arguments: list[str], environment: dict[str, str]) -> Run:
    """In the place of a process: six imports of Dagster would be all that the test does."""
    if arguments[0] == "--empty":
        return Run(seconds=1.0, cpu_seconds=0.5, **stages._empty_here(int(arguments[1])))
    return Run(seconds=2.0, cpu_seconds=1.8, **stages.explain_here(Path(arguments[0]), arguments[1], arguments[2:]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("stages") / "toy"
    study = load_study(write_study(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_run", here)
        patch.delenv("DAGSTER_HOME", raising=False)
        found = measure(study, "Shine", turns=2)
    assert not (folder / "results").exists() and edits_made(folder) == [], "the study itself is left alone"
    assert (folder / "corpus.yaml").read_text() == "# no changes\n"
    return found


@pytest.mark.slow
def test_each_run_makes_only_what_is_new(runs: dict[str, Run]) -> None:
    assert list(runs) == ["empty", "first", "second", "again", "added"]
    assert runs["first"].edits["level1_edits"] > 0
    assert runs["second"].edits["level1_edits"] == 0, "level 1 belongs to no classifier"
    assert runs["again"].edits_made == 0
    assert runs["added"].edits["level1_edits"] == 8  # images


@pytest.mark.slow
def test_figures_are_shown_by_stage(runs: dict[str, Run]) -> None:
    assert {"sample_images", "level1_edits", "v1/level2_scores", "v1/ranked_report"} <= set(runs["first"].stages)
    assert "v2/level2_scores" not in runs["first"].stages and "v2/level2_scores" in runs["second"].stages
    text = as_markdown(runs)
    in_stages = f"{runs['again'].in_stages:.1f}"
    assert f"| nothing changed | 2.0 | 1.0 | 1.3 | {in_stages} | 0 |" in text
    assert "| level1_edits | " in text and "(8) |" in text
    figures: dict[str, Any] = json.loads(json.dumps(as_json(runs)))
    assert figures["again"]["beyond_own_start"] == 1.0 and 0 < figures["again"]["in_stages"] < 60
    assert figures["again"]["edits_made"] == 0 and figures["first"]["peak_mb"] > 0


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DiffExError, match=r"a run failed: .*there is no such study file"):
        stages._run([str(tmp_path / "study.yaml"), "paint", "v1"], {})


def test_the_middle_run_is_reported() -> None:
    assert stages._middle([Run(3.0), Run(1.0), Run(2.0)]) == Run(2.0)
    assert stages._middle([Run(3.0), Run(1.0)]) == Run(1.0)
