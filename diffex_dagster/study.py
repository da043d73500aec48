"""Study: what a user writes in YAML, validated, with errors that say what to do.

Paths in a study file are relative to the file. Everything here can be read without loading a model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from PIL import ImageColor
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, field_validator, model_validator
from ruamel.yaml.error import MarkedYAMLError

from diffex_dagster.classifying.kinds import AnyClassifierPart
from diffex_dagster.classifying.parts import Target
from diffex_dagster.corpus.vlm.kinds import AnyVLMPart
from diffex_dagster.deployment import Deployment
from diffex_dagster.editing.kinds import AnyEditorPart
from diffex_dagster.editing.parts import EditorPart
from diffex_dagster.errors import StudyError, in_words
from diffex_dagster.judging.kinds import AnyProbePart, DiffusionProbePart, NoProbePart
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.utils.config import Part
from diffex_dagster.utils.mistakes import explain_mistakes, place_in
from diffex_dagster.utils.paths import located
from diffex_dagster.utils.text import UnreasonableYAML, as_text, load_yaml, read_text
from diffex_dagster.utils.variables import UnsetVariable, as_written, resolve
from diffex_dagster.workers.options import Workers

Text = Annotated[str, BeforeValidator(as_text)]  # YAML reads 7 as a number
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]  # becomes part of asset keys and folder names
BY_CLASSIFIER = ("predicted class", "confidence", "score before any edit")
"""What divides the images of every report by itself (`effects.subgroups` adds columns of a table)."""


class Predicted(Part):
    """A filter by what a classifier says of the sample images themselves."""

    classifier: str = Field(description="one of the study's classifiers")
    label: Text | None = Field(None, description="keep images whose predicted class is this")
    min_confidence: float = Field(0.0, ge=0.0, le=1.0, description="of the predicted class")
    max_confidence: float = Field(1.0, ge=0.0, le=1.0, description="below 1: images that are not a clear case")


IMAGE_SOURCES = ("folder", "glob", "files", "table", "dataset")


class Images(Part):
    """Where the sample images are, which of them are used, and how they are prepared.

    One of `folder`, `glob`, `files`, `table` and `dataset` says where they are; a folder named "images" when none does.
    """

    folder: Path | None = Field(None, description="a folder of pictures, not its subfolders")
    glob: str | None = Field(None, description='a pattern of paths, e.g. "photos/**/*.jpg"')
    files: Path | None = Field(None, description="a text file with one path a line, relative to it")
    table: Path | None = Field(None, description="a CSV, TSV or Parquet file with a column of paths, relative to it")
    dataset: Path | None = Field(
        None, description="a Hugging Face dataset in a folder: pictures in class folders, a metadata file, or Parquet"
    )
    path_column: Text | None = Field(
        None, description="of the table or dataset: path, file_name, file or image when left out"
    )
    label_column: Text | None = Field(None, description="of the table or dataset; label when left out")

    labels: tuple[Text, ...] = Field((), description="use only images with one of these labels")
    predicted: Predicted | None = Field(None, description="use only images that a classifier of the study calls so")
    sample: int | None = Field(None, ge=1, description="draw so many at random, by the study's seed")
    stratify: bool = Field(False, description="draw the sample in equal parts from every label")
    limit: int | None = Field(None, ge=1, description="use the first N files in name order")

    size: int = Field(512, ge=16, le=4096, description="side in pixels of the square that the editor works on")
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how other shapes become square: the centre, bars at the sides, or stretched"
    )
    background: str = Field("white", description="colour under transparency and of the bars of pad: a name or #rrggbb")
    unreadable: float = Field(
        0.1, ge=0.0, lt=1.0, description="the share of files that may be unreadable; they are listed and left out"
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Images:
        named = [name for name in IMAGE_SOURCES if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} both say where the images are; keep one of them")
        if self.stratify and self.sample is None:
            raise ValueError("stratify needs 'sample', the number of images to draw; add it")
        if self.path_column and self.table is None and self.dataset is None:
            raise ValueError("path_column belongs to a 'table' or a 'dataset'; name one or remove it")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise ValueError(f"background: {self.background!r} is no colour; write a name or #rrggbb") from error
        return self

    @property
    def source(self) -> str:
        """Which field says where the images are."""
        return next((name for name in IMAGE_SOURCES if getattr(self, name) is not None), "folder")


class CorpusPart(Part):
    """Where the features come from, and the user overrides."""

    vlm: AnyVLMPart | None = None
    starter: str | None = Field(None, description="a shipped corpus, for a study without a vision-language model")
    edits: Path = Path("corpus.yaml")
    examples: tuple[Text, ...] = Field((), description="attributes that show the model what is meant")
    levels: Literal[2, 3] = 2
    groups: int = Field(20, ge=1, description="at most so many level-1 groups are asked for")
    max_children: int = Field(12, ge=1)
    leakage: tuple[Text, ...] = Field((), description="further words that restate the class")
    vague: tuple[Text, ...] = Field((), description="further words that name nothing to draw")
    context: tuple[Path, ...] = Field((), description="reference text for the model: .md, .txt, .csv, .pdf")
    context_tokens: int = Field(1500, ge=100)

    @model_validator(mode="after")
    def _one_origin(self) -> CorpusPart:
        if self.vlm and self.starter:
            raise ValueError("name a vlm or a starter, not both; what you add yourself goes into the edits file")
        return self


class SearchPart(Part):
    """How the tree is searched; see `search.options.SearchOptions`."""

    gate: Literal["magnitude", "signed", "absolute"] = "magnitude"
    beam: int = Field(4, ge=1)
    delta: float = 0.0
    probes: int = Field(2, ge=1)
    joint_size: int = Field(3, ge=1)
    joint_width: int = Field(3, ge=1)
    joint_directions: Literal["both", "strongest"] = "both"
    joint_search: Literal["greedy", "published"] = "greedy"
    joint_gain: float = 0.0
    interactions: int = Field(
        0,
        ge=0,
        le=20,
        description="edit the strongest features of so many groups in pairs, to see whether they do more together or "
        "less than each adds up to: 4 take seven edits of every image, one of them towards two control prompts",
    )
    allocation: Literal["exhaustive", "racing"] = "exhaustive"
    racing_top: int = Field(5, ge=1)
    racing_error: float = Field(0.05, gt=0.0, lt=1.0)
    racing_tolerance: float = Field(0.0, ge=0.0)
    racing_gate_tolerance: float = Field(0.01, ge=0.0)
    racing_start: int = Field(24, ge=2)
    racing_growth: float = Field(1.5, gt=1.0, le=100.0)
    racing_bounds: Literal["normal", "bounded"] = "normal"

    def options(self) -> SearchOptions:
        """As the search takes them."""
        return SearchOptions(**self.model_dump(exclude={"interactions"}))


class EffectsPart(Part):
    """How effects are judged; see `effects.deciding.DecisionOptions`."""

    renamed: ClassVar[Mapping[str, str]] = {"nonsense": "control_prompts"}

    error_rate: Literal["fwer", "fdr-by", "fdr-ebh"] = "fwer"
    level: float = Field(0.05, gt=0.0, lt=1.0)
    minimum_effect: float = Field(0.0, ge=0.0)
    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    margin: float | None = Field(
        None,
        gt=0.0,
        description="effects inside ± this do not matter, in the unit of the target measure; left out: 0.02 of a "
        "probability, and 2% of the range of the scores where the measure has no limits",
    )
    side_effects: int = Field(
        8, ge=0, description="so many of the strongest features are checked for what their edits do to each other"
    )
    absence: int = Field(
        8,
        ge=0,
        description="of so many of the strongest features, edit the pictures that show them already the other way: "
        "do(1) − do(0); costs at most a tenth of the search's edits; 0 never does",
    )
    subgroups: tuple[Text, ...] = Field(
        (),
        description="columns of images.table (or of the dataset's metadata) by which effects are given for some of the "
        "images, besides the class that an image is taken for and how surely; `label` is the labels",
    )
    seeds: int = Field(
        1,
        ge=1,
        le=1000,
        description="edit each image under so many seeds, from the study's own on; averaged within the image",
    )
    confirmation: float = Field(
        0.5, ge=0.0, le=0.9, description="share of the images that the search does not see and the report speaks of"
    )
    confirmation_from: int = Field(
        40, ge=4, description="with fewer images than this, the search and the report share all of them"
    )
    control_prompts: tuple[Text, ...] = Field(
        ("flornip", "quazzle vint"),
        description="control prompts, words that mean nothing: every effect is held against their edits, and they "
        "measure the noise floor; two or more",
    )
    min_edit_strength: float = Field(
        0.025,
        ge=0.0,
        le=1.0,
        description="an edit that changes no window of an eighth of the picture's side by so much on average (0 to 1) "
        "did not happen",
    )
    min_edit_success: float = Field(
        0.5, ge=0.0, le=1.0, description="share of edits that must show their attribute; chance is a quarter"
    )


class CalibrationPart(Part):
    """How the options of the editor are found; see `editing.calibration`."""

    images: int = Field(6, ge=1, description="try them on so many of the sample images")
    budget: float = Field(
        0.15, gt=0.0, le=1.0, description="the most edits this may take, as a share of those that the study makes"
    )


class ReportPart(Part):
    """What is on the report's page besides the effects."""

    gradcam: int = Field(
        3, ge=0, description="so many of the strongest features are shown with Grad-CAM, where the classifier is torch"
    )
    lpips: Literal["alex", "vgg", "squeeze"] | None = Field(
        None, description="measure the LPIPS of every edit against its null edit with this backbone (extra: lpips)"
    )


class RulePart(Part):
    """A limit on how far a feature may move a classifier; a broken one fails (or warns about) its asset's check."""

    feature: Text = Field(description="a feature or a group, by id, by 'Group / Name', or by its name")
    below: float = Field(gt=0.0, description="mean |effect| has to stay below this, in the unit of the target measure")
    classifiers: tuple[Name, ...] = Field((), description="whom the rule is for; the last one when left out")
    severity: Literal["fail", "warn"] = "fail"


class Study(Part):
    """One question: which attributes does each classifier version rely on, on these images?"""

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
    probe: AnyProbePart = DiffusionProbePart()
    second_probe: AnyProbePart = Field(
        NoProbePart(), description="a second judge of the reported edits; the report says how far both agree"
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
    results: Path = Path("results")
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
        taken = {"image_files", "proposal_inputs", "editor", "probe", "results"}  # sources
        taken |= {"sample_images", "vlm_corpus", "corpus_edits", "corpus", "source_prompts"}
        taken |= {"editor_calibration", "level1_edits", "classifier_comparison", "editor_comparison"}
        for name in value:
            if name.lower() in taken:
                raise ValueError(f"a classifier cannot be called {name!r}: that is the name of a stage")
            if name.lower() == "comparison":
                raise ValueError(
                    f"a classifier cannot be called {name!r}: its report would lie where the comparison of all "
                    "classifiers does; choose another name"
                )
        return value

    @field_validator("name", "classifiers", "editors")
    @classmethod
    def _fit_for_every_disk(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        """Names become folders: also on disks that do not tell A from a, and know devices by name."""
        names = [value] if isinstance(value, str) else list(value)
        seen: dict[str, str] = {}
        for name in names:
            if name.lower() in DEVICES:
                raise ValueError(f"{name!r} is the name of a device on Windows, and no folder there; choose another")
            other = seen.setdefault(name.lower(), name)
            if other != name:
                raise ValueError(
                    f"{other!r} and {name!r} differ in capital letters only, and would share a folder on some disks; "
                    "rename one of them"
                )
        return value

    @model_validator(mode="before")
    @classmethod
    def _a_classifier_for_each_class(cls, value: Any) -> Any:
        return _expand_classes(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _bounds_fit_the_measure(self) -> Study:
        if self.search.racing_bounds == "bounded" and not self.target.bounded:
            raise ValueError(
                f"search.racing_bounds 'bounded' needs effects that cannot leave [−1, 1], and the measure is "
                f"{self.target.measure!r}: use racing_bounds: normal, or measure: probability"
            )
        return self

    @model_validator(mode="after")
    def _subgroups_have_a_table(self) -> Study:
        for column in self.effects.subgroups:
            if column.strip().lower() in BY_CLASSIFIER:
                raise ValueError(
                    f"effects.subgroups: every report divides the images by {column!r} already, as the classifier "
                    "takes them: give the column of the table another name"
                )
        if self.effects.subgroups and self.images.source not in ("table", "dataset"):
            raise ValueError(
                f"effects.subgroups: {self.effects.subgroups[0]!r} is a column of images.table or images.dataset, and "
                f"the images come from images.{self.images.source}: name a table, or leave subgroups out"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Study:
        if self.editor and self.editor not in self.editors:
            raise ValueError(f"editor {self.editor!r} is not one of editors ({', '.join(self.editors)})")
        if self.second_editor and self.second_editor not in list(self.editors)[1:]:
            others = ", ".join(list(self.editors)[1:]) or "none, so far"
            raise ValueError(f"second_editor {self.second_editor!r} is not another one of editors (others: {others})")
        asked = self.images.predicted
        if asked and asked.classifier not in self.classifiers:
            known = ", ".join(self.classifiers)
            raise ValueError(f"images.predicted.classifier {asked.classifier!r} is not one of classifiers ({known})")
        return self

    @model_validator(mode="after")
    def _somebody_judges(self) -> Study:
        if self.calibrate and not self.probe.judges:
            raise ValueError(
                "calibrate: true finds options by a judge's word, and probe says that there is none; remove one of them"
            )
        return self

    @model_validator(mode="after")
    def _rules_name_classifiers(self) -> Study:
        named = [name for rule in self.rules for name in rule.classifiers]
        if unknown := [name for name in named if name not in self.classifiers]:
            raise ValueError(
                f"rules: classifier {unknown[0]!r} is not one of classifiers ({', '.join(self.classifiers)})"
            )
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
        if not self.probe.judges or self.calibrate is False:
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
        """The study as one classifier sees it: with the target of its own, where it has one."""
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
    def results_folder(self) -> Path:
        """Where the database and the reports are, and the pictures unless the deployment keeps them elsewhere."""
        folder = self.deployment.results.folder
        return self.path(self.results) if folder is None else folder / self.name

    @property
    def pictures_folder(self) -> Path:
        """The folder that holds `pictures/`."""
        folder = self.deployment.results.pictures
        return self.results_folder if folder is None else folder / self.name

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
        space = self.deployment.results.space
        return self.name if space is None else f"{space}/{self.name}"

    @property
    def deployment(self) -> Deployment:
        """Where this study runs, as environment variables and resources say; no part of any version."""
        return self._deployment

    def deployed(self, **places: Mapping[str, Any]) -> Study:
        """The same study in a deployment of which these fields are set: `deployed(editor={"device": "cuda"})`.

        Raises:
            StudyError: a value cannot be.
        """
        study = self.changed()
        study._deployment = self._deployment.over(places)
        return study

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


def load_study(path: Path) -> Study:
    """Read and validate a study file.

    Args:
        path: a study.yaml, or a folder that holds one.

    Raises:
        StudyError: the file is missing, is not YAML, or a field is wrong; the message names file, field and remedy.
    """
    file = path / "study.yaml" if path.is_dir() else path
    try:
        raw = load_yaml(read_text(file))
    except FileNotFoundError as error:
        raise StudyError(f"{file}: there is no such study file; name one, or a folder with a study.yaml") from error
    except OSError as error:
        raise StudyError(f"{file}: it cannot be read ({in_words(error)}); name a study file that can be") from error
    except UnreasonableYAML as error:
        raise StudyError(f"{file}: no study file is like this ({error}); write it shorter") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(error.problem or error.context).split())
        raise StudyError(f"{file}: this is not valid YAML ({reason}{line}); mend that line") from error
    except Exception as error:  # ruamel's, of any kind: a tag, a date or a number that cannot be
        raise StudyError(f"{file}: this is not valid YAML ({in_words(error)}); mend it") from error
    if not isinstance(raw, dict):
        raise StudyError(
            f"{file}: the file has no fields; write at least name, domain, corpus, editors and classifiers"
        )
    return study_of(raw, file)


def study_of(fields: dict[str, Any], file: Path) -> Study:
    """A study from the fields of its file.

    Args:
        fields: as in the YAML file.
        file: where paths start from, and what messages name; it need not exist.

    Raises:
        StudyError: a field is wrong; the message names file, field and remedy.
    """
    deployment = Deployment.from_environment()
    try:
        resolved, written = resolve(fields)
        study = Study.model_validate(resolved)
    except UnsetVariable as error:
        raise StudyError(f"{file}: {place_in(file, error.place)}{error}") from error
    except ValidationError as error:
        raise StudyError(explain_mistakes(error.errors(), Study, file)) from error
    study._file, study._written, study._deployment = file.resolve(), written, deployment
    return study


def _expand_classes(fields: dict[str, Any]) -> dict[str, Any]:
    """`target: {label: [a, b]}` explains each classifier once for each class: v1 becomes v1_a and v1_b.

    All of them share the edits, and a classifier's scores: only what is read off the scores differs.
    """
    target, classifiers = fields.get("target"), fields.get("classifiers")
    labels = target.get("label") if isinstance(target, dict) else None
    if not isinstance(labels, list) or not isinstance(classifiers, dict) or not labels:
        return fields
    assert isinstance(target, dict)
    expanded: dict[str, Any] = {}
    for name, part in classifiers.items():
        if not isinstance(part, dict) or "target" in part:
            expanded[name] = part
            continue
        for label in labels:
            slug = re.sub(r"\W+", "_", str(label), flags=re.ASCII).strip("_").lower() or str(len(expanded))
            alike = (f"{name}_{slug}" if not n else f"{name}_{slug}_{n + 1}" for n in range(len(labels)))
            free = next(each for each in alike if each not in expanded and each not in classifiers)
            expanded[free] = {**part, "target": {**target, "label": label}}
    return {**fields, "target": {**target, "label": labels[0]}, "classifiers": expanded}


def find_study(name: str, root: Path) -> Path:
    """A study by path, or by name under `<root>/studies`.

    Raises:
        StudyError: neither exists; the message lists the studies there are.
    """
    for candidate in (Path(name), root / "studies" / name):
        if candidate.is_file() or (candidate / "study.yaml").is_file():
            return candidate
    known = sorted(file.parent.name for file in root.glob("studies/*/study.yaml"))
    raise StudyError(
        f"{name}: there is no such study; name a study.yaml, or one of {', '.join(known) or 'none'} "
        f"under {root / 'studies'}"
    )
