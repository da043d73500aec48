"""What the modules of the store's tables share: asking, and adding rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from diffex_dagster.store.database import Database

if TYPE_CHECKING:
    import pandas as pd  # half a second: not before a query


class Tables:
    """Some tables of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @property
    def place(self) -> str:
        """What messages call the database."""
        return self.database.place

    def exists(self) -> bool:
        """Whether there are any results yet."""
        return self.database.exists()

    def hold(self) -> AbstractContextManager[None]:
        """See `Database.hold`."""
        return self.database.hold()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Run a query, one statement, and return its rows; raises StoreError when the database cannot be opened."""
        with self.database.asking() as connection:
            return connection.frame(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As `query`, without the half second that pandas takes to import."""
        return self.database.rows(sql, parameters)

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]], replace: bool = False) -> None:
        if rows:
            self.database.write(lambda connection: connection.insert(table, rows, replace))

    def _existing(
        self, table: str, column: str, keys: Iterable[str], wanted: str, **equal: str
    ) -> list[tuple[Any, ...]]:
        """Columns `wanted` of the rows whose `column` is one of `keys` (any number), and whose other columns equal."""
        return self.rows(
            f"SELECT {wanted} FROM {table} WHERE {column} IN (SELECT unnest(?::VARCHAR[]))"  # noqa: S608 (our own names)
            + "".join(f" AND {name} = ?" for name in equal),
            [list(dict.fromkeys(keys)), *equal.values()],
        )
