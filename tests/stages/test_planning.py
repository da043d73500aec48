"""A plan says exactly what the run that follows it does, also where images are split and where features race."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffex_dagster.editing.protocol import Editor, EditRequest
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.plan import NotThere, PlannedStage, plan_edits
from diffex_dagster.stages.search import level1_scores, run_search
from diffex_dagster.study import load_study
from tests.support.toys import prepared, write_study

SPLIT = {"control_prompts": ["flornip"], "confirmation": 0.5, "confirmation_from": 12}


class Stop(BaseException):
    """The editor was asked a second time; no mistake of its own, which the search would put into words."""


class OneAnswer:
    """An editor that answers the first time it is asked, and stops the search the second time."""

    def __init__(self, editor: Editor) -> None:
        self.editor, self.made, self.fingerprint = editor, 0, editor.fingerprint

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        if self.made:
            raise Stop
        self.made = len(requests)
        yield from self.editor.edit(images, requests)


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"probes": 1}},  # so that children are left for level 2
        {"search": {"probes": 1, "interactions": 3}, "effects": SPLIT},
        {"search": {"allocation": "racing", "racing_start": 4, "probes": 1}},
    ],
    ids=["plain", "split", "racing"],
)
def test_the_run_does_what_the_plan_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    study = load_study(write_study(tmp_path, 16, **changes))
    work = prepared(study)
    v1, corpus, samples = work.subject("v1"), work.corpus, work.samples

    def plan() -> dict[str, PlannedStage]:
        return {s.stage: s for s in plan_edits(work, ["v1"], corpus, samples)}

    before = plan()
    assert before["v1/level2_scores"].edits_missing == 0
    most = int(before["v1/level2_scores"].note.removeprefix("and up to ").split()[0])
    assert level1_edits(work)[0].made == before["level1_edits"].edits_missing > 0
    assert level1_scores(v1).scored == before["v1/level1_scores"].scores_missing > 0

    steps = []
    while (planned := plan())["v1/level2_scores"].note:  # one step further each time that what it saw has been made
        assert planned["level1_edits"].edits_missing == planned["v1/level1_scores"].scores_missing == 0
        one = OneAnswer(work.editor)
        try:
            run_search(v1.changed(editor=one))
        except Stop:
            pass
        assert one.made == planned["v1/level2_scores"].edits_missing > 0
        steps.append(one.made)
    searched = run_search(v1)
    assert steps and sum(steps) <= most  # joint combinations and confirmation among them
    assert (searched.edits.made, searched.scored) == (0, 0)


def test_a_plan_without_weights_counts_everything_as_missing(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, 8))
    work = prepared(study)
    level1_edits(work)
    with_editor = plan_edits(work.changed(classifier=NotThere()), ["v1"])
    without = plan_edits(work.changed(editor=NotThere()), ["v1"])
    assert with_editor[0].edits_missing == 0 < with_editor[0].edits_reused == without[0].edits_missing
    assert with_editor[1].scores_missing == without[1].scores_missing > 0
    for stages in (with_editor, without):
        assert stages[-1].note.startswith("and up to ") and "of joint combinations" in stages[-1].note
