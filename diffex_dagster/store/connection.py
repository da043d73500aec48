"""What a store says to an open database, in the words that every database understands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd  # half a second: not before a query


class Connection(ABC):
    """An open connection to a database that has all tables. Statements mark their parameters with `?`."""

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; returns its rows."""

    @abstractmethod
    def frame(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """As `execute`, as a table with named columns."""

    @abstractmethod
    def insert(self, table: str, rows: Sequence[Mapping[str, Any]], replace: bool = False) -> None:
        """Add rows (column -> value, each with the same columns); those whose key exists stay, or are replaced."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the database. What was not committed is not kept. Raises nothing."""
