"""The files of `deploy/`: what they start is what the code reads, and their settings load.

No image is built. The three commands of Dagster are started by tests/dagster/test_services.py as they stand, and whole
studies run on PostgreSQL and on an S3 server in tests/store; here each command, port, variable and name is held against
the code.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from ruamel.yaml import YAML

from diffex_dagster.assets.editors import build_under_editors
from diffex_dagster.deployment import Deployment
from diffex_dagster.resources import ResultsResource
from diffex_dagster.resources.queue import STUDY_TAG, StudyQueue, studies_of
from diffex_dagster.study import load_study
from tests.support.project import ROOT
from tests.support.toys import write_study

DEPLOY = ROOT / "deploy"
SECRETS = {"PGPASSWORD": "of-the-database", "AWS_ACCESS_KEY_ID": "diffex", "AWS_SECRET_ACCESS_KEY": "of-the-pictures"}
OF_OTHERS = {"DAGSTER_HOME", "DAGSTER_PG_URL", "PGPASSWORD", "RAY_ADDRESS"}  # PostgreSQL's, Dagster's and Ray's own
OF_S3 = {"AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
PAINT = {"kind": "python", "factory": "tests.support.toys:PaintEditor"}


def read(name: str) -> Any:
    return YAML(typ="safe").load((DEPLOY / name).read_text("utf-8"))


def filled(value: str) -> str:
    """As compose fills in variables: those of the secrets, and defaults of others."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda found: found[2] or SECRETS[found[1]], str(value))


def environment(service: str) -> dict[str, str]:
    return {name: filled(value) for name, value in read("compose.yaml")["services"][service]["environment"].items()}


def located(file: str, attribute: str) -> InProcessWorkspaceLoadTarget:
    loadable = LoadableTargetOrigin(python_file=file, attribute=attribute)
    return InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(loadable, location_name="us"))


@contextmanager
def opened(instance: dg.DagsterInstance) -> Iterator[tuple[dg.DagsterInstance, WorkspaceProcessContext, Any, Any]]:
    """An instance, and as its daemon and webserver see them: the process, the workspace and what `alice` defines."""
    with instance as home, WorkspaceProcessContext(home, located(__file__, "alice")) as process:
        workspace = process.create_request_context()
        yield home, process, workspace, workspace.get_code_location("us").get_repository("__repository__")


def test_the_team_s_settings_load_and_differ_in_storage_places_and_runs_of_a_study_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_PG_URL", "postgresql://nobody@localhost/none")
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.team.yaml").read_text())
    dagster_instance_config(str(tmp_path))
    with pytest.raises(DagsterInvalidConfigError):  # so that the line above can fail
        dagster_instance_config(str(tmp_path), overrides={"run_monitoring": {"enabled": "perhaps"}})
    team, alone = read("dagster.team.yaml"), YAML(typ="safe").load((ROOT / ".dagster" / "dagster.yaml").read_text())
    assert team.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_PG_URL"}}}
    assert team["concurrency"]["pools"].pop("default_limit") > alone["concurrency"]["pools"].pop("default_limit") == 1
    assert team["concurrency"].pop("runs") == {
        "tag_concurrency_limits": [{"key": STUDY_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}]
    }
    assert team.pop("run_coordinator") == {"module": StudyQueue.__module__, "class": StudyQueue.__name__}
    assert team == alone


def alice() -> dg.RepositoryDefinition:
    """A code location with two studies in a space of alice's, and an asset of nobody's."""
    space = {"diffex_results": ResultsResource(space="alice")}
    studies = [load_study(Path(os.environ["TOY_ROOT"]) / name) for name in ("faces", "dogs")]
    built = [build_under_editors(each, resources=space) for each in studies]
    return dg.Definitions.merge(*built, dg.Definitions([dg.AssetSpec("of_nobody")])).get_repository_def()


def test_a_team_runs_a_study_once_at_a_time_however_its_runs_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an instance of the team's settings, in SQLite, with Dagster's own daemon for the queue; nothing is run."""
    settings = read("dagster.team.yaml")
    del settings["storage"]
    settings["run_launcher"] = {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"}
    with (tmp_path / "dagster.yaml").open("w") as file:
        YAML().dump(settings, file)
    for name in ("faces", "dogs"):
        write_study(tmp_path / name, 2, name=name)
    monkeypatch.setenv("TOY_ROOT", str(tmp_path))
    with opened(dg.DagsterInstance.from_config(str(tmp_path))) as (home, process, workspace, repository):

        def submit(*assets: str, job: str = "__ASSET_JOB") -> str:
            """As the UI does with a job, or with assets of the graph, which are of no job."""
            chosen = repository.get_full_job(job)
            run = home.create_run_for_job(
                alice().get_job(job), status=dg.DagsterRunStatus.NOT_STARTED, tags=dict(chosen.tags),
                asset_selection=frozenset(dg.AssetKey(each.split("/")) for each in assets) or None,
                remote_job_origin=chosen.get_remote_origin(), job_code_origin=chosen.get_python_origin(),
            )  # fmt: skip
            return home.submit_run(run.run_id, workspace).run_id

        runs = [
            submit(job="faces_explain"),
            submit("faces/corpus", "faces/level1_edits"),
            submit("dogs/corpus"),
            submit(job="dogs_explain"),
            submit("dogs/corpus", "faces/corpus"),
        ]

        def now() -> list[str]:
            daemon = QueuedRunCoordinatorDaemon(interval_seconds=5)
            errors = [each for each in daemon.run_iteration(process) if each]
            assert not errors
            return [home.get_run_by_id(run).status.value for run in runs]  # type: ignore[union-attr]

        assert now() == ["STARTING", "QUEUED", "STARTING", "QUEUED", "STARTING"]
        said = [home.get_run_by_id(run).tags.get(STUDY_TAG) for run in runs]  # type: ignore[union-attr]
        assert said == ["alice/faces", "alice/faces", "alice/dogs", "alice/dogs", None]
        home.report_run_failed(home.get_run_by_id(runs[0]))  # type: ignore[arg-type]
        assert now() == ["FAILURE", "STARTING", "STARTING", "QUEUED", "STARTING"]
        sensors = {each.name: each for each in alice().sensor_defs}
        assert sensors["faces_automation"].run_tags == {STUDY_TAG: "alice/faces"}  # type: ignore[attr-defined]


def test_every_asset_of_a_study_says_whose_it_is_also_one_that_is_in_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"vlm": {"kind": "openai", "model": "a-model"}}
    editors = {name: dict(PAINT) for name in ("paint", "other")}
    write_study(tmp_path / "faces", 2, name="faces", corpus=asked, editors=editors, second_editor="other")
    write_study(tmp_path / "dogs", 2, name="dogs")
    monkeypatch.setenv("TOY_ROOT", str(tmp_path))
    with opened(dg.DagsterInstance.local_temp(str(tmp_path))) as (_, _, workspace, repository):

        def said(job: str = "__ASSET_JOB", **chosen: Any) -> set[str]:
            origin = repository.get_full_job(job).get_remote_origin()
            run = dg.DagsterRun(job, **chosen, remote_job_origin=origin)
            return studies_of(SimpleNamespace(dagster_run=run, workspace=workspace))  # type: ignore[arg-type]

        of = {node.asset_key.to_user_string(): node for node in repository.get_asset_node_snaps()}
        in_no_job = {key for key, node in of.items() if not set(node.job_names) - {"__ASSET_JOB"}}
        assert {"faces/corpus_suggestions", "faces/editor_comparison", "of_nobody"} <= in_no_job
        assert {"faces/editor", "faces/v1/classifier", "faces_other/v2/ranked_report", "dogs/corpus"} <= set(of)
        for key, node in of.items():
            alone = {"of_nobody": set()}.get(key, {f"alice/{'dogs' if key.startswith('dogs') else 'faces'}"})
            assert said(asset_selection=frozenset([node.asset_key])) == alone, key
        for check in repository.get_asset_check_node_snaps():
            owner = f"alice/{check.asset_key.path[0].partition('_')[0]}"
            assert said(asset_selection=frozenset(), asset_check_selection=frozenset([check.key])) == {owner}
        assert said("faces_explain") == {"alice/faces"} and said() == {"alice/faces", "alice/dogs"}
        for node in of.values():  # as a code location says it that has the version before: by its jobs
            node.metadata.pop(STUDY_TAG, None)  # type: ignore[attr-defined]
        assert said(asset_selection=frozenset([dg.AssetKey(["faces", "corpus"])])) == {"alice/faces"}
        assert said("faces_explain") == {"alice/faces"} and said() == {"alice/faces", "alice/dogs"}


def test_a_run_whose_study_cannot_be_found_out_is_queued_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queued = list[object]()
    monkeypatch.setattr(dg.QueuedRunCoordinator, "submit_run", lambda self, context: queued.append(context))
    run = dg.DagsterRun("job", run_id="7", remote_job_origin=None, asset_selection=None, tags={})
    away = type("Away", (), {"dagster_run": run, "workspace": None})()
    StudyQueue().submit_run(away)
    monkeypatch.setattr("diffex_dagster.resources.queue.studies_of", lambda context: 1 / 0)
    StudyQueue().submit_run(away)
    assert queued == [away, away] and "run 7: its study is not known" in caplog.text


def test_the_services_run_the_commands_of_the_page_where_the_workspace_looks() -> None:
    services = read("compose.yaml")["services"]
    page = (ROOT / "docs" / "howto" / "deploy.md").read_text("utf-8")
    ours = {name: each for name, each in services.items() if each.get("image") == "diffex"}
    assert set(ours) == {"code", "webserver", "daemon"}
    commands = re.findall(r"^\$ (dagster.*)$", page, flags=re.MULTILINE)
    assert sorted(each["command"] for each in ours.values()) == sorted(commands)
    (grpc,) = read("workspace.yaml")["load_from"]
    assert (grpc["grpc_server"]["host"], str(grpc["grpc_server"]["port"])) == (
        "code",
        ours["code"]["command"].split()[-1],
    )
    (published,) = ours["webserver"]["ports"]
    assert published.split(":")[-1] == ours["webserver"]["command"].split()[-1] and published.startswith("127.0.0.1:")
    for each in services.values():
        mounted = {mount.partition(":")[0] for mount in each.get("volumes", ())}
        files = {name for name in mounted if name.startswith("./")}  # beside compose.yaml
        assert mounted - files <= set(read("compose.yaml")["volumes"]) and all(
            (DEPLOY / name).exists() for name in files
        )
        assert set(each.get("depends_on", ())) <= set(services)


def test_the_variables_of_the_services_are_read_and_lead_to_each_other() -> None:
    services, code = read("compose.yaml")["services"], environment("code")
    deployment = Deployment.from_environment(code)
    assert set(code) - {name for name in code if name.startswith("DIFFEX_")} <= OF_OTHERS | OF_S3
    results = deployment.results
    assert (results.space, deployment.editor.device, deployment.editor.workers) == ("team", "cpu", 2)
    user, host, port, name = re.fullmatch(r"postgresql://(\w+)@(\w+):(\d+)/(\w+)", results.database or "").groups()  # type: ignore[union-attr]
    database = environment(host)
    assert (user, name, port) == (database["POSTGRES_USER"], database["POSTGRES_DB"], "5432")
    assert code["PGPASSWORD"] == database["POSTGRES_PASSWORD"] == SECRETS["PGPASSWORD"]
    for service in ("code", "webserver", "daemon"):  # Dagster's tables are in the same database
        dagster = f"postgresql+psycopg2://{user}:{SECRETS['PGPASSWORD']}@{host}:{port}/{name}"
        assert environment(service)["DAGSTER_PG_URL"] == dagster
        home = environment(service)["DAGSTER_HOME"]
        assert f"home:{home}" in services[service]["volumes"]
        assert f"./dagster.team.yaml:{home}/dagster.yaml:ro" in services[service]["volumes"]
    assert f"results:{results.folder}" in services["code"]["volumes"]
    start = services["buckets"]["command"][0]
    bucket = str(results.pictures).removeprefix("s3://").partition("/")[0]
    assert f"mkdir -p /data/{bucket} " in start and "buckets:/data" in services["buckets"]["volumes"]
    port = re.search(r"--addr :(\d+)", start)
    assert port and code["AWS_ENDPOINT_URL"] == f"http://buckets:{port[1]}"
    assert '--auth-key "$$AWS_ACCESS_KEY_ID,$$AWS_SECRET_ACCESS_KEY"' in start
    assert environment("buckets").items() <= code.items()
    started = re.findall(r"docker compose .*", (DEPLOY / "compose.yaml").read_text())
    assert len(started) == 2 and all(" --env-file .env " in command for command in started)  # else no variable is set
    named = {name for name, _, _ in re.findall(r"\$\{(\w+)(:-)?([^}]*)\}", (DEPLOY / "compose.yaml").read_text())}
    example = dict(line.split("=", 1) for line in (DEPLOY / "team.env").read_text().splitlines() if line[0] != "#")
    assert named - set(example) == {"DIFFEX_DEVICE", "DIFFEX_WORKERS"} and set(example) == set(SECRETS)


def test_the_image_is_made_of_what_is_here() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for sources in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    extras = re.search(r"'\.\[([\w,]+)\]'", text)
    assert extras and set(extras[1].split(",")) <= set(project["optional-dependencies"])
    assert {"buckets", "postgres", "ray", "ui", "worlds"} <= set(extras[1].split(","))
    dagster = re.search(r"^dagster==1\.(\d+)\.(\d+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    storage = re.search(r"dagster-postgres==0\.(\d+)\.(\d+)", text)
    assert dagster and storage and int(storage[1]) == int(dagster[1]) + 16 and storage[2] == dagster[2]
    assert re.search(r"apt-get install .*\bwget\b", text)  # which KubeRay's probes call
    assert "DAGSTER_HOME=/home/dagster" in text and "/home/dagster/dagster.yaml" in text
    assert shlex.join(["dagster-webserver", "-w"]) in read("compose.yaml")["services"]["webserver"]["command"]


def test_the_jobs_of_clusters_start_commands_that_are_there(diffex: Any) -> None:
    job = read("rayjob.yaml")["spec"]
    assert job["rayClusterSpec"]["rayVersion"] in (ROOT / "constraints.txt").read_text()
    slurm = (DEPLOY / "slurm.sh").read_text()
    assert subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=False).returncode == 0
    started = " ".join(slurm.partition("\nsrun ")[2].replace("\\\n", " ").split())
    assert started.startswith('ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- ')
    _, options, _ = diffex("run", "--help")
    for command in (job["entrypoint"], started.partition("RAY_ADDRESS=auto ")[2]):
        program, verb, _, *flags = shlex.split(command)
        assert (program, verb) == ("diffex", "run") and all(f in options for f in flags if f.startswith("--"))
    groups = [job["rayClusterSpec"]["headGroupSpec"], *job["rayClusterSpec"]["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        given = {each["name"]: each["value"] for each in container["env"]}
        assert (
            set(given) - OF_OTHERS <= {n for n in given if n.startswith("DIFFEX_")} and given["RAY_ADDRESS"] == "auto"
        )
        placed = Deployment.from_environment(given)
        assert placed.results.database and placed.editor.device == "cuda"
    assert groups[1]["maxReplicas"] == int(job["entrypoint"].split()[-1])
