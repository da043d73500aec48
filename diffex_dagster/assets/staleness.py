"""What is known of every stage of a study before a run: whether it is up to date, and what it last took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from diffex_dagster.assets.build import build_study
from diffex_dagster.assets.common import GPU_MEMORY
from diffex_dagster.assets.lineage import observe
from diffex_dagster.assets.status import opened, statuses
from diffex_dagster.resources.home import home_folder
from diffex_dagster.study import Study


@dataclass(frozen=True)
class Known:
    """What Dagster knows of a stage: "up to date", "never made" or why it is unsynced; the GPU memory it last took."""

    why: str = ""
    gpu_gb: float | None = None


def staleness(study: Study, classifiers: Sequence[str]) -> dict[str, Known]:
    """What Dagster knows of every stage, in the order in which they run.

    Its sources are observed first, as the watch sensor does. Empty without an instance (no DAGSTER_HOME): nothing is
    known of earlier runs then.
    """
    if home_folder(make=False) is None:
        return {}
    with opened() as home:
        for observation in observe(study, classifiers, reading=True)[0]:
            home.report_runless_asset_event(observation)
        found = statuses(build_study(study, classifiers), home)
        return {each.stage: Known(each.why, _gpu_memory(home, each.key)) for each in found}


def _gpu_memory(home: dg.DagsterInstance, key: dg.AssetKey) -> float | None:
    """The most GPU memory, in GB, of the latest of a stage's recent materializations that edited anything."""
    for record in home.fetch_materializations(key, limit=20).records:
        metadata = record.asset_materialization.metadata if record.asset_materialization else {}
        if isinstance(held := metadata.get(GPU_MEMORY), dg.FloatMetadataValue):
            return held.value
    return None
