"""Study: what a user writes in YAML, validated, with errors that say what to do.

Paths in a study file are relative to the file. Everything here can be read without loading a model.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML, YAMLError

from diffex_dagster.editing.ledits import LeditsOptions
from diffex_dagster.errors import StudyError
from diffex_dagster.search.options import SearchOptions

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]  # becomes part of asset keys and folder names


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(_Part):
    """Where the sample images are and how they are prepared."""

    folder: Path = Path("images")
    size: int = Field(512, ge=16, le=4096, description="side in pixels of the square that the editor works on")
    limit: int | None = Field(None, ge=1, description="use the first N files in name order")


class RecordedVLM(_Part):
    """A saved answer of a vision-language model: nothing is called."""

    kind: Literal["recorded"] = "recorded"
    file: Path


class OpenAIVLM(_Part):
    """Any endpoint that speaks the Chat Completions API: OpenAI, vLLM, Ollama, llama.cpp, LM Studio."""

    kind: Literal["openai"] = "openai"
    model: str
    base_url: str | None = Field(None, description="the API's address; OpenAI's own when left out")
    key_env: str | None = Field("OPENAI_API_KEY", description="name of the environment variable that holds the key")
    images_per_call: int = Field(8, ge=1)
    max_images: int = Field(24, ge=1, description="at most so many sample images are sent")
    image_side: int = Field(512, ge=16, description="images are scaled down to this many pixels a side")
    groups_per_call: int = Field(5, ge=1)
    parallel: int = Field(4, ge=1, description="calls under way at the same time")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="further fields of the request: temperature, ..."
    )
    prices: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="US dollars for a million tokens sent and received, by model"
    )
    embedding_model: str | None = Field(None, description="finds near-duplicates among the features")
    leak_check: bool = Field(False, description="ask the model which features only restate the class")
    retries: int = Field(4, ge=0)
    timeout_s: float = Field(120.0, gt=0)


class CorpusPart(_Part):
    """Where the features come from, and the person's edits."""

    vlm: Annotated[RecordedVLM | OpenAIVLM, Field(discriminator="kind")] | None = None
    starter: str | None = Field(None, description="a shipped corpus, for a study without a vision-language model")
    edits: Path = Path("corpus.yaml")
    examples: tuple[str, ...] = Field((), description="attributes that show the model what is meant")
    levels: Literal[2, 3] = 2
    groups: int = Field(20, ge=1, description="at most so many level-1 groups are asked for")
    max_children: int = Field(12, ge=1)
    leakage: tuple[str, ...] = Field((), description="further words that restate the class")
    vague: tuple[str, ...] = Field((), description="further words that name nothing to draw")
    context: tuple[Path, ...] = Field((), description="reference text for the model: .md, .txt, .csv, .pdf")
    context_tokens: int = Field(1500, ge=100)

    @model_validator(mode="after")
    def _one_origin(self) -> CorpusPart:
        if self.vlm and self.starter:
            raise ValueError("name a vlm or a starter, not both; what you add yourself goes into the edits file")
        return self


class LeditsEditorPart(LeditsOptions):
    """LEDITS++ on a Stable Diffusion checkpoint: a hub id, or a folder beside the study file."""

    kind: Literal["ledits"] = "ledits"


class PythonEditorPart(_Part):
    """An editor of the user's own: `module:factory`, called with `folder` (of the study file) and `options`."""

    kind: Literal["python"] = "python"
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    options: dict[str, Any] = Field(default_factory=dict)


class TransformersClassifierPart(_Part):
    """A `transformers` image classifier: a hub id or a folder."""

    kind: Literal["transformers"] = "transformers"
    checkpoint: str
    batch_size: int = Field(32, ge=1)
    device: str = "auto"


class PythonClassifierPart(_Part):
    """A classifier of the user's own: `module:factory`, called with `folder` (of the study file) and `options`."""

    kind: Literal["python"] = "python"
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    options: dict[str, Any] = Field(default_factory=dict)


class Target(_Part):
    """What an effect is measured in."""

    label: str = Field(description="the class that is explained")
    measure: Literal["probability", "logit", "margin"] = "probability"
    against: str | None = Field(None, description="the other class of a margin")

    @model_validator(mode="after")
    def _margin_needs_another_class(self) -> Target:
        if (self.measure == "margin") != (self.against is not None):
            raise ValueError("a margin needs 'against', the class it is measured from, and nothing else does")
        return self

    def describe(self) -> str:
        """The unit of an effect in words."""
        if self.measure == "margin":
            return f'margin of "{self.label}" over "{self.against}" (logits)'
        return f'{self.measure} of "{self.label}"'


class SearchPart(_Part):
    """How the tree is searched; see `search.options.SearchOptions`."""

    gate: Literal["magnitude", "signed"] = "magnitude"
    beam: int = Field(4, ge=1)
    delta: float = 0.0
    probes: int = Field(2, ge=1)
    joint_size: int = Field(3, ge=1)
    joint_width: int = Field(3, ge=1)
    joint_directions: Literal["both", "strongest"] = "both"
    joint_gain: float = 0.0

    def options(self) -> SearchOptions:
        """As the search takes them."""
        return SearchOptions(**self.model_dump())


class DiffusionProbePart(_Part):
    """Judge edits with the diffusion editor's own model; edits of another kind of editor are not judged."""

    kind: Literal["diffusion"] = "diffusion"
    draws: int = Field(2, ge=1, le=64, description="noise draws a picture is judged at: 2 cost a fifth of the edit")


class ClipProbePart(_Part):
    """Judge edits with a CLIP model: a hub id, or a folder beside the study file."""

    kind: Literal["clip"] = "clip"
    checkpoint: str
    template: str = Field("a picture of {}", pattern=r"\{\}", description="the sentence around a concept")
    device: str = "auto"


class NoProbePart(_Part):
    """Do not judge edits, except by how far they change pixels."""

    kind: Literal["none"] = "none"


class EffectsPart(_Part):
    """How effects are judged; see `effects.deciding.DecisionOptions`."""

    error_rate: Literal["fwer", "fdr-by", "fdr-ebh"] = "fwer"
    level: float = Field(0.05, gt=0.0, lt=1.0)
    minimum_effect: float = Field(0.0, ge=0.0)
    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    margin: float = Field(0.02, gt=0.0, description="effects inside ± this are called 'no effect shown'")
    nonsense: tuple[str, ...] = Field(
        ("flornip", "quazzle vint"), description="edit prompts that mean nothing: they measure the noise floor"
    )
    min_edit_strength: float = Field(
        0.002, ge=0.0, description="mean pixel change (0 to 1) under which an edit did not happen"
    )
    min_edit_success: float = Field(
        0.6, ge=0.0, le=1.0, description="share of edits that must show their attribute; chance is a half"
    )


class Study(_Part):
    """One question: which attributes does each classifier version rely on, on these images?"""

    name: Name
    title: str = ""
    domain: str = Field(description="what the images show, in words that a VLM understands, e.g. 'human faces'")
    images: Images = Images()
    corpus: CorpusPart
    editors: dict[Name, Annotated[LeditsEditorPart | PythonEditorPart, Field(discriminator="kind")]] = Field(
        min_length=1
    )
    editor: Name = Field("", description="the editor in use; the first one when left out")
    classifiers: dict[
        Name, Annotated[TransformersClassifierPart | PythonClassifierPart, Field(discriminator="kind")]
    ] = Field(min_length=1)
    target: Target
    search: SearchPart = SearchPart()
    effects: EffectsPart = EffectsPart()
    probe: Annotated[DiffusionProbePart | ClipProbePart | NoProbePart, Field(discriminator="kind")] = (
        DiffusionProbePart()
    )
    seed: int = 0
    results: Path = Path("results")
    owners: tuple[str, ...] = ()
    truth: str | None = Field(
        None, pattern=r"^[\w.]+:[\w.]+$", description="`module:function` that knows the true effects (worlds only)"
    )

    _file: Path = PrivateAttr(default=Path("study.yaml"))

    @field_validator("classifiers")
    @classmethod
    def _reserved(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = {"sample_images", "vlm_corpus", "corpus_edits", "corpus", "level1_edits", "classifier_comparison"}
        if clash := taken & set(value):
            raise ValueError(f"a classifier cannot be called {sorted(clash)[0]!r}: that is the name of a stage")
        return value

    @model_validator(mode="after")
    def _editor_is_known(self) -> Study:
        if self.editor and self.editor not in self.editors:
            raise ValueError(f"editor {self.editor!r} is not one of editors ({', '.join(self.editors)})")
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

    def path(self, path: Path) -> Path:
        """A path of the study file, made absolute."""
        return (self.folder / path).resolve()

    @property
    def results_folder(self) -> Path:
        """Where the database, the pictures and the reports are."""
        return self.path(self.results)

    def checkpoint(self, name: str) -> str:
        """A checkpoint as a folder beside the study, or as it stands where it can only be a hub id.

        A hub id is "owner/name" with no folder "owner" beside the study file.
        """
        folder = self.path(Path(name))
        is_hub_id = name.count("/") == 1 and not name.startswith((".", "/")) and not folder.parent.exists()
        return name if is_hub_id else str(folder)

    def with_editor(self, name: str) -> Study:
        """The same study with another of its editors.

        Raises:
            StudyError: the study has no such editor.
        """
        if name not in self.editors:
            raise StudyError(f"{self.file}: editors: there is no {name!r}; the study has {', '.join(self.editors)}")
        study = self.model_copy(update={"editor": name})
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
        raw = YAML(typ="safe").load(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{file}: there is no such study file; name one, or a folder with a study.yaml") from error
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{file}: this is not valid YAML ({reason}); mend the line that it names") from error
    if not isinstance(raw, dict):
        raise StudyError(
            f"{file}: the file has no fields; write at least name, domain, corpus, editors and classifiers"
        )
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(f"{file}: " + "; ".join(_explain(problem) for problem in error.errors())) from error
    study._file = file.resolve()
    return study


def _explain(problem: Mapping[str, Any]) -> str:
    """One pydantic problem as field, what is wrong, and the remedy."""
    field = ".".join(str(part) for part in problem["loc"]) or "study"
    match problem["type"]:
        case "missing":
            return f"{field}: the field is missing; add it"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), _known_keys(), 1)
            return f"{field}: there is no such field; " + (f"did you mean {near[0]!r}?" if near else "remove it")
        case "union_tag_not_found":
            return f"{field}: 'kind' is missing; say which kind it is ({problem['ctx']['discriminator']})"
        case _:
            return f"{field}: {problem['msg'].removeprefix('Value error, ')} (got {_short(problem.get('input'))})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known_keys() -> list[str]:
    keys: set[str] = set()
    models: list[type[BaseModel]] = [LeditsEditorPart, *_Part.__subclasses__()]
    for model in models:
        keys.update(model.model_fields)
    return sorted(keys)


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
