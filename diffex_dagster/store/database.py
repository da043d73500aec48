"""The results database.

A read-write DuckDB connection shuts every other process out, so a connection is opened for each batch and closed again,
never held over model work, and opening waits while another process has the file (`store.opening`). Opening takes 10 ms
or more: a stage that asks many small questions holds one connection meanwhile (`hold`), and what works on a model lets
go of it (`let_go`). A picture is written to disk before the row that names it: a killed run loses at most one batch.

A row is a promise that its picture is there and is what it was. Where that does not hold any more (a file was lost or
altered), the row counts as missing: the edit is made again, and only it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from PIL import Image

from diffex_dagster.corpus.tree import Corpus, Drop, Feature
from diffex_dagster.editing.calibration import Choice, Try, Wanted
from diffex_dagster.editing.protocol import MASK, EditRequest
from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.edit_metrics import Change
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect
from diffex_dagster.errors import StoreError
from diffex_dagster.report.model import Confounder, RankedFeature
from diffex_dagster.store.files import PictureFiles, Stamp, StoredPicture, StoredPictures
from diffex_dagster.store.keys import concept_parts, edit_key, image_key
from diffex_dagster.store.opening import guarded, open_database, trouble
from diffex_dagster.utils.hashing import digest
from diffex_dagster.utils.secrets import redact

if TYPE_CHECKING:
    import pandas as pd  # half a second: not before a query


RANKING_FIELDS = (
    "rank", "feature", "name", "prompt", "direction", "group", "level", "effect", "ci_low", "ci_high", "magnitude",
    "sign_agreement", "flip_rate", "images", "decision", "p_value", "edit_strength", "edit_success",
    "ssim", "lpips", "inside_mask", "mask_area", "becomes", "leaves",
    "among", "prevalence", "prevalence_low", "prevalence_high",
    "effect_all", "other_way", "other_way_success", "other_way_images", "cace", "cace_low", "cace_high",
)  # fmt: skip
"""The fields of a ranked feature that are columns of `rankings`."""
LOCK_TIMEOUT = 30.0  # seconds that a command which only reads waits while a run writes
WRITE_BESIDE = 1.0  # seconds that it waits to keep what it found out
_MAKING_TABLES = threading.Lock()

STORE_VERSION = 1
"""Raised when a database becomes one that this program's earlier versions must not write to."""


@functools.cache
def _schema() -> str:
    return files("diffex_dagster.store").joinpath("schema.sql").read_text("utf-8")


SCHEMA = (STORE_VERSION, digest(_schema()))
"""What a database says of itself when it has all tables and columns: the version, and a hash of the schema."""


def _schema_of(path: Path, connection: duckdb.DuckDBPyConnection) -> tuple[int, str] | None:
    """What a database says; None for a new one, and one from before it said anything.

    Raises:
        StoreError: a newer version of this program wrote it.
    """
    try:
        found = connection.execute("SELECT version, schema FROM store_version").fetchone()
    except duckdb.CatalogException:
        return None
    if found and found[0] > STORE_VERSION:
        raise StoreError(
            f"{path}: the results were written by a newer diffex_dagster (version {found[0]} of the tables; this one "
            f"knows {STORE_VERSION}); install a newer one: nothing is wrong with the file"
        )
    return (int(found[0]), str(found[1])) if found else None


def _insert_into(
    connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Mapping[str, Any]], replace: bool = False
) -> None:
    """Add rows; those whose key exists are left as they are, or replaced."""
    if not rows:
        return
    columns = list(rows[0])
    names = ", ".join(f'"{column}"' for column in columns)
    verb = "INSERT OR REPLACE" if replace else "INSERT OR IGNORE"
    connection.execute(  # a list a column: one parameter a value takes 20 times as long
        f"{verb} INTO {table} ({names}) SELECT {', '.join(['unnest(?)'] * len(columns))}",
        [[row[column] for row in rows] for column in columns],
    )


PAUSE_S = 300.0  # commits further apart than this were not made by one run: the time between them says nothing


class _Held(threading.local):
    """A thread's open connection, and how many `hold` it is in."""

    connection: duckdb.DuckDBPyConnection | None = None
    holds = 0


class Store:
    """Everything a study has computed, in one folder.

    Args:
        folder: the results folder; made on first use.
        lock_timeout: seconds to keep trying while another process holds the database. Left out, a store that writes
            waits as long as it takes, and one that reads LOCK_TIMEOUT.
        reading: open the database read-only, so that several may read at once, on a disk that cannot be written too.
            Where there is no database, it is an empty one.
        pictures: the folder that holds `pictures/`, where it is another one (a disk that several machines share).
    """

    def __init__(
        self,
        folder: Path,
        lock_timeout: float | None = None,
        reading: bool = False,
        pictures: Path | None = None,
    ) -> None:
        self.folder = folder
        self.path = folder / "diffex.duckdb"
        self.lock_timeout = LOCK_TIMEOUT if reading and lock_timeout is None else lock_timeout
        self.reading = reading
        self.pictures = PictureFiles(folder if pictures is None else pictures)
        self._held = _Held()
        self._sound: dict[str, Stamp] = {}  # picture files whose content is known to be right

    planning = False  # whether what is missing is only counted

    def to_read(self, lock_timeout: float | None = None) -> Store:
        """The same results, opened read-only; see `lock_timeout` and `reading` of the class."""
        made = Store(self.folder, lock_timeout, reading=True)
        made.pictures = self.pictures
        return made

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep one connection open through many small reads and writes, each still a transaction of its own.

        Other processes wait meanwhile: not for the work of a model or for going through many pictures, which belong
        outside, or inside `let_go`. May be nested.
        """
        self._held.holds += 1
        try:
            yield
        finally:
            self._held.holds -= 1
            if not self._held.holds:
                self._close()

    @contextmanager
    def let_go(self) -> Iterator[None]:
        """Inside, a connection is opened for each batch and closed again, whoever holds one outside."""
        holds, self._held.holds = self._held.holds, 0
        self._close()
        try:
            yield
        finally:
            self._held.holds = holds

    @contextmanager
    def _connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self._held.connection or self._open()
        self._held.connection = connection
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            self._close()  # without a commit, closing rolls back
            plain = guarded(self.path, error)
            if plain is error:
                raise
            raise plain from error
        if not self._held.holds:
            self._close()

    def _close(self) -> None:
        connection, self._held.connection = self._held.connection, None
        if connection is not None:
            with contextlib.suppress(duckdb.Error):  # what could not be written was said before
                connection.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        """A connection to a database that has all tables; for reading only where the store is."""
        if self.reading:
            return self._open_to_read()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise trouble(self.path, error) from error
        connection = open_database(self.path, timeout=self.lock_timeout)
        try:
            self._make_tables(connection)
        except BaseException as error:
            connection.close()
            plain = guarded(self.path, error)
            if plain is error:
                raise
            raise plain from error
        return connection

    def _open_to_read(self) -> duckdb.DuckDBPyConnection:
        """Opened read-only; an empty database in memory where there is none."""
        if not self.path.exists():
            connection = duckdb.connect()
            self._make_tables(connection)
            return connection
        connection = open_database(self.path, read_only=True, timeout=self.lock_timeout)
        if _schema_of(self.path, connection) == SCHEMA:
            return connection
        connection.close()  # from before the newest tables: they are added once
        Store(self.folder, self.lock_timeout).rows("SELECT 1")
        return open_database(self.path, read_only=True, timeout=self.lock_timeout)

    def _make_tables(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Run the schema on a database that was made under another one, or is new."""
        with _MAKING_TABLES:
            if _schema_of(self.path, connection) == SCHEMA:
                return
            connection.execute(f"BEGIN; {_schema()}")  # all tables or none
            connection.execute("DELETE FROM store_version")
            connection.execute("INSERT INTO store_version VALUES (?, ?)", list(SCHEMA))
            connection.execute("COMMIT")

    def _write(self, work: Callable[[duckdb.DuckDBPyConnection], object]) -> None:
        """Do some work in one transaction.

        A store that reads keeps what it found out where it can, and goes on where it cannot (a read-only disk, a run
        that is writing): what it writes only saves work later.
        """
        if not self.reading:
            with self._connect() as connection:
                work(connection)
            return
        self._close()
        if self.path.exists():
            with contextlib.suppress(StoreError):
                Store(self.folder, lock_timeout=WRITE_BESIDE)._write(work)

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]], replace: bool = False) -> None:
        if rows:
            self._write(lambda connection: _insert_into(connection, table, rows, replace))

    def identity(self) -> str:
        """Which database this is; "none" where there is none yet. A move keeps it, a new database has another."""
        return str(self.rows("SELECT id FROM store_identity")[0][0]) if self.path.exists() else "none"

    def count(self, table: str, editor: str = "", classifier: str = "") -> int:
        """How many rows a table has: of an editor, or of a classifier, where its fingerprint is given."""
        of = {"editor": editor, "classifier": classifier}
        column, value = next(((name, value) for name, value in of.items() if value), ("true", True))
        ((found,),) = self.rows(f"SELECT count(*) FROM {table} WHERE {column} = ?", [value])  # noqa: S608 (our names)
        return int(found)

    def columns(self, table: str) -> dict[str, str]:
        """Name -> type of a table's columns, in their order."""
        return {name: kind.lower() for name, kind, *_ in self.rows(f"DESCRIBE {table}")}

    def seconds_per_edit(self, editor: str) -> float | None:
        """The pace at which the edits of an editor (fingerprint) were committed; None with fewer than two batches."""
        ((seconds, edits),) = self.rows(
            """SELECT sum(gap) AS seconds, sum(n) AS edits FROM (
                SELECT n, epoch(created) - lag(epoch(created)) OVER (ORDER BY created) AS gap FROM (
                    SELECT created, count(*) AS n FROM edits WHERE editor = $1 GROUP BY created))
            WHERE gap BETWEEN 0 AND $2""",
            [editor, PAUSE_S],
        )
        return float(seconds) / float(edits) if edits and edits > 0 else None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Run a query and return its rows; raises StoreError when the database cannot be opened."""
        with self._connect() as connection:
            return connection.execute(sql, list(parameters)).df()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As `query`, without the half second that pandas takes to import."""
        with self._connect() as connection:
            return connection.execute(sql, list(parameters)).fetchall()

    def _existing(
        self, table: str, column: str, keys: Iterable[str], wanted: str, **equal: str
    ) -> list[tuple[Any, ...]]:
        """Columns `wanted` of the rows whose `column` is one of `keys` (any number), and whose other columns equal."""
        return self.rows(
            f"SELECT {wanted} FROM {table} WHERE {column} IN (SELECT unnest(?::VARCHAR[]))"  # noqa: S608 (our own names)
            + "".join(f" AND {name} = ?" for name in equal),
            [list(dict.fromkeys(keys)), *equal.values()],
        )

    # Sample images

    def put_images(self, pictures: Mapping[str, Image.Image]) -> dict[str, str]:
        """Keep prepared sample images (name -> picture); returns name -> image key."""
        rows = [  # one after the other: each may be decoded when it is looked up
            {
                "image": image_key(picture),
                "name": name,
                "file": self.pictures.put(picture),
                "width": picture.width,
                "height": picture.height,
            }
            for name, picture in pictures.items()
        ]
        keys = {str(row["name"]): str(row["image"]) for row in rows}
        before = dict(self._existing("images", "image", keys.values(), "image, file"))
        lost = self._unsound(before.values())
        moved = [(row["file"], row["image"]) for row in rows if before.get(str(row["image"])) in lost]

        def keep(connection: duckdb.DuckDBPyConnection) -> None:
            _insert_into(connection, "images", rows)
            for change in moved:
                connection.execute("UPDATE images SET file = ? WHERE image = ?", list(change))
            _insert_into(connection, "stamps", self._new_stamps(str(row["file"]) for row in rows), replace=True)

        self._write(keep)
        return keys

    def images(self, keys: Sequence[str]) -> StoredPictures:
        """Sample images by key, in the order asked for; each is read when it is looked up."""
        rows = dict(self._existing("images", "image", keys, "image, file"))
        missing = [key for key in keys if key not in rows]
        if missing:
            raise StoreError(f"{self.path}: image {missing[0]} is not in the store; materialize sample_images again")
        if lost := sorted(self._unsound(rows.values())):
            raise StoreError(
                f"{self.pictures.folder / lost[0]}: the picture of a sample image ({len(lost)} in all) is lost or not "
                "what it was; run the study again, or materialize sample_images: it is prepared again"
            )
        return StoredPictures({key: StoredPicture(self.pictures, rows[key]) for key in keys})

    def put_samples(self, study: str, keys: Mapping[str, str]) -> None:
        """Say which images (key -> name, in order) a study is made on."""
        rows = [(study, position, key, name) for position, (key, name) in enumerate(keys.items())]

        def put(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute("DELETE FROM samples WHERE study = ?", [study])
            connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?)", rows)

        self._write(put)

    def put_image_columns(self, study: str, columns: Mapping[str, Mapping[str, str | None]]) -> None:
        """Say what a table tells of a study's images (key -> column -> value); nothing of those without columns."""
        rows = [(study, key, name, value) for key, row in columns.items() for name, value in row.items() if value]

        def put(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute("DELETE FROM image_columns WHERE study = ?", [study])
            if rows:
                connection.executemany("INSERT INTO image_columns VALUES (?, ?, ?, ?)", rows)

        if rows or self.image_columns(study):
            self._write(put)

    def image_columns(self, study: str) -> dict[str, dict[str, str]]:
        """Image key -> column -> value, of the images of which a table says something."""
        found: dict[str, dict[str, str]] = {}
        statement = 'SELECT image, "column", value FROM image_columns WHERE study = ? ORDER BY image, "column"'
        for image, column, value in self.rows(statement, [study]):
            found.setdefault(image, {})[column] = value
        return found

    def samples(self, study: str) -> dict[str, str]:
        """Image key -> name, in order.

        Raises:
            StoreError: the study's images have not been read yet.
        """
        found = self.rows("SELECT image, name FROM samples WHERE study = ? ORDER BY position", [study])
        if not found:
            raise StoreError(f"{self.path}: study {study!r} has no sample images yet; materialize sample_images first")
        return dict(found)

    def sample_count(self, study: str) -> int:
        """How many sample images of a study have been read; 0 before any."""
        ((found,),) = self.rows("SELECT count(*) FROM samples WHERE study = ?", [study])
        return int(found)

    # Answers of a VLM

    def get(self, key: str) -> str | None:
        """The stored answer to a request, or None."""
        rows = self._existing("answers", "request", [key], "answer")
        return rows[0][0] if rows else None

    def put(self, key: str, answer: str, usage: Mapping[str, Any]) -> None:
        """Keep the answer to a request, without the secrets that a server may have repeated in it."""
        self._insert("answers", [{"request": key, "answer": redact(answer), "usage": json.dumps(dict(usage))}])

    # Corpus

    def put_corpus(self, study: str, corpus: Corpus) -> None:
        """Keep one version of a study's corpus."""
        version = {"study": study, "corpus_version": corpus.version}
        self._insert(
            "features",
            [
                {
                    **version, "feature": f.id, "position": i, "level": f.level, "name": f.name, "prompt": f.prompt,
                    "direction": f.direction, "editable": f.editable, "support": f.support, "region": f.region,
                    "source": f.source,
                }
                for i, f in enumerate(corpus.walk())
            ],
        )  # fmt: skip
        forget = "DELETE FROM drops WHERE study = ? AND corpus_version = ?"
        self._write(lambda c: c.execute(forget, list(version.values())))  # by other drops the same tree: the last count
        self._insert("drops", [{**version, "name": drop.name, "reason": drop.reason} for drop in corpus.drops])

    def set_current(self, study: str, what: str, version: str) -> None:
        """Say which version of something ("proposal", "corpus") a study uses now."""
        self._insert("currents", [{"study": study, "what": what, "version": version}], replace=True)

    def current_corpus(self, study: str, what: str = "corpus") -> Corpus:
        """The corpus (or the VLM's proposal) that a study uses now.

        Raises:
            StoreError: there is none yet.
        """
        with self.hold():
            found = self.rows("SELECT version FROM currents WHERE study = ? AND what = ?", [study, what])
            if not found:
                stage = "corpus" if what == "corpus" else "vlm_corpus"
                raise StoreError(f"{self.path}: study {study!r} has no {what} yet; materialize {stage} first")
            return self._corpus(study, found[0][0])

    def corpus_version(self, study: str, version: str) -> Corpus:
        """One version of a study's corpus, by its hash or the beginning of it.

        Raises:
            StoreError: there is none, or several begin so; lists what there is.
        """
        known = self.query("SELECT DISTINCT corpus_version AS v FROM features WHERE study = ? ORDER BY v", [study])["v"]
        found = [v for v in known if v.startswith(version)]
        if len(found) != 1:
            raise StoreError(f"{self.path}: no single corpus version of {study!r} begins with {version!r}; there are "
                             f"{', '.join(known) or 'none'}")  # fmt: skip
        return self._corpus(study, found[0])

    def _corpus(self, study: str, version: str) -> Corpus:
        with self.hold():
            rows = self.rows(
                """SELECT feature, name, prompt, direction, editable, support, region, source FROM features
                WHERE study = ? AND corpus_version = ? ORDER BY position""",
                [study, version],
            )
            drops = self.rows(
                "SELECT name, reason FROM drops WHERE study = ? AND corpus_version = ? ORDER BY name", [study, version]
            )
        return _tree(rows, tuple(Drop(*drop) for drop in drops))

    def put_gates(self, identity: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep which groups the beam kept; `identity` has study, classifier, editor and corpus_version."""
        self._insert("gates", [{**identity, **row} for row in rows], replace=True)

    # Edits

    def stored_edits(self, requests: Sequence[EditRequest], editor: str) -> dict[EditRequest, str]:
        """Which of these edits exist, and the picture file of each; one whose file was lost or altered does not."""
        keys = {edit_key(request, editor): request for request in requests}
        found = self._existing("edits", "edit", keys, "edit, file")
        lost = self._unsound(file for _, file in found)
        return {keys[key]: file for key, file in found if file not in lost}

    def edit_size(self, editor: str, image: str) -> tuple[int, int] | None:
        """Width and height of an editor's (fingerprint) edits of images of this one's size (by key), if any."""
        found = self.rows(
            """SELECT e.file FROM edits e JOIN images i USING (image) JOIN images this ON this.image = ?
            WHERE e.editor = ? AND i.width = this.width AND i.height = this.height LIMIT 8""",
            [image, editor],
        )
        lost = self._unsound(file for (file,) in found)
        sound = [file for (file,) in found if file not in lost]
        return self.pictures.get(sound[0]).size if sound else None

    def image_name(self, key: str) -> str:
        """What a sample image is called, by its key; the key itself for one that is not here."""
        found = self._existing("images", "image", [key], "name")
        return str(found[0][0]) if found else key

    def put_edits(self, edits: Sequence[tuple[EditRequest, Image.Image]], editor: str) -> None:
        """Keep a batch of edits: files first, then all rows and the masks that they carry in one transaction.

        An edit that is there already stays as it is. One whose picture was lost or altered takes the new one's place,
        and where the new picture is another, what was known of the old one (scores, evidence, changes) goes.
        """
        keys = {edit_key(request, editor): request for request, _ in edits}
        before = dict(self._existing("edits", "edit", keys, "edit, file"))
        lost = self._unsound(before.values())
        fresh = [(k, r, p) for k, (r, p) in zip(keys, edits, strict=True) if before.get(k) is None or before[k] in lost]
        stored = {key: self.pictures.put(picture) for key, _, picture in fresh}
        masks = {key: mask for key, _, picture in fresh if (mask := _mask(picture))}
        rows = [
            {
                "edit": key,
                "image": request.image,
                "concepts": json.dumps(sorted(concept_parts(c) for c in request.concepts)),
                "editor": editor,
                "seed": request.seed,
                "file": stored[key],
            }
            for key, request, _ in fresh
        ]
        others = [row for row in rows if str(row["edit"]) in before and before[str(row["edit"])] != row["file"]]

        def keep(connection: duckdb.DuckDBPyConnection) -> None:
            for row in others:
                _replace_edit(connection, row)
            _insert_into(connection, "edits", rows)
            bits = [
                {"edit": key, "width": mask.width, "height": mask.height, "mask": mask.tobytes()}
                for key, mask in masks.items()
            ]
            _insert_into(connection, "masks", bits, replace=True)
            _insert_into(connection, "stamps", self._new_stamps(stored.values()), replace=True)

        self._write(keep)

    # Options of the editor

    def put_calibration(
        self, study: str, editor: str, choices: Mapping[Wanted, Choice], tries: Sequence[Try], final: Collection[str]
    ) -> None:
        """Keep what a study edits prompts with, and the tries that say so; `final` are the last settings tried."""
        of = {"study": study, "editor": editor}
        chosen = [
            {**of, "prompt": wanted.prompt, "direction": wanted.direction, **vars(choice)}
            for wanted, choice in choices.items()
        ]
        tried = [
            {
                **of, "prompt": each.wanted.prompt, "direction": each.wanted.direction, "group": each.wanted.group,
                "region": each.wanted.region, "image": each.image, "setting": each.setting, "took": each.took,
                "harm": each.harm, "final": each.setting in final,
            }
            for each in tries
        ]  # fmt: skip

        def put(connection: duckdb.DuckDBPyConnection) -> None:
            _insert_into(connection, "calibrations", chosen, replace=True)
            _insert_into(connection, "tries", tried, replace=True)

        self._write(put)

    def forget_calibration(self, study: str, editor: str) -> None:
        """Forget what prompts are edited with; the edits that it was found by stay."""

        def forget(connection: duckdb.DuckDBPyConnection) -> None:
            for table in ("calibrations", "tries"):
                connection.execute(f"DELETE FROM {table} WHERE study = ? AND editor = ?", [study, editor])  # noqa: S608

        self._write(forget)

    def calibration(self, study: str, editor: str) -> dict[tuple[str, str], Choice]:
        """(prompt, direction) -> what a study edits it with, for those that have been calibrated."""
        rows = self.rows(
            """SELECT prompt, direction, setting, success, harm, tries, why FROM calibrations
            WHERE study = ? AND editor = ? ORDER BY prompt, direction""",
            [study, editor],
        )
        return {(prompt, direction): Choice(*choice) for prompt, direction, *choice in rows}

    def tries(self, study: str, editor: str) -> tuple[list[Try], list[str]]:
        """The tries of a study, and the settings that were tried last."""
        rows = self.rows(
            """SELECT prompt, direction, "group", region, image, setting, took, harm, final FROM tries
            WHERE study = ? AND editor = ? ORDER BY prompt, direction, image, setting""",
            [study, editor],
        )
        found = [Try(Wanted(*row[:4]), *row[4:8]) for row in rows]
        return found, sorted({row[5] for row in rows if row[8]})

    def current(self, study: str, what: str) -> str | None:
        """The version of something that a study uses now; None before there is one."""
        found = self.rows("SELECT version FROM currents WHERE study = ? AND what = ?", [study, what])
        return str(found[0][0]) if found else None

    def stored_masks(self, edits: Iterable[str]) -> dict[str, Image.Image]:
        """Where edits (by key) were allowed to change their pictures, where that is known: mode L, 255 there."""
        rows = self._existing("masks", "edit", edits, "edit, width, height, mask")
        return {
            edit: Image.frombytes("1", (width, height), bytes(bits)).convert("L") for edit, width, height, bits in rows
        }

    def stored_changes(self, edits: Iterable[str], lpips: str | None = None) -> dict[str, Change]:
        """What edits (by key) changed; with `lpips`, a backbone, only those whose LPIPS was measured with it."""
        rows = self._existing("changes", "edit", edits, "edit, strength, ssim, inside, area, lpips, lpips_net")
        return {
            edit: Change(strength, ssim, inside, area, distance if lpips else None)
            for edit, strength, ssim, inside, area, distance, net in rows
            if lpips in (None, net)
        }

    def put_changes(self, changes: Mapping[str, Change], lpips: str | None = None) -> None:
        """Keep what edits changed (key -> change), in place of what is known; `lpips` is the backbone, if any."""
        rows = [{"edit": key, **vars(change), "lpips_net": lpips} for key, change in changes.items()]
        self._insert("changes", rows, replace=True)

    # Scores

    def stored_scores(self, subjects: Iterable[str], classifier: str) -> dict[str, np.ndarray]:
        """Outputs of a classifier (fingerprint) on edits or images that have been scored."""
        rows = self._existing("scores", "subject", subjects, "subject, outputs", classifier=classifier)
        return {subject: np.asarray(outputs, dtype=np.float64) for subject, outputs in rows}

    def has_scores(self, classifier: str) -> bool:
        """Whether a classifier (fingerprint) has scored anything here."""
        if not self.path.exists():
            return False
        return bool(self.rows("SELECT 1 FROM scores WHERE classifier = ? LIMIT 1", [classifier]))

    def put_scores(self, scores: Mapping[str, np.ndarray], classifier: str) -> None:
        """Keep a classifier's outputs (subject -> logits of shape (classes,))."""
        rows = [{"subject": s, "classifier": classifier, "outputs": o.tolist()} for s, o in scores.items()]
        self._insert("scores", rows)

    # Evidence

    def stored_evidence(self, pairs: Iterable[tuple[str, str]], probe: str) -> dict[tuple[str, str], float]:
        """A probe's (fingerprint) answers on (edit, prompt) pairs that it has judged."""
        wanted = set(pairs)
        subjects = (subject for subject, _ in wanted)
        rows = self._existing("evidence", "subject", subjects, "subject, concept, value", probe=probe)
        return {(subject, concept): value for subject, concept, value in rows if (subject, concept) in wanted}

    def put_evidence(self, answers: Iterable[tuple[tuple[str, str], float]], probe: str) -> None:
        """Keep a probe's answers ((edit, prompt), evidence)."""
        rows = [{"subject": s, "concept": c, "probe": probe, "value": float(value)} for (s, c), value in answers]
        self._insert("evidence", rows)

    # Where classifiers look

    def stored_looks(self, subjects: Iterable[str], classifier: str) -> dict[str, tuple[np.ndarray, float]]:
        """Grad-CAM maps of edits: subject -> (map of shape (h, w), share of the picture's side that it covers)."""
        found = self._existing("looks", "subject", subjects, 'subject, "rows", crop, map', classifier=classifier)
        return {s: (np.asarray(heat, dtype=np.float64).reshape(rows, -1), crop) for s, rows, crop, heat in found}

    def put_looks(self, maps: Mapping[str, tuple[np.ndarray, float]], classifier: str) -> None:
        """Keep Grad-CAM maps; see `stored_looks`."""
        rows = [
            {"subject": s, "classifier": classifier, "rows": len(heat), "crop": crop, "map": heat.ravel().tolist()}
            for s, (heat, crop) in maps.items()
        ]
        self._insert("looks", rows)

    # Whether pictures are what they were

    def _unsound(self, found: Iterable[str]) -> set[str]:
        """Which of these picture files are lost or altered; see `store.files`."""
        now = {file: self.pictures.stamp(file) for file in dict.fromkeys(found)}
        lost = {file for file, stamp in now.items() if stamp is None}
        unknown = [file for file in now if file not in lost and self._sound.get(file) != now[file]]
        if not unknown:
            return lost
        rows = self._existing("stamps", "file", unknown, "file, bytes, modified")
        self._sound |= {file: (size, modified) for file, size, modified in rows if now[file] == (size, modified)}
        unread = [file for file in unknown if self._sound.get(file) != now[file]]
        if not unread:
            return lost
        with self.let_go():  # thousands may have to be read
            sound = [file for file in unread if self.pictures.is_sound(file)]
        self._insert("stamps", self._new_stamps(sound), replace=True)
        return lost | (set(unread) - set(sound))

    def _new_stamps(self, sound: Iterable[str]) -> list[dict[str, Any]]:
        """The rows that say that the content of these files is right as they are now."""
        new = {f: stamp for f in sound if (stamp := self.pictures.stamp(f)) and self._sound.get(f) != stamp}
        self._sound |= new
        return [{"file": f, "bytes": size, "modified": time} for f, (size, time) in new.items()]

    def bad_pictures(self) -> tuple[list[str], list[str]]:
        """Read every picture that the database names: (lost files, altered files). Those are made again by a run."""
        with self.hold():
            named = self.rows("SELECT DISTINCT file FROM edits UNION SELECT file FROM images ORDER BY file")
        lost = [file for (file,) in named if self.pictures.stamp(file) is None]
        altered = [f for (f,) in named if f not in set(lost) and not self.pictures.is_sound(f)]
        self._write(
            lambda connection: connection.execute(
                "DELETE FROM stamps WHERE file IN (SELECT unnest(?::VARCHAR[]))", [[*lost, *altered]]
            )
        )
        self._sound = {file: stamp for file, stamp in self._sound.items() if file not in {*lost, *altered}}
        sound = [file for (file,) in named if file not in {*lost, *altered}]
        self._insert("stamps", self._new_stamps(sound), replace=True)
        return lost, altered

    def superfluous(self) -> Superfluous:
        """What `prune` would remove: reports that a later one replaced, and files that no row names."""
        named = {file for (file,) in self.rows("SELECT file FROM edits UNION SELECT file FROM images")}
        own = self.pictures.folder == self.folder  # another database may name pictures in a folder that is shared
        loose = [file for file in self.pictures.everything() if file not in named] if own else []
        size = sum(stamp[0] for file in loose if (stamp := self.pictures.stamp(file)))
        shown = {run for (run,) in self.rows(_SHOWN_RUNS)}
        runs = [run for (run,) in self.rows("SELECT DISTINCT run FROM rankings ORDER BY run") if run not in shown]
        ((rows,),) = self.rows("SELECT count(*) FROM effects WHERE run IN (SELECT unnest(?::VARCHAR[]))", [list(runs)])
        return Superfluous(tuple(runs), int(rows), tuple(loose), size)

    def prune(self) -> None:
        """Remove what `superfluous` lists. Edits and scores stay, whatever reports show of them."""
        found = self.superfluous()

        def forget(connection: duckdb.DuckDBPyConnection) -> None:
            runs = [list(found.runs)]
            for table in ("effects", "side_effects", "interactions", "subgroups", "rankings"):
                connection.execute(f"DELETE FROM {table} WHERE run IN (SELECT unnest(?::VARCHAR[]))", runs)  # noqa: S608
            connection.execute("DELETE FROM reports WHERE rows_of IN (SELECT unnest(?::VARCHAR[]))", runs)

        self._write(forget)
        for file in found.files:
            with contextlib.suppress(FileNotFoundError):
                (self.pictures.folder / file).unlink()

    # Whose results these are

    def claim(self, study: str, file: Path) -> None:
        """Say that a study's rows come from a study file; a file that was moved or renamed keeps them.

        Raises:
            StoreError: another study file of the same name has results here: its rows would be mixed with these.
        """
        if (other := self.other_owner(study, file)) is not None:
            raise StoreError(
                f"{file}: {self.folder} holds the results of another study named {study!r} ({other}); give this study "
                "another name, or another results folder"
            )
        here = self._from_here(file)
        if self._existing("owners", "study", [study], "file") != [(here,)]:
            self._insert("owners", [{"study": study, "file": here}], replace=True)

    def other_owner(self, study: str, file: Path) -> Path | None:
        """Another study file, which is still there, that has results here under this one's name."""
        found = self._existing("owners", "study", [study], "file")
        if not found or found[0][0] == self._from_here(file) or not (self.folder / found[0][0]).is_file():
            return None
        return Path(os.path.normpath(self.folder / found[0][0]))

    def _from_here(self, file: Path) -> str:
        return Path(os.path.relpath(file, self.folder)).as_posix()

    # What a report shows

    def put_report(
        self,
        identity: Mapping[str, str],
        ranked: Sequence[RankedFeature],
        side_effects: Iterable[SideEffect],
        effects: Sequence[Mapping[str, Any]],
        interactions: Sequence[Interaction] = (),
        subgroups: Sequence[SubgroupEffect] = (),
    ) -> None:
        """Keep what a report shows; where one of the same study, classifier, editor and corpus said the same, only that
        it was made again.

        Args:
            identity: study, classifier_name, classifier, editor, corpus_version and run.
            effects: the paired differences behind it, rows of `effects` without the identity.
        """
        side_effects = list(side_effects)
        of_rows = {name: value for name, value in identity.items() if name != "classifier_name"}
        same = {name: value for name, value in identity.items() if name not in ("run", "classifier")}
        shown = [[repr(getattr(row, field)) for field in RANKING_FIELDS] for row in ranked]
        content = digest(
            shown,
            [repr(row.confounded_with) for row in ranked],
            sorted(repr(each) for each in side_effects),
            sorted(repr(sorted(row.items())) for row in effects),
            *(sorted(map(repr, some)) for some in (interactions, subgroups) if some),
        )
        earlier = self._existing("reports", "classifier", [identity["classifier"]], "rows_of", content=content, **same)
        rows_of = earlier[0][0] if earlier else identity["run"]
        if not earlier:
            self.put_ranking(identity, ranked)
            self.put_side_effects(of_rows, side_effects)
            self.put_effects(of_rows, effects)
            self._insert("interactions", [{**of_rows, **vars(each)} for each in interactions], replace=True)
            self._insert("subgroups", [{**of_rows, **vars(each)} for each in subgroups], replace=True)
        report = {**identity, "rows_of": rows_of, "content": content}

        def put(connection: duckdb.DuckDBPyConnection) -> None:
            found = connection.execute("SELECT coalesce(max(written), 0) + 1 FROM reports").fetchone()
            _insert_into(connection, "reports", [{"written": found[0] if found else 1, **report}])

        self._write(put)

    def latest_ranking(self, study: str, classifier_name: str, editor: str) -> list[RankedFeature]:
        """The ranked list of the latest report of a classifier under an editor (fingerprint); empty without one."""
        of = [study, classifier_name, editor]
        with self.hold():
            latest = self.rows(_LATEST.format(run="rows_of", table="reports", order="written"), of)
            if not latest:  # from before reports were counted
                latest = self.rows(_LATEST.format(run="run", table="rankings", order="created"), of)
            if not latest:
                return []
            columns = ", ".join(f'r."{field}"' for field in RANKING_FIELDS)
            same = "study, classifier, editor, corpus_version, run"
            rows = self.rows(
                f"""WITH r AS (SELECT * FROM rankings
                    WHERE study = ? AND editor = ? AND classifier = ? AND corpus_version = ? AND run = ?)
                SELECT {columns}, s.looked_for, o.name, s.leak, s.direct, s.direct_low, s.direct_high FROM r
                LEFT JOIN (SELECT *, edited AS feature, looked_for AS confounded_with FROM side_effects) s
                    USING ({same}, feature, confounded_with)
                LEFT JOIN r o ON o.feature = r.confounded_with
                ORDER BY r.rank""",  # noqa: S608 (our own column names)
                [study, editor, *latest[0]],
            )
        return [_ranked(row) for row in rows]

    def put_ranking(self, identity: Mapping[str, str], ranked: Sequence[RankedFeature]) -> None:
        """Keep a report's ranked list; `identity` has all other columns but `created`."""
        rows = [
            {
                **identity,
                **{field: getattr(row, field) for field in RANKING_FIELDS},
                "confounded_with": row.confounded_with and row.confounded_with.feature,
            }
            for row in ranked
        ]
        self._insert("rankings", rows, replace=True)

    def put_side_effects(self, identity: Mapping[str, str], found: Iterable[SideEffect]) -> None:
        """Keep what the edits of features do to each other; `identity` has study, classifier, editor, version, run."""
        self._insert("side_effects", [{**identity, **vars(each)} for each in found], replace=True)

    def put_effects(self, identity: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the paired differences behind a report."""
        self._insert("effects", [{**identity, **row} for row in rows], replace=True)


def _replace_edit(connection: duckdb.DuckDBPyConnection, row: Mapping[str, Any]) -> None:
    """Give an edit another picture: nothing that was measured on the old one stays."""
    key = row["edit"]
    connection.execute("UPDATE edits SET file = ? WHERE edit = ?", [row["file"], key])
    for table, column in (("scores", "subject"), ("evidence", "subject"), ("looks", "subject"), ("changes", "edit")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", [key])  # noqa: S608 (our own names)
    if row["concepts"] == "[]":  # a null edit: what every other edit of the image is measured against
        connection.execute(
            """DELETE FROM changes WHERE edit IN (
                SELECT edit FROM edits WHERE image = ? AND editor = ? AND seed = ?)""",
            [row["image"], row["editor"], row["seed"]],
        )


@dataclass(frozen=True)
class Superfluous:
    """What may go: runs whose reports a later one replaced, their rows of `effects`, and files that no row names."""

    runs: tuple[str, ...]
    rows: int
    files: tuple[str, ...]
    bytes: int  # of the files


_LATEST = """SELECT classifier, corpus_version, {run} FROM {table}
    WHERE study = ? AND classifier_name = ? AND editor = ? ORDER BY {order} DESC LIMIT 1"""

_SHOWN_RUNS = """
    SELECT arg_max(rows_of, written) FROM reports GROUP BY study, classifier_name, editor
    UNION SELECT arg_max(run, created) FROM rankings
        WHERE (study, classifier_name, editor) NOT IN (SELECT (study, classifier_name, editor) FROM reports)
        GROUP BY study, classifier_name, editor"""
"""The runs whose rows are the latest report of some study, classifier and editor."""


def _ranked(row: Sequence[Any]) -> RankedFeature:
    """A row of the query for the latest ranking."""
    shown, (other, name, *numbers) = row[: len(RANKING_FIELDS)], row[len(RANKING_FIELDS) :]
    companion = Confounder(other, name, *numbers) if other else None
    values = dict(zip(RANKING_FIELDS, shown, strict=True))
    values["among"] = values["among"] or "all"  # rows from before there was a choice
    return RankedFeature(**values, confounded_with=companion)


def _mask(picture: Image.Image) -> Image.Image | None:
    """The mask that an edited picture carries, one bit a place."""
    mask = picture.info.get(MASK)  # a file may bring anything under that name
    return mask.convert("L").point(lambda level: 255 * (level > 0), mode="1") if isinstance(mask, Image.Image) else None


def _tree(rows: Sequence[tuple[Any, ...]], drops: tuple[Drop, ...]) -> Corpus:
    """Rows of `features` (parents before children) -> the tree; an id is its path."""

    def children(parent: str) -> tuple[Feature, ...]:
        return tuple(
            Feature(row[0], row[1], row[2], row[3], row[4], children(row[0]), row[5], row[6], row[7])
            for row in rows
            if row[0].rpartition("/")[0] == parent
        )

    return Corpus(children(""), drops)
