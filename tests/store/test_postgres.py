"""Results in a PostgreSQL database that several people share. `--results postgres` runs other tests on one too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import duckdb
import pytest

from diffex_dagster.assets.running import explain_study
from diffex_dagster.cli.showing import latest_ranking
from diffex_dagster.errors import StoreError, StudyError, may_pass
from diffex_dagster.stages.setup import build_store
from diffex_dagster.store import Store
from diffex_dagster.store.duck import STORE_VERSION
from diffex_dagster.store.postgres import PgDatabase
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from tests.support.project import ROOT, Run
from tests.support.toys import edits_made, write_study

psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

WRITER = """
import sys
from diffex_dagster.store.postgres import PgDatabase
url, schema, number = sys.argv[1:]
database = PgDatabase(url, schema=schema)
for commit in range(50):
    keys = (3, 1, 2, int(number))
    rows = [{"subject": f"{commit} {i}", "concept": "beard", "probe": "p", "value": float(i)} for i in keys]
    database.write(lambda connection: connection.insert("evidence", rows))
    database.write(lambda connection: connection.insert(
        "currents", [{"study": "s", "what": "corpus", "version": number}], replace=True))
"""


@pytest.fixture
def schema() -> str:
    return f"t{uuid.uuid4().hex}"


def test_many_writers_leave_one_row_for_each_key(postgres: str, schema: str) -> None:
    command = [sys.executable, "-c", WRITER, postgres, schema]
    writers = [subprocess.Popen([*command, str(number)], cwd=ROOT, stderr=subprocess.PIPE) for number in range(8)]
    for writer in writers:
        assert writer.communicate(timeout=300)[1].decode() == "" and writer.returncode == 0
    database = PgDatabase(postgres, schema=schema)
    assert database.rows("SELECT count(*), count(DISTINCT subject) FROM evidence") == [(400, 400)]
    assert database.rows("SELECT count(*) FROM currents") == [(1,)]


def test_two_people_share_edits_and_have_studies_of_their_own(
    postgres: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diffex: Run
) -> None:
    url = f"{postgres}?options=-csearch_path%3D{schema}"  # another address: results of no other test
    monkeypatch.setenv("DIFFEX_DATABASE", url)
    monkeypatch.setenv("DIFFEX_PICTURES", str(tmp_path / "pictures"))
    monkeypatch.setattr("diffex_dagster.store.postgres.SCHEMA_NAME", schema)
    monkeypatch.setattr(PgDatabase.__init__, "__defaults__", (False, schema, 60.0))
    found = {}
    for person, images in (("alice", 8), ("bob", 6)):
        monkeypatch.setenv("LOGNAME", person)
        study = load_study(write_study(tmp_path / person, image_count=images))
        assert study.kept_as == f"{person}/toy"
        explain_study(study, ["v1"], silent)
        found[person] = {row.feature: row.images for row in latest_ranking(study, "v1")}
    store = build_store(study)
    assert (found["alice"]["red"], found["bob"]["red"]) == (8, 6)
    assert (len(store.samples("alice/toy")), len(store.samples("bob/toy"))) == (8, 6)
    assert edits_made(tmp_path / "alice") and not edits_made(tmp_path / "bob")
    assert not (tmp_path / "bob" / "results" / "diffex.duckdb").exists()
    exported = tmp_path / "bob.duckdb"
    assert diffex("export", study.file, exported)[0] == 0
    with duckdb.connect(str(exported), read_only=True) as file:
        assert file.sql("SELECT DISTINCT study FROM rankings").fetchall() == [("toy",)]
        assert file.sql("SELECT count(*) FROM edits").fetchall() == [(store.count("edits"),)]
        shown = dict(file.sql("SELECT feature, images FROM rankings").fetchall())
    assert shown == found["bob"]
    assert "it is there already" in diffex("export", study.file, exported)[2]
    assert store.seconds_per_edit("paint-1") is not None and store.superfluous().files == ()


def test_a_claim_is_one_process_s_until_it_ends(postgres: str, schema: str) -> None:
    from contextlib import ExitStack

    one, other = PgDatabase(postgres, schema=schema), PgDatabase(postgres, schema=schema)
    with ExitStack() as held, ExitStack() as second:
        assert one.take(held, "share") and not other.take(second, "share") and other.take(second, "another")
        held.close()
        assert other.take(second, "share")


def test_whose_edits_they_are_is_known_as_on_duckdb(postgres: str, schema: str, tmp_path: Path) -> None:
    for store in (Store(tmp_path / "duck"), Store(tmp_path / "pg", database=PgDatabase(postgres, schema=schema))):
        assert store.edited_for("s", "e")  # nobody else is there
        store.put_samples("other", {"key": "name"})
        assert not store.edited_for("s", "e")
        gate = {"study": "s", "classifier": "c", "editor": "e", "corpus_version": "v", "feature": "hat"}
        row = {**gate, "kept": True, "reason": "strong"}
        store.database.write(lambda connection, row=row: connection.insert("gates", [row]))  # type: ignore[misc]
        assert store.edited_for("s", "e") and not store.edited_for("s", "another")


def test_statements_mark_their_parameters_as_every_database_understands() -> None:
    for file in (ROOT / "diffex_dagster").rglob("*.py"):
        assert not re.search(r"(=|<>|\(|,) \$\d", file.read_text("utf-8")), f"{file}: write ? for a parameter"


def test_rows_of_a_transaction_that_fails_are_not_kept(postgres: str, schema: str) -> None:
    database = PgDatabase(postgres, schema=schema)

    def half(connection: object) -> None:
        connection.insert("currents", [{"study": "s", "what": "corpus", "version": "1"}])  # type: ignore[attr-defined]
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        database.write(half)
    assert database.rows("SELECT * FROM currents WHERE study <> ? AND study NOT LIKE '%x'", [""]) == []
    with pytest.raises(StoreError, match="the results database failed .*nowhere"):
        database.rows("SELECT * FROM nowhere")


def test_what_keeps_results_from_being_reached_is_one_sentence(postgres: str, schema: str) -> None:
    away = PgDatabase("postgresql://me:secret@127.0.0.1:1/results", retry=0.0)
    with pytest.raises(StoreError, match="me@127.0.0.1:1/results: .* cannot be reached") as caught:
        away.rows("SELECT 1")
    assert "secret" not in str(caught.value) and may_pass(caught.value)
    database = PgDatabase(postgres, schema=schema)
    database.write(lambda connection: connection.execute("UPDATE store_version SET version = ?", [STORE_VERSION + 1]))
    with pytest.raises(StoreError, match="written by a newer diffex_dagster"):
        PgDatabase(postgres, schema=schema).rows("SELECT 1")


def test_a_database_needs_pictures_that_all_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_study(tmp_path / "toy")
    monkeypatch.setenv("DIFFEX_DATABASE", "postgresql://db/results")
    with pytest.raises(StudyError, match="results: with a database, name a place for the pictures"):
        load_study(file)
    monkeypatch.setenv("DIFFEX_DATABASE", "mysql://db/results")
    with pytest.raises(StudyError, match="DIFFEX_DATABASE: write postgresql://user@host/database"):
        load_study(file)


def test_doctor_says_whether_a_database_can_be_used_and_makes_nothing(postgres: str, schema: str) -> None:
    database = PgDatabase(postgres, schema=schema)
    with psycopg.connect(postgres, autocommit=True) as raw:
        made = "SELECT to_regnamespace(%s) IS NOT NULL"
        assert re.search(r"answers \(PostgreSQL \d+.*; its tables are made at the first run", database.state())
        assert raw.execute(made, [schema]).fetchall() == [(False,)]
        database.write(lambda connection: None)
        assert "its tables are there" in database.state()
        other, everything = f"r{schema}", f"ALL TABLES IN SCHEMA {schema}"
        theirs = PgDatabase(postgres.replace("//diffex@", f"//{other}@"), schema=schema)
        raw.execute(f"CREATE ROLE {other} LOGIN; GRANT SELECT, INSERT, UPDATE ON {everything} TO {other}")
        for grant in ("SELECT 1", f"GRANT USAGE ON SCHEMA {schema} TO {other}"):
            raw.execute(grant)
            with pytest.raises(StoreError, match="this user may not write the tables; let the owner GRANT it USAGE"):
                theirs.state()
        raw.execute(f"GRANT DELETE ON {everything} TO {other}")
        assert theirs.state().endswith("are there; an upgrade that changes them is first run by their owner, diffex")
        theirs.write(lambda connection: None)
        raw.execute(f"UPDATE {schema}.store_version SET schema = 'of an earlier release'")
        with pytest.raises(StoreError, match="let their owner, diffex, run `diffex run` once with this version"):
            theirs.state()
        assert "its tables are there" in database.state()

        raw.execute(f"CREATE SCHEMA s{schema}")
        later = PgDatabase(theirs.url, schema=f"s{schema}")
        with pytest.raises(
            StoreError, match=f"not make the tables; .* GRANT it USAGE and CREATE on the schema s{schema}"
        ):
            later.state()
        raw.execute(f"GRANT USAGE, CREATE ON SCHEMA s{schema} TO {other}")
        assert "are made at the first run" in later.state()
        later.write(lambda connection: None)  # it is not asked for CREATE on the database
        assert later.state().endswith("its tables are there")


def test_a_password_in_a_study_file_is_refused_and_one_behind_a_variable_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_PASSWORD", "hunter-of-nine")

    def study(address: str) -> Study:
        return load_study(write_study(tmp_path / "toy", 2, results={"database": address, "pictures": "pictures"}))

    for address in ("postgresql://me:hunter7x@db/results", "postgresql://me@db/results?password=hunter7x"):
        with pytest.raises(StudyError, match="results.database: there is a password in the address") as caught:
            study(address)
        assert "hunter7x" not in str(caught.value)
    made = study("postgresql://me:${TEAM_PASSWORD}@db/results")
    assert made.shared.database == "postgresql://me:hunter-of-nine@db/results"
    assert "hunter" not in build_store(made).place and made.pictures_place == made.folder / "pictures"
    monkeypatch.setenv("DIFFEX_DATABASE", "postgresql://db/others")
    monkeypatch.setenv("DIFFEX_PICTURES", "/mnt/pictures")
    monkeypatch.setenv("DIFFEX_SPACE", "alice")
    elsewhere = study("postgresql://me@db/results")  # what the deployment says comes first
    assert elsewhere.shared.database == "postgresql://db/others" and elsewhere.pictures_place == Path("/mnt/pictures")
    assert elsewhere.kept_as == "alice/toy"


def test_the_columns_and_rows_are_those_of_duckdb(postgres: str, schema: str, tmp_path: Path) -> None:
    from diffex_dagster.store.duck import DuckDatabase

    here, there = DuckDatabase(tmp_path / "x.duckdb"), PgDatabase(postgres, schema=schema)
    here.write(lambda connection: None)
    tables = [name for (name,) in here.rows("SELECT table_name FROM information_schema.tables ORDER BY 1")]
    assert len(tables) > 15
    for table in tables:
        assert list(here.columns(table)) == list(there.columns(table)), table
    row = {"subject": "a", "classifier": "c", "outputs": [0.1, -2.5e-300]}
    for database in (here, there):
        database.write(lambda connection: connection.insert("scores", [row]))
    for database in (here, there):
        assert database.rows("SELECT subject, classifier, outputs FROM scores") == [("a", "c", [0.1, -2.5e-300])]
    assert json.dumps(list(there.to_read().rows("SELECT count(*) FROM scores")[0])) == "[1]"
