"""Ends what a Ray of one process leaves behind where that process was killed: a program of its own.

Ray's nodes end with the process that started them, and workers follow their node within seconds. A node's two agents
wait for another minute, to report to a head that is gone. This program knows the children of the node and ends them as
soon as the process in charge is gone: its standard input is then at an end.

Usage: python reaper.py NODE SECONDS (process id of the node, and between two looks at its children). Needs /proc.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys


def children(parent: int, program: str = "") -> dict[int, str]:
    """Process id -> when it was started, of the children of a process; of those with this name, where it is given."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (starts as a bare interpreter, which has few modules)
        said, *fields = _stat(name) if name.isdigit() else [""]
        if fields and int(fields[1]) == parent and program in ("", said):
            found[int(name)] = fields[19]
    return found


def _stat(pid: str) -> list[str]:
    """A process's name, and the fields of /proc/PID/stat behind it; [""] where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            name, _, rest = file.read().rpartition(")")  # a name may hold anything
    except OSError:
        return [""]
    return [name.partition("(")[2], *rest.split()]


def end(processes: dict[int, str]) -> None:
    """Kill those of the processes that are still the same."""
    for pid, started in processes.items():
        _, *fields = _stat(str(pid))
        if fields and fields[19] == started:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def main(node: int, seconds: float) -> None:
    """Watch until standard input ends; then end what the node has left."""
    known = children(node)
    while not select.select([0], [], [], seconds)[0] or os.read(0, 1):
        known |= children(node)
    end(known | children(node))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process in charge
    main(int(sys.argv[1]), float(sys.argv[2]))
