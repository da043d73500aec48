"""What a report leaves in the store, which one is the latest, and what may be removed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from diffex_dagster.cli import store as store_cli
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.errors import StoreError
from diffex_dagster.results import Confounder, RankedFeature
from diffex_dagster.store import Store
from diffex_dagster.study import Study, load_study
from tests.support.postgres import in_postgres
from tests.support.toys import picture, write_study

HAT = RankedFeature(
    rank=1, feature="hat", name="Hat", group="Hat", level=1, direction="add", prompt="a hat", effect=0.3, ci_low=0.2,
    ci_high=0.4, flip_rate=0.5, images=9, decision="raises", magnitude=0.3, sign_agreement=1.0,
)  # fmt: skip
BEARD = replace(HAT, rank=2, feature="beard", confounded_with=Confounder("hat", "Hat", 0.5, 0.01, -0.02, 0.04))
LEAK = SideEffect("beard", "hat", 0.5, True, 0.01, -0.02, 0.04, True)
ROWS = [{"feature": "hat", "image": "i", "score_null": 0.1, "score_edit": 0.4, "effect": 0.3, "flipped": False}]


@pytest.fixture(params=["duckdb", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    folder = tmp_path / "results"
    if request.param == "duckdb":
        return Store(folder, lock_timeout=1.0)
    return Store(folder, database=in_postgres(request.getfixturevalue("postgres"))(folder / "diffex.duckdb"))


def put(
    store: Store, run: str, ranked: list[RankedFeature], name: str = "v1", corpus: str = "c", model: str = "f"
) -> None:
    identity = {"study": "s", "classifier_name": name, "classifier": model, "editor": "e", "corpus_version": corpus}
    store.put_report({**identity, "run": run}, ranked, [LEAK], ROWS)


def test_the_latest_report_comes_back_with_its_companions(store: Store) -> None:
    assert store.latest_ranking("s", "v1", "e") == []
    put(store, "1", [HAT, BEARD])
    assert store.latest_ranking("s", "v1", "e") == [HAT, BEARD]
    assert store.latest_ranking("s", "v2", "e") == store.latest_ranking("s", "v1", "other") == []


def test_an_unchanged_report_is_not_stored_again(store: Store) -> None:
    for run in ("1", "2", "3"):
        put(store, run, [HAT, BEARD])
    assert store.rows("SELECT DISTINCT run FROM effects") == store.rows("SELECT DISTINCT run FROM rankings") == [("1",)]
    assert store.rows("SELECT run, rows_of FROM reports ORDER BY written") == [("1", "1"), ("2", "1"), ("3", "1")]


def test_latest_is_the_one_written_last_whatever_the_clock_says(store: Store) -> None:
    put(store, "1", [HAT])
    put(store, "2", [replace(HAT, effect=0.1)])
    store.database.write(
        lambda connection: connection.execute("UPDATE rankings SET created = '2001-01-01' WHERE run = '2'")
    )
    assert [row.effect for row in store.latest_ranking("s", "v1", "e")] == [0.1]
    put(store, "3", [HAT], corpus="another")
    put(store, "4", [replace(HAT, effect=0.1)])  # as before the other corpus: its rows of then are the latest again
    assert [row.effect for row in store.latest_ranking("s", "v1", "e")] == [0.1]


def test_two_names_of_one_classifier_both_have_their_report(store: Store) -> None:
    put(store, "1", [HAT], "v1")
    put(store, "1", [HAT], "the same model")
    assert store.latest_ranking("s", "v1", "e") == store.latest_ranking("s", "the same model", "e") == [HAT]


def test_a_report_from_before_they_were_counted_is_found_and_kept(store: Store) -> None:
    identity = {"study": "s", "classifier_name": "v1", "classifier": "f", "editor": "e", "corpus_version": "c"}
    for run, effect in (("old", 0.2), ("older", 0.5)):
        store.put_ranking({**identity, "run": run}, [replace(HAT, effect=effect)])
    store.database.write(
        lambda connection: connection.execute("UPDATE rankings SET created = '2001-01-01' WHERE run = 'older'")
    )
    assert [row.effect for row in store.latest_ranking("s", "v1", "e")] == [0.2]
    assert store.superfluous().runs == ("older",)


def test_prune_keeps_what_is_shown_and_every_edit(store: Store) -> None:
    put(store, "1", [HAT])
    put(store, "2", [replace(HAT, effect=0.1)])
    put(store, "2", [HAT], "v2", model="g")
    store.put_edits([(EditRequest("i", (Concept("hat"),)), picture(1))], "an editor that is not used any more")
    keys = store.put_images({"a.png": picture(2)})
    loose = store.pictures.put(picture(3))
    left = store.folder / "pictures" / "ab" / ".cd.png.tmp"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half a pict")
    found = store.superfluous()
    assert found.runs == ("1",) and found.rows == 1 and set(found.files) == {loose, "pictures/ab/.cd.png.tmp"}
    assert found.bytes > 11
    store.prune()
    assert store.superfluous().runs == store.superfluous().files == ()
    assert not (store.folder / loose).exists() and store.latest_ranking("s", "v1", "e") == [replace(HAT, effect=0.1)]
    assert store.latest_ranking("s", "v2", "e") == [HAT] and len(store.images(list(keys.values()))) == 1
    assert len(store.rows("SELECT * FROM edits")) == 1 and store.bad_pictures() == ([], [])


def test_prune_leaves_the_reports_of_other_spaces_and_the_pictures_of_all(store: Store) -> None:
    spaces = ("", "alice", "bob")
    for space in spaces:
        for run, effect in (("1", 0.3), ("2", 0.1)):
            study = f"{space}/s" if space else "s"
            identity = {"study": study, "classifier_name": "v1", "classifier": "f", "editor": "e"}
            put_of = {**identity, "corpus_version": "c", "run": f"{run}{space}"}
            store.put_report(put_of, [replace(HAT, effect=effect)], [LEAK], ROWS)
    store.put_edits([(EditRequest("i", (Concept("hat"),)), picture(1))], "an editor of bob's")
    assert [store.superfluous(space).runs for space in spaces] == [("1",), ("1alice",), ("1bob",)]
    store.prune("alice")
    assert [store.superfluous(space).runs for space in spaces] == [("1",), (), ("1bob",)]
    for table in ("effects", "side_effects", "rankings", "reports"):
        left = {run for (run,) in store.rows(f"SELECT run FROM {table}")}
        assert left == {"1", "2", "2alice", "1bob", "2bob"}, table
    assert store.latest_ranking("alice/s", "v1", "e") == [replace(HAT, effect=0.1)]
    assert store.bad_pictures() == ([], []) and store.count("edits") == 1


def test_prune_leaves_pictures_alone_that_another_database_may_name(tmp_path: Path) -> None:
    one, other = (Store(tmp_path / name, pictures=tmp_path / "shared") for name in ("one", "other"))
    keys = other.put_images({"a.png": picture(2)})
    put(one, "1", [HAT])
    assert one.superfluous().files == ()
    one.prune()
    assert len(other.images(list(keys.values()))) == 1 and one.bad_pictures() == ([], [])


def test_a_study_of_the_same_name_cannot_mix_its_rows_with_these(store: Store, tmp_path: Path) -> None:
    files = [tmp_path / folder / "study.yaml" for folder in ("a", "b", "c")]
    for file in files[:2]:
        file.parent.mkdir()
        file.touch()
    store.claim("s", files[0])
    store.claim("s", files[0])
    store.claim("another", files[1])
    with pytest.raises(StoreError, match=r"holds the results of another study named 's' \(.*/a/study.yaml\)"):
        store.claim("s", files[1])
    files[0].parent.rename(files[2].parent)  # moved: the results go with it
    store.claim("s", files[2])
    with pytest.raises(StoreError, match=r"c/study\.yaml"):
        store.claim("s", files[1])


# On the command line


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_study(write_study(tmp_path / "toy", 2))


def said(of: object, *arguments: object) -> tuple[object, str]:
    out = io.StringIO()
    result = of(*arguments, Console(file=out, width=200))  # type: ignore[operator]
    return result, out.getvalue()


def test_check_names_what_is_lost_and_altered_and_a_run_would_make_it_again(study: Study) -> None:
    with pytest.raises(StoreError, match="no results yet"):
        said(store_cli.check, study)
    store = Store(study.results_folder)
    requests = [EditRequest(str(i)) for i in range(3)]
    store.put_edits([(request, picture(i)) for i, request in enumerate(requests)], "e")
    assert said(store_cli.check, study) == (True, "3 edits and 0 sample images: 0 lost, 0 altered\n")
    files = store.stored_edits(requests, "e")
    (store.folder / files[requests[0]]).unlink()
    altered = store.folder / files[requests[1]]
    content, stamp = bytearray(altered.read_bytes()), altered.stat()
    content[-1] ^= 1
    altered.write_bytes(bytes(content))
    import os

    os.utime(altered, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a bad disk leaves it: only reading finds it
    fine, text = said(store_cli.check, study)
    assert not fine and "1 lost, 1 altered" in text and f"altered: {files[requests[1]]}" in text
    assert "`diffex run toy` makes them again" in text
    assert set(Store(study.results_folder).stored_edits(requests, "e")) == {requests[2]}


def test_prune_shows_first_and_removes_when_told(study: Study) -> None:
    store = Store(study.results_folder)
    loose = store.folder / store.pictures.put(picture(3))
    store.put_images({"a.png": picture(2)})
    put(store, "1", [HAT])
    put(store, "2", [BEARD])
    _, text = said(store_cli.prune, study, False)
    assert "1 earlier reports" in text and "1 files that no row names" in text and "add --yes" in text
    assert loose.exists() and store.superfluous().runs == ("1",)
    _, text = said(store_cli.prune, study, True)
    assert text.endswith("removed\n") and not loose.exists() and store.superfluous().runs == ()
