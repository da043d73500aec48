"""The results database on a real DuckDB file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.corpus.tree import Corpus, Drop, Feature
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import StoreError
from diffex_dagster.store import Store, edit_key, image_key
from tests.toys import picture


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", lock_timeout=1.0)


def test_images_come_back_pixel_for_pixel_and_equal_ones_share_a_key(store: Store) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    keys = store.put_images({"a.png": noise, "b.png": noise.copy(), "c.png": picture(3)})
    assert keys["a.png"] == keys["b.png"] != keys["c.png"]
    assert np.array_equal(np.asarray(store.images([keys["a.png"]])[keys["a.png"]]), np.asarray(noise))


def test_an_image_key_is_of_pixels_not_of_the_file_format(tmp_path: Path) -> None:
    picture(7).save(tmp_path / "a.png")
    picture(7).save(tmp_path / "a.bmp")
    assert image_key(Image.open(tmp_path / "a.png")) == image_key(Image.open(tmp_path / "a.bmp"))


def test_an_edit_key_ignores_the_order_of_joint_concepts_and_nothing_else() -> None:
    one, two = Concept("beard"), Concept("glasses")
    base = edit_key(EditRequest("i", (one, two), 0), "e")
    assert edit_key(EditRequest("i", (two, one), 0), "e") == base
    others = [
        EditRequest("j", (one, two), 0),
        EditRequest("i", (one,), 0),
        EditRequest("i", (one, Concept("glasses", "remove")), 0),
        EditRequest("i", (one, two), 1),
    ]
    assert base not in {edit_key(request, "e") for request in others} | {edit_key(EditRequest("i", (one, two)), "f")}


def test_stored_edits_and_scores_are_found_by_content(store: Store) -> None:
    requests = [EditRequest("i", (Concept("beard"),)), EditRequest("i"), EditRequest("j")]
    store.put_edits([(requests[0], picture(1)), (requests[1], picture(2))], "editor")
    assert set(store.stored_edits(requests, "editor")) == set(requests[:2])
    assert store.stored_edits(requests, "another editor") == {}
    store.put_scores({"x": np.array([0.1, 0.9])}, "v1")
    assert store.stored_scores(["x", "y"], "v1")["x"].tolist() == [0.1, 0.9]
    assert store.stored_scores(["x"], "v2") == {}


def test_a_corpus_comes_back_as_the_same_tree(store: Store) -> None:
    child = Feature("hat/red-hat", "Red hat", "a red hat", support=3, region="head")
    corpus = Corpus(
        (Feature("hat", "Hat", "hat", editable=False, children=(child,)),), (Drop("glaucoma", "the class"),)
    )
    store.put_corpus("s", corpus)
    store.set_current("s", "corpus", corpus.version)
    loaded = store.current_corpus("s")
    assert (loaded, loaded.drops, loaded.version) == (corpus, corpus.drops, corpus.version)


def test_a_failure_inside_a_batch_leaves_no_row(store: Store) -> None:
    with pytest.raises(KeyError), store._connect() as connection:
        connection.execute("INSERT INTO currents VALUES ('s', 'corpus', 'v')")
        raise KeyError
    assert store.query("SELECT * FROM currents").empty


HOLD = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(60)"


def test_a_locked_database_is_one_clear_sentence_and_then_works_again(store: Store) -> None:
    store.set_current("s", "corpus", "v")
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(store.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=r"diffex\.duckdb: the database is locked.*what was finished is kept"):
            store.set_current("s", "corpus", "w")
    finally:
        other.kill()
        other.wait()
    store.set_current("s", "corpus", "w")
    assert store.query("SELECT version FROM currents")["version"].tolist() == ["w"]


def test_a_missing_picture_file_is_named(store: Store) -> None:
    keys = store.put_images({"a.png": picture(1)})
    next((store.folder / "pictures").rglob("*.png")).unlink()
    with pytest.raises(StoreError, match=r"\.png: a picture that the database names cannot be read"):
        store.images(list(keys.values()))


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "diffex.duckdb").write_text("this is no database" * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path).query("SELECT 1")
