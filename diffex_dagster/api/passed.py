"""What is passed to `explain(...)` and `explain_image(...)`, and the study that it amounts to."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from PIL import Image

from diffex_dagster.errors import ClassifierError, EditorError, StudyError

if TYPE_CHECKING:
    from diffex_dagster.classifying.protocol import Classifier
    from diffex_dagster.corpus.tree import Corpus
    from diffex_dagster.editing.protocol import Editor
    from diffex_dagster.stages.context import StudyContext
    from diffex_dagster.study import Study

_UNUSED = {"kind": "python", "factory": "diffex_dagster.api:explain"}
"""In the study's place of what is passed as object."""


class Settings(TypedDict, total=False):
    """What `explain` and `explain_image` take by name beside their parts; all of it may be left out.

    Attributes:
        labels: class names of a callable's outputs, in their order; not with a classifier that has its own.
        size: side in pixels of the square that the editor works on; 512.
        domain: what the images show, in words; "images".
        name: of the explanation, on its page; "explanation".
        folder: where edits and scores are kept, so that asking again costs only what is new. A temporary one when left
            out, which is there as long as the report that is returned.
        progress: show how far it is: a bar in a terminal or notebook, else a line every few seconds; True.
        search, effects, judge, second_judge, calibrate, calibration, report, rules, seed, workers, title, owners:
            further parts of a study, as its file writes them.
    """

    labels: Sequence[str]
    size: int
    domain: str
    name: str
    folder: Path | None
    progress: bool
    search: Mapping[str, Any]
    effects: Mapping[str, Any]
    judge: Mapping[str, Any]
    second_judge: Mapping[str, Any]
    calibrate: bool | None
    calibration: Mapping[str, Any]
    report: Mapping[str, Any]
    rules: Sequence[Mapping[str, Any]]
    seed: int
    workers: int | Mapping[str, Any] | None
    title: str
    owners: Sequence[str]


class ImageSettings(Settings, total=False):
    """What `explain_image` takes by name: that of `Settings`, and of one picture.

    Attributes:
        study: a study (`load_study`), whose editor, corpus, target, results and effects over all images are used. Of
            all that is here, only `most`, `controls` and `progress` go with it.
        most: features of the largest set that is tried; 3.
        controls: control prompts; as few as let something be claimed of one picture when None (19 at 5%).
    """

    study: Study | None
    most: int
    controls: int | None


@dataclass(frozen=True)
class Passed:
    """The parts that were passed, each as an object, as a name, or as the fields of a study's part.

    Attributes:
        further: parts of a study by their fields.
        others: see `Settings`.
    """

    classifier: Any
    editor: Any
    corpus: Any
    target: Any
    labels: Sequence[str] = ()
    size: int = 512
    domain: str = "images"
    name: str = "explanation"
    folder: Path | None = None
    progress: bool = True
    further: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, classifier: Any, editor: Any, corpus: Any, target: Any, settings: Mapping[str, Any]) -> Passed:
        """Sort what was passed by name.

        Raises:
            StudyError: there are labels for a classifier that has its own.
        """
        if settings.get("labels") is not None and len(settings["labels"]) and (names := _own_labels(classifier)):
            raise StudyError(f"labels: {names}; leave 'labels' out, which names the outputs of a function")
        own = {name: settings[name] for name in cls.__dataclass_fields__ if name in settings}
        further = {name: value for name, value in settings.items() if name not in own}
        return cls(classifier, editor, corpus, target, **own, further=further)

    def study(self, home: Path, images: Any = None) -> Study:
        """The study that this amounts to, with stand-ins for what was passed as object.

        Args:
            home: the folder of its results.
            images: as `explain` takes them; None for a study without any.

        Raises:
            StudyError: a field cannot be.
        """
        from diffex_dagster.study import study_of

        fields = {
            "name": self.name,
            "domain": self.domain,
            "images": _image_fields(images, self.size),
            "corpus": {},
            "editors": {"editor": _part(self.editor, "ledits")},
            "classifiers": {"classifier": _part(self.classifier, "transformers")},
            "target": {"label": self.target} if isinstance(self.target, str) else dict(self.target),
            "results": str(home),
            **self.further,
        }
        return study_of(fields, Path.cwd() / "explain()")

    def objects(self) -> tuple[Editor | None, dict[str, Classifier]]:
        """The editor and the classifier that were passed as objects; what was named, the study builds."""
        from diffex_dagster.classifying.python_adapter import CallableClassifier
        from diffex_dagster.utils.own_code import own

        classifier = self.classifier
        editor = own(self.editor, "editor", EditorError) if hasattr(self.editor, "edit") else None
        if isinstance(classifier, Mapping | str | Path):
            return editor, {}
        if hasattr(classifier, "fingerprint") and hasattr(classifier, "labels"):
            return editor, {"classifier": own(classifier, "classifier", ClassifierError)}
        return editor, {"classifier": CallableClassifier(classifier, self.labels)}

    def tree(self) -> Corpus:
        """The corpus.

        Raises:
            CorpusError: it cannot be read.
        """
        from ruamel.yaml import YAML

        from diffex_dagster.corpus.overrides import merge
        from diffex_dagster.corpus.overrides_file import overrides_from_text, read_overrides
        from diffex_dagster.corpus.starters import load_starter
        from diffex_dagster.corpus.tree import Corpus

        given = self.corpus
        if isinstance(given, Corpus):
            return given
        if isinstance(given, str):
            return load_starter(given)
        if isinstance(given, Path):
            return merge(Corpus(()), read_overrides(given))
        text = io.StringIO()
        YAML().dump({"tree": list(given)}, text)
        return merge(Corpus(()), overrides_from_text(text.getvalue(), "corpus"))


def keep_given(work: StudyContext, pictures: Any) -> None:
    """Make pictures that were passed (a list, or by name) the sample images.

    Raises:
        StudyError: there is none, or one of them is no picture.
    """
    from diffex_dagster.images.files import prepare
    from diffex_dagster.stages.sample_images import keep_samples

    named = pictures if isinstance(pictures, Mapping) else {f"{i:04d}": each for i, each in enumerate(pictures)}
    if not named:
        raise StudyError("images: there is no picture; pass at least one")
    if others := [key for key, each in named.items() if not isinstance(each, Image.Image)]:
        kind = type(named[others[0]]).__name__
        raise StudyError(
            f"images: {others[0]!r} is of type {kind}; pass PIL pictures (Image.fromarray(array), "
            "Image.open(file)), or a folder"
        )
    size = work.study.images.size
    keep_samples(work.study, work.store, {str(key): prepare(each, size) for key, each in named.items()})


def is_given(images: Any) -> bool:
    """Whether images were passed as pictures: neither as a folder nor as the fields of a study's `images`."""
    return not isinstance(images, str | Path) and not _is_fields(images)


def _own_labels(classifier: Any) -> str:
    """In words where a classifier's class names come from; empty where they have to be passed."""
    if isinstance(classifier, Mapping):
        return "the fields of the classifier say what its classes are called (its own 'labels')"
    if isinstance(classifier, str | Path):
        return f"the classifier {str(classifier)!r} has its own class names"
    if hasattr(classifier, "fingerprint") and hasattr(classifier, "labels"):
        return f"the classifier has its own class names ({', '.join(map(str, classifier.labels))})"
    return ""


def _is_fields(images: Any) -> bool:
    return isinstance(images, Mapping) and not all(isinstance(each, Image.Image) for each in images.values())


def _image_fields(images: Any, size: int) -> dict[str, Any]:
    if isinstance(images, str | Path):
        return {"folder": str(Path(images).expanduser().resolve()), "size": size}
    return {"size": size, **images} if _is_fields(images) else {"size": size}


def _part(given: Any, kind: str) -> dict[str, Any]:
    """A study's part from its fields or a checkpoint; a stand-in for an object."""
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str | Path):
        local = Path(given).expanduser()
        return {"kind": kind, "checkpoint": str(local.resolve()) if local.exists() else str(given)}
    return dict(_UNUSED)
