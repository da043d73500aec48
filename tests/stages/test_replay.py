"""Reading is not editing: a report and a comparison replay the searches that have been run, or say which is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.errors import StoreError
from diffex_dagster.stages.comparison import compare_classifiers
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.scores import paired_scores
from diffex_dagster.stages.search import level1_scores, replay_search, run_search
from diffex_dagster.study import load_study
from tests.support.toys import edits_made, prepared, write_study

SPLIT = {"control_prompts": ["flornip"], "confirmation": 0.5, "confirmation_from": 12}
RACING = {"allocation": "racing", "racing_start": 4}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "split": {"effects": SPLIT},
    "several seeds": {"effects": {"control_prompts": ["flornip"], "seeds": 2}},
    "racing": {"search": RACING},
    "racing and split": {"search": RACING, "effects": SPLIT},
}


def edited(folder: Path, **changes: Any) -> StudyContext:
    work = prepared(load_study(write_study(folder, 14, **changes)))
    level1_edits(work)
    return work


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)
def test_what_reads_makes_no_edit_and_finds_what_the_search_found(tmp_path: Path, changes: dict[str, Any]) -> None:
    work = edited(tmp_path, **changes)
    study, names = work.study, list(work.study.classifiers)
    found = {name: run_search(work.subject(name)) for name in names}
    made = edits_made(study.folder)
    for name in names:
        again = replay_search(work.subject(name))
        assert (again.edits.made, again.scored) == (0, 0)
        assert {f: d.tolist() for f, d in again.result.scores.items()} == {
            f: d.tolist() for f, d in found[name].result.scores.items()
        }
        explanation, _ = classifier_report(work.subject(name), "diffex run toy")
        assert {row.feature for row in explanation.features} == set(again.result.scores)
    compare_classifiers(work, names, "diffex compare toy")
    assert edits_made(study.folder) == made


def test_a_report_without_its_search_says_what_to_materialize(tmp_path: Path) -> None:
    work = edited(tmp_path, search={"probes": 1})  # so that children are left for level 2
    v1, study = work.subject("v1"), work.study
    level1_scores(v1)
    made = edits_made(study.folder)
    with pytest.raises(StoreError, match="v1/level2_scores is missing or stale: materialize it first"):
        classifier_report(v1, "diffex run toy")
    run_search(v1)
    with pytest.raises(StoreError, match="v2/level2_scores is missing or stale: materialize it first"):
        compare_classifiers(work, ["v1", "v2"], "diffex compare toy")
    assert len(edits_made(study.folder)) > len(made)


class Other:
    """The same editor after a change of its weights."""

    fingerprint = "paint-2"

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        raise AssertionError("it edits")


def test_edits_of_an_editor_that_changed_are_missing_and_no_key_error(tmp_path: Path) -> None:
    work = edited(tmp_path)
    run_search(work.subject("v1"))
    changed = work.subject("v1").changed(editor=Other())
    with pytest.raises(StoreError, match="before the editor changed: level1_edits is missing or stale, materialize it"):
        level1_scores(changed)
    with pytest.raises(StoreError, match="level1_edits is missing or stale"):
        paired_scores(changed, [()], list(work.samples))
    with pytest.raises(StoreError, match="v1/level2_scores is missing or stale: materialize it first"):
        classifier_report(changed, "diffex run toy")
