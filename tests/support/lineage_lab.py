"""A study on a Dagster instance of its own, in which everything can change; and what a run from nothing says of it."""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from diffex_dagster import resources
from diffex_dagster.assets.build import build_study
from diffex_dagster.assets.lineage import observe
from diffex_dagster.assets.status import statuses
from diffex_dagster.report.schema import comparison_as_json, report_as_json
from diffex_dagster.resources import ClassifierResource, EditorResource, ResultsResource
from diffex_dagster.stages.calibration import calibrate
from diffex_dagster.stages.comparison import compare_classifiers
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.corpus import merge_edits, propose, tree_version
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.sample_images import sample_images, samples_version
from diffex_dagster.stages.search import level1_scores, run_search
from diffex_dagster.stages.sources import Sources
from diffex_dagster.stages.versions import (
    comparison_version,
    level1_version,
    overrides_version,
    report_version,
    search_version,
)
from diffex_dagster.store import Store
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.duck import DuckConnection, DuckDatabase
from diffex_dagster.study import Study, load_study
from tests.support.toys import edits_made, picture, write_study

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
OWN = '''"""An editor, two versions of a classifier, and a target measure beside the study."""
import json
import os
from pathlib import Path

from scipy.special import expit

from tests.support.toys import PaintEditor, WarmClassifier

import constants


class Editor(PaintEditor):
    def __init__(self, folder, options):
        self.checkpoint = int((Path(folder) / "checkpoint.txt").read_text())
        super().__init__(folder, {"entangled": self.checkpoint, "fading": 20, **options})

    @property
    def fingerprint(self):
        return f"own-{self.checkpoint}-{os.environ.get('TOY_LIBRARY', '1.0')}"


    def judge(self, draws):
        return Judge(draws)


class Unjudged(Editor):
    judge = None


class Judge:
    """Evidence is how red, blue or bright a picture is."""

    absolute = True

    def __init__(self, draws):
        self.fingerprint = f"judge-{draws}"

    def evidence(self, pictures, pairs):
        yield [((key, prompt), self.seen(pictures[key], prompt)) for key, prompt in pairs]

    def seen(self, picture, prompt):
        left, right = picture.getpixel((0, 0)), picture.getpixel((15, 0))
        if "red" in prompt:
            return (left[0] - left[1]) / 255
        return (right[2] - right[1]) / 255 if "blue" in prompt else (left[1] - 110) / 255 if prompt == "bright" else 0.0


class Classifier(WarmClassifier):
    def __init__(self, folder, options):
        self.log = Path(folder) / "scores.log"
        weights = json.loads((Path(folder) / options["weights"]).read_text())
        self.dark = weights.get("dark", 0.0)
        super().__init__(folder, weights)

    @property
    def fingerprint(self):
        return f"{super().fingerprint}-{self.dark}"

    def __call__(self, pictures):
        outputs = constants.SCALE * super().__call__(pictures)
        for row, picture in zip(outputs, pictures):
            row[1] += self.dark * (picture.getpixel((0, 0))[0] in range(60, 70))
        if pictures[0].getpixel((0, 0)) != (127, 127, 127):  # the made-up pictures that a new classifier is tried on
            with self.log.open("a") as file:
                file.write("scored\\n" * len(pictures))
        return outputs


def warmth(outputs, labels):
    return expit(outputs[:, 1])
'''
FILES = {
    "own.py": OWN,
    "constants.py": "SCALE = 1.0\n",
    "checkpoint.txt": "0",
    "v1.json": '{"red": 3.0}',
    "v2.json": '{"red": 0.0}',
    "v3.json": '{"red": -1.0}',
    "context.md": "# Patches\n\nRed patches are warm.\n",
    "list.txt": "images/02.png\nimages/00.png\n",
    "table.csv": "path,other,label,kind\nimages/00.png,images/01.png,a,x\nimages/01.png,images/02.png,a,a\n"
    "images/02.png,many/03.png,b,a\n",
    "mine.yaml": "remove: [Light]\n",
    "other.md": "# Lamps\n\nLamps are bright.\n",
    "other.json": '{"Red": ["red patch"], "Blue": ["blue patch"]}',
}
MADE = ("results", "elsewhere", "edits.log", "scores.log")  # what a run makes in the study's folder


def part(weights: str) -> dict[str, Any]:
    """A classifier with these weights."""
    return {"kind": "python", "factory": "own:Classifier", "options": {"weights": weights}}


BASE: dict[str, Any] = {
    "editors": {"own": {"kind": "python", "factory": "own:Editor"}},
    "classifiers": {"v1": part("v1.json"), "v2": part("v2.json")},
    "target": {"label": "warm", "measure": "function", "function": "own:warmth"},
    "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}, "context": ["context.md"]},
    "effects": {"control_prompts": ["flornip", "quib"]},
    "report": {"gradcam": 0},
    "search": {"probes": 1},
}


def begin(folder: Path) -> Study:
    """The toy study in a new folder, with code, weights, a checkpoint and reference text of its own; three images."""
    folder.mkdir(parents=True)
    for file, text in FILES.items():
        (folder / file).write_text(text)
    for name in ("copies", "dataset/a", "dataset/b"):
        (folder / name).mkdir(parents=True)
        picture(90 + len(name)).save(folder / name / "00.png")
    study = write_study(folder, 3, **BASE)
    already = picture(98)  # a picture that shows an attribute before it is edited
    already.paste((200, 40, 40), (0, 0, 8, 16))
    already.save(folder / "images" / "02.png")
    (folder / "many").mkdir()
    for number in range(5):
        picture(90 + 4 * number).save(folder / "many" / f"0{number}.png")
    return load_study(study)


def write(folder: Path, changes: Mapping[str, Any]) -> Study:
    """The study file with other fields; every other file as it is."""
    proposal = (folder / "proposal.json").read_text()
    file = write_study(folder, 0, **BASE | changes)
    (folder / "proposal.json").write_text(proposal)
    return load_study(file)


class Held(DuckDatabase):
    """A database that a whole run may hold, and that remembers what it read until something is written.

    Databases that are opened and closed, and the same question asked by every replay of a search, would be most of the
    time of these tests.
    """

    idle = longest = 1e6

    def __init__(self, *places: Any, **options: Any) -> None:
        super().__init__(*places, **options)
        self._read: dict[str, list[tuple[Any, ...]]] = {}

    def open(self) -> Connection:
        connection = super().open()
        for setting in ("SET threads = 1", "PRAGMA disable_optimizer"):  # tables of a few rows
            connection.execute(setting)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self._read.clear()
        with super().transaction() as connection:
            yield connection

    def close(self) -> None:
        self._read.clear()
        super().close()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if not self.held.holds:
            return super().rows(sql, parameters)
        question = repr((sql, parameters))
        if question not in self._read:
            with self.held.kept.using(self.open) as connection:
                self._read[question] = connection.execute(sql, parameters)
        return list(self._read[question])


class Passing(Held):
    """A database in memory, for a run whose results nobody opens."""

    def open(self) -> Connection:
        connection = duckdb.connect(":memory:", config={"threads": 1})
        self.make_tables(connection)
        connection.execute("PRAGMA disable_optimizer")
        return DuckConnection(connection)


def held_store(study: Study, database: type[Held]) -> Store:
    """A study's results in such a database."""
    folder = study.results_folder
    return Store(folder, pictures=study.pictures_place, database=database(folder / "diffex.duckdb"))


_stores: dict[Path, Store] = {}


def store_of(study: Study) -> Store:
    """One object for all that works on a results folder in this process, so that `hold` holds for all of them."""
    return _stores.setdefault(study.results_folder, held_store(study, Held))


class HeldResults(ResultsResource):
    """Results as ever, in a store that is held."""

    def store(self, study: Study) -> Store:
        return store_of(study.deployed(**self.place()))


def sources_of(study: Study) -> Sources:
    """What a study reads that no stage makes, its store held."""
    work = resources.Resources(HeldResults(), EditorResource(), ClassifierResource()).at_work(study)
    return Sources(work, tuple(study.classifiers))


@contextmanager
def undrawn() -> Iterator[None]:
    """Reports without their pages and figures, which take most of the time: what they say is in report.json."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffex_dagster.report.files.ranked_bars", lambda *_, **__: {"svg": b"", "png": b""})
        for page in ("render_report", "render_comparison"):
            patch.setattr(f"diffex_dagster.report.files.{page}", lambda _: "")
        logging.getLogger("dagster.automation_condition_tester").setLevel(logging.WARNING)
        yield


@dataclass
class Lab:
    """A study on an instance, where somebody materializes what is unsynced, or the automation does."""

    study: Study
    instance: dg.DagsterInstance
    cursor: Any = None

    @functools.cached_property
    def definitions(self) -> dg.Definitions:
        return build_study(self.study, resources={"diffex_results": HeldResults()})

    def changed(self, fields: Mapping[str, Any] | None) -> Lab:
        """The same instance after the study file was written with these fields, and the code location loaded again.

        None where neither is needed: what changed is seen by a process that runs.
        """
        return self.again() if fields is None else Lab(write(self.study.folder, fields), self.instance, self.cursor)

    def again(self) -> Lab:
        """The same code location and instance."""
        same = Lab(self.study, self.instance, self.cursor)
        same.definitions = self.definitions
        return same

    def observe(self) -> None:
        names = tuple(self.study.classifiers)
        known = sources_of(self.study)
        with known.work.store.hold():
            observations, problems = observe(self.study, names, known)
        assert not problems
        for observation in observations:
            self.instance.report_runless_asset_event(observation)

    def materialize(self, *stages: str, succeeds: bool = True) -> None:
        job = self.definitions.resolve_job_def("toy_explain")
        selection = [dg.AssetKey(["toy", *stage.split("/")]) for stage in stages] or None
        with store_of(self.study).hold():
            result = job.execute_in_process(
                instance=self.instance, asset_selection=selection, raise_on_error=False, run_config=QUIET
            )
        assert result.success == succeeds, [
            str(e.step_failure_data.error)[-3000:] for e in result.get_step_failure_events()
        ]

    def unsynced(self) -> list[str]:
        return [status.stage for status in statuses(self.definitions, self.instance) if not status.fresh]

    def requested(self) -> list[str]:
        """What the automation requests at its next tick."""
        tick = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.cursor)
        self.cursor = tick.cursor
        keys = self.definitions.resolve_asset_graph().toposorted_asset_keys
        return ["/".join(key.path[1:]) for key in keys if tick.get_num_requested(key)]

    def by_hand(self) -> list[str]:
        """Materialize what is unsynced until nothing is; every stage that ran, in order."""
        ran: list[str] = []
        while stages := self.unsynced():
            assert len(ran) < 60, f"it does not end: {ran}"
            self.materialize(*stages)
            ran += stages
        return ran

    def by_automation(self) -> list[str]:
        """Run what the automation requests until it requests nothing; every stage that ran, in order."""
        ran: list[str] = []
        while stages := self.requested():
            assert len(ran) < 60, f"it does not end: {ran}"
            self.materialize(*stages)
            ran += stages
        return ran

    def says(self) -> dict[str, Any]:
        """What every report and the comparison say."""
        pages = self.study.results_folder / "reports"
        files = {name: pages / name / "report.json" for name in self.study.classifiers}
        files["comparison"] = pages / "comparison" / "comparison.json"
        return {name: _said(json.loads(file.read_text("utf-8"))) for name, file in files.items()}

    def worked(self) -> tuple[int, int]:
        """How many edits have been made, and how many pictures scored; those that a new classifier is tried on not."""
        log = self.study.folder / "scores.log"
        return len(edits_made(self.study.folder)), log.read_text().count("scored") if log.exists() else 0

    def kept(self) -> tuple[int, int]:
        """How many edits and scores are in the store."""
        if not store_of(self.study).path.exists():
            return 0, 0
        rows = store_of(self.study).rows("SELECT (SELECT count(*) FROM edits), (SELECT count(*) FROM scores)")
        return rows[0][0], rows[0][1]

    @contextmanager
    def nothing_twice(self) -> Iterator[None]:
        """Every edit made inside is a new one in the store, and so is every score."""
        before, rows = self.worked(), self.kept()
        yield
        after, now = self.worked(), self.kept()
        assert after[0] - before[0] == now[0] - rows[0], "an edit was made twice"
        assert after[1] - before[1] == now[1] - rows[1], "a picture was scored twice"


@dataclass
class Said:
    """What a run from nothing makes: the version of every stage, and what every report and the comparison say."""

    versions: dict[str, str] = field(default_factory=dict)
    pages: dict[str, Any] = field(default_factory=dict)


def from_nothing(study: Study, folder: Path) -> Said:
    """Run every stage of a study as plain functions, in an empty store in `folder`: no lineage decides anything."""
    shutil.rmtree(folder, ignore_errors=True)
    study = study.deployed(results={"folder": str(folder), "pictures": str(folder)})
    logs = {log: log.read_bytes() for log in (study.folder / name for name in MADE) if log.is_file()}
    store = held_store(study, Passing)
    work, said, names = at_work(study, store=store), Said(), list(study.classifiers)
    print_ = work.editor.fingerprint
    with store.hold():
        made = said.versions
        made["sample_images"] = samples_version(sample_images(work).keys, store.image_columns(study.kept_as))
        proposal = propose(work, names)
        made["vlm_corpus"] = tree_version(proposal.corpus)
        corpus, _ = merge_edits(work, names)
        made["corpus"] = tree_version(corpus)
        if study.calibrates:
            made["editor_calibration"] = calibrate(work).version
        made["level1_edits"] = overrides_version(level1_edits(work)[1])
        for name in names:
            subject = work.subject(name)
            whose, level1 = subject.classifier.fingerprint, level1_scores(subject)
            made[f"{name}/level1_scores"] = level1_version(level1, print_, whose)
            searched = run_search(subject)
            made[f"{name}/level2_scores"] = search_version(searched, corpus, print_, whose)
            explanation, _ = classifier_report(subject, "")
            made[f"{name}/ranked_report"] = report_version(explanation)
            said.pages[name] = _said(report_as_json(explanation))
        comparison = compare_classifiers(work, study.comparable, "")
        prints = [work.subject(name).classifier.fingerprint for name in study.comparable]
        made["classifier_comparison"] = comparison_version(comparison, print_, prints)
        said.pages["comparison"] = _said(comparison_as_json(comparison))
    for log, content in logs.items():
        log.write_bytes(content)
    return said


def _said(page: Any) -> Any:
    """A page's data without the place, the time and the run."""
    return _without(json.loads(json.dumps(page)), {"created", "command", "run", "version"})


def _without(said: Any, fields: set[str]) -> Any:
    if isinstance(said, dict):
        return {key: _without(value, fields) for key, value in said.items() if key not in fields}
    return [_without(each, fields) for each in said] if isinstance(said, list) else said
