"""A study at work: what it says, where its results are, its editor and its judge. Built once, used by every stage.

The command line, `explain(...)` and the Dagster resources each make one, and hand it to the stages. Nothing heavy is
loaded before it is used: a stage that needs no editor never looks for its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, cast

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.protocol import Proposer
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import StoreError
from diffex_dagster.judging.protocol import Judge
from diffex_dagster.stages.calibrated import chosen_settings, with_settings
from diffex_dagster.stages.control_words import with_control_words
from diffex_dagster.stages.setup import (
    build_classifier,
    build_editor,
    build_judge,
    build_proposer,
    build_store,
    know,
)
from diffex_dagster.stages.splits import Split, image_split
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from diffex_dagster.study.building import build_second_judge
from diffex_dagster.utils.progress import Reporter, silent


@dataclass(frozen=True)
class Builders:
    """Makes the parts of a study at work, each when it is first asked for."""

    store: Callable[[Study], Store] = build_store
    editor: Callable[[Study], Editor] = build_editor
    judge: Callable[[Study, Editor], Judge | None] = build_judge
    second_judge: Callable[[Study, Editor], Judge | None] = build_second_judge
    classifier: Callable[[Study, str], Classifier] = build_classifier
    proposer: Callable[[Study, Store], Proposer] = build_proposer


@dataclass(frozen=True)
class Planned:
    """What the next run will work on, which the store need not have yet.

    Attributes:
        corpus: as it will be merged.
        samples: image key -> name of the sample images as they will be read.
    """

    corpus: Corpus
    samples: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class StudyContext:
    """A study at work.

    Attributes:
        study: what is asked.
        builders: of the parts.
        report: told how far each stage is.
        editor_as_it_is: edit as `bare_editor` does, whatever words are frozen (`editing_with`).
        planned: of a plan, its corpus and sample images, in place of those in the store.
    """

    study: Study
    builders: Builders = field(default_factory=Builders, repr=False)
    report: Reporter = field(default=silent, repr=False)
    editor_as_it_is: bool = field(default=False, repr=False)
    planned: Planned | None = field(default=None, repr=False)
    _subjects: dict[str, Subject] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def store(self) -> Store:
        """The results database and the pictures."""
        return self.builders.store(self.study)

    @cached_property
    def bare_editor(self) -> Editor:
        """The editor as the study says, without what a stage finds out for it.

        Raises:
            EditorError: its checkpoint is missing, or it cannot be made.
        """
        return self.builders.editor(self.study)

    @cached_property
    def editor(self) -> Editor:
        """The editor in use; its weights load at the first edit.

        Where pictures are described in words of the corpus, it is the one that does so, once these words are frozen.

        Raises:
            EditorError: its checkpoint is missing, or it cannot be made.
        """
        editor, study = self.bare_editor, self.study
        told = getattr(editor, "with_source_prompts", None)
        if self.editor_as_it_is or told is None or not study.finds_source_prompts or not self.store.exists():
            return editor
        found = self.store.source_prompts(study.kept_as, editor.fingerprint)
        return editor if found is None or found.used is None else cast(Editor, told(found.vocabulary))

    @cached_property
    def judge(self) -> Judge | None:
        """The judge of whether edits show their attribute; None where there is none."""
        return self._keeping(self.builders.judge(self.study, self.bare_editor))

    @cached_property
    def second_judge(self) -> Judge | None:
        """The judge that the first one is held against; None where the study names none."""
        return self._keeping(self.builders.second_judge(self.study, self.bare_editor))

    def _keeping(self, judge: Judge | None) -> Judge | None:
        """A judge that is asked over the network keeps its answers with the results."""
        keep_in: Callable[[Store], None] | None = getattr(judge, "keep_in", None)
        if keep_in:
            keep_in(self.store)
        return judge

    @cached_property
    def proposer(self) -> Proposer:
        """What proposes the corpus."""
        return self.builders.proposer(self.study, self.store)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every image is edited under."""
        return tuple(self.study.seeds)

    @property
    def samples(self) -> dict[str, str]:
        """Key -> name of the sample images, as the store has them now."""
        return dict(self.planned.samples) if self.planned else self.store.samples(self.study.kept_as)

    @property
    def corpus(self) -> Corpus:
        """The corpus that is searched, as the store has it now; its features know what they are edited with."""
        corpus = self.planned.corpus if self.planned else self.store.current_corpus(self.study.kept_as)
        return with_settings(corpus, chosen_settings(self.study, self.store))

    def calibrated(self) -> Self:
        """The same work, whose control prompts are edited with every setting that a feature of its corpus has.

        A report of one image has more of them (`with_control_words`).

        Raises:
            StoreError: there is no corpus yet, or a feature of it has not been calibrated (a plan is made all the
                same).
        """
        study, store = self.with_control_words().study, self.store
        if not study.calibrates:
            return self if study is self.study else self.changed(study)
        settings, editable = chosen_settings(study, store), [f for f in self.corpus.walk() if f.editable]
        lacking = [feature for feature in editable if (feature.prompt, feature.direction) not in settings]
        if lacking and not self.planned:
            raise StoreError(
                f"{store.place}: nobody has looked yet with which options the editor should edit {lacking[0].prompt!r} "
                f"({len(lacking)} prompts in all); materialize editor_calibration first, or write calibrate: false"
            )
        return self.changed(study.edited_with([feature.setting for feature in editable]))

    def with_control_words(self) -> Self:
        """The same work; where its report is of one image, with as many control prompts as it takes to claim anything.

        See `stages.control_words`.
        """
        if not self.study.effects.control_prompts or not self.split.one_image:
            return self
        study = with_control_words(self.study, self.corpus)
        return self if study is self.study else self.changed(study)

    @property
    def split(self) -> Split:
        """The images that the search sees, and those that the report speaks of."""
        return image_split(self.study, list(self.samples))

    def subject(self, name: str) -> Subject:
        """One of the study's classifiers at work, with the target that is explained of it."""
        if name not in self._subjects:
            of = replace(self._shared(), classifier=self.builders.classifier)
            self._subjects[name] = Subject(
                self.study.for_classifier(name), of, self.report, self.editor_as_it_is, self.planned, name=name
            )
        return self._subjects[name]

    def changed(self, study: Study | None = None, report: Reporter | None = None, **parts: Any) -> Self:
        """The same work with another study, or with other parts by the names of their builders; all else is shared."""
        named = {name: lambda *_, part=part: part for name, part in parts.items()}
        builders = replace(self._shared(), **named)
        return replace(self, study=study or self.study, report=report or self.report, builders=builders)

    def editing_with(self, editor: Editor) -> Self:
        """The same work with exactly this editor, with or without words, whatever words are frozen for the study."""
        return replace(self.changed(editor=editor), editor_as_it_is=True)

    def to_read(self) -> Self:
        """The same work to read only: the results are opened beside other readers."""
        return replace(self, builders=replace(self._shared(), store=lambda _: self.store.to_read()))

    def _shared(self) -> Builders:
        """Gives the parts of this work, each made when it is first asked for. Another editor and its judges are new."""
        made = self.builders

        def same(study: Study) -> bool:
            return study.editor_name == self.study.editor_name

        return Builders(
            store=lambda _: self.store,
            editor=lambda study: self.bare_editor if same(study) else made.editor(study),
            judge=lambda study, editor: self.judge if same(study) else made.judge(study, editor),
            second_judge=lambda study, editor: self.second_judge if same(study) else made.second_judge(study, editor),
            classifier=lambda study, name: self.subject(name).classifier,
            proposer=lambda study, store: self.proposer,
        )

    def ready_to_judge(self) -> None:
        """Look whether the judges can be asked, before edits are made that they have to judge.

        Raises:
            DiffExError: one of them lacks what it needs.
        """
        for judge in (self.judge, self.second_judge):
            ready: Callable[[], None] | None = getattr(judge, "ready", None)
            if ready:
                ready()

    def know(self) -> None:
        """Ask for fingerprints that may read whole checkpoints, so that they are known before the database is held."""
        know(self.editor, self.judge, self.second_judge)


@dataclass(frozen=True, eq=False)
class Subject(StudyContext):
    """One classifier of a study at work.

    Attributes:
        name: the classifier's, in the study.
    """

    name: str = ""

    @cached_property
    def classifier(self) -> Classifier:
        """What is explained; its weights load at the first picture."""
        made = self.builders.classifier(self.study, self.name)
        ask: Callable[[Callable[[], Editor]], None] | None = getattr(made, "ask_workers_of", None)
        if ask:
            ask(lambda: self.bare_editor)
        return made

    def subject(self, name: str) -> Subject:
        """This one, or another of the study's classifiers."""
        return self if name == self.name else super().subject(name)

    def know(self) -> None:
        """The fingerprints of editor, judge and classifier."""
        know(self.editor, self.judge, self.second_judge, self.classifier)


def at_work(
    study: Study,
    *,
    store: Store | None = None,
    editor: Editor | None = None,
    classifiers: Mapping[str, Classifier] | None = None,
    report: Reporter = silent,
) -> StudyContext:
    """A study at work with parts that are there already; those that are left out are built as the study says."""
    builders, made = Builders(), dict(classifiers or {})
    if store is not None:
        builders = replace(builders, store=lambda _: store)
    if editor is not None:
        builders = replace(builders, editor=lambda _: editor)

    def classifier(of: Study, name: str) -> Classifier:
        return made[name] if name in made else build_classifier(of, name)

    return StudyContext(study, replace(builders, classifier=classifier), report)
