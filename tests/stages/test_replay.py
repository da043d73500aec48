"""Reading is not editing: a report and a comparison replay the searches that have been run, or say which is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffex_dagster.editing.protocol import Editor, EditRequest
from diffex_dagster.errors import StoreError
from diffex_dagster.stages.comparison import compare_classifiers
from diffex_dagster.stages.corpus import merge_edits, propose
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.report import explain
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.scores import paired_scores
from diffex_dagster.stages.search import level1_scores, replay_search, run_search
from diffex_dagster.stages.setup import build_classifier, build_editor, build_proposer, build_store
from diffex_dagster.store import Store
from diffex_dagster.study import Study, load_study
from tests.support.toys import edits_made, write_study

SPLIT = {"nonsense": ["flornip"], "confirmation": 0.5, "confirmation_from": 12}
RACING = {"allocation": "racing", "racing_start": 4}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "split": {"effects": SPLIT},
    "several seeds": {"effects": {"nonsense": ["flornip"], "seeds": 2}},
    "racing": {"search": RACING},
    "racing and split": {"search": RACING, "effects": SPLIT},
}


def at_work(folder: Path, **changes: Any) -> tuple[Study, Store, Editor]:
    study = load_study(write_study(folder, 14, **changes))
    store, editor = build_store(study), build_editor(study)
    sample_images(study, store)
    propose(study, store, build_proposer(study, store))
    merge_edits(study, store, {})
    level1_edits(study, store, editor)
    return study, store, editor


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)
def test_what_reads_makes_no_edit_and_finds_what_the_search_found(tmp_path: Path, changes: dict[str, Any]) -> None:
    study, store, editor = at_work(tmp_path, **changes)
    classifiers = {name: build_classifier(study, name) for name in study.classifiers}
    found = {name: run_search(study, store, editor, each) for name, each in classifiers.items()}
    made = edits_made(study.folder)
    for name, classifier in classifiers.items():
        again = replay_search(study, store, editor, classifier)
        assert (again.edits.made, again.scored) == (0, 0)
        assert {f: d.tolist() for f, d in again.result.scores.items()} == {
            f: d.tolist() for f, d in found[name].result.scores.items()
        }
        explanation, _ = explain(study, store, editor, classifier, name, "diffex run toy")
        assert {row.feature for row in explanation.features} == set(again.result.scores)
    compare_classifiers(study, store, editor, classifiers, "diffex compare toy")
    assert edits_made(study.folder) == made


def test_a_report_without_its_search_says_what_to_materialize(tmp_path: Path) -> None:
    study, store, editor = at_work(tmp_path, search={"probes": 1})  # so that children are left for level 2
    v1, v2 = (build_classifier(study, name) for name in ("v1", "v2"))
    level1_scores(study, store, editor.fingerprint, v1)
    made = edits_made(study.folder)
    with pytest.raises(StoreError, match="v1/level2_scores is missing or stale: materialize it first"):
        explain(study, store, editor, v1, "v1", "diffex run toy")
    run_search(study, store, editor, v1)
    with pytest.raises(StoreError, match="v2/level2_scores is missing or stale: materialize it first"):
        compare_classifiers(study, store, editor, {"v1": v1, "v2": v2}, "diffex compare toy")
    assert len(edits_made(study.folder)) > len(made)


class Other:
    """The same editor after a change of its weights."""

    fingerprint = "paint-2"

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        raise AssertionError("it edits")


def test_edits_of_an_editor_that_changed_are_missing_and_no_key_error(tmp_path: Path) -> None:
    study, store, editor = at_work(tmp_path)
    v1 = build_classifier(study, "v1")
    run_search(study, store, editor, v1)
    with pytest.raises(StoreError, match="before the editor changed: level1_edits is missing or stale, materialize it"):
        level1_scores(study, store, Other.fingerprint, v1)
    with pytest.raises(StoreError, match="level1_edits is missing or stale"):
        paired_scores(study, store, v1, Other.fingerprint, [()], list(store.samples(study.name)))
    with pytest.raises(StoreError, match="v1/level2_scores is missing or stale: materialize it first"):
        explain(study, store, Other(), v1, "v1", "diffex run toy")
