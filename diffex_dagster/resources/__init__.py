"""Dagster resources: a study file in, a plain domain object out. Nothing heavy is loaded before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.vlm.proposer import Proposer
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.resources.ownership import owned
from diffex_dagster.stages import setup
from diffex_dagster.store import Store
from diffex_dagster.study import Study, load_study

_given: list[tuple[Path, Mapping[str, Classifier]]] = []


@contextmanager
def using(study: Study, classifiers: Mapping[str, Classifier]) -> Iterator[None]:
    """While inside, runs of this study in this process use these classifiers instead of building their own.

    Who has tried a classifier before the run hands it on, so that its weights are loaded once.
    """
    _given.append((study.file, classifiers))
    try:
        yield
    finally:
        _given.pop()


class StudyResource(dg.ConfigurableResource):
    """A study and what it works with. Each object is built when first asked for and kept for the run."""

    file: str  # path of the study file
    editor_name: str  # which of the study's editors

    _editor: Editor | None = PrivateAttr(default=None)
    _store: Store | None = PrivateAttr(default=None)
    _classifiers: dict[str, Classifier] = PrivateAttr(default_factory=dict)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[StudyResource]:
        """Before the first step of a run: take the places in the pools back that killed runs still hold."""
        if context.instance and context.run:
            with owned(context.instance, context.run.run_id):
                yield self
        else:
            yield self

    def study(self) -> Study:
        """The study as its file says now."""
        return load_study(Path(self.file)).with_editor(self.editor_name)

    def store(self) -> Store:
        """The results database and pictures."""
        if self._store is None:
            self._store = setup.build_store(self.study())
        return self._store

    def editor(self) -> Editor:
        """The diffusion editor (or another kind); the model loads at the first edit that must be made."""
        if self._editor is None:
            self._editor = setup.build_editor(self.study())
        return self._editor

    def classifier(self, name: str) -> Classifier:
        """One of the classifiers; its weights load at the first picture that must be scored."""
        if name not in self._classifiers:
            ready = [given[name] for file, given in _given if str(file) == self.file and name in given]
            self._classifiers[name] = ready[-1] if ready else setup.build_classifier(self.study(), name)
        return self._classifiers[name]

    def proposer(self) -> Proposer:
        """The vision-language model that proposes the corpus."""
        return setup.build_proposer(self.study(), self.store())
