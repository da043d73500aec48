"""The results database on a real DuckDB file."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from diffex_dagster.corpus.tree import Corpus, Drop, Feature
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.errors import StoreError
from diffex_dagster.results import Confounder, RankedFeature
from diffex_dagster.store import Store, edit_key, image_key
from diffex_dagster.store.duck import DuckConnection
from diffex_dagster.store.holding import Held
from tests.support.toys import picture


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
        (Feature("hat", "Hat", "hat", editable=False, children=(child,), exclusive=True),),
        (Drop("glaucoma", "the class"),),
    )
    store.put_corpus("s", corpus)
    store.set_current("s", "corpus", corpus.version)
    loaded = store.current_corpus("s")
    assert (loaded, loaded.drops, loaded.version) == (corpus, corpus.drops, corpus.version)


def test_a_corpus_that_was_read_costs_one_question_and_an_edited_one_is_seen_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(by: Store, *names: str, dropped: str = "") -> Corpus:
        drops = (Drop(dropped, "the class"),) if dropped else ()
        corpus = Corpus(tuple(Feature(name, name, name) for name in names), drops)
        by.put_corpus("s", corpus)
        by.set_current("s", "corpus", corpus.version)
        return corpus

    first = kept(store, "hat")
    assert store.current_corpus("s") == first
    asked, rows = [], store.database.rows
    monkeypatch.setattr(store.database, "rows", lambda *question: (asked.append(1), rows(*question))[1])
    assert store.current_corpus("s") == first and len(asked) == 1
    somebody = Store(store.folder, lock_timeout=1.0)
    second = kept(somebody, "hat", "beard", dropped="scarf")
    found = store.current_corpus("s")
    assert (found, found.drops) == (second, second.drops) and found != first
    again = kept(somebody, "hat", "beard", dropped="mask")  # the same tree: the same version
    assert again.version == second.version and store.current_corpus("s").drops == again.drops
    assert store.corpus_version("s", first.version) == first


def test_a_failure_inside_a_batch_leaves_no_row(store: Store) -> None:
    with pytest.raises(KeyError), store.database.transaction() as connection:
        connection.execute("INSERT INTO currents VALUES ('s', 'corpus', 'v')")
        raise KeyError
    assert store.query("SELECT * FROM currents").empty


@pytest.mark.duckdb_file
def test_a_question_is_one_statement_and_what_is_kept_together_is_one_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = DuckConnection.execute
    monkeypatch.setattr(DuckConnection, "execute", lambda self, sql, of=(): (said.append(sql), real(self, sql, of))[1])
    store.set_current("s", "corpus", "v")
    assert said == ["BEGIN", "COMMIT"]  # around the row
    said.clear()
    assert store.current("s", "corpus") == "v"
    assert [sql.split()[0] for sql in said] == ["SELECT"]
    said.clear()
    assert store.query("SELECT version FROM currents")["version"].tolist() == ["v"]
    assert not said  # a table is one statement too
    with pytest.raises(duckdb.CatalogException):
        store.rows("SELECT * FROM nowhere")
    assert store.current("s", "corpus") == "v"


HOLD = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(60)"


@pytest.mark.duckdb_file
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


OPEN = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('INSERT INTO currents VALUES (?, ?, ?)', sys.argv[2:])"


def others_can_write(store: Store, study: str) -> bool:
    """Whether another process can open the database and write into it now."""
    return (
        subprocess.run([sys.executable, "-c", OPEN, str(store.path), study, "corpus", "v"], check=False).returncode == 0
    )


@pytest.mark.duckdb_file
def test_a_held_database_is_closed_to_other_processes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.database, "held", Held(idle=1e6, longest=1e6))
    with store.hold():
        store.set_current("s", "corpus", "v")
        assert not others_can_write(store, "meanwhile")
        with store.hold():
            assert store.query("SELECT version FROM currents")["version"].tolist() == ["v"]
        assert not others_can_write(store, "still held")
    assert others_can_write(store, "afterwards")


@pytest.mark.duckdb_file
@pytest.mark.parametrize(("idle", "longest"), [(0.05, 1e6), (1e6, 0.0)])
def test_a_held_database_is_closed_when_nobody_asks_or_it_has_been_open_for_long(
    store: Store, monkeypatch: pytest.MonkeyPatch, idle: float, longest: float
) -> None:
    monkeypatch.setattr(store.database, "held", Held(idle, longest))
    with store.hold():
        store.set_current("s", "corpus", "v")
        deadline = time.monotonic() + 60
        while not others_can_write(store, "meanwhile"):
            assert time.monotonic() < deadline
        store.set_current("s", "corpus", "w")
    assert store.query("SELECT version FROM currents ORDER BY version")["version"].tolist() == ["v", "w"]


def test_a_held_database_is_opened_once_for_many_questions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = [], store.database.open
    monkeypatch.setattr(store.database, "held", Held(idle=1e6, longest=1e6))
    monkeypatch.setattr(store.database, "open", lambda: (opened.append(1), real())[1])
    with store.hold():
        store.set_current("s", "corpus", "v")
        assert [store.rows("SELECT version FROM currents") for _ in range(5)] == [[("v",)]] * 5
    assert len(opened) == 1


@pytest.mark.duckdb_file
def test_a_hold_that_nobody_uses_opens_nothing_and_a_failure_inside_ends_it_without_a_row(store: Store) -> None:
    store.set_current("s", "corpus", "v")
    with store.hold():
        assert others_can_write(store, "other")
    with pytest.raises(KeyError), store.hold():
        store.set_current("s", "corpus", "w")  # a transaction of its own
        with store.database.transaction() as connection:
            connection.execute("DELETE FROM currents")
            raise KeyError
    assert others_can_write(store, "afterwards")
    assert store.query("SELECT version FROM currents WHERE study = 's'")["version"].tolist() == ["w"]


@pytest.mark.duckdb_file
def test_a_database_that_is_moved_away_is_begun_anew(store: Store) -> None:
    store.set_current("s", "corpus", "v")
    store.folder.rename(store.folder.with_name("aside"))
    assert store.query("SELECT * FROM currents").empty
    assert not Store(store.folder.with_name("aside")).query("SELECT * FROM currents").empty


def test_pictures_are_read_when_they_are_looked_up_and_nobody_shares_one(store: Store) -> None:
    keys = store.put_images({"a.png": picture(1), "b.png": picture(2)})
    pictures = store.images(list(keys.values()))
    assert list(pictures) == list(keys.values()) and keys["b.png"] in pictures
    pictures[keys["a.png"]].paste((0, 0, 0), (0, 0, 4, 4))
    assert np.array_equal(np.asarray(pictures[keys["a.png"]]), np.asarray(picture(1)))


def test_a_missing_picture_file_is_named(store: Store) -> None:
    keys = store.put_images({"a.png": picture(1)})
    pictures = store.images(list(keys.values()))
    next((store.folder / "pictures").rglob("*.png")).unlink()
    with pytest.raises(StoreError, match=r"\.png: a picture that the database names cannot be read"):
        pictures[keys["a.png"]]
    with pytest.raises(StoreError, match=r"\.png: the picture of a sample image .*materialize sample_images"):
        store.images(list(keys.values()))


@pytest.mark.duckdb_file
def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "diffex.duckdb").write_text("this is no database" * 1000)
    with pytest.raises(StoreError, match=r"damaged or cut off .*restore it from a backup"):
        Store(tmp_path).query("SELECT 1")


IDENTITY = {"study": "s", "classifier": "c", "editor": "e", "corpus_version": "v", "run": "r"}
BEFORE = """CREATE TABLE rankings (
    study VARCHAR, classifier VARCHAR, classifier_name VARCHAR, editor VARCHAR, corpus_version VARCHAR, run VARCHAR,
    rank INTEGER, feature VARCHAR NOT NULL, name VARCHAR NOT NULL, prompt VARCHAR NOT NULL, direction VARCHAR NOT NULL,
    "group" VARCHAR NOT NULL, level INTEGER NOT NULL,
    effect DOUBLE, ci_low DOUBLE, ci_high DOUBLE, magnitude DOUBLE, sign_agreement DOUBLE, flip_rate DOUBLE,
    images INTEGER, decision VARCHAR, p_value DOUBLE, edit_strength DOUBLE, edit_success DOUBLE,
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (study, classifier, editor, corpus_version, run, rank));
INSERT INTO rankings (study, classifier, editor, corpus_version, run, rank, feature, name, prompt, direction, "group",
    level, effect) VALUES ('s', 'c', 'e', 'v', 'before', 1, 'hat', 'Hat', 'a hat', 'add', 'Hat', 1, 0.25)"""


def ranked(feature: str, rank: int, confounded_with: Confounder | None = None) -> RankedFeature:
    return RankedFeature(
        rank=rank, feature=feature, name=feature.title(), group=feature, level=1, direction="add", prompt=feature,
        effect=0.3, ci_low=0.2, ci_high=0.4, flip_rate=0.5, images=9, decision="raises", magnitude=0.3,
        sign_agreement=1.0, confounded_with=confounded_with,
    )  # fmt: skip


@pytest.mark.duckdb_file
def test_a_database_from_before_keeps_its_rows_and_takes_new_ones(store: Store) -> None:
    store.folder.mkdir(parents=True)
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(BEFORE)
    hat = Confounder("hat", "Hat", 0.5, 0.01, -0.02, 0.04)
    store.put_ranking(IDENTITY, [ranked("hat", 1), ranked("beard", 2, hat)])
    store.put_ranking(IDENTITY, [ranked("hat", 1), ranked("beard", 2, hat)])  # the same run again
    rows = store.query("SELECT run, feature, effect, confounded_with FROM rankings ORDER BY run, rank")
    found = rows.astype(object).where(rows.notna(), None).values.tolist()
    assert found == [["before", "hat", 0.25, None], ["r", "hat", 0.3, None], ["r", "beard", 0.3, "hat"]]


def test_side_effects_are_kept_under_what_they_are_of(store: Store) -> None:
    found = [SideEffect("beard", "hat", -0.5, True, 0.01, -0.02, float("inf"), True)]
    store.put_side_effects(IDENTITY, found)
    store.put_side_effects(IDENTITY, found)
    rows = store.query("SELECT * FROM side_effects").drop(columns=list(IDENTITY))
    assert [SideEffect(**row) for row in rows.to_dict("records")] == found
    nan = float("nan")
    store.put_side_effects(IDENTITY, [SideEffect("hat", "beard", 0.9, True, nan, nan, nan, True)])  # not told apart
    assert store.query("SELECT edited FROM side_effects WHERE direct = 'NaN'")["edited"].tolist() == ["hat"]


def test_the_mask_that_an_edit_carries_is_kept_with_it(store: Store) -> None:
    rng = np.random.default_rng(0)
    mask = Image.fromarray((rng.random((5, 11)) > 0.5).astype(np.uint8) * 255)  # rows that are no whole bytes
    request, bare, odd = (EditRequest(image, (Concept("beard"),)) for image in "abc")
    carrying, other = picture(1), picture(3)
    carrying.info[MASK] = mask
    other.info[MASK] = "a text that a file brought"
    store.put_edits([(request, carrying), (bare, picture(2)), (odd, other)], "e")
    keys = {each.image: edit_key(each, "e") for each in (request, bare, odd)}
    kept = store.stored_masks(keys.values())
    assert set(kept) == {keys["a"]} and np.array_equal(np.asarray(kept[keys["a"]]), np.asarray(mask))
    assert MASK not in store.pictures.get(store.stored_edits([request], "e")[request]).info


def test_changes_are_kept_and_lpips_counts_only_with_its_backbone(store: Store) -> None:
    plain, full = EditMetrics(0.1, 0.9), EditMetrics(0.2, -0.5, 0.75, 0.25, 0.3)
    store.put_edit_metrics({"x": plain})
    store.put_edit_metrics({"y": full}, "alex")
    assert store.stored_edit_metrics(["x", "y", "z"]) == {"x": plain, "y": replace(full, lpips=None)}
    assert store.stored_edit_metrics(["x", "y"], "alex") == {"y": full}
    assert store.stored_edit_metrics(["x", "y"], "vgg") == {}
    store.put_edit_metrics({"x": replace(plain, lpips=0.1)}, "alex")  # measured later
    assert store.stored_edit_metrics(["x"], "alex")["x"].lpips == 0.1
