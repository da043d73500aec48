"""What `diffex doctor` says of what several people and machines share: database, pictures, and the Ray cluster."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec

from diffex_dagster.cli.findings import Finding, surviving, tried
from diffex_dagster.errors import StoreError, first_line
from diffex_dagster.store.places import Bucket, place_of
from diffex_dagster.study import Study
from diffex_dagster.utils.secrets import redact
from diffex_dagster.workers.machines import ANSWER, differing, installed

WAIT_S = 120.0  # for a cluster's machines


def team_findings(study: Study) -> Iterator[Finding]:
    """Every finding about what a study shares with others; none for one that is kept and made on this machine."""
    url = study.shared.database
    if url is not None:
        yield tried("database", lambda: _database(url))
    place = place_of(study.pictures_place)
    if isinstance(place, Bucket):
        yield tried("pictures", lambda: _bucket(Bucket(place.name, ANSWER)))
    if study.crew is not None:
        yield from surviving("workers", lambda: _workers(study))


def _database(url: str) -> str:
    from diffex_dagster.store.postgres import PgDatabase

    return PgDatabase(url, retry=5.0).state()


def _bucket(place: Bucket) -> str:
    """A file is written, read and removed again, under a name that no picture has."""
    name, content = f"doctor/{uuid.uuid4().hex}", b"diffex doctor"
    next(iter(place.everything("users")), None)
    try:
        place.put(name, content, lambda there: there == content)
        read = place.read(name)
    except BaseException:
        with suppress(StoreError):
            place.remove(name)
        raise
    done = f"{place.name} can be listed, written and read"
    try:
        place.remove(name)
    except StoreError as error:
        done += f", but not removed from, as `diffex store prune` would: {place.at(name)} is left there ({error})"
    if read != content:
        raise StoreError(f"{place.name} returned other bytes than were written; see what stands between")
    return done


def _workers(study: Study) -> Iterator[Finding]:
    assert study.crew is not None
    if find_spec("ray") is None:
        yield Finding(False, "workers", "Ray is not installed", "pip install 'diffex-dagster[ray]'")
        return
    here = installed()
    address = study.crew.address or os.environ.get("RAY_ADDRESS") or "local"
    asked = f"{study.crew.count} of them"
    if address == "local":
        yield Finding(True, "workers", f"{asked}, on a Ray of this machine's own ({here['ray']})")
        return
    if (silent := _silent(address)) is not None:
        yield Finding(False, "workers", silent, "start the cluster, or correct workers.address or RAY_ADDRESS")
        return
    token = "set" if os.environ.get("RAY_AUTH_MODE") == "token" else "not set"
    try:
        done = subprocess.run(  # noqa: S603 (this program)
            [sys.executable, "-m", "diffex_dagster.workers.machines", address, str(study.pictures_place)],
            capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        late = f"the machines of the Ray cluster at {address} have not answered within {WAIT_S:.0f} s"
        yield Finding(False, "workers", late, "see `ray status`; a machine that is lost has to leave the cluster")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        yield Finding(
            False,
            "workers",
            f"the Ray cluster at {address} cannot be used ({redact(first_line(ValueError(last)))}); Ray {here['ray']} "
            f"here, RAY_AUTH_MODE=token is {token}",
            "see `ray status`; a cluster that was started with a token wants RAY_AUTH_MODE=token and that token here",
        )
        return
    said = json.loads(done.stdout.strip().splitlines()[-1])
    machines = said["machines"]
    there = ", ".join(
        f"{n:g} {what}{'s' * (n != 1)}" for n, what in ((len(machines), "machine"), (said["gpus"], "GPU"))
    )
    yield Finding(True, "workers", f"{asked}, at {address}: {there}")
    for each in machines:
        if parts := differing(here, each["versions"]):
            remedy = "install the same versions everywhere: a worker that would edit otherwise is refused"
            yield Finding(False, "workers", f"{each['host']}: {'; '.join(parts)}", remedy)
        if each["pictures"]:
            remedy = "name a folder that every machine sees, or a bucket, and give workers its keys"
            yield Finding(False, "workers", f"{each['host']}: {each['pictures']}", remedy)


def _silent(address: str) -> str | None:
    """What is wrong where nobody answers at an address; None where somebody does, or Ray is to find it."""
    found = re.fullmatch(r"(?:ray://)?\[?([^\]/]+?)\]?:(\d+)", address)
    if found is None:
        return None
    try:
        socket.create_connection((found[1], int(found[2])), timeout=5).close()
    except OSError as error:
        return f"nobody answers at {address}, where the Ray cluster should be ({error.strerror or error})"
    return None
