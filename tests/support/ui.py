"""A real `dagster dev` (webserver, daemon, code server) of a test's own, asked through the UI's own GraphQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import requests

ROOT = Path(__file__).parent.parent.parent
T = TypeVar("T")
ENDS = {"SUCCESS", "FAILURE", "CANCELED"}

LOCATION = """{ workspaceOrError { __typename ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on RepositoryLocation { name repositories { name } }
    ... on PythonError { message } } } } } }"""
NODES = "{ assetNodes { assetKey { path } staleStatus staleCauses { reason } } }"
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }"""
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
RUN = """query($run: ID!) { runOrError(runId: $run) { ... on Run { status
  assetMaterializations { assetKey { path } metadataEntries { label
    ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } }
  eventConnection(limit: 1000) { events { ... on MessageEvent { message level } } } } } }"""
RELOAD = """mutation($location: String!) { reloadRepositoryLocation(repositoryLocationName: $location) { __typename
  ... on WorkspaceLocationEntry { loadStatus } } }"""
START = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename
  ... on PythonError { message } } }"""
CHECKS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { status
    evaluation { success severity description } } } } } } } }"""


def until(question: Callable[[], T | None], what: str, limit: float = 240.0, every: float = 0.5) -> T:
    """The first answer that is not None; fails with `what` after `limit` seconds."""
    end = time.monotonic() + limit
    while (answer := question()) is None:
        if time.monotonic() > end:
            raise AssertionError(f"{what}: still not so after {limit:.0f} s")
        time.sleep(every)
    return answer


class DagsterDev:
    """The Dagster UI of one root folder with studies in it."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url, self.process, self.log = url, process, log
        self.location = self.repository = ""

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """One request as the browser sends it."""
        answer = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def wait_until_loaded(self) -> None:
        """Until the webserver answers and the code location has loaded."""

        def loaded() -> bool | None:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                (entry,) = self.graphql(LOCATION)["workspaceOrError"]["locationEntries"] or [{}]
            except requests.ConnectionError:
                return None
            found = entry.get("locationOrLoadError") or {}
            assert found.get("__typename") != "PythonError", found
            if entry.get("loadStatus") != "LOADED" or not found:
                return None
            self.location, self.repository = found["name"], found["repositories"][0]["name"]
            return True

        until(loaded, "the code location loads")

    def launch(self, keys: Iterable[str]) -> dict[str, dict[str, float]]:
        """Select assets and press "Materialize" (or "Observe"); returns each asset's numeric metadata when it is done.

        Args:
            keys: asset keys as in the address bar: `toy/level1_edits`.
        """
        selector = {
            "repositoryLocationName": self.location,
            "repositoryName": self.repository,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": key.split("/")} for key in keys],
            "assetCheckSelection": None,
        }
        params = {"selector": selector, "runConfigData": "{}", "mode": "default"}
        launched = self.graphql(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched

        def ended() -> bool | None:
            return self.graphql(STATUS, run=launched["run"]["runId"])["runOrError"]["status"] in ENDS or None

        until(ended, "the run ends")
        run = self.graphql(RUN, run=launched["run"]["runId"])["runOrError"]
        assert run["status"] == "SUCCESS", [e for e in run["eventConnection"]["events"] if e]
        return {
            "/".join(event["assetKey"]["path"]): {
                entry["label"]: entry.get("intValue", entry.get("floatValue"))
                for entry in event["metadataEntries"]
                if "intValue" in entry or "floatValue" in entry
            }
            for event in run["assetMaterializations"]
        }

    def reload(self) -> None:
        """Press "Reload definitions"."""
        answer = self.graphql(RELOAD, location=self.location)["reloadRepositoryLocation"]
        assert answer["__typename"] == "WorkspaceLocationEntry", answer
        self.wait_until_loaded()

    def switch_on(self, sensor: str) -> None:
        """Switch a sensor on."""
        selector = {
            "sensorName": sensor, "repositoryName": self.repository, "repositoryLocationName": self.location
        }  # fmt: skip
        answer = self.graphql(START, selector=selector)["startSensor"]
        assert answer["__typename"] == "Sensor", answer

    def unsynced(self) -> set[str]:
        """The assets that the lineage graph marks as unsynced (or as never materialized)."""
        nodes = self.graphql(NODES)["assetNodes"]
        return {"/".join(n["assetKey"]["path"]) for n in nodes if n["staleStatus"] in ("STALE", "MISSING")}

    def checks(self, key: str) -> dict[str, dict[str, Any]]:
        """The latest evaluation of an asset's checks, by name."""
        node = self.graphql(CHECKS, key={"path": key.split("/")})["assetNodeOrError"]
        return {c["name"]: c["executionForLatestMaterialization"] for c in node["assetChecksOrError"]["checks"]}


@contextmanager
def dagster_dev(root: Path, home: Path) -> Iterator[DagsterDev]:
    """Start `dagster dev` on the studies under `root`, with `home` as its instance, on a free port; stop all of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = root / "dagster_dev.log"
    environment = {**os.environ, "DAGSTER_HOME": str(home), "DIFFEX_ROOT": str(root), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        ui = DagsterDev(f"http://127.0.0.1:{port}", process, log)
        ui.wait_until_loaded()
        yield ui
    finally:
        # All of its session, as when a machine goes down: to end in good order takes them up to 20 seconds.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
