"""What a Ray cluster's machines have, for `diffex doctor`: asked by a process of its own, which ends with the answer.

python -m diffex_dagster.workers.look ADDRESS PICTURES
"""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("diffex-dagster", "ray", "torch", "diffusers", "transformers", "obstore")
"""What must be the same on both ends: workers edit with it, or Ray refuses another."""


def installed() -> dict[str, str]:
    """Python's version and those of PACKAGES in this process; "none" for one that is not there."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def of_machine(pictures: str) -> dict[str, Any]:
    """What a machine says of itself, run there: its name, its versions, and what is wrong with the pictures' place."""
    return {"host": socket.gethostname(), "versions": installed(), "pictures": unusable(pictures)}


def unusable(pictures: str) -> str:
    """What keeps this machine from writing pictures; empty where nothing does. Nothing is written."""
    from diffex_dagster.errors import DiffExError
    from diffex_dagster.store.places import Bucket, place_of

    place = place_of(pictures)
    if not isinstance(place, Bucket):
        folder = Path(pictures)
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        return "" if os.access(existing, os.W_OK) else f"{existing} cannot be written"
    try:
        next(iter(place.everything("users")), None)
    except DiffExError as error:
        return str(error)
    return ""


def differing(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """The packages of which two machines have other versions, in words; of torch without its build (+cpu, +cu130)."""

    def plain(name: str, found: str) -> str:
        return found.partition("+")[0] if name == "torch" else found

    return [
        f"{name} {found} here, {there.get(name, 'none')} there"
        for name, found in here.items()
        if plain(name, found) != plain(name, there.get(name, "none"))
    ]


def look(address: str, pictures: str) -> dict[str, Any]:
    """What the machines of a cluster say, and how many GPUs they have together."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    asked = ray.remote(num_cpus=0)(of_machine)
    machines = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    answers = [
        asked.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(pictures)
        for node in machines
    ]
    return {"machines": ray.get(answers, timeout=60), "gpus": ray.cluster_resources().get("GPU", 0.0)}


if __name__ == "__main__":
    print(json.dumps(look(*sys.argv[1:])))
