"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from diffex_dagster.cli import main as cli
from diffex_dagster.study import Study, load_study
from tests.support import quick
from tests.support.buckets import S3, s3_server
from tests.support.postgres import in_postgres, postgres_server
from tests.support.project import ROOT, Run
from tests.support.toys import write_study

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session", autouse=True)
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Dagster instance on disk with the project's settings, which every test (and process of a test) shares."""
    home = tmp_path_factory.mktemp("dagster_home")
    shutil.copy(ROOT / ".dagster" / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        yield home


@pytest.fixture(scope="session", autouse=True)
def quickly() -> Iterator[None]:
    """Databases are opened cheaply and figures drawn once, also by fixtures that many tests share."""
    with pytest.MonkeyPatch.context() as patch:
        quick.databases(patch)
        quick.figures(patch)
        yield
    quick.close()


@pytest.fixture(autouse=True)
def as_users_open_it(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test about the DuckDB file opens it as a user does."""
    if request.node.get_closest_marker("duckdb_file"):
        monkeypatch.setattr("diffex_dagster.store.opening.connected", quick.connected)


def _room() -> int:
    """Bytes that files in memory may take."""
    return int(min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available))


def pytest_configure(config: pytest.Config) -> None:
    """One token for every Ray of the tests; the order of files below, where pytest-xdist would count their tests.

    Ray knows one mode a process, from when it is loaded, and would write a token into the home folder. Files of tests
    are in memory where there is room for three times as many: hundreds of databases wait for a disk at each commit.
    """
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    if MEMORY.is_dir() and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and _room() > 8 * 2**30:  # tests run programs
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take minutes are begun first, then those of many tests: none is left for the end."""
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if item.get_closest_marker("long")}
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (0, tests[item.path]) if item.path in long else (1, -tests[item.path]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", choices=("duckdb", "postgres"), default="duckdb", help="where stores keep their rows")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of the tests' own."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server of the tests' own."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def rows_kept_elsewhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--results postgres`, every store has its rows in PostgreSQL: a schema for each results folder."""
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--results") == "postgres":
            from diffex_dagster.store import store

            patch.setattr(store, "DuckDatabase", in_postgres(request.getfixturevalue("postgres")))
        yield


@pytest.fixture(autouse=True)
def not_about_the_file(request: pytest.FixtureRequest) -> None:
    """With `--results postgres` there is no DuckDB file to be about."""
    if request.config.getoption("--results") == "postgres" and request.node.get_closest_marker("duckdb_file"):
        pytest.skip("about the DuckDB file")


@pytest.fixture
def toy(tmp_path: Path) -> Study:
    """The toy study in a folder of its own."""
    return load_study(write_study(tmp_path / "toy"))


def _explained(folder: Path) -> Study:
    from diffex_dagster.assets.running import explain_study

    study = load_study(write_study(folder))
    explain_study(study, tuple(study.classifiers), lambda *event: None)
    return study


@pytest.fixture(scope="session")
def toy_with_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage of the toy study was made; only to be copied."""
    return _explained(tmp_path_factory.mktemp("explained") / "toy").folder


@pytest.fixture
def explained(request: pytest.FixtureRequest, tmp_path: Path) -> Study:
    """The toy study in a folder of its own, with both its classifiers explained and compared."""
    if request.config.getoption("--results") == "postgres":  # its rows are no files that could be copied
        return _explained(tmp_path / "toy")
    return load_study(shutil.copytree(request.getfixturevalue("toy_with_results"), tmp_path / "toy"))


@pytest.fixture
def diffex(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit status, standard output, standard error (as one line)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["diffex", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, " ".join(printed.err.split())

    return run
