"""The results database in PostgreSQL: the same tables, for several people and machines at once.

Readers never wait. Writers take turns, for the milliseconds that a commit takes: what one reads before it writes is
still so when it writes, and no two of them wait for each other's rows. No model works meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from diffex_dagster.errors import StoreError, first_line, passing
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.database import Database
from diffex_dagster.store.duck import SCHEMA, STORE_VERSION, schema_text

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

SCHEMA_NAME = "diffex"  # PostgreSQL's word for a folder of tables
RETRY = 60.0  # seconds to wait for a server that is away
_OTHER_WORDS = {r"\bDOUBLE\b": "DOUBLE PRECISION", r"\bBLOB\b": "BYTEA", r"\buuid\(\)": "gen_random_uuid()"}


def _schema() -> str:
    text = schema_text()
    for theirs, ours in _OTHER_WORDS.items():
        text = re.sub(theirs, ours, text)
    return text


class PgConnection(Connection):
    """A connection to PostgreSQL.

    Args:
        raw: in autocommit mode.
        keys: table -> columns of its primary key, and all its columns; filled as tables are asked about.
        done: takes the raw connection back.
    """

    def __init__(
        self,
        raw: psycopg.Connection[tuple[Any, ...]],
        keys: dict[str, tuple[tuple[str, ...], tuple[str, ...]]],
        done: Callable[[psycopg.Connection[tuple[Any, ...]]], None],
    ) -> None:
        self.raw, self._keys, self._done = raw, keys, done

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self._run(sql, parameters)
        return cursor.fetchall() if cursor.description else []

    def frame(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        import pandas as pd

        cursor = self._run(sql, parameters)
        return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description or ()])

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]], replace: bool = False) -> None:
        if not rows:
            return
        columns = list(rows[0])
        key, every = self._described(table)
        others = [column for column in every if column not in key]
        names, values = ", ".join(map(_quoted, columns)), ", ".join(["%s"] * len(columns))
        then = "DO NOTHING"
        if replace and key and others:
            to = ", ".join(f"{_quoted(column)} = excluded.{_quoted(column)}" for column in others)
            then = f"({', '.join(map(_quoted, key))}) DO UPDATE SET {to}"
        with self.raw.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT {then}",  # noqa: S608 (our own names)
                [[row[column] for column in columns] for row in rows],
            )

    def close(self) -> None:
        self._done(self.raw)

    def _run(self, sql: str, parameters: Sequence[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        if not parameters:
            return self.raw.execute(sql)
        return self.raw.execute(sql.replace("%", "%%").replace("?", "%s"), list(parameters))

    def _described(self, table: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if table not in self._keys:
            found = self.execute(
                """SELECT a.attname, coalesce(a.attnum = ANY(i.indkey), false) FROM pg_attribute a
                LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
                WHERE a.attrelid = ?::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""",
                [table],
            )
            self._keys[table] = tuple(n for n, of_key in found if of_key), tuple(n for n, _ in found)
        return self._keys[table]


class PgDatabase(Database):
    """Tables in a schema of a PostgreSQL database; made on first use.

    Args:
        url: postgresql://user@host:port/database; the password from PGPASSWORD or ~/.pgpass.
        reading: nothing is written but what saves work later.
        schema: that holds the tables.
        retry: seconds to wait for a server that is away.
    """

    kind = "postgres"
    longest = 60.0  # it shuts nobody out; given back when nobody asks, it is tried again before the next question

    def __init__(self, url: str, reading: bool = False, schema: str = SCHEMA_NAME, retry: float = RETRY) -> None:
        parts = urlsplit(url)
        shown = parts._replace(netloc=re.sub(r":[^:@/]*@", "@", parts.netloc))
        super().__init__(urlunsplit(shown), reading)
        self.url, self.schema, self.retry = url, schema, retry
        self._keys: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._free: list[psycopg.Connection[tuple[Any, ...]]] = []
        self._lock = threading.Lock()
        self._made = False

    def exists(self) -> bool:
        return bool(self.rows("SELECT 1 FROM edits LIMIT 1") or self.rows("SELECT 1 FROM images LIMIT 1"))

    def to_read(self, lock_timeout: float | None = None) -> PgDatabase:
        return PgDatabase(self.url, True, self.schema, self.retry if lock_timeout is None else lock_timeout)

    def plain(self, error: BaseException) -> BaseException:
        import psycopg

        if not isinstance(error, psycopg.Error):
            return error
        said = StoreError(
            f"{self.place}: the results database failed ({first_line(error)}); see that it is up and that this user "
            "may write there, and run again: what was finished is kept"
        )
        return passing(said) if isinstance(error, psycopg.OperationalError) else said

    def columns(self, table: str) -> dict[str, str]:
        return dict(
            self.rows(
                """SELECT column_name, data_type FROM information_schema.columns
                WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position""",
                [self.schema, table],
            )
        )

    def full_name(self, table: str) -> str:
        return f"{urlsplit(self.url).path.strip('/')}.{self.schema}.{table}"

    def write(self, work: Callable[[Connection], object]) -> None:
        """Do some work in one transaction, in turn with all others that write."""
        if self.reading:
            self.close()
            with contextlib.suppress(StoreError):
                PgDatabase(self.url, False, self.schema, 0.0).write(work)
            return
        with self.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(?)", [_number(f"{self.schema} write")])
            work(connection)

    def open(self) -> Connection:
        with self._lock:
            raw = self._free.pop() if self._free else None
        if raw is None or not _alive(raw):
            raw = self._connected()
        return PgConnection(raw, self._keys, self._back)

    def take(self, held: ExitStack, name: str) -> bool:
        """Whether a name was free; it is held then, by a connection of its own, and free again when that ends."""
        raw = self._connected()
        ((taken,),) = raw.execute("SELECT pg_try_advisory_lock(%s)", [_number(f"{self.schema} {name}")]).fetchall()
        if not taken:
            raw.close()
            return False
        held.callback(raw.close)
        return True

    def state(self) -> str:
        """Which server it is and whether this user may keep results there, in words; nothing is made or changed.

        Raises:
            StoreError: it cannot be reached, or this user may not write.
        """
        import psycopg

        raw = self._reached()
        try:
            return f"{self.place} answers (PostgreSQL {self._number_of(raw)}); its tables {self._tables_of(raw)}"
        except psycopg.Error as error:
            raise self.plain(error) from error
        finally:
            raw.close()

    @staticmethod
    def _number_of(raw: psycopg.Connection[tuple[Any, ...]]) -> str:
        ((number,),) = raw.execute("SELECT current_setting('server_version')").fetchall()
        return str(number).split()[0]

    def _tables_of(self, raw: psycopg.Connection[tuple[Any, ...]]) -> str:
        """What is to be said of the tables where this user may write or make them; raises StoreError where not."""
        schema = raw.execute(
            """SELECT has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE') FROM pg_namespace
            WHERE nspname = %s""",
            [self.schema],
        ).fetchone()
        tables = raw.execute(
            """SELECT pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'MEMBER'),
            has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
            AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relkind = 'r' ORDER BY c.relname""",
            [self.schema],
        ).fetchall()
        ((database,),) = raw.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchall()
        if not (all(schema) if schema else database) and not tables:
            raise StoreError(
                f"{self.place}: this user may not make the tables; let the owner GRANT it "
                + (f"USAGE and CREATE on the schema {self.schema}" if schema else "CREATE on the database")
            )
        if not tables:
            return "are made at the first run"
        assert schema is not None
        if not schema[0] or not all(written for _, _, written in tables):
            raise StoreError(
                f"{self.place}: this user may not write the tables; let the owner GRANT it USAGE on the schema "
                f"{self.schema}, and SELECT, INSERT, UPDATE and DELETE on ALL TABLES in it"
            )
        strangers = sorted({str(owner) for owner, own, _ in tables if not own})
        if not strangers:
            return "are there"
        owner = " and ".join(strangers)
        raw.execute(f'SET search_path TO "{self.schema}"')
        if self._schema_of(raw) != SCHEMA:
            raise StoreError(
                f"{self.place}: the tables are of another version of diffex_dagster, and this user may not change "
                f"them; let their owner, {owner}, run `diffex run` once with this version, or GRANT this user the role "
                f"{owner}"
            )
        return f"are there; an upgrade that changes them is first run by their owner, {owner}"

    def _back(self, raw: psycopg.Connection[tuple[Any, ...]]) -> None:
        """Keep a connection for the next question; what was not committed is rolled back."""
        import psycopg

        with contextlib.suppress(psycopg.Error):
            if not raw.closed:
                raw.rollback()
        with self._lock:
            if not raw.closed and len(self._free) < 4:
                self._free.append(raw)
                return
        raw.close()

    def _reached(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A new connection, as the server gives it; waits for one that is away.

        Raises:
            StoreError: psycopg is not installed, the server does not answer, or it refuses.
        """
        try:
            import psycopg
        except ImportError as error:
            raise StoreError(
                f"{self.place}: results in PostgreSQL need psycopg, which is not installed: pip install "
                "'diffex-dagster[postgres]'"
            ) from error
        end, pause = time.monotonic() + self.retry, 0.2
        while True:
            try:
                return psycopg.connect(self.url, autocommit=True, connect_timeout=10)
            except psycopg.Error as error:
                refused = getattr(error, "sqlstate", None) is not None or "no password" in str(error)
                if refused or time.monotonic() + pause > end:
                    raise passing(
                        StoreError(
                            f"{self.place}: the results database cannot be reached ({first_line(error)}); see that the "
                            "server is up, the address is right, and PGPASSWORD or ~/.pgpass has the password"
                        )
                    ) from error
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A new connection to a database that has all tables; raises StoreError as `_reached`."""
        raw = self._reached()
        try:
            raw.execute(f'SET search_path TO "{self.schema}"')
            if not self._made:
                self._make_tables(raw)
                self._made = True
            if self.reading:
                raw.execute("SET default_transaction_read_only = on")
        except BaseException as error:
            raw.close()
            plain = self.plain(error)
            if plain is error:
                raise
            raise plain from error
        return raw

    def _make_tables(self, raw: psycopg.Connection[tuple[Any, ...]]) -> None:
        """Run the schema on a database that was made under another one, or is new."""
        if self._schema_of(raw) == SCHEMA:
            return
        with raw.transaction():  # all tables or none
            raw.execute("SELECT pg_advisory_xact_lock(%s)", [_number(f"{self.schema} tables")])
            if self._schema_of(raw) == SCHEMA:
                return  # another process has made them meanwhile
            if raw.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self.schema]).fetchone() is None:
                raw.execute(f'CREATE SCHEMA "{self.schema}"')  # asks for CREATE on the database also where it is there
            raw.execute(_schema())
            raw.execute("DELETE FROM store_version")
            raw.execute("INSERT INTO store_version VALUES (%s, %s)", list(SCHEMA))

    def _schema_of(self, raw: psycopg.Connection[tuple[Any, ...]]) -> tuple[int, str] | None:
        name = f'"{self.schema}".store_version'
        if raw.execute("SELECT to_regclass(%s)", [name]).fetchall() == [(None,)]:
            return None
        found = raw.execute("SELECT version, schema FROM store_version").fetchone()
        if found and found[0] > STORE_VERSION:
            raise StoreError(
                f"{self.place}: the results were written by a newer diffex_dagster (version {found[0]} of the tables; "
                f"this one knows {STORE_VERSION}); install a newer one: nothing is wrong with the database"
            )
        return (int(found[0]), str(found[1])) if found else None


def _quoted(column: str) -> str:
    return f'"{column}"'


def _number(name: str) -> int:
    """What PostgreSQL calls a lock: 64 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _alive(raw: psycopg.Connection[tuple[Any, ...]]) -> bool:
    import psycopg

    try:
        raw.execute("SELECT 1")
    except psycopg.Error:
        raw.close()
        return False
    return True
