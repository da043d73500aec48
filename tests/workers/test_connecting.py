"""A process's connection to Ray, and the token that a private Ray brings with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT

pytestmark = pytest.mark.slow
TWICE = """
import os, sys
from diffex_dagster.errors import EditorError
from diffex_dagster.study.sections import Workers
from diffex_dagster.workers.connecting import connected

class Pool:
    def close(self):
        pass

for address in ("local", "local", "127.0.0.1:1"):
    try:
        make, end = connected(Pool(), None, Workers(count=1, address=address), 0)
        print("connected;", "RAY_AUTH_MODE" in os.environ)
        end()
    except EditorError as error:
        print("refused:", error)
"""


def test_a_process_whose_own_ray_had_a_token_is_not_lent_to_a_cluster_without(tmp_path: Path) -> None:
    """Ray keeps its first mode for the whole process; such a cluster would end each worker before it starts."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWICE]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = run.stdout.splitlines()
    assert said[:2] == ["connected; False", "connected; False"], run.stdout + run.stderr[-3000:]
    assert said[2].startswith("refused: this process has had a Ray of its own, with a token, and cannot join the")
    assert "127.0.0.1:1 without one" in said[2] and "set RAY_AUTH_MODE" in said[2]
    assert (tmp_path / ".ray" / "auth_token").exists()  # it was Ray that asked for a token, not the environment
