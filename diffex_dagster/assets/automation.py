"""When the automation requests a stage: once for every state of what it is made from that is not what it was made from.

Dagster's own conditions wait for events: a version that changed since the tick before, until a request or a
materialization. Where both arrive between two ticks the event is lost, whichever came first, and so is the change of a
source while a stage runs. What is compared here are states, so that no order of events leaves a stage unsynced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from diffex_dagster.assets.status import Made, made_of
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest

_Condition = dg.AutomationCondition
_BUSY = _Condition.will_be_requested() | _Condition.in_progress()


@dataclass(frozen=True)
class Unsynced(dg.AutomationCondition[dg.AssetKey]):
    """What a stage is made from is not what it was made from, and it has not been requested for that yet.

    A request that failed is not repeated until something has changed. Where the automation first hears of a stage that
    was never made or is unsynced, it leaves it as it is until something changes: nobody asked for it.

    Attributes:
        new: request it too where it is not there when the automation first hears of it.
    """

    new: bool = False

    @property
    def name(self) -> str:
        return "unsynced"

    @property
    def description(self) -> str:
        """For the page of an evaluation."""
        return "What it is made from is not what it was made from, and it was not requested for that yet"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """True for each state of code version and data that differs from what the stage records, until requested."""
        found = made_of(context)
        state = _state(found)
        seen, handled = context.cursor.split() if context.cursor else ("", "" if self.new and found.missing else state)
        asked = context.get_previous_requested_subset(context.key)
        if asked is not None and not asked.is_empty:
            handled = seen
        wanted = not found.fresh and state != handled
        handled = handled if state == handled else "-"  # what comes back later is another change
        return dg.AutomationResult(
            context,
            true_subset=context.candidate_subset if wanted else context.get_empty_subset(),
            cursor=f"{state} {handled}",
        )


def _state(found: Made) -> str:
    return digest(found.now, found.then)[:16]


def when_unsynced(waits_for: dg.AssetSelection, new: bool = False) -> dg.AutomationCondition:
    """Request a stage when the data or the code that it is made from has changed, once all of it is there.

    Not because something upstream was materialized again or is about to be: an edited corpus file requests the merge,
    and a corpus that is another requests everything that reads it, in one run.

    Args:
        waits_for: stages whose result decides whether anything else is touched at all; what follows them waits until
            they, and what they follow, have ended.
        new: request it too where it is not there when the automation first hears of it, as that of a classifier version
            that was added to a study: its sources may have been observed before.
    """
    return (
        Unsynced(new)
        & _Condition.in_latest_time_window()
        & ~_Condition.any_deps_missing()
        & ~_Condition.any_deps_in_progress()
        & ~_Condition.in_progress()
        & ~_Condition.any_deps_match(_BUSY | _Condition.any_deps_match(_BUSY)).allow(waits_for)
    ).with_label("when what it is made from has changed")


def automation_sensor(
    study: Study, assets: list[Any], tags: Mapping[str, str], part: str = ""
) -> dg.AutomationConditionSensorDefinition:
    """`<study><part>_automation`, in place of the default sensor, which knows Dagster's own conditions only.

    Args:
        tags: of the runs that it requests.
    """
    return dg.AutomationConditionSensorDefinition(
        f"{study.prefix}{part}_automation",
        target=dg.AssetSelection.assets(*assets),
        use_user_code_server=True,
        run_tags=tags,
        description="Requests every stage of the study whose code or data have changed since it was made, each once. "
        "Sources are observed by the watch sensor.",
    )
