"""What Dagster knows of a study's stages, and its instance. The only module that imports what Dagster keeps private."""

from __future__ import annotations

import functools
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView, TemporalContext
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    CachingStaleStatusResolver,
    StaleStatus,
    get_input_data_version_tag,
)
from dagster._core.events import EngineEventData  # what tells that a step waits for a pool has no public name
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._time import get_current_datetime
from sqlalchemy.exc import SQLAlchemyError  # what Dagster's database raises

from diffex_dagster.assets import kept
from diffex_dagster.errors import DiffExError, in_words
from diffex_dagster.resources.home import SETTINGS, home_folder

FRESH = "up to date"


def instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, so that the UI shows the run; one that forgets where there is none.

    What a step prints goes to the terminal, and is not also collected for the UI: the processes that collect it would
    answer Ctrl-C with tracebacks of their own.

    Raises:
        DiffExError: DAGSTER_HOME names something that cannot be an instance.
    """
    folder = home_folder()
    if folder is None:
        return dg.DagsterInstance.ephemeral()
    os.environ["DAGSTER_HOME"] = str(folder)  # absolute, as Dagster wants it
    try:
        made = dg.DagsterInstance.get()
    except Exception as error:  # Dagster's and its storages', of any kind
        raise DiffExError(
            f"DAGSTER_HOME: the instance in {folder} cannot be opened ({in_words(error)}); correct its {SETTINGS}, or "
            "name another folder"
        ) from error
    if isinstance(made.compute_log_manager, LocalComputeLogManager):
        made._compute_log_manager = NoOpComputeLogManager()
    return made


@contextmanager
def opened() -> Iterator[dg.DagsterInstance]:
    """`instance()`, closed afterwards; what its database raises meanwhile is one sentence.

    Raises:
        DiffExError: it cannot be opened, or cannot keep what happens: its disk is full, or its server is away.
    """
    try:
        with instance() as home:
            yield home
    except (SQLAlchemyError, sqlite3.Error) as error:
        where = os.environ.get("DAGSTER_HOME", "")
        raise DiffExError(
            f"DAGSTER_HOME: Dagster's database in {where} cannot keep what happens ({in_words(error)}); make room "
            "there, or name another folder, and run again: edits and scores that were finished are kept"
        ) from error


@dataclass(frozen=True)
class Status:
    """What Dagster knows of a stage: "up to date", "never made", or why it is unsynced."""

    stage: str  # its key below the study: "persona_v1/level2_scores"
    key: dg.AssetKey
    why: str

    @property
    def fresh(self) -> bool:
        """Whether nothing that decides it has changed since it was made."""
        return self.why == FRESH


@dataclass(frozen=True)
class Made:
    """What a stage would be made from now, and what it was made from: versions of its code and of all that it reads."""

    status: StaleStatus
    now: dict[str, str]
    then: dict[str, str]

    @property
    def fresh(self) -> bool:
        """Whether nothing that decides it has changed since it was made."""
        return self.status == StaleStatus.FRESH

    @property
    def missing(self) -> bool:
        """Whether it was never made."""
        return self.status == StaleStatus.MISSING


def made_of(context: dg.AutomationContext[dg.AssetKey]) -> Made:
    """What the asset of a condition is and was made from, at this tick."""
    view, key = context.asset_graph_view, context.key
    instance, graph, resolver = view.instance, view.asset_graph, _at_a_tick(view)
    now = {dep.to_user_string(): resolver.get_current_data_version(dep).value for dep in graph.get(key).parent_keys}
    event = instance.get_latest_materialization_event(key)
    made = event.asset_materialization if event else None
    return Made(
        resolver.get_status(key),
        now | {CODE_VERSION_TAG: str(graph.get(key).code_version)},
        {tag: value for tag, value in (made.tags or {}).items() if _of_lineage(tag)} if made else {},
    )


@functools.lru_cache(maxsize=2)
def _at_a_tick(view: AssetGraphView) -> CachingStaleStatusResolver:
    """What is known at a tick, which has a view of its own: all stages ask of the same sources and stages."""
    return CachingStaleStatusResolver(view.instance, view.asset_graph, view)


def _of_lineage(tag: str) -> bool:
    return tag == CODE_VERSION_TAG or tag.startswith(INPUT_DATA_VERSION_TAG_PREFIX)


BY_HAND = {"corpus_suggestions"}
"""What somebody materializes who wants it: never out of date, and nothing follows from it."""


def statuses(definitions: dg.Definitions, instance: dg.DagsterInstance) -> list[Status]:
    """Every stage of a study's definitions, in the order in which they run."""
    graph = definitions.resolve_asset_graph()
    now = TemporalContext(effective_dt=get_current_datetime(), last_event_id=None)
    view = AssetGraphView(temporal_context=now, instance=instance, asset_graph=graph)
    resolver = CachingStaleStatusResolver(instance, graph, view)
    found = []
    for key in graph.toposorted_asset_keys:
        if key not in graph.materializable_asset_keys or key.path[-1] in BY_HAND:
            continue
        status = resolver.get_status(key)
        causes = [_because(cause.reason, cause.dependency) for cause in resolver.get_stale_causes(key)]
        state = FRESH if status == StaleStatus.FRESH else "never made"
        why = state if status != StaleStatus.STALE else "; ".join(causes)
        found.append(Status("/".join(key.path[1:]), key, why))
    return found


def observation(key: dg.AssetKey, version: str, numbers: Mapping[str, int] | None = None) -> dg.AssetObservation:
    """A source as it is now, with what is counted about it."""
    return kept.seen(key, numbers or {}, tags={DATA_VERSION_TAG: version})


def observed(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """The version in which a source was last observed; None for one that never was."""
    records = instance.fetch_observations(key, limit=1).records
    seen = records[0].asset_observation if records else None
    return (seen.tags or {}).get(DATA_VERSION_TAG) if seen else None


def made_from(code_version: str, inputs: dict[dg.AssetKey, str]) -> dict[str, str]:
    """Tags of a materialization that say what it was made from, in place of what Dagster last heard of its inputs."""
    return {CODE_VERSION_TAG: code_version} | {get_input_data_version_tag(key): v for key, v in inputs.items()}


def pool_waited_for(entry: dg.EventLogEntry) -> str | None:
    """The pool whose places are all taken, where that is what an event says."""
    event = entry.dagster_event
    data = event.event_specific_data if event and event.is_engine_event else None
    return str(data.metadata["pool"].value) if isinstance(data, EngineEventData) and "pool" in data.metadata else None


def _because(reason: str, dependency: Any) -> str:
    of = f" ({'/'.join(dependency.asset_key.path[1:])})" if dependency is not None else ""
    return f"{reason}{of}"
