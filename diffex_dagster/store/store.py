"""The results of a study: all tables of its database, and the pictures beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from diffex_dagster.errors import StoreError
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.corpora import CorpusTables
from diffex_dagster.store.database import Database
from diffex_dagster.store.duck import DuckDatabase
from diffex_dagster.store.edits import EditTables
from diffex_dagster.store.places import Folder, PicturePlace
from diffex_dagster.store.reports import ReportTables
from diffex_dagster.store.rounds import RoundTables

SETTLED = 3600.0  # seconds that a picture without a row is left alone where others may be at work


class Store(EditTables, CorpusTables, ReportTables, RoundTables):
    """Everything a study has computed, in one folder.

    Args:
        folder: the results folder; made on first use.
        lock_timeout: see `DuckDatabase`.
        reading: open the database read-only, so that several may read at once, on a disk that cannot be written too.
            Where there is no database, it is an empty one.
        pictures: the folder that holds `pictures/`, where it is another one (a disk that several machines share), or
            the address of a bucket that does.
        database: that has the tables, where it is not the DuckDB file of the folder; `lock_timeout` and `reading` are
            its own then.
    """

    def __init__(
        self,
        folder: Path,
        lock_timeout: float | None = None,
        reading: bool = False,
        pictures: Path | str | PicturePlace | None = None,
        database: Database | None = None,
    ) -> None:
        self.folder = folder
        self.path = folder / "diffex.duckdb"
        super().__init__(
            database or DuckDatabase(self.path, reading, lock_timeout), folder if pictures is None else pictures
        )

    @property
    def reading(self) -> bool:
        """Whether it only reads."""
        return self.database.reading

    def to_read(self, lock_timeout: float | None = None) -> Store:
        """The same results, opened for reading only; `lock_timeout` is how long to wait for others, in seconds."""
        return Store(self.folder, pictures=self.pictures.place, database=self.database.to_read(lock_timeout))

    @property
    def shares_pictures(self) -> bool:
        """Whether other databases may name pictures where these are: anywhere but in the results folder itself."""
        place = self.pictures.place
        return not (isinstance(place, Folder) and place.folder == self.folder)

    def identity(self) -> str:
        """Which database this is; "none" where there is none yet. A move keeps it, a new database has another."""
        return str(self.rows("SELECT id FROM store_identity")[0][0]) if self.exists() else "none"

    def count(self, table: str, editor: str = "", classifier: str = "") -> int:
        """How many rows a table has: of an editor, or of a classifier, where its fingerprint is given."""
        of = {"editor": editor, "classifier": classifier}
        column, value = next(((name, value) for name, value in of.items() if value), ("true", True))
        ((found,),) = self.rows(f"SELECT count(*) FROM {table} WHERE {column} = ?", [value])  # noqa: S608 (our names)
        return int(found)

    def columns(self, table: str) -> dict[str, str]:
        """Name -> type of a table's columns, in their order."""
        return self.database.columns(table)

    # What may go

    def superfluous(self, space: str = "") -> Superfluous:
        """What `prune` would remove: reports that a later one replaced, and files that no row names.

        Args:
            space: whose reports; edits, and so pictures, are of all spaces.
        """
        alone = self.only_user()
        loose = self.nameless(SETTLED if self.shares_pictures else 0.0) if alone else {}
        shown = set(self.rows(_SHOWN_RUNS))
        where, value = ("starts_with(study, ?)", f"{space}/") if space else ("strpos(study, ?) = 0", "/")
        made = self.rows(f"SELECT DISTINCT study, run FROM rankings WHERE {where} ORDER BY run, study", [value])  # noqa: S608
        replaced = [(study, run) for study, run in made if (study, run) not in shown]
        rows = sum(
            self.rows("SELECT count(*) FROM effects WHERE study = ? AND run = ?", each)[0][0] for each in replaced
        )
        return Superfluous(tuple(replaced), rows, tuple(sorted(loose)), sum(loose.values()), alone)

    def prune(self, space: str = "") -> None:
        """Remove what `superfluous` lists. Edits and scores stay, whatever reports show of them."""
        found = self.superfluous(space)

        def forget(connection: Connection) -> None:
            for each in found.replaced:
                for table in ("effects", "side_effects", "interactions", "subgroups", "rankings"):
                    connection.execute(f"DELETE FROM {table} WHERE study = ? AND run = ?", each)  # noqa: S608
                connection.execute("DELETE FROM reports WHERE study = ? AND rows_of = ?", each)

        self.database.write(forget)
        for file in found.files:
            self.pictures.place.remove(file)

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
        if not found or found[0][0] == self._from_here(file):
            return None
        other = Path(os.path.normpath(self.folder / found[0][0]))  # the results folder itself need not be there
        return other if other.is_file() else None

    def _from_here(self, file: Path) -> str:
        return Path(os.path.relpath(file, self.folder)).as_posix()


@dataclass(frozen=True)
class Superfluous:
    """What may go: reports that a later one replaced, their rows of `effects`, and files that no row names."""

    replaced: tuple[tuple[str, str], ...]  # (study as it is kept, run)
    rows: int
    files: tuple[str, ...]
    bytes: int  # of the files
    alone: bool = True  # whether no other database names pictures there: else no file is listed

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that made the reports."""
        return tuple(dict.fromkeys(run for _, run in self.replaced))


_SHOWN_RUNS = """
    (SELECT DISTINCT ON (study, classifier_name, editor) study, rows_of FROM reports
        ORDER BY study, classifier_name, editor, written DESC)
    UNION (SELECT DISTINCT ON (study, classifier_name, editor) study, run FROM rankings r
        WHERE NOT EXISTS (SELECT 1 FROM reports o
            WHERE o.study = r.study AND o.classifier_name = r.classifier_name AND o.editor = r.editor)
        ORDER BY study, classifier_name, editor, created DESC)"""
"""The studies and runs whose rows are the latest report of some study, classifier and editor."""
