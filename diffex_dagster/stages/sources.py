"""What a study reads that no stage makes: the version of each source, as it is now. Nothing heavy is loaded.

A stage notes the versions of its sources before it reads them, so that its result is recorded with what it was made
from; the watch sensor and the command line note them to find out what has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from diffex_dagster.corpus.overrides_file import read_overrides
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.corpus import class_names, input_files, inputs_version, overrides_version
from diffex_dagster.stages.sample_images import images_of, images_version
from diffex_dagster.stages.setup import judges_beside_the_editor
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest
from diffex_dagster.utils.sources import sources_digest

SHARED = {
    "image_files": "The image files that the study names: their names and contents.",
    "proposal_inputs": "What a proposal is made from besides the images: class names that no feature may restate, a "
    "recorded answer, reference text.",
    "corpus_overrides": "The user overrides: what the study's corpus file changes in the proposal.",
    "editor": "What changes a pixel of an edit: weights, options, code, libraries, precision, kind of device.",
    "results": "Which results database the study writes to; another one where it was deleted or is elsewhere.",
}
"""Sources of all classifiers' stages, and what each is."""
JUDGES = {
    "judge": "The model that judges whether edits show their attribute: weights or name, and texts.",
    "second_judge": "The model that the judge of edits is held against: weights or name, and texts.",
}
"""Sources of studies whose judge is not the editor's own (`setup.judges_beside_the_editor`), and what each is."""


COUNTING = 1.0  # seconds that a count waits for a process that writes the results


@dataclass(frozen=True)
class Sources:
    """The sources of a study at work. Each is asked for when its version is: an editor for its fingerprint, not for
    edits.
    """

    work: StudyContext
    classifiers: Sequence[str]  # those that are explained

    @property
    def study(self) -> Study:
        """Whose sources they are."""
        return self.work.study

    @property
    def names(self) -> tuple[str, ...]:
        """All of them: "image_files", "editor", "persona_v1/classifier", ..."""
        return (*SHARED, *judges_beside_the_editor(self.study), *(f"{name}/classifier" for name in self.classifiers))

    def version(self, source: str) -> str:
        """The version of one source.

        Raises:
            DiffExError: it cannot be read, or is not there.
        """
        classifier, _, kind = source.partition("/")
        if kind == "classifier":
            return classifier_version(self.work.subject(classifier))
        of: Mapping[str, Callable[[], str]] = {
            "image_files": lambda: images_version(self.study),
            "proposal_inputs": self._proposal_inputs,
            "corpus_overrides": lambda: overrides_version(self.study),
            "editor": lambda: self.work.bare_editor.fingerprint,
            "judge": lambda: getattr(self.work.judge, "fingerprint", "none"),
            "second_judge": lambda: getattr(self.work.second_judge, "fingerprint", "none"),
            "results": lambda: " ".join(filter(None, (self.work.store.identity(), self.work.study.space))),
        }
        return of[source]()

    def numbers(self, source: str) -> dict[str, int]:
        """What is counted of a source, for a line over its observations; nothing where it cannot be read."""
        classifier, _, kind = source.partition("/")
        if kind == "classifier":
            return self._counted(lambda: self._of_classifier(classifier))
        of: Mapping[str, Callable[[], dict[str, int]]] = {
            "image_files": lambda: {"images": len(images_of(self.study).entries)},
            "proposal_inputs": lambda: {"class_names": len(self._class_names()), "files": len(input_files(self.study))},
            "corpus_overrides": self._overrides,
            "editor": lambda: {"edits_kept": self._kept("edits", editor=self.work.editor.fingerprint)},
            "results": lambda: {f"{table}_kept": self._kept(table) for table in ("images", "edits", "scores")},
        }
        return self._counted(of[source]) if source in of else {}

    def _overrides(self) -> dict[str, int]:
        return {"overrides": read_overrides(self.study.path(self.study.corpus.overrides)).count}

    def _of_classifier(self, name: str) -> dict[str, int]:
        model = self.work.subject(name).classifier
        return {"classes": len(model.labels), "scores_kept": self._kept("scores", classifier=model.fingerprint)}

    def _kept(self, table: str, editor: str = "", classifier: str = "") -> int:
        store = self.work.store
        if store.reading:  # a count is not worth a wait
            store = store.to_read(COUNTING)
        return store.count(table, editor, classifier) if store.exists() else 0

    @staticmethod
    def _counted(count: Callable[[], dict[str, int]]) -> dict[str, int]:
        try:
            return count()
        except DiffExError:  # the code that asks for the version says why
            return {}

    def _class_names(self) -> tuple[str, ...]:
        return class_names(self.study, {name: self.work.subject(name).classifier.labels for name in self.classifiers})

    def _proposal_inputs(self) -> str:
        return digest(self._class_names(), inputs_version(self.study))


def classifier_version(subject: Subject) -> str:
    """The classifier's fingerprint, with the code of the target measure where that is a function."""
    study, fingerprint = subject.study, subject.classifier.fingerprint
    if study.target.function is None:
        return fingerprint
    return digest(fingerprint, sources_digest(study.target.function, study.folder))
