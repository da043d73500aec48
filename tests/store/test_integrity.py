"""What happens to the store behind the program's back: lost and altered pictures, damaged and foreign databases."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from diffex_dagster.editing.batches import cut
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.errors import StoreError
from diffex_dagster.store import Store, edit_key
from diffex_dagster.store import claims as claiming
from diffex_dagster.store.opening import trouble
from tests.support.toys import picture

HAT, NULL = EditRequest("i", (Concept("hat"),)), EditRequest("i")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", lock_timeout=1.0)
    made.put_edits([(NULL, picture(1)), (HAT, picture(2)), (EditRequest("j"), picture(3))], "e")
    return made


def again(store: Store) -> Store:
    """The store as another process finds it."""
    return Store(store.folder, lock_timeout=1.0)


def file_of(store: Store, request: EditRequest) -> Path:
    ((file,),) = store.rows("SELECT file FROM edits WHERE edit = ?", [edit_key(request, "e")])
    return store.folder / file


def alter(path: Path, same_stamp: bool = False) -> None:
    """Another picture under the same name; with the size and time of the old one, as a bad disk would leave it."""
    before = path.stat()
    if same_stamp:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        picture(200).save(path)


@pytest.mark.parametrize("what", ["lost", "altered", "emptied", "a folder"])
def test_a_picture_that_is_not_what_it_was_counts_as_missing_and_it_alone(store: Store, what: str) -> None:
    path = file_of(store, HAT)
    if what == "altered":
        alter(path)
    elif what == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
        if what == "a folder":
            path.mkdir()
    for seen in (store, again(store)):
        assert set(seen.stored_edits([NULL, HAT], "e")) == {NULL}
    if what == "a folder":
        path.rmdir()
    store.put_edits([(HAT, picture(2))], "e")
    for seen in (store, again(store)):
        found = seen.stored_edits([NULL, HAT], "e")
        assert np.array_equal(np.asarray(again(store).pictures.get(found[HAT])), np.asarray(picture(2)))


def test_an_alteration_that_keeps_size_and_time_is_never_read_and_is_found_from_then_on(store: Store) -> None:
    path = file_of(store, HAT)
    alter(path, same_stamp=True)
    file = again(store).stored_edits([HAT], "e")[HAT]  # size and time say nothing
    with pytest.raises(StoreError, match="not what it was: its content has changed; run the study again"):
        again(store).pictures.get(file)
    assert again(store).stored_edits([HAT], "e") == {}


def test_a_picture_whose_time_alone_changed_is_hashed_once_and_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(file_of(store, HAT))
    assert HAT in again(store).stored_edits([HAT, NULL], "e")
    read: list[str] = []
    other = again(store)
    monkeypatch.setattr(other.pictures, "is_sound", read.append)
    assert len(other.stored_edits([HAT, NULL], "e")) == 2 and read == []


def test_another_picture_in_the_place_of_a_lost_one_forgets_what_was_measured_on_the_old_one(store: Store) -> None:
    keys = {request: edit_key(request, "e") for request in (NULL, HAT)}
    masked = picture(9)
    masked.info[MASK] = Image.new("L", (2, 2), 255)
    for request in keys:
        store.put_scores({keys[request]: np.array([0.1, 0.9])}, "v1")
        store.put_evidence([((keys[request], "hat"), 0.5)], "judge")
    store.put_edit_metrics({keys[HAT]: EditMetrics(0.1, 0.9)})
    file_of(store, HAT).unlink()
    store.put_edits([(HAT, masked)], "e")
    assert set(store.stored_scores(keys.values(), "v1")) == {keys[NULL]}
    assert set(store.stored_evidence([(k, "hat") for k in keys.values()], "judge")) == {(keys[NULL], "hat")}
    assert store.stored_edit_metrics(keys.values()) == {} and set(store.stored_masks(keys.values())) == {keys[HAT]}
    store.put_edit_metrics({keys[HAT]: EditMetrics(0.1, 0.9)})
    file_of(store, NULL).unlink()
    store.put_edits([(NULL, picture(1))], "e")  # the same picture again: what was measured stands
    assert set(store.stored_edit_metrics(keys.values())) == {keys[HAT]}
    assert set(store.stored_scores(keys.values(), "v1")) == {keys[NULL]}
    file_of(store, NULL).unlink()
    store.put_edits([(NULL, picture(5))], "e")  # every other edit of the image was measured against the old one
    assert store.stored_edit_metrics(keys.values()) == {}


def test_an_edit_that_is_there_stays_as_it_is(store: Store) -> None:
    before = store.stored_edits([HAT], "e")[HAT]
    store.put_edits([(HAT, picture(77))], "e")
    assert store.stored_edits([HAT], "e")[HAT] == before


def test_a_damaged_file_is_written_again_under_a_new_database(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = store.pictures.put(picture(4))
    (tmp_path / file).write_bytes(b"")
    assert store.pictures.put(picture(4)) == file
    assert np.array_equal(np.asarray(store.pictures.get(file)), np.asarray(picture(4)))


def test_a_lost_sample_image_is_prepared_again(store: Store) -> None:
    keys = store.put_images({"a.png": picture(1), "b.png": picture(2)})
    ((file,),) = store.rows("SELECT file FROM images WHERE name = 'a.png'")
    (store.folder / file).write_bytes(b"no picture")
    with pytest.raises(StoreError, match="prepared again"):
        again(store).images(list(keys.values()))
    assert again(store).put_images({"a.png": picture(1), "b.png": picture(2)}) == keys
    assert len(again(store).images(list(keys.values()))) == 2


def test_a_picture_that_this_user_may_not_read_is_not_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file, new = file_of(store, HAT), again(store)
    os.utime(file)  # so that it is looked into
    mine = Path.read_bytes

    def read(path: Path) -> bytes:
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return mine(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    for look in (lambda: new.stored_edits([HAT], "e"), lambda: new.pictures.get(str(file.relative_to(new.folder)))):
        with pytest.raises(StoreError, match=rf"{file.name}: this user may not read a stored picture; let its owner"):
            look()


def test_pictures_are_kept_in_their_order_however_many_are_written_at_once(tmp_path: Path) -> None:
    pictures = {f"{shade}.png": picture(shade % 60) for shade in range(90)}  # some are the same
    store = Store(tmp_path / "results")
    keys = store.put_images(pictures)
    named = dict(store.rows("SELECT name, file FROM images"))
    for name, file in named.items():
        assert np.array_equal(np.asarray(store.pictures.get(file)), np.asarray(pictures[name]))
    assert len(named) == len(set(keys.values())) == 60
    requests = [(EditRequest(f"{i}"), each) for i, each in enumerate(pictures.values())]
    store.put_edits(requests, "e")
    files = store.stored_edits([request for request, _ in requests], "e")
    assert [files[request] for request, _ in requests] == [store.pictures.put(each) for _, each in requests]


# The database


@pytest.mark.duckdb_file
def test_a_store_that_reads_writes_nothing_where_it_cannot_and_several_read_at_once(store: Store) -> None:
    first, second = (Store(store.folder, lock_timeout=1.0, reading=True) for _ in range(2))
    content = store.path.read_bytes()
    with first.hold(), second.hold():
        for each in (first, second):
            assert len(each.stored_edits([NULL, HAT], "e")) == 2
    assert store.path.read_bytes() == content


@pytest.mark.duckdb_file
def test_a_store_that_reads_keeps_what_it_found_out_when_nobody_is_in_the_way(store: Store) -> None:
    Store(store.folder, reading=True).put_scores({"x": np.array([1.0])}, "v1")
    assert set(store.stored_scores(["x"], "v1")) == {"x"}
    reader = duckdb.connect(str(store.path), read_only=True)
    try:
        seen = Store(store.folder, reading=True)
        seen.put_scores({"y": np.array([1.0])}, "v1")  # somebody reads: it goes on without
        assert set(seen.stored_scores(["x", "y"], "v1")) == {"x"}
    finally:
        reader.close()


def test_without_a_database_a_store_that_reads_is_empty_and_makes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", reading=True)
    assert store.stored_edits([HAT], "e") == {}
    store.put_scores({"x": np.array([1.0])}, "v1")
    with pytest.raises(StoreError, match="no sample images yet"):
        store.samples("s")
    assert not (tmp_path / "results").exists()


READ = """import duckdb, sys, time
c = duckdb.connect(sys.argv[1], read_only=True)
print('held', flush=True)
time.sleep(60)"""


@pytest.fixture
def reader(store: Store) -> Iterator[subprocess.Popen[str]]:
    other = subprocess.Popen([sys.executable, "-c", READ, str(store.path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    yield other
    other.kill()
    other.wait()


@pytest.mark.duckdb_file
def test_a_run_waits_as_long_as_somebody_reads_and_says_for_whom(
    store: Store, reader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("diffex_dagster.store.opening.SAY_AFTER", 0.0)
    running = Store(store.folder)
    writing = threading.Thread(target=lambda: running.put_scores({"x": np.array([1.0])}, "v1"))
    writing.start()
    until = time.monotonic() + 30
    while "waiting for" not in caplog.text and time.monotonic() < until:
        time.sleep(0.05)
    assert f"process {reader.pid}" in caplog.text and writing.is_alive()
    reader.kill()
    reader.wait()
    writing.join()
    assert set(running.stored_scores(["x"], "v1")) == {"x"}


@pytest.mark.duckdb_file
def test_a_cut_off_database_is_one_sentence_and_stays_as_it_is(store: Store) -> None:
    store.put_scores({str(i): np.random.default_rng(i).random(2000) for i in range(200)}, "v1")
    size = store.path.stat().st_size
    os.truncate(store.path, size // 2)
    content = store.path.read_bytes()
    with pytest.raises(StoreError, match=r"damaged or cut off .*restore it from a backup"):
        again(store).stored_scores([str(i) for i in range(200)], "v1")
    assert store.path.read_bytes() == content


@pytest.mark.duckdb_file
def test_a_folder_in_the_databases_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "diffex.duckdb").mkdir()
    with pytest.raises(StoreError, match="a folder where the results database should be; move it away"):
        Store(tmp_path).rows("SELECT 1")


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            "IO Error: Trying to read a database file with version number 999, but we can only read versions between "
            "64 and 65.\nThe database file was created with an newer version of DuckDB.",
            "pip install -U duckdb",
        ),
        ("TransactionContext Error: Failed to commit: Could not write file: No space left on device", "make room"),
        ("IO Error: Could not read enough bytes from file: attempted to read 262144 bytes", "restore it from a backup"),
        ("Corrupt database file: computed checksum 45 does not match", "restore it from a backup"),
        ("IO Error: Cannot open file: Permission denied", "make the folder writable"),
        ("Some Error: that nobody knows", "left as it is"),
    ],
)
def test_what_a_database_says_becomes_a_remedy_that_loses_nothing(said: str, remedy: str) -> None:
    message = str(trouble(Path("results/diffex.duckdb"), duckdb.IOException(said)))
    assert message.startswith("results/diffex.duckdb: ") and remedy in message and "\n" not in message
    assert "move the file away" not in message


def test_a_full_disk_while_a_picture_is_written_is_one_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffex_dagster.store.places.write_atomically", full)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\); make room and run again"):
        store.put_edits([(EditRequest("new"), picture(50))], "e")
    assert store.stored_edits([EditRequest("new"), HAT], "e").keys() == {HAT}


@pytest.mark.duckdb_file
def test_results_of_a_newer_program_are_refused_and_those_of_an_older_one_get_what_they_lack(store: Store) -> None:
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("DROP TABLE store_version; DROP TABLE stamps; ALTER TABLE rankings DROP lpips")
    for seen in (Store(store.folder, reading=True), again(store)):  # from before there were versions
        assert len(seen.stored_edits([NULL, HAT], "e")) == 2
        seen.rows("SELECT lpips FROM rankings")
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("UPDATE store_version SET version = 999")
    for seen in (Store(store.folder, reading=True), again(store)):
        with pytest.raises(StoreError, match="written by a newer diffex_dagster"):
            seen.rows("SELECT 1")


# Several runs


def requests(images: int) -> list[EditRequest]:
    return [
        EditRequest(f"{i * 256 // images:02x}", (Concept(word),)) for word in ("hat", "beard") for i in range(images)
    ]


def test_alone_a_run_gets_everything_at_once_in_its_order(tmp_path: Path) -> None:
    batches = cut(requests(100), 16)
    assert list(claiming.in_turn(tmp_path, "e", batches)) == [batches]


def test_two_runs_never_work_on_the_same_edits_at_once(tmp_path: Path) -> None:
    lists = [cut(requests(100), size) for size in (3, 4, 5)]  # batches of one run share edits with several of another
    busy, seen = set[EditRequest](), list[EditRequest]()
    clash, lock = list[EditRequest](), threading.Lock()

    def run(batches: list[list[EditRequest]]) -> None:
        for portion in claiming.in_turn(tmp_path, "e", batches, at_once=10):
            some = [request for batch in portion for request in batch]
            with lock:
                clash.extend(busy & set(some))
                busy.update(some)
            time.sleep(0.005)
            with lock:
                busy.difference_update(some)
                seen.extend(some)

    runs = [threading.Thread(target=run, args=(batches,)) for batches in lists]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert clash == [] and Counter(seen) == Counter(requests(100) * 3)


def test_a_claim_is_of_neighbours_and_leaves_the_rest_to_others(tmp_path: Path) -> None:
    batches = cut(requests(100), 8)
    first = next(mine := claiming.in_turn(tmp_path, "e", batches, at_once=50))
    assert first == batches[:7]
    second = next(other := claiming.in_turn(tmp_path, "e", batches, at_once=1000))
    assert len(second) >= len(batches) - 7 - 2 and not set(map(tuple, first)) & set(map(tuple, second))
    mine.close()
    assert [*second, *next(other)] != second and Counter(map(tuple, [*first, *second])) <= Counter(map(tuple, batches))
    other.close()


def test_runs_with_other_editors_do_not_wait_for_each_other(tmp_path: Path) -> None:
    batches = cut(requests(3), 4)
    for mine in claiming.in_turn(tmp_path, "e", batches):
        assert [*claiming.in_turn(tmp_path, "another", batches)] == [mine]


@pytest.mark.duckdb_file
def test_a_pipe_in_the_place_of_the_database_or_of_a_picture_keeps_nobody_waiting(store: Store) -> None:
    file = file_of(store, HAT)
    file.unlink()
    os.mkfifo(file)
    assert NULL in again(store).stored_edits([NULL, HAT], "e") and HAT not in again(store).stored_edits([HAT], "e")
    store.path.unlink()
    os.mkfifo(store.path)
    for reading in (True, False):
        with pytest.raises(StoreError, match="is no regular file; move it away"):
            Store(store.folder, reading=reading).rows("SELECT 1")
