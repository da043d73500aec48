"""Several people on one results folder with one study's name: each has a space, and edits are everybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffex_dagster.assets.running import explain_study
from diffex_dagster.cli.showing import latest_ranking
from diffex_dagster.errors import StoreError, StudyError
from diffex_dagster.stages.setup import build_store, reports_folder
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from tests.support.toys import edits_made, write_study


def test_each_space_has_its_own_samples_corpus_and_reports_and_shares_edits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explained(space: str, images: int) -> Study:
        monkeypatch.setenv("DIFFEX_SPACE", space)
        study = load_study(write_study(tmp_path / space, image_count=images))
        explain_study(study, ["v1"], silent)
        return study

    monkeypatch.setenv("DIFFEX_RESULTS", str(tmp_path / "results"))
    alice = explained("alice", 8)
    mine = build_store(alice).samples(alice.kept_as), latest_ranking(alice, "v1")
    bob = explained("bob", 6)
    store = build_store(bob)
    assert (len(store.samples(alice.kept_as)), len(store.samples(bob.kept_as))) == (8, 6)
    assert (store.samples(alice.kept_as), latest_ranking(alice, "v1")) == mine
    assert {row.images for row in latest_ranking(bob, "v1") if row.feature == "red"} == {6}
    assert edits_made(alice.folder) and not edits_made(bob.folder)  # bob's images are some of alice's
    pages = [reports_folder(study, "v1") / "index.html" for study in (alice, bob)]
    assert pages[0] != pages[1] and all(page.is_file() for page in pages)


def test_rows_from_before_spaces_are_those_of_a_study_without_one(toy: Study) -> None:
    store = build_store(toy)
    store.put_samples("toy", {"key": "name"})
    assert store.samples(toy.kept_as) == {"key": "name"}
    other = toy.deployed(results={"space": "bob"})
    with pytest.raises(StoreError, match="'bob/toy' has no sample images yet"):
        store.samples(other.kept_as)


@pytest.mark.parametrize("space", ["a/b", "..", "", "x" * 65, "two words"])
def test_a_space_is_a_short_name(toy: Study, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFEX_SPACE", space)
    if not space:  # an empty variable says nothing
        assert load_study(toy.file).kept_as == "toy"
        return
    with pytest.raises(StudyError, match="DIFFEX_SPACE: write a short name"):
        load_study(toy.file)
