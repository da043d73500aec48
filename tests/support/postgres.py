"""A PostgreSQL server of the tests' own, on loopback, with its files in a folder of theirs."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def _programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`: Debian keeps them out of the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        folders.append(Path(found).parent)
    return next((each for each in folders if (each / "initdb").exists() and (each / "pg_ctl").exists()), None)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a server's database, while it runs; skips the test where there is no server to be had."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    as_other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # the server does not run as root
    folder = Path(tempfile.mkdtemp(prefix="diffex-postgres-"))  # pytest's folders are their owner's only
    if as_other:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        subprocess.run([*as_other, programs / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")

    run("initdb", "-D", str(data), "-A", "trust", "-U", "diffex", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
    run("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://diffex@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "fast", "-t", "120", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def in_postgres(url: str) -> Callable[..., Any]:
    """Stands for `DuckDatabase`: the tables of a results folder in a schema of its own."""
    from diffex_dagster.store.postgres import PgDatabase

    def made(path: Path, reading: bool = False, lock_timeout: float | None = None) -> PgDatabase:
        return PgDatabase(url, reading, "t" + hashlib.sha256(str(path).encode()).hexdigest()[:16])

    return made
