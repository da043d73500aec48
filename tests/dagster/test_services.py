"""The commands of the pages about servers, started as they stand: what a reader copies works."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest
import requests

from diffex_dagster.assets.build import build_study
from diffex_dagster.store import Store
from diffex_dagster.store.postgres import PgDatabase
from diffex_dagster.study import load_study
from tests.support.buckets import S3
from tests.support.toys import write_study
from tests.support.ui import ROOT, DagsterDev, until

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

PAGES = ROOT / "docs" / "howto"
RUNS = "{ runsOrError { ... on Runs { results { status jobName } } } }"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a session of its own, all of which ends with the block."""
    program = str(Path(sys.executable).parent / command[0])
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *command[1:]], cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DIFFEX_ROOT": str(folder), **environment},
        )  # fmt: skip
    try:
        yield process
    finally:
        # All of its session, as when a machine goes down: to end in good order takes them up to 20 seconds.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool | None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return None
    return True


def commands(page: str, *programs: str) -> list[list[str]]:
    """The commands of a page that start these programs."""
    lines = re.findall(r"^\$ (.*)$", (PAGES / page).read_text("utf-8"), flags=re.MULTILINE)
    return [shlex.split(line) for line in lines if shlex.split(line)[0] in programs]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_study(tmp_path / "studies" / "toy", 2, images={"folder": "${TOY_DATA:-images}", "size": 16})
    return tmp_path


STAGES = ("sample_images", "vlm_corpus", "corpus", "level1_edits", "v1/level1_scores", "v1/level2_scores",
          "v1/ranked_report")  # fmt: skip
VERSIONS = """{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { tags { key value } } } }"""


def decided(tags: Mapping[str, str]) -> dict[str, str]:
    """Of a materialization's tags: its data version, its code version, and the versions that it was made from."""
    return {key: value for key, value in tags.items() if key.startswith(("dagster/data_version", "dagster/code_version",
            "dagster/input_data_version"))}  # fmt: skip


def materialized(study: Path) -> dict[str, dict[str, str]]:
    """The versions of a study's stages, made by `dg.materialize` in this process."""
    definitions = build_study(load_study(study))
    keys = [dg.AssetKey(["toy", *stage.split("/")]) for stage in STAGES]
    with dg.DagsterInstance.ephemeral() as home:
        assets = [each for each in definitions.assets or () if not isinstance(each, dg.AssetChecksDefinition)]
        result = dg.materialize(assets, selection=keys, resources=dict(definitions.resources or {}), instance=home)
        events = result.get_asset_materialization_events()
        return {"/".join(each.asset_key.path): decided(each.materialization.tags or {}) for each in events}


def test_the_three_services_of_a_deployment_run_a_study_into_its_own_places(
    folder: Path, monkeypatch: pytest.MonkeyPatch, postgres: str, s3: S3
) -> None:
    """In production, by the page's three commands, with rows in PostgreSQL, pictures on an S3 server, two workers and
    the team's settings, as the services of deploy/compose.yaml have them; and for development, in this process: the
    versions are the same. What a container alone has is not here: Dagster's own rows in PostgreSQL.
    """
    code, web, daemon = commands("deploy.md", "dagster", "dagster-webserver", "dagster-daemon")
    page = (PAGES / "deploy.md").read_text("utf-8")
    workspace = re.search(r"```yml\n(load_from:.*?)```", page, flags=re.DOTALL)
    assert workspace
    ports = {"4000": str(free_port()), "3000": str(free_port())}
    workspace_file = workspace[1].replace("host: code", "host: 127.0.0.1").replace("4000", ports["4000"])
    (folder / "workspace.yaml").write_text(workspace_file)
    home = folder / "home"
    home.mkdir()
    settings = (ROOT / "deploy" / "dagster.team.yaml").read_text("utf-8")
    (home / "dagster.yaml").write_text(re.sub(r"^storage:\n(  .*\n)+", "", settings, flags=re.MULTILINE))
    (folder / "bucket").symlink_to(folder / "studies" / "toy" / "images")
    places = {
        "DAGSTER_HOME": str(home), "DIFFEX_RESULTS": str(folder / "prod"), "DIFFEX_DATABASE": postgres,
        "DIFFEX_PICTURES": f"s3://{s3.bucket()}/pictures", "DIFFEX_SPACE": "team",
        "DIFFEX_RESULTS_URL": "http://reports.example.org", "TOY_DATA": str(folder / "bucket"), "DIFFEX_WORKERS": "2",
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",  # a machine that tests much at once is slow to load a location
    }  # fmt: skip
    with ExitStack() as stack:
        for command in (code, web, daemon):
            local = [ports.get(word, word).replace("0.0.0.0", "127.0.0.1") for word in command]
            process = stack.enter_context(started(local, folder, **places))
            if command is code:
                until(lambda: answers(int(ports["4000"])), "the code location answers", 240)
            if command is web:
                ui = DagsterDev(f"http://127.0.0.1:{ports['3000']}", process, folder / "dagster-webserver.log")
        ui.wait_until_loaded()
        made = ui.launch([f"toy/{stage}" for stage in STAGES])
        assert made["toy/level1_edits"]["edits_made"] > 0 and made["toy/level1_edits"]["workers"] > 0
        prod = {
            "/".join(node["assetKey"]["path"]): decided({tag["key"]: tag["value"] for tag in last["tags"]})
            for node in ui.graphql(VERSIONS)["assetNodes"]
            for last in node["assetMaterializations"]
        }
    team = Store(folder / "prod" / "toy", pictures=places["DIFFEX_PICTURES"], database=PgDatabase(postgres))
    assert (team.folder / "reports" / "team" / "toy" / "v1" / "index.html").exists()
    assert not (team.folder / "diffex.duckdb").exists() and len(list(team.pictures.everything())) > 2
    assert team.bad_pictures() == ([], []) and team.rows("SELECT DISTINCT study FROM rankings") == [("team/toy",)]
    assert not (folder / "studies" / "toy" / "results").exists()

    monkeypatch.setenv("DIFFEX_RESULTS", str(folder / "dev"))
    monkeypatch.setenv("DIFFEX_BATCH_SIZE", "2")
    dev = materialized(folder / "studies" / "toy" / "study.yaml")
    assert (folder / "dev" / "toy" / "diffex.duckdb").exists()
    assert set(dev) == set(prod) == {f"toy/{stage}" for stage in STAGES}
    for stage, versions in dev.items():
        assert {"dagster/data_version", "dagster/code_version"} <= set(versions) and len(versions) > 3, stage
        database = "dagster/input_data_version/toy/results"  # which database: that is what differs
        assert versions.pop(database) != prod[stage].pop(database), stage
    assert dev == prod
    edits = "SELECT edit FROM edits ORDER BY edit"
    assert Store(folder / "dev" / "toy").rows(edits) == team.rows(edits)  # content keys


def test_the_ui_of_a_server_shows_the_runs_of_its_command_line(folder: Path) -> None:
    (tunnel,) = [command for command in commands("gpu_server.md", "ssh") if "-L" in command]
    home, port = folder / "me" / "dagster_home", str(free_port())
    shell = re.sub(r"~/venv/bin/", "", tunnel[-1].removeprefix("cd work && "))
    variable, *command = shlex.split(shell)
    assert variable == "DAGSTER_HOME=~/dagster_home"
    with started(["diffex", "run", "toy", "--classifier", "v1"], folder, DAGSTER_HOME=str(home)) as run:
        assert run.wait(300) == 0
    with started([*command, "-h", "127.0.0.1", "-p", port], folder, DAGSTER_HOME=str(home)) as process:
        ui = DagsterDev(f"http://127.0.0.1:{port}", process, folder / "dagster.log")

        def runs() -> list[str] | None:
            try:
                found = ui.graphql(RUNS)["runsOrError"]["results"]
            except requests.ConnectionError:
                return None
            return [run["status"] for run in found if run["jobName"] == "toy_explain"]

        assert until(runs, "the webserver answers", 240) == ["SUCCESS"]
