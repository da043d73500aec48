"""What a killed run leaves of its Ray is ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffex_dagster.workers import reaper

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


def test_children_of_a_node_that_is_gone_are_ended_with_the_process_in_charge_and_nobody_else() -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)

    node, other = start(), start()
    agent, another = (int(each.stdout.readline()) for each in (node, other))  # type: ignore[union-attr]
    command = [sys.executable, "-I", "-S", reaper.__file__, str(node.pid), "0.05"]
    watching = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        assert agent in reaper.children(node.pid) and another not in reaper.children(node.pid)
        assert reaper.children(node.pid, "sleep").keys() == {agent} and not reaper.children(node.pid, "raylet")
        time.sleep(1)  # it looks at the node's children meanwhile
        node.kill()
        node.wait()
        assert agent not in reaper.children(node.pid) and Path(f"/proc/{agent}").exists()
        assert watching.poll() is None
        watching.communicate(timeout=60)  # the process in charge is gone
        end = time.monotonic() + 60
        while "sleep" in _program(agent) and time.monotonic() < end:
            time.sleep(0.05)
        assert "sleep" not in _program(agent) and "sleep" in _program(another)
    finally:
        for each in (node, other, watching):
            each.kill()
            each.wait()
        reaper.end({another: reaper._stat(str(another))[20]})


def test_a_process_that_took_over_a_number_is_left_alone() -> None:
    other = subprocess.Popen(["sleep", "600"])
    try:
        reaper.end({other.pid: "0"})
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def _program(pid: int) -> str:
    """What a process runs; empty where it is gone, or only waits to be forgotten."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
