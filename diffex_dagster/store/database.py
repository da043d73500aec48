"""The results database.

A read-write DuckDB connection shuts every other process out, so a connection is opened for each batch and closed again,
never held over model work, and opening is tried again while another process has the file. Opening takes 10 ms or more:
a stage that asks many small questions holds one connection meanwhile (`hold`), and what works on a model lets go of it
(`let_go`). A picture is written to disk before the row that names it: a row is a promise that its file exists, and a
killed run loses at most one batch.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from PIL import Image
from tenacity import RetryError, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from diffex_dagster.corpus.tree import Corpus, Drop, Feature
from diffex_dagster.editing.protocol import MASK, EditRequest
from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.edit_metrics import Change
from diffex_dagster.errors import StoreError, first_line
from diffex_dagster.report.model import RankedFeature
from diffex_dagster.store.files import PictureFiles, StoredPicture, StoredPictures
from diffex_dagster.store.keys import edit_key, image_key

if TYPE_CHECKING:
    import pandas as pd  # half a second: not before a query


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, duckdb.IOException) and "lock" in str(error).lower()


RANKING_FIELDS = (
    "rank", "feature", "name", "prompt", "direction", "group", "level", "effect", "ci_low", "ci_high", "magnitude",
    "sign_agreement", "flip_rate", "images", "decision", "p_value", "edit_strength", "edit_success",
    "ssim", "lpips", "inside_mask", "mask_area",
)  # fmt: skip
"""The fields of a ranked feature that are columns of `rankings`."""
LOCK_TIMEOUT = 30.0  # seconds to keep trying while another process holds the database
_HAVE_TABLES: set[Path] = set()  # databases that this process has run the schema on
_MAKING_TABLES = threading.Lock()


class _Held(threading.local):
    """A thread's open connection, and how many `hold` it is in."""

    connection: duckdb.DuckDBPyConnection | None = None
    holds = 0


class Store:
    """Everything a study has computed, in one folder.

    Args:
        folder: the results folder; made on first use.
        lock_timeout: seconds to keep trying while another process holds the database; LOCK_TIMEOUT when left out.
    """

    def __init__(self, folder: Path, lock_timeout: float | None = None) -> None:
        self.folder = folder
        self.path = folder / "diffex.duckdb"
        self.lock_timeout = LOCK_TIMEOUT if lock_timeout is None else lock_timeout
        self.pictures = PictureFiles(folder)
        self._held = _Held()

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
        except BaseException:
            self._close()  # without a commit, closing rolls back
            raise
        if not self._held.holds:
            self._close()

    def _close(self) -> None:
        connection, self._held.connection = self._held.connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        """A connection to a database that has all tables."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for attempt in Retrying(
                retry=retry_if_exception(_is_locked),
                stop=stop_after_delay(self.lock_timeout),
                wait=wait_random_exponential(multiplier=0.05, max=1.0),
            ):
                with attempt:
                    connection = duckdb.connect(str(self.path))
        except RetryError as error:
            raise StoreError(
                f"{self.path}: the database is locked by another process; close the program that has it open "
                "(another run, or a DuckDB client) and run again: what was finished is kept"
            ) from error
        except (duckdb.Error, OSError) as error:
            raise StoreError(
                f"{self.path}: the results database cannot be opened ({first_line(error)}); check that the "
                "folder is writable, or move the file away to start a new one"
            ) from error
        try:
            self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Run the schema, unless this process has run it on this file, which still has tables.

        The file may have been moved away and begun anew under its name, by another process or `run --fresh`.
        """
        with _MAKING_TABLES:
            if self.path in _HAVE_TABLES and connection.execute("SELECT 1 FROM duckdb_tables() LIMIT 1").fetchone():
                return
            schema = files("diffex_dagster.store").joinpath("schema.sql").read_text("utf-8")
            connection.execute(f"BEGIN; {schema} COMMIT;")  # all tables or none
            _HAVE_TABLES.add(self.path)

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]], replace: bool = False) -> None:
        if not rows:
            return
        columns = list(rows[0])
        names = ", ".join(f'"{column}"' for column in columns)
        verb = "INSERT OR REPLACE" if replace else "INSERT OR IGNORE"
        with self._connect() as connection:  # a list a column: one parameter a value takes 20 times as long
            connection.execute(
                f"{verb} INTO {table} ({names}) SELECT {', '.join(['unnest(?)'] * len(columns))}",
                [[row[column] for row in rows] for column in columns],
            )

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
        keys = {name: image_key(picture) for name, picture in pictures.items()}
        rows = [
            {
                "image": keys[name],
                "name": name,
                "file": self.pictures.put(picture),
                "width": picture.width,
                "height": picture.height,
            }
            for name, picture in pictures.items()
        ]
        self._insert("images", rows)
        return keys

    def images(self, keys: Sequence[str]) -> StoredPictures:
        """Sample images by key, in the order asked for; each is read when it is looked up."""
        rows = dict(self._existing("images", "image", keys, "image, file"))
        missing = [key for key in keys if key not in rows]
        if missing:
            raise StoreError(f"{self.path}: image {missing[0]} is not in the store; materialize sample_images again")
        return StoredPictures({key: StoredPicture(self.pictures, rows[key]) for key in keys})

    def put_samples(self, study: str, keys: Mapping[str, str]) -> None:
        """Say which images (key -> name, in order) a study is made on."""
        rows = [(study, position, key, name) for position, (key, name) in enumerate(keys.items())]
        with self._connect() as connection:
            connection.execute("DELETE FROM samples WHERE study = ?", [study])
            connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?)", rows)

    def samples(self, study: str) -> dict[str, str]:
        """Image key -> name, in order.

        Raises:
            StoreError: the study's images have not been read yet.
        """
        found = self.rows("SELECT image, name FROM samples WHERE study = ? ORDER BY position", [study])
        if not found:
            raise StoreError(f"{self.path}: study {study!r} has no sample images yet; materialize sample_images first")
        return dict(found)

    # Answers of a VLM

    def get(self, key: str) -> str | None:
        """The stored answer to a request, or None."""
        rows = self._existing("answers", "request", [key], "answer")
        return rows[0][0] if rows else None

    def put(self, key: str, answer: str, usage: Mapping[str, Any]) -> None:
        """Keep the answer to a request."""
        self._insert("answers", [{"request": key, "answer": answer, "usage": json.dumps(dict(usage))}])

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
        with self._connect() as connection:  # the same tree may come about by other drops: the last ones count
            connection.execute("DELETE FROM drops WHERE study = ? AND corpus_version = ?", list(version.values()))
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
        """Which of these edits exist, and the picture file of each."""
        keys = {edit_key(request, editor): request for request in requests}
        return {keys[key]: file for key, file in self._existing("edits", "edit", keys, "edit, file")}

    def put_edits(self, edits: Sequence[tuple[EditRequest, Image.Image]], editor: str) -> None:
        """Keep a batch of edits: files and the masks that they carry first, then all rows in one transaction."""
        masks = {edit_key(request, editor): mask for request, picture in edits if (mask := _mask(picture))}
        self._insert(
            "masks",
            [
                {"edit": key, "width": mask.width, "height": mask.height, "mask": mask.tobytes()}
                for key, mask in masks.items()
            ],
        )
        self._insert(
            "edits",
            [
                {
                    "edit": edit_key(request, editor),
                    "image": request.image,
                    "concepts": json.dumps(sorted([c.prompt, c.direction] for c in request.concepts)),
                    "editor": editor,
                    "seed": request.seed,
                    "file": self.pictures.put(picture),
                }
                for request, picture in edits
            ],
        )

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

    # What a report shows

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
