"""Pictures in a bucket: an S3 server over HTTP that also fails, whole studies on it, and what is refused."""

from __future__ import annotations

import io
import os
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from diffex_dagster.assets.running import explain_study
from diffex_dagster.cli import store as store_cli
from diffex_dagster.cli.doctor_team import team_findings
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.errors import StoreError, StudyError, may_pass
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.setup import build_store
from diffex_dagster.store import Store
from diffex_dagster.store import store as store_module
from diffex_dagster.store.files import PictureFiles
from diffex_dagster.store.places import Bucket, place_of
from diffex_dagster.study import load_study
from diffex_dagster.utils.progress import silent
from diffex_dagster.workers import machines
from tests.support.buckets import S3
from tests.support.project import Run
from tests.support.toys import edits_made, picture, write_study

PLAIN = EditRequest("i")
HAT = EditRequest("i", (Concept("hat"),))


@pytest.fixture
def address(s3: S3) -> str:
    return f"s3://{s3.bucket()}/faces"


def bucket(address: str) -> Bucket:
    """A bucket as another process sees it."""
    return Bucket(address, timedelta(seconds=0.3))


def filled(folder: Path, address: str) -> Store:
    store = Store(folder, pictures=address)
    masked = picture(2)
    masked.info[MASK] = Image.new("L", (4, 4), 255)
    store.put_edits([(PLAIN, picture(1)), (HAT, masked)], "e")
    return store


def test_a_picture_is_written_once_and_comes_back_as_it_was(tmp_path: Path, s3: S3, address: str) -> None:
    store = filled(tmp_path / "one", address)
    files = Store(tmp_path / "one", pictures=address).stored_edits([PLAIN, HAT], "e")
    again = PictureFiles(address)
    assert np.array_equal(np.asarray(again.get(files[HAT])), np.asarray(picture(2)))
    both = again.get_all([files[HAT], files[PLAIN], files[HAT]])
    assert [each.getpixel((0, 0))[0] for each in both] == [2, 1, 2]
    assert len(store.stored_masks(store.rows("SELECT edit FROM masks")[0])) == 1
    before = s3.count("PUT", 200)
    assert again.put(picture(2)) == files[HAT]
    assert s3.asked[-2][0::2] == ("PUT", 412) and s3.count("PUT", 200) == before  # it was there: only looked at
    assert Store(tmp_path / "one", pictures=address).bad_pictures() == ([], [])


def test_a_server_that_fails_for_a_moment_is_asked_again(tmp_path: Path, s3: S3, address: str) -> None:
    for method in ("PUT", "GET", "HEAD"):
        s3.refuse(method, 2)
    before = {method: s3.count(method, 503) for method in ("PUT", "GET", "HEAD")}
    store = filled(tmp_path, address)
    other = Store(tmp_path, pictures=address)
    files = other.stored_edits([PLAIN, HAT], "e")
    assert len(files) == 2 and other.pictures.get(files[HAT]).size == picture(2).size
    assert all(s3.count(method, 503) == count + 2 for method, count in before.items())
    assert store.count("edits") == 2


def test_a_server_that_is_away_is_one_sentence_and_no_edit_counts_as_lost(tmp_path: Path, s3: S3, address: str) -> None:
    filled(tmp_path, address)
    away = Store(tmp_path, pictures=bucket(address))
    try:
        for method, ask in (
            ("HEAD", lambda: away.stored_edits([PLAIN, HAT], "e")),
            ("GET", lambda: away.pictures.get("pictures/aa/any.png")),
            ("GET", lambda: away.nameless()),
            ("PUT", lambda: away.pictures.put(picture(9))),
        ):
            s3.refuse(method, 1000)
            with pytest.raises(StoreError, match=f"^{address}: pictures cannot be .* AWS_ENDPOINT_URL") as caught:
                ask()
            assert may_pass(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
            s3.refuse(method, 0)
    finally:
        for method in ("HEAD", "GET", "PUT"):
            s3.refuse(method, 0)
    assert len(Store(tmp_path, pictures=address).stored_edits([PLAIN, HAT], "e")) == 2


def test_a_user_whom_the_bucket_refuses_is_told_where_keys_belong(s3: S3, address: str) -> None:
    place = bucket(address)
    for method, ask in (
        ("HEAD", lambda: place.stamps(["pictures/aa/any.png"])),
        ("GET", lambda: place.read("pictures/aa/any.png")),
        ("GET", lambda: list(place.everything("pictures"))),
        ("PUT", lambda: place.put("pictures/aa/any.png", b"", lambda there: True)),
        ("POST", lambda: place.remove("pictures/aa/any.png")),
    ):
        for status, code in (("403 Forbidden", "SignatureDoesNotMatch"), ("401 Unauthorized", "AccessDenied")):
            s3.refuse(method, 1, status, code)
            with pytest.raises(StoreError, match=f"^{address}: the bucket refuses this user.*AWS_SECRET_ACCESS_KEY"):
                ask()


def test_a_bucket_that_is_not_there_is_not_an_empty_one(tmp_path: Path, s3: S3, address: str) -> None:
    filled(tmp_path, address)
    nowhere = "s3://nobody-made-this/faces"
    for ask in (
        lambda: Store(tmp_path, pictures=nowhere).stored_edits([PLAIN], "e"),
        lambda: PictureFiles(nowhere).put(picture(1)),
        lambda: PictureFiles(nowhere).get("pictures/aa/any.png"),
    ):
        with pytest.raises(StoreError, match=f"{nowhere}: there is no such bucket; make it"):
            ask()


def test_check_and_prune_find_what_is_missing_altered_and_nobody_s(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(write_study(tmp_path / "toy", 2, results={"pictures": address}))
    store = build_store(study)
    requests = [EditRequest(str(i)) for i in range(3)]
    store.put_edits([(request, picture(i)) for i, request in enumerate(requests)], "e")
    files = store.stored_edits(requests, "e")
    orphan = store.pictures.put(picture(7))
    other = bucket(address)
    other.remove(files[requests[0]])
    other.put(files[requests[1]], other.read(files[requests[1]])[:-1] + b"?", lambda there: False)

    def said(command: object, *arguments: object) -> tuple[object, str]:
        out = io.StringIO()
        return command(study, *arguments, Console(file=out, width=200)), out.getvalue()  # type: ignore[operator]

    fine, text = said(store_cli.check)
    assert not fine and "1 lost, 1 altered" in text and "no row names" not in text  # it was written a moment ago
    monkeypatch.setattr(store_module, "SETTLED", 0.0)
    monkeypatch.setattr(store_cli, "SETTLED", 0.0)
    fine, text = said(store_cli.check)
    assert f"lost: {files[requests[0]]}" in text and f"altered: {files[requests[1]]}" in text
    assert "1 files that no row names" in text and f"orphan: {orphan}" in text
    assert set(build_store(study).stored_edits(requests, "e")) == {requests[2]}
    build_store(study).put_edits([(requests[0], picture(0)), (requests[1], picture(1))], "e")
    assert said(store_cli.prune, True)[1].endswith("removed\n")
    assert said(store_cli.check) == (True, "3 edits and 0 sample images: 0 lost, 0 altered\n")

    theirs = filled(tmp_path / "theirs", address)  # results of somebody else in the same bucket
    assert not theirs.only_user() and not build_store(study).only_user()
    assert build_store(study).superfluous().files == () and "left alone" in said(store_cli.prune, True)[1]
    assert "orphans are not looked for" in said(store_cli.check)[1]
    assert len(theirs.stored_edits([PLAIN, HAT], "e")) == 2


def test_a_study_keeps_its_pictures_in_the_bucket_that_its_file_names(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, diffex: Run
) -> None:
    name = s3.bucket()
    monkeypatch.setenv("TEAM_BUCKET", f"s3://{name}")
    study = load_study(write_study(tmp_path / "toy", 3, results={"folder": "out", "pictures": "${TEAM_BUCKET}/faces"}))
    explain_study(study, ["v1"], silent)
    assert not (study.results_folder / "pictures").exists()
    made, page = len(edits_made(study.folder)), study.results_folder / "reports" / "v1" / "index.html"
    assert made and "data:image/webp;base64," in page.read_text()
    store = build_store(study)
    exported = tmp_path / "toy.duckdb"
    assert diffex("export", study.file, exported)[0] == 0
    with duckdb.connect(str(exported), read_only=True) as rows:  # which name the pictures, that stay where they are
        files = {file for (file,) in rows.sql("SELECT file FROM edits UNION SELECT file FROM images").fetchall()}
        assert rows.sql("SELECT count(*) FROM edits").fetchall() == [(store.count("edits"),)]
    assert files == {file for file, _, _ in bucket(f"s3://{name}/faces").everything("pictures")}
    ((gone,), *_) = store.rows("SELECT file FROM edits WHERE file NOT IN (SELECT file FROM images) ORDER BY edit")
    ((same,),) = store.rows("SELECT count(*) FROM edits WHERE file = ?", [gone])
    bucket(f"s3://{name}/faces").remove(gone)
    level1_edits(StudyContext(load_study(study.file)))
    assert len(edits_made(study.folder)) == made + same  # it alone is made again
    assert store.superfluous().files == () and store.bad_pictures() == ([], [])


def test_a_picture_that_a_worker_wrote_is_not_asked_for_again(tmp_path: Path, s3: S3, address: str) -> None:
    filed = [(request, PictureFiles(address).filed(picture(i))) for i, request in enumerate((PLAIN, HAT))]
    asked = s3.count("HEAD")
    store = Store(tmp_path, pictures=address)
    store.put_edits(filed, "e")
    assert len(store.stored_edits([PLAIN, HAT], "e")) == 2 and s3.count("HEAD") == asked
    assert len(Store(tmp_path, pictures=address).stored_edits([PLAIN, HAT], "e")) == 2
    assert s3.count("HEAD") == asked + 2 and store.bad_pictures() == ([], [])


def test_doctor_tries_the_bucket_and_leaves_nothing_there(tmp_path: Path, s3: S3, address: str) -> None:
    def found(where: str) -> tuple[bool | None, str]:
        study = load_study(write_study(tmp_path / "toy", 2, results={"pictures": where}))
        ((said),) = team_findings(study)
        return said.fine, said.found

    assert found(address) == (True, f"{address} can be listed, written and read")
    assert list(bucket(address).everything("")) == []
    fine, said = found("s3://nobody-made-this/faces")
    assert fine is False and "there is no such bucket" in said
    assert list(team_findings(load_study(write_study(tmp_path / "alone", 2)))) == []


def test_doctor_leaves_nothing_in_a_bucket_that_fails_in_the_middle(
    tmp_path: Path, s3: S3, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(write_study(tmp_path / "toy", 2, results={"pictures": address}))

    def failing(*_: object) -> bytes:
        raise StoreError("pictures cannot be read")

    before = s3.count("PUT", 200)
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "read", failing)
        (said,) = team_findings(study)
    assert said.fine is False and said.found == "pictures cannot be read" and s3.count("PUT", 200) == before + 1
    assert list(bucket(address).everything("")) == []
    monkeypatch.setattr(Bucket, "remove", failing)
    (said,) = team_findings(study)
    assert said.fine and "but not removed from" in said.found and "prune" in said.found


def test_a_machine_of_a_cluster_writes_where_pictures_are_kept_and_all_see_it(tmp_path: Path, address: str) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    assert machines.unusable(there, "probe") == f"there is no folder {there} on this machine"
    Path(here).mkdir()
    for place in (here, address):
        assert machines.unusable(place, "probe") == "" and machines.unseen(place, "probe") == ""
        machines.removed(place, "probe")
        assert "is not seen here" in machines.unseen(place, "probe")
    assert not list(Path(here).iterdir()) and list(bucket(address).everything("")) == []
    assert "there is no such bucket" in machines.unusable("s3://nobody-made-this/faces", "probe")


@pytest.mark.parametrize(
    "where", ["s3://key:secretkey9@team/faces", "https://team.example.org/faces", "s3://", "ftp://team/faces"]
)
def test_an_address_that_is_no_bucket_or_holds_keys_is_refused(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StudyError, match="pictures.*write a folder, or s3://bucket/folder") as caught:
        load_study(write_study(tmp_path / "toy", 2, results={"pictures": where}))
    assert "secretkey9" not in str(caught.value)
    monkeypatch.setenv("DIFFEX_PICTURES", where)
    with pytest.raises(StudyError, match="DIFFEX_PICTURES: write a folder, or s3://bucket/folder"):
        load_study(write_study(tmp_path / "toy", 2))


def test_stores_of_three_clouds_are_told_by_their_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "anybody")
    made = {scheme: place_of(f"{scheme}://team/faces") for scheme in ("s3", "gs", "az")}
    assert {scheme: type(each._store).__name__ for scheme, each in made.items()} == {  # type: ignore[attr-defined]
        "s3": "S3Store", "gs": "GCSStore", "az": "AzureStore",
    }  # fmt: skip
    assert place_of(str(tmp_path)).name == str(tmp_path)


def test_without_the_extra_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("obstore", "obstore.store", "obstore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    place = place_of("s3://team/faces")
    for ask in (
        lambda: place.read("pictures/aa/any.png"),
        lambda: place.put("pictures/aa/any.png", b"", bool),
        lambda: place.stamps(["pictures/aa/any.png"]),
        lambda: list(place.everything("pictures")),
        lambda: place.remove("pictures/aa/any.png"),
    ):
        with pytest.raises(StoreError, match=r"pictures in a bucket need obstore.*diffex-dagster\[buckets\]"):
            ask()
    assert "need obstore" in machines.unusable("s3://team/faces", "probe")  # a machine of a cluster says so


def test_keys_are_in_no_message(s3: S3, address: str) -> None:
    refused = Bucket(address, timedelta(seconds=0.3))
    s3.refuse("GET", 1000)
    try:
        with pytest.raises(StoreError) as caught:
            refused.read("pictures/aa/any.png")
    finally:
        s3.refuse("GET", 0)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
