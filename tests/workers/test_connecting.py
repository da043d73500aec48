"""A process's connection to Ray, and the token that a private Ray brings with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffex_dagster.errors import EditorError
from diffex_dagster.study.sections import Workers
from diffex_dagster.workers import connecting
from tests.support.project import ROOT

TWICE = """
import os
from pathlib import Path

from diffex_dagster.errors import EditorError
from diffex_dagster.study.sections import Workers
from diffex_dagster.workers.connecting import connected
from tests.support.crew import crew_study

class Pool:
    def close(self):
        pass

study, pool, asked = crew_study(Path("toy")), Pool(), ["local", "local", "127.0.0.1:1"]
while asked:
    try:
        make, end = connected(pool, study, Workers(count=1, address=asked.pop(0)), 0)
        print("connected;", "RAY_AUTH_MODE" in os.environ)
        if len(asked) == 1:
            import ray
            print(ray.get(make().hello.remote()).fingerprint)
        end()
    except EditorError as error:
        print("refused:", error)
"""


@pytest.mark.slow
def test_a_process_whose_own_ray_had_a_token_is_not_lent_to_a_cluster_without(tmp_path: Path) -> None:
    """Ray keeps its first mode for the whole process; such a cluster would end each worker before it starts."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWICE]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = run.stdout.splitlines()
    assert said[:3] == ["connected; False", "connected; False", "batched"], run.stdout + run.stderr[-3000:]
    assert said[3].startswith(
        "refused: this process has worked with a Ray with a token and cannot work with one without"
    )
    assert "now (127.0.0.1:1)" in said[3] and "set RAY_AUTH_MODE" in said[3]
    assert (tmp_path / ".ray" / "auth_token").exists()  # it was Ray that asked for a token, not the environment


@pytest.mark.parametrize(
    ("asked_for", "found", "addresses", "refused"),
    [
        (None, True, ["auto", "auto", "local"], None),  # a token in the home folder, which Ray finds by itself
        (None, True, ["local", "auto"], None),
        (None, False, ["auto", "local"], "of its own"),
        (None, False, ["head:6379", "head:6379", "local"], "of its own"),
        (None, False, ["local", "head:6379"], "head:6379"),
        ("token", False, ["local", "head:6379", "auto"], None),
        ("disabled", False, ["local", "head:6379", "auto"], None),
    ],
)
def test_a_process_keeps_to_its_first_mode(
    monkeypatch: pytest.MonkeyPatch, asked_for: str | None, found: bool, addresses: list[str], refused: str | None
) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

    def init(address: str, **_: object) -> None:
        """As Ray does: a private one has a token, and one that is looked for has one where the home folder has."""
        if "RAY_AUTH_MODE" not in os.environ and (address == "local" or (address == "auto" and found)):
            os.environ["RAY_AUTH_MODE"] = "token"

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(connecting, "_MODES", [])
    monkeypatch.setattr(connecting, "_watch_nodes", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE")
    if asked_for:
        monkeypatch.setenv("RAY_AUTH_MODE", asked_for)
    *fine, last = [Workers(count=1, address=address) for address in addresses]
    for options in fine:
        connecting._connect(options)
        assert os.environ.get("RAY_AUTH_MODE") == asked_for
    if refused is None:
        connecting._connect(last)
        assert connecting.with_a_token() == (asked_for != "disabled")
    else:
        with pytest.raises(EditorError, match=rf"worked with a Ray .* cannot work with one .* now \({refused}\)"):
            connecting._connect(last)
