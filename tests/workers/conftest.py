"""One Ray for the tests of a module: starting one takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from diffex_dagster.workers.connecting import close_all


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray of this process, which pools then use and leave alone."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        ray.init(
            address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
            object_store_memory=100 * 2**20, configure_logging=False,
        )  # fmt: skip
        yield
        close_all()
        ray.shutdown()
