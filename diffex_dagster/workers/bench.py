"""What one worker holds: the study's editor, judges and classifiers, built at first use. It knows nothing of Ray.

Pictures that are stored already come as the names of their files, and are read here: the process in charge sends and
gets back what names a picture, never its pixels.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from diffex_dagster.classifying.asking import outputs_of
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.editing.asking import made_edits
from diffex_dagster.editing.image_prompts import ImagePrompt, image_prompts_of
from diffex_dagster.editing.protocol import Editor, EditRequest, FiledPicture, TakesSourcePrompts
from diffex_dagster.effects.edit_metrics import EditMetrics, measure_edit
from diffex_dagster.errors import ClassifierError, DiffExError, EditorError
from diffex_dagster.judging.asking import evidence_of
from diffex_dagster.judging.protocol import Judge, Pair
from diffex_dagster.store.files import PictureFiles
from diffex_dagster.version import __version__

if TYPE_CHECKING:
    from diffex_dagster.editing.vocabulary import VocabularyGroup
    from diffex_dagster.study import Study

Sent = Mapping[str, "Image.Image | str"]
"""Pictures by key; a text is the name of a stored picture's file."""

Scored = tuple[str, np.ndarray, int | None]
"""A picture's file, a classifier's outputs on it (classes,), and how many the model itself returned."""

Measurable = tuple[str, str, str]
"""An edit's key, its file, and the file of its null edit."""


class Made(list[tuple[EditRequest, FiledPicture]]):
    """The edits of one batch, the source prompts that the text encoder had no room for, as the editor names them, and
    what pictures show of which nobody had told (`editing.image_prompts`).
    """

    shortened: frozenset[tuple[str, str]] = frozenset()
    described: Mapping[str, ImagePrompt] = {}


@dataclass(frozen=True)
class Hello:
    """What a worker says of itself when it is ready."""

    host: str
    pid: int
    fingerprint: str  # of the editor, as this process edits
    identity: Mapping[str, Any] = field(default_factory=dict)  # what that is a hash of, where the editor says so
    gpu: str | None = None
    version: str = ""  # of diffex_dagster; a worker that does not say has one of before


@dataclass(frozen=True)
class Problem:
    """An error that is one sentence, on its way to the caller."""

    kind: type[DiffExError]
    sentence: str


class Bench:
    """A study's editor, judges and classifiers in one process.

    Args:
        study: as the caller has it.
        paths: where modules are looked for, besides where this process looks.
    """

    def __init__(self, study: Study, paths: Sequence[str] = ()) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        self.study = study
        self._classifiers: dict[str, Classifier] = {}

    @cached_property
    def files(self) -> PictureFiles:
        """Where the study's pictures are."""
        return PictureFiles(self.study.pictures_place)

    @cached_property
    def editor(self) -> Editor:
        """The editor in use, without workers of its own."""
        from diffex_dagster.study.building import build_own_editor

        return build_own_editor(self.study)

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """Fingerprint -> judge: the study's first and its second, as this process has them."""
        from diffex_dagster.study.building import build_own_judge, build_second_judge

        made = [build(self.study, self.editor) for build in (build_own_judge, build_second_judge)]
        return {judge.fingerprint: judge for judge in made if judge is not None}

    def hello(self) -> Hello | Problem:
        """Say which worker this is."""
        return _said(self._hello)

    def _hello(self) -> Hello:
        identity = getattr(self.editor, "identity", None)
        said = identity if isinstance(identity, Mapping) else {}
        return Hello(socket.gethostname(), os.getpid(), self.editor.fingerprint, said, _gpu(said), __version__)

    def edit(
        self,
        images: Sent,
        requests: Sequence[EditRequest],
        words: Mapping[str, VocabularyGroup] | None = None,
        told: Mapping[str, ImagePrompt] | None = None,
        fingerprint: str = "",
    ) -> Made | Problem:
        """Make one batch of edits and write their pictures: only what names them goes back.

        Args:
            words: that pictures are described in, where those are not in the study.
            told: what pictures show, of those of which it is known.
            fingerprint: that the edits are kept under, where there are words: `hello` told it of an editor without.
        """

        def made() -> Made:
            editor = self.editor
            if words is not None:
                editor = cast(TakesSourcePrompts, editor).with_source_prompts(words)
                if fingerprint and editor.fingerprint != fingerprint:
                    raise EditorError(
                        f"the worker on {socket.gethostname()} would describe pictures otherwise than this process "
                        "keeps their edits as: install the same version of diffex_dagster everywhere"
                    )
            before = frozenset(getattr(editor, "shortened", ()))
            if known := image_prompts_of(editor):
                known.tell(told or {})
            done = Made()
            for batch in made_edits(editor, self._pictures(images), requests):
                done += zip((each for each, _ in batch), self.files.filed_all([made for _, made in batch]), strict=True)
            done.shortened = frozenset(getattr(editor, "shortened", ())) - before
            done.described = known.take() if known else {}
            return done

        return _said(made)

    def evidence(self, fingerprint: str, pictures: Sent, pairs: Sequence[Pair]) -> list[tuple[Pair, float]] | Problem:
        """Have the judge with this fingerprint judge one batch of pictures."""

        def judged() -> list[tuple[Pair, float]]:
            if fingerprint not in self.judges:
                raise DiffExError(
                    f"the worker on {socket.gethostname()} would judge otherwise than this process keeps it as: give "
                    "the judge the same checkpoint, device and libraries everywhere (write its device, not auto)"
                )
            batches = evidence_of(self.judges[fingerprint], self._pictures(pictures), pairs)
            return [each for batch in batches for each in batch]

        return _said(judged)

    def score(self, name: str, fingerprint: str, files: Sequence[str]) -> list[Scored] | Problem:
        """Have one of the study's classifiers score stored pictures."""

        def scored() -> list[Scored]:
            classifier = self._classifier(name, fingerprint)
            outputs = outputs_of(classifier, self.files.get_all(files))
            columns = getattr(classifier, "columns", None)
            return [(file, row, columns) for file, row in zip(files, outputs, strict=True)]

        return _said(scored)

    def measure(
        self, masks: Mapping[str, Image.Image], edits: Sequence[Measurable]
    ) -> list[tuple[str, EditMetrics]] | Problem:
        """Measure what edits changed, each against its null edit."""
        files = self.files
        return _said(
            lambda: [(key, measure_edit(files.get(edit), files.get(null), masks.get(key))) for key, edit, null in edits]
        )

    def _pictures(self, sent: Sent) -> dict[str, Image.Image]:
        named = {key: each for key, each in sent.items() if isinstance(each, str)}
        read = dict(zip(named, self.files.get_all(list(named.values())), strict=True))
        return {key: read[key] if isinstance(each, str) else each for key, each in sent.items()}

    def _classifier(self, name: str, fingerprint: str) -> Classifier:
        from diffex_dagster.study.building import build_own_classifier

        if name not in self._classifiers:
            made = build_own_classifier(self.study, name)
            if made.fingerprint != fingerprint:
                raise ClassifierError(
                    f"classifiers.{name}: the worker on {socket.gethostname()} would score otherwise than this process "
                    "keeps it as: give it the same files, labels and libraries everywhere"
                )
            self._classifiers[name] = made
        return self._classifiers[name]


def _said(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except DiffExError as error:
        return Problem(type(error), str(error))


def _gpu(identity: Mapping[str, Any]) -> str | None:
    """The name of the GPU that this process edits on."""
    if not str(identity.get("device", "")).startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
