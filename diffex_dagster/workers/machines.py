"""What a Ray cluster's machines have, for `diffex doctor`: asked by a process of its own, which ends with the answer.

python -m diffex_dagster.workers.machines ADDRESS PICTURES
"""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffex_dagster.store.places import PicturePlace

ANSWER = timedelta(seconds=15)  # for a bucket
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


def of_machine(pictures: str, probe: str) -> dict[str, Any]:
    """What a machine says of itself, run there: its name, its versions, and what is wrong with the pictures' place."""
    return {"host": socket.gethostname(), "versions": installed(), "pictures": unusable(pictures, probe)}


def unusable(pictures: str, probe: str) -> str:
    """What keeps this machine from keeping pictures; empty where nothing does, and then the file `probe` is there."""
    from diffex_dagster.errors import DiffExError, in_words
    from diffex_dagster.store.places import Folder

    try:
        place = _place(pictures)
        if isinstance(place, Folder) and not place.folder.is_dir():
            return f"there is no folder {pictures} on this machine"
        place.put(probe, probe.encode(), lambda there: there == probe.encode())
        return "" if place.read(probe) == probe.encode() else f"{pictures} returns other bytes than were written"
    except DiffExError as error:
        return str(error)
    except Exception as error:  # of a package, a driver or a disk
        return f"pictures cannot be kept in {pictures} ({in_words(error)})"


def unseen(pictures: str, probe: str) -> str:
    """What keeps this machine from seeing the file that another one wrote; empty where it sees it."""
    from diffex_dagster.errors import DiffExError, in_words

    try:
        if _place(pictures).read(probe) == probe.encode():
            return ""
    except FileNotFoundError:
        pass
    except DiffExError as error:
        return str(error)
    except OSError as error:
        return f"what it writes into {pictures} cannot be read here ({in_words(error)})"
    return f"what it writes into {pictures} is not seen here: each has a place of its own by that name"


def removed(pictures: str, probe: str) -> None:
    """Remove the file `probe`, where it is there and can be."""
    with suppress(Exception):
        _place(pictures).remove(probe)


def _place(pictures: str) -> PicturePlace:
    """The place of pictures; a bucket that does not answer is asked for some seconds only."""
    from diffex_dagster.store.places import Bucket, place_of

    place = place_of(pictures)
    return Bucket(pictures, ANSWER) if isinstance(place, Bucket) else place


@contextmanager
def _there(pictures: str) -> Iterator[None]:
    """A folder for pictures is there, as a run would make it; what was made for it is removed again if it is empty."""
    from diffex_dagster.store.places import Folder

    place, made = _place(pictures), list[Path]()
    if isinstance(place, Folder):
        made = [each for each in (place.folder, *place.folder.parents) if not each.exists()]
        with suppress(OSError):  # each machine says what is wrong
            place.folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            for each in made:
                each.rmdir()


def differing(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """The packages of which two machines have other versions, in words; of torch without its build (+cpu, +cu130)."""

    def plain(name: str, found: str) -> str:
        return found.partition("+")[0] if name == "torch" else found

    return [
        f"{name} {found} here, {there.get(name, 'none')} there"
        for name, found in here.items()
        if plain(name, found) != plain(name, there.get(name, "none"))
    ]


def ask_machines(address: str, pictures: str) -> dict[str, Any]:
    """What the machines of a cluster say, and how many GPUs they have together.

    Each writes a small file where pictures are kept, this machine reads it, and it is removed again.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    probes = {node["NodeID"]: f"doctor-{uuid.uuid4().hex}" for node in ray.nodes() if node["Alive"]}

    def everywhere(what: Callable[[str, str], Any]) -> list[Any]:
        asked = ray.remote(num_cpus=0)(what)
        return [
            asked.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(pictures, probe)
            for node, probe in probes.items()
        ]

    with _there(pictures):
        try:
            machines = ray.get(everywhere(of_machine), timeout=60)
            for said, probe in zip(machines, probes.values(), strict=True):
                said["pictures"] = said["pictures"] or unseen(pictures, probe)
        finally:
            ray.wait(everywhere(removed), num_returns=len(probes), timeout=20)
    return {"machines": machines, "gpus": ray.cluster_resources().get("GPU", 0.0)}


if __name__ == "__main__":
    print(json.dumps(ask_machines(*sys.argv[1:])))
