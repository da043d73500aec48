"""A study: all sections of its file together, and what follows from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from diffex_dagster.classifying.kinds import AnyClassifierPart
from diffex_dagster.classifying.parts import Target
from diffex_dagster.deployment import BUCKET, Deployment, SharedResults
from diffex_dagster.editing.kinds import AnyEditorPart
from diffex_dagster.editing.parts import EditorPart
from diffex_dagster.errors import StudyError
from diffex_dagster.images.section import Images
from diffex_dagster.judging.kinds import AnyJudgePart, DiffusionJudgePart, NoJudgePart
from diffex_dagster.study import rules
from diffex_dagster.study.sections import (
    CalibrationPart,
    CorpusPart,
    EffectsPart,
    ReportPart,
    ResultsPart,
    RulePart,
    SearchPart,
    Workers,
)
from diffex_dagster.utils.config import Part
from diffex_dagster.utils.names import Name, Text, fit_for_every_disk
from diffex_dagster.utils.paths import located
from diffex_dagster.utils.secrets import has_password
from diffex_dagster.utils.text import as_text
from diffex_dagster.utils.variables import as_written


class Study(Part):
    """One question: which attributes does each classifier version rely on, on these images?"""

    renamed: ClassVar[Mapping[str, str]] = {"probe": "judge", "second_probe": "second_judge"}

    name: Annotated[Name, BeforeValidator(as_text)]
    title: Text = ""
    domain: Text = Field(description="what the images show, in words that a VLM understands, e.g. 'human faces'")
    images: Images = Images()
    corpus: CorpusPart
    editors: dict[Name, AnyEditorPart] = Field(min_length=1)
    editor: Name = Field("", description="the editor in use; the first one when left out")
    second_editor: Name = Field(
        "", description="another of the editors, under which every report is made too, to see what holds under both"
    )
    classifiers: dict[Name, AnyClassifierPart] = Field(min_length=1)
    target: Target
    search: SearchPart = SearchPart()
    effects: EffectsPart = EffectsPart()
    judge: AnyJudgePart = DiffusionJudgePart()
    second_judge: AnyJudgePart = Field(
        NoJudgePart(), description="a second judge of the reported edits; the report says how far both agree"
    )
    report: ReportPart = ReportPart()
    calibrate: bool | None = Field(
        None,
        description="whether to find the editor's options for each prompt by trying; left out: where the study sets "
        "none of scale, threshold, mask, warmup, cooldown and skip",
    )
    calibration: CalibrationPart = CalibrationPart()
    rules: tuple[RulePart, ...] = Field((), description="limits on the reliance on a feature")
    seed: int = Field(0, ge=0, lt=2**32)
    workers: Workers | None = Field(
        None, description="how many processes edit and judge: a number, or count, address, gpus, ahead, tries, patience"
    )
    results: ResultsPart = Field(
        ResultsPart(), description="where results are kept: a folder, or folder, pictures, database, space"
    )
    owners: tuple[Text, ...] = ()
    truth: str | None = Field(
        None, pattern=r"^[\w.]+:[\w.]+$", description="`module:function` that knows the true effects (worlds only)"
    )

    _file: Path = PrivateAttr(default=Path("study.yaml"))
    _written: dict[str, str] = PrivateAttr(default_factory=dict)
    _deployment: Deployment = PrivateAttr(default_factory=Deployment)
    _own_target: bool = PrivateAttr(default=False)
    _control_settings: tuple[str, ...] = PrivateAttr(default=("",))

    @field_validator("workers", mode="before")
    @classmethod
    def _a_number(cls, value: Any) -> Any:
        """`workers: 8` is `workers: {count: 8}`."""
        return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("results", mode="before")
    @classmethod
    def _a_folder(cls, value: Any) -> Any:
        """`results: out` is `results: {folder: out}`."""
        return {"folder": value} if isinstance(value, str | Path) else value

    @field_validator("owners")
    @classmethod
    def _reachable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for owner in value:
            if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+|team:\S.*", owner):
                raise ValueError(f"{owner!r} is no owner; write an e-mail address, or team:name")
        return value

    @field_validator("classifiers")
    @classmethod
    def _reserved(cls, value: dict[str, Any]) -> dict[str, Any]:
        rules.not_reserved(value)
        return value

    @field_validator("name", "classifiers", "editors")
    @classmethod
    def _fit_for_every_disk(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        """Names become folders."""
        fit_for_every_disk([value] if isinstance(value, str) else list(value))
        return value

    @model_validator(mode="before")
    @classmethod
    def _a_classifier_for_each_class(cls, value: Any) -> Any:
        return rules.a_classifier_for_each_class(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _sections_go_together(self) -> Study:
        rules.bounds_fit_the_measure(self.search, self.target)
        rules.subgroups_have_a_table(self.effects, self.images)
        rules.editors_are_known(self.editor, self.second_editor, self.editors)
        rules.filter_is_known(self.images, self.classifiers)
        rules.somebody_judges(self.calibrate, self.judge)
        rules.rules_name_classifiers(self.rules, self.classifiers)
        return self

    @property
    def file(self) -> Path:
        """The study file."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder that the study's paths are relative to."""
        return self._file.parent

    @property
    def editor_name(self) -> str:
        """The editor in use."""
        return self.editor or next(iter(self.editors))

    @property
    def prefix(self) -> str:
        """First part of the study's asset keys: its name, and the editor where it is not the first one."""
        return self.name if self.editor_name == next(iter(self.editors)) else f"{self.name}_{self.editor_name}"

    @property
    def editor_part(self) -> EditorPart:
        """What the study says of the editor in use."""
        return self.editors[self.editor_name]

    @property
    def calibrates(self) -> bool:
        """Whether the options of the editor in use are found by trying; somebody has to judge what is tried."""
        if not self.judge.judges or self.calibrate is False:
            return False
        return self.editor_part.calibrates(self.calibrate)

    @property
    def finds_source_prompts(self) -> bool:
        """Whether the editor in use describes pictures in words of the corpus, which are frozen at the first run."""
        return getattr(self.editor_part, "source_prompts", None) == "auto"

    @property
    def pinned(self) -> dict[str, str]:
        """Prompt -> the options that the study names for it, as `Concept.setting` has them; where it calibrates."""
        return self.editor_part.pinned() if self.calibrates else {}

    @property
    def control_settings(self) -> tuple[str, ...]:
        """The settings that control prompts are edited with: those of the study's features; see `edited_with`."""
        return self._control_settings

    def edited_with(self, settings: Sequence[str]) -> Study:
        """The same study, whose features are edited with these settings."""
        study = self.changed()
        study._control_settings = tuple(sorted(dict.fromkeys(settings))) or ("",)
        return study

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that each image is edited under; pictures are shown of the first."""
        return tuple(range(self.seed, self.seed + self.effects.seeds))

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class that the study explains."""
        targets = [self.target, *(part.target for part in self.classifiers.values() if part.target)]
        return tuple(dict.fromkeys(label for target in targets for label in target.members))

    @property
    def comparable(self) -> tuple[str, ...]:
        """The classifiers that are explained on the study's own target: versions that can be compared."""
        return tuple(name for name, part in self.classifiers.items() if part.target in (None, self.target))

    def for_classifier(self, name: str) -> Study:
        """The study as one classifier sees it: with the target of its own, where it has one.

        Args:
            name: of the classifier, in the study.

        Raises:
            StudyError: the study has no such classifier.
        """
        if name not in self.classifiers:
            known = ", ".join(self.classifiers)
            raise StudyError(f"{self.file}: classifiers: there is no {name!r}; the study has {known}")
        target = self.classifiers[name].target
        if target is None:
            return self
        study = self.changed(target=target)
        study._own_target = True
        return study

    def subject(self, fingerprint: str) -> str:
        """What results are kept under: the classifier's fingerprint, and its target where that is its own."""
        if not self._own_target:
            return fingerprint
        return f"{fingerprint}-{hashlib.sha256(self.target.model_dump_json().encode()).hexdigest()[:8]}"

    def path(self, path: Path) -> Path:
        """A path of the study file, made absolute."""
        return located(path, self.folder).resolve()

    @property
    def shared(self) -> SharedResults:
        """Which database, pictures and space: as the deployment says, and else as the file does."""
        said, own = self.deployment.results, self.results
        return SharedResults(
            pictures=said.pictures or own.pictures,
            database=said.database or own.database,
            space=said.space or own.space,
        )

    @property
    def results_folder(self) -> Path:
        """Where the database and the reports are, and the pictures unless they are kept elsewhere."""
        folder = self.deployment.results.folder
        return self.path(self.results.folder) if folder is None else folder / self.name

    @property
    def pictures_place(self) -> Path | str:
        """The folder that holds `pictures/`, or the address of a bucket that does."""
        where = self.shared.pictures
        if where is None:
            return self.results_folder
        each = self.deployment.results.pictures is not None and not self.shared.database  # else all studies share it
        if BUCKET.fullmatch(where):
            return f"{where.rstrip('/')}/{self.name}" if each else where
        folder = self.path(Path(where))
        return folder / self.name if each else folder

    @property
    def crew(self) -> Workers | None:
        """The workers that edit and judge: as the study says, and as many as this deployment says; None for none."""
        count = self.deployment.editor.workers
        if count is None:
            return self.workers
        if not count:
            return None
        return Workers(count=count) if self.workers is None else self.workers.model_copy(update={"count": count})

    @property
    def kept_as(self) -> str:
        """What this study's own rows are kept under: its name, behind that of the space where it has one.

        A name has no slash. Rows from before there were spaces are those of a study without one.
        """
        return f"{self.space}/{self.name}" if self.space else self.name

    @property
    def space(self) -> str:
        """Whose sample images, corpus and reports this study's are; empty where nobody else is expected."""
        return self.shared.owner or ""

    @property
    def deployment(self) -> Deployment:
        """Where this study runs, as environment variables and resources say; no part of any version."""
        return self._deployment

    def deployed(self, **places: Mapping[str, Any]) -> Study:
        """The same study in a deployment of which these fields are set: `deployed(editor={"device": "cuda"})`.

        Args:
            **places: part of the deployment -> its fields; see `deployment.Deployment`.

        Raises:
            StudyError: a value cannot be.
        """
        study = self.changed()
        study._deployment = self._deployment.over(places)
        study.check_shared()
        return study

    def check_shared(self) -> None:
        """Whether results can be kept where the study says. A password belongs into no file, but into a variable.

        Raises:
            StudyError: a database has no place for pictures, or its address has a password.
        """
        if self.shared.database and not self.shared.pictures:
            raise StudyError(
                f"{self.file}: results: with a database, name a place for the pictures that all its users see: a "
                "folder or a bucket (results.pictures, or DIFFEX_PICTURES)"
            )
        written = as_written(self.results.database, self._written, place=True)
        if written and has_password(re.sub(r"\$\{[^}]*\}", "", written)):
            raise StudyError(
                f"{self.file}: results.database: there is a password in the address; leave it out (PGPASSWORD or "
                "~/.pgpass has it), or name a variable that has it: ${DATABASE_PASSWORD}"
            )

    def settings(self, *fields: str, chosen: bool = False) -> dict[str, Any]:
        """These fields as JSON, places as the file writes them (`${DATA}/faces`): what versions are made of.

        Args:
            chosen: leave out what is as its default.
        """
        dumped = {field: self.model_dump(mode="json", include={field}, exclude_defaults=chosen) for field in fields}
        settings: dict[str, Any] = as_written(dumped, self._written)
        return settings

    def checkpoint(self, name: str) -> str:
        """A checkpoint as a folder beside the study, or as it stands where it can only be a hub id.

        A hub id is "owner/name" with no folder "owner" beside the study file; a name with the ending of a file is none.
        """
        folder = self.path(Path(name))
        could_be = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith(".safetensors")
        is_hub_id = could_be and not folder.parent.exists()
        return name if is_hub_id else str(folder)

    def with_editor(self, name: str) -> Study:
        """The same study with another of its editors.

        Args:
            name: of the editor, in the study.

        Raises:
            StudyError: the study has no such editor.
        """
        if name not in self.editors:
            raise StudyError(f"{self.file}: editors: there is no {name!r}; the study has {', '.join(self.editors)}")
        return self.changed(editor=name)

    def changed(self, **fields: Any) -> Study:
        """The same study, of the same file, with some fields replaced (not validated again)."""
        study = self.model_copy(update=fields)
        study._file = self._file
        return study
