"""Dagster resources: configuration in, plain objects out. Nothing heavy is loaded before it is used.

A study says what is asked; these say where it is worked on, and are overridden for each deployment in `Definitions`.
What a resource leaves out is as the environment variables of `deployment.VARIABLES` say, and else as the study does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.vlm.protocol import Proposer
from diffex_dagster.deployment import VARIABLES
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.resources.ownership import owned
from diffex_dagster.stages import setup
from diffex_dagster.stages.context import Builders, StudyContext
from diffex_dagster.store import Store
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import LogReporter, Reporter, silent


class Place(dg.ConfigurableResource):
    """What the resources share: fields that say where a study is worked on."""

    def place(self) -> dict[str, dict[str, Any]]:
        """The fields of a `Deployment` that this resource sets."""
        raise NotImplementedError


class EditorResource(Place):
    """Where the diffusion editor works. It is loaded at the first edit that must be made, and kept for the run."""

    device: str | None = Field(default=None, description="auto, cpu, cuda, cuda:1, mps; else DIFFEX_DEVICE")
    dtype: str | None = Field(default=None, description="auto, float32, float16, bfloat16; else DIFFEX_DTYPE")
    batch_size: int | None = Field(default=None, description="edits at a time; else DIFFEX_BATCH_SIZE")
    workers: int | None = Field(default=None, description="processes that edit and judge; else DIFFEX_WORKERS")

    _made: dict[tuple[Path, str], Editor] = PrivateAttr(default_factory=dict)

    def place(self) -> dict[str, dict[str, Any]]:
        """Device, precision and batch of the editor, and how many workers have one."""
        fields = ("device", "dtype", "batch_size", "workers")
        return {"editor": {field: getattr(self, field) for field in fields}}

    def editor(self, study: Study) -> Editor:
        """The editor that the study has in use, here. Give a subclass its own `editor` to edit in another way."""
        key = (study.file, study.editor_name)
        if key not in self._made:
            self._made[key] = setup.build_editor(study.deployed(**self.place()))
        return self._made[key]


class ResultsResource(Place):
    """Where results are kept: databases, pictures, reports; and the address at which a web server shows them."""

    folder: str | None = Field(default=None, description="a folder for every study's folder; else DIFFEX_RESULTS")
    pictures: str | None = Field(default=None, description="another folder for the pictures; else DIFFEX_PICTURES")
    url: str | None = Field(default=None, description="address at which `folder` is served; else DIFFEX_RESULTS_URL")
    database: str | None = Field(default=None, description="PostgreSQL of all studies; else DIFFEX_DATABASE")
    space: str | None = Field(default=None, description="whose samples, corpus and reports; else DIFFEX_SPACE")

    _made: dict[Path, Store] = PrivateAttr(default_factory=dict)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[ResultsResource]:
        """Before the first step of a run: take the places in the pools back that killed runs still hold.

        Args:
            context: Dagster's, of the run.
        """
        if context.instance and context.run:
            with owned(context.instance, context.run.run_id):
                yield self
        else:
            yield self

    def place(self) -> dict[str, dict[str, Any]]:
        """The folders, the address and the space."""
        fields = ("folder", "pictures", "url", "database", "space")
        return {"results": {field: getattr(self, field) for field in fields}}

    def store(self, study: Study) -> Store:
        """The study's database and pictures."""
        study = study.deployed(**self.place())
        return self._made.setdefault(study.results_folder, setup.build_store(study))

    def reporter(self, log: Callable[[str], None]) -> Reporter:
        """Where a stage says how far it is: the log of the run."""
        return LogReporter(log)


class VLMResource(Place):
    """Which server answers for the vision-language model that a study names."""

    base_url: str | None = Field(default=None, description="address of the API; else DIFFEX_VLM_URL")
    key_env: str | None = Field(default=None, description="variable that holds the key for it; else DIFFEX_VLM_KEY_ENV")

    def place(self) -> dict[str, dict[str, Any]]:
        """Address, and the name of the variable with the key."""
        return {"vlm": {"base_url": self.base_url, "key_env": self.key_env}}

    def proposer(self, study: Study, store: Store) -> Proposer:
        """What proposes the corpus of a study; answers are kept in the store."""
        return setup.build_proposer(study.deployed(**self.place()), store)


class ClassifierResource(Place):
    """Where classifiers work, and the addresses of those that are services."""

    device: str | None = Field(default=None, description="auto, cpu, cuda, cuda:1; else DIFFEX_CLASSIFIER_DEVICE")
    urls: dict[str, str] = Field(default={}, description="address of a service, by the classifier's name")

    _made: dict[tuple[Path, str], Classifier] = PrivateAttr(default_factory=dict)

    def place(self) -> dict[str, dict[str, Any]]:
        """Device and addresses."""
        return {"classifiers": {"device": self.device, "urls": self.urls}}

    def classifier(self, study: Study, name: str) -> Classifier:
        """The study's classifier of that name; its weights load at the first picture that must be scored."""
        key = (study.file, name)
        if key not in self._made:
            self._made[key] = setup.build_classifier(study.deployed(**self.place()), name)
        return self._made[key]


def as_deployed(study: Study, *resources: Place) -> Study:
    """The study as its file says now, where these resources place it.

    Raises:
        StudyError: the file is wrong, or a resource has a value that cannot be.
    """
    current = load_study(study.file).with_editor(study.editor_name)
    return placed(current, *resources)


def placed(study: Study, *resources: Place) -> Study:
    """The study as it is, where these resources place it."""
    for resource in resources:
        study = study.deployed(**resource.place())
    return study


@dataclass(frozen=True)
class Resources:
    """The resources that make the parts of a study."""

    results: ResultsResource
    editor: EditorResource
    classifiers: ClassifierResource
    vlm: VLMResource | None = None

    def at_work(self, study: Study, log: Callable[[str], None] | None = None) -> StudyContext:
        """The study as it is, with the parts that these resources make.

        Args:
            log: told how far each stage is; nobody is when left out.
        """
        builders = Builders(store=self.results.store, editor=self.editor.editor, classifier=self.classifiers.classifier)
        if self.vlm:
            builders = replace(builders, proposer=self.vlm.proposer)
        return StudyContext(study, builders, self.results.reporter(log) if log else silent)

    def deployed(self, study: Study, log: Callable[[str], None] | None = None) -> StudyContext:
        """`at_work` for the study as its file says now, where these resources place it.

        Raises:
            StudyError: the file is wrong, or a resource has a value that cannot be.
        """
        places = (self.results, self.editor, self.classifiers, *([self.vlm] if self.vlm else []))
        return self.at_work(as_deployed(study, *places), log)

    @contextmanager
    def working(self, study: Study, log: Callable[[str], None] | None = None) -> Iterator[StudyContext]:
        """`deployed`, for as long as a stage works: its database stays open between one question and the next.

        Raises:
            StudyError: the file is wrong, or a resource has a value that cannot be.
        """
        work = self.deployed(study, log)
        with work.store.hold():
            yield work


def given(study: Study, classifiers: Mapping[str, Classifier], report: Reporter) -> dict[str, Place]:
    """Resources of a run in this process which uses what is there already.

    Args:
        classifiers: of this study, tried before the run: their weights are not loaded again.
        report: told how far each stage is, in place of the run's log.
    """

    class Tried(ClassifierResource):
        def classifier(self, of: Study, name: str) -> Classifier:
            tried = of.file == study.file and name in classifiers
            return classifiers[name] if tried else super().classifier(of, name)

    class Shown(ResultsResource):
        def reporter(self, log: Callable[[str], None]) -> Reporter:
            return report

    return {"diffex_classifiers": Tried(), "diffex_results": Shown()}


RESOURCES: dict[str, Place] = {
    "diffex_editor": EditorResource(),
    "diffex_results": ResultsResource(),
    "diffex_vlm": VLMResource(),
    "diffex_classifiers": ClassifierResource(),
}
"""What every study's assets use under these keys. One object each: definitions of several studies can be merged."""


def resources_of(environment: Mapping[str, str] | None = None) -> dict[str, Place]:
    """The same where DIFFEX_ variables are set: each field names its variable, as the UI then shows it.

    Args:
        environment: which variables are set; this process's, where it is left out.
    """
    given = os.environ if environment is None else environment
    fields: dict[str, dict[str, Any]] = {}
    for variable, (place, field) in VARIABLES.items():
        if given.get(variable):
            value = dg.EnvVar.int(variable) if field in ("batch_size", "workers") else dg.EnvVar(variable)
            fields.setdefault(f"diffex_{place}", {})[field] = value
    return {key: type(each)(**fields[key]) if key in fields else each for key, each in RESOURCES.items()}
