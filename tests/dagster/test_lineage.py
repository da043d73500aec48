"""Lineage that never lies: a report is fresh only if a run from nothing would say the same.

One property over every kind of input: change it, observe, materialize what is unsynced until nothing is; then every
report and the comparison say what a run in an empty store says, and nothing was edited or scored that existed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from diffex_dagster.assets.build import build_study
from diffex_dagster.assets.lineage import observe
from diffex_dagster.assets.status import statuses
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study, load_study
from tests.support.toys import edits_made, picture, write_study

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
OWN = '''"""An editor, a classifier and a target measure beside the study."""
import json
from pathlib import Path

from scipy.special import expit

from tests.support.toys import PaintEditor, WarmClassifier

import constants


class Editor(PaintEditor):
    @property
    def fingerprint(self):
        checkpoint = (self.log.parent / "checkpoint.txt").read_text()
        return f"own-{checkpoint}-{constants.LIBRARY}"


class Classifier(WarmClassifier):
    def __init__(self, folder, options):
        weights = json.loads((Path(folder) / options["weights"]).read_text())
        super().__init__(folder, weights)


def warmth(outputs, labels):
    return expit(outputs[:, 1])
'''


def write(folder: Path, **changes: Any) -> Study:
    """The toy study with code, weights, a checkpoint and reference text of its own, and four images."""
    for file, text in {
        "own.py": OWN,
        "constants.py": 'LIBRARY = "1.0"\n',
        "checkpoint.txt": "first",
        "v1.json": '{"red": 3.0}',
        "v2.json": '{"red": 0.0}',
        "context.md": "# Patches\n\nRed patches are warm.\n",
    }.items():
        if not (folder / file).exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
    proposal = (folder / "proposal.json").read_text() if (folder / "proposal.json").exists() else None
    images = sorted((folder / "images").glob("*")) if (folder / "images").exists() else None
    file = write_study(
        folder,
        0 if images else 4,
        **{
            "editors": {"own": {"kind": "python", "factory": "own:Editor"}},
            "classifiers": {
                name: {"kind": "python", "factory": "own:Classifier", "options": {"weights": f"{name}.json"}}
                for name in ("v1", "v2")
            },
            "target": {"label": "warm", "measure": "function", "function": "own:warmth"},
            "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}, "context": ["context.md"]},
            "report": {"gradcam": 0},
            **changes,
        },
    )
    if proposal is not None:
        (folder / "proposal.json").write_text(proposal)
    return load_study(file)


@dataclass
class Lab:
    """A study on an instance of its own."""

    study: Study
    instance: dg.DagsterInstance

    @property
    def definitions(self) -> dg.Definitions:
        return build_study(self.study)

    def observe(self) -> None:
        observations, problems = observe(self.study, tuple(self.study.classifiers))
        assert not problems
        for observation in observations:
            self.instance.report_runless_asset_event(observation)

    def materialize(self, *stages: str) -> None:
        job = self.definitions.resolve_job_def("toy_explain")
        selection = [dg.AssetKey(["toy", *stage.split("/")]) for stage in stages] or None
        result = job.execute_in_process(
            instance=self.instance, asset_selection=selection, raise_on_error=False, run_config=QUIET
        )
        assert result.success, [str(e.step_failure_data.error)[-3000:] for e in result.get_step_failure_events()]

    def unsynced(self) -> list[str]:
        return [status.stage for status in statuses(self.definitions, self.instance) if not status.fresh]

    def until_quiet(self) -> list[str]:
        """Materialize what is unsynced until nothing is; every stage that ran, in order."""
        ran: list[str] = []
        while stages := self.unsynced():
            assert len(ran) < 60, f"it does not end: {ran}"
            self.materialize(*stages)
            ran += stages
        return ran

    def reports(self) -> dict[str, Any]:
        """What every report and the comparison say, without the place, the time and the run."""
        found = {}
        for page in sorted((self.study.results_folder / "reports").glob("*/*.json")):
            said = json.loads(page.read_text())
            found[f"{page.parent.name}/{page.name}"] = without(said, {"created", "command", "run", "version"})
        return found

    def keys(self) -> tuple[set[str], set[tuple[str, str]]]:
        """Every edit and every score in the store."""
        store = build_store(self.study)
        edits = {row[0] for row in store.rows("SELECT edit FROM edits")}
        return edits, {tuple(row) for row in store.rows("SELECT subject, classifier FROM scores")}


def without(said: Any, fields: set[str]) -> Any:
    if isinstance(said, dict):
        return {key: without(value, fields) for key, value in said.items() if key not in fields}
    return [without(each, fields) for each in said] if isinstance(said, list) else said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The study with everything made: its folder, and beside it the folder of its instance."""
    home = tmp_path_factory.mktemp("made")
    (home / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(home / "instance")) as instance:
        Lab(write(home / "toy"), instance).materialize()
    yield home


def replaced(file: str, old: str, new: str) -> Callable[[Path], dict[str, Any]]:
    def change(folder: Path) -> dict[str, Any]:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        return {}

    return change


def settings(**changes: Any) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: changes


def image_added(folder: Path) -> dict[str, Any]:
    picture(31).save(folder / "images" / "zz.png")
    return {}


def image_removed_and_changed(folder: Path) -> dict[str, Any]:
    (folder / "images" / "00.png").unlink()
    picture(55).save(folder / "images" / "01.png")
    return {}


def image_renamed(folder: Path) -> dict[str, Any]:
    (folder / "images" / "00.png").rename(folder / "images" / "zz.png")
    return {}


def results_deleted(folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder / "results")
    return {}


def results_moved(folder: Path) -> dict[str, Any]:
    (folder / "results").rename(folder / "elsewhere")
    return {"results": "elsewhere"}


CHANGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "weights": replaced("v1.json", "3.0", "-3.0"),
    "checkpoint": replaced("checkpoint.txt", "first", "second"),
    "code of editor and classifiers": replaced("own.py", "super().__init__(folder, weights)",
                                                "super().__init__(folder, weights); self.blue = 9.0"),
    "what their code imports": replaced("constants.py", "1.0", "2.0"),
    "target function": replaced("own.py", "expit(outputs[:, 1])", "expit(-2 * outputs[:, 1])"),
    "recorded proposal": replaced("proposal.json", "bright", "glow"),
    "reference text": replaced("context.md", "warm", "cold"),
    "corpus file": replaced("corpus.yaml", "# no changes", "remove: [Light]"),
    "image added": image_added,
    "images removed and changed": image_removed_and_changed,
    "image renamed": image_renamed,
    "results deleted": results_deleted,
    "results moved": results_moved,
    "settings of edits": settings(effects={"nonsense": ["quib"], "seeds": 2}, seed=3),
    "settings of the search": settings(search={"beam": 1, "joint_size": 2, "probes": 1}),
    "settings of the pages": settings(title="Warmth", effects={"nonsense": ["flornip"], "level": 0.3, "margin": 0.2}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_quiet_study_says_what_a_run_from_nothing_says(
    made: Path, tmp_path: Path, change: Callable[[Path], dict[str, Any]]
) -> None:
    shutil.copytree(made / "toy", tmp_path / "toy")
    shutil.copytree(made / "instance", tmp_path / "instance")
    before = Lab(load_study(tmp_path / "toy"), dg.DagsterInstance.ephemeral())
    old_edits, _ = before.keys()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance:
        fields = change(tmp_path / "toy")
        lab = Lab(write(tmp_path / "toy", **fields), instance)
        survived = old_edits if (lab.study.results_folder / "diffex.duckdb").exists() else set()
        made_before = len(edits_made(lab.study.folder))
        lab.observe()
        lab.until_quiet()
        now = lab.reports()
        new_edits, _ = lab.keys()
        assert len(edits_made(lab.study.folder)) - made_before == len(new_edits - survived)  # none was made twice
        lab.observe()
        assert lab.unsynced() == []
    shutil.copytree(
        tmp_path / "toy", tmp_path / "nothing" / "toy", ignore=shutil.ignore_patterns("results", "elsewhere")
    )
    fresh = Lab(write(tmp_path / "nothing" / "toy", **fields), dg.DagsterInstance.ephemeral())
    fresh.materialize()
    said = fresh.reports()
    assert set(said) >= {"v1/report.json", "v2/report.json", "comparison/comparison.json"}
    assert now == said
