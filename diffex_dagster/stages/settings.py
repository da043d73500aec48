"""Which of a study's settings decide what a stage makes: complete, and no stage for a setting that it does not use.

A stage's version covers the settings of its row here and the number of what it computes of them (`REVISIONS`, which is
raised where a stage comes to make something else); everything else that it reads is data, which is observed: image
files, the person's corpus file, what a proposal is made from, weights and code of editor and classifiers, the database.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from diffex_dagster.corpus.wording import RULES as CORPUS_RULES
from diffex_dagster.editing.vocabulary import describing
from diffex_dagster.images.sources.kinds import AnyImageSource
from diffex_dagster.search.options import BEAM
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest
from diffex_dagster.utils.own_code import code_digest

Stage = Literal[
    "sample_images", "vlm_corpus", "corpus", "source_prompts", "editor_calibration", "level1_edits", "level1_scores",
    "level2_scores", "ranked_report", "classifier_comparison",
]  # fmt: skip
STAGES: tuple[Stage, ...] = typing.get_args(Stage)
Beside = Literal["corpus_suggestions", "editor_comparison"]  # assets of a study that are no stage of an explanation

_IMAGES: tuple[Stage, ...] = ("sample_images",)
_PROPOSAL: tuple[Stage, ...] = ("vlm_corpus",)
_REPORT: tuple[Stage, ...] = ("ranked_report",)
_PAGES: tuple[Stage, ...] = ("ranked_report", "classifier_comparison")
_SEARCH: tuple[Stage, ...] = ("level2_scores", *_PAGES)  # what runs or replays a search
_SCORES: tuple[Stage, ...] = ("level1_scores", *_SEARCH)
_EDITS: tuple[Stage, ...] = ("level1_edits", *_SCORES)
_CALIBRATION: tuple[Stage, ...] = ("source_prompts", "editor_calibration")  # what tries edits on a few images
_NONE: tuple[Stage, ...] = ()  # observed as data, or without a part in any result

# A field, or a whole part of the study -> the stages whose result it decides. A field that is in no row, and in no part
# that is, has not been decided about: `undecided` names it, and a test fails.
DECIDES: Mapping[str, tuple[Stage, ...]] = {
    "name": _NONE,  # in the keys of the assets
    "title": _PAGES,
    "domain": (*_PROPOSAL, *_REPORT),
    **{f"images.{field}": _NONE for field in AnyImageSource.model_fields},  # which files there are is observed
    "images.labels": _IMAGES,
    "images.predicted": _IMAGES,
    "images.sample": _IMAGES,
    "images.stratify": _IMAGES,
    "images.limit": _IMAGES,
    "images.size": _IMAGES,
    "images.fit": _IMAGES,
    "images.background": _IMAGES,
    "images.unreadable": _IMAGES,
    "corpus.vlm.recorded.kind": _PROPOSAL,
    "corpus.vlm.recorded.file": _NONE,  # its content is observed
    "corpus.vlm.recorded.suggestions": _NONE,  # material for a person, who writes what is taken up into the corpus file
    "corpus.vlm.openai.kind": _PROPOSAL,
    "corpus.vlm.openai.model": _PROPOSAL,
    "corpus.vlm.openai.base_url": _NONE,  # where the model answers; answers are kept by model and request
    "corpus.vlm.openai.key_env": _NONE,
    "corpus.vlm.openai.images_per_call": _PROPOSAL,
    "corpus.vlm.openai.max_images": _PROPOSAL,
    "corpus.vlm.openai.image_side": _PROPOSAL,
    "corpus.vlm.openai.groups_per_call": _PROPOSAL,
    "corpus.vlm.openai.parallel": _NONE,
    "corpus.vlm.openai.parameters": _PROPOSAL,
    "corpus.vlm.openai.prices": _NONE,
    "corpus.vlm.openai.embedding_model": _PROPOSAL,
    "corpus.vlm.openai.leak_check": _PROPOSAL,
    "corpus.vlm.openai.retries": _NONE,
    "corpus.vlm.openai.timeout_s": _NONE,
    "corpus.starter": _PROPOSAL,
    "corpus.overrides": _NONE,  # its content is observed
    "corpus.examples": _PROPOSAL,
    "corpus.levels": _PROPOSAL,
    "corpus.groups": _PROPOSAL,
    "corpus.max_children": _PROPOSAL,
    "corpus.leakage": _PROPOSAL,
    "corpus.vague": _PROPOSAL,
    "corpus.context": _NONE,  # their content is observed
    "corpus.context_tokens": _PROPOSAL,
    "editors": _REPORT,  # the page lists them; what they do to pixels is in the observed fingerprint
    "editor": _NONE,  # in the keys of the assets
    "second_editor": _NONE,  # its graph has keys of its own
    "classifiers": _NONE,  # in the observed fingerprints; a target of their own counts as the study's
    "target": (*_PROPOSAL, *_SCORES),
    "search.gate": _SCORES,
    "search.beam": (*_CALIBRATION, *_SCORES),
    "search.delta": _SCORES,
    "search.probes": (*_CALIBRATION, *_EDITS),  # which features stand in for a group
    "search.joint_size": _SEARCH,
    "search.joint_width": _SEARCH,
    "search.joint_directions": _SEARCH,
    "search.joint_search": _SEARCH,
    "search.joint_gain": _SEARCH,
    "search.interactions": _SEARCH,
    "search.allocation": (*_CALIBRATION, *_EDITS),
    "search.racing_top": _SEARCH,
    "search.racing_error": _SEARCH,
    "search.racing_tolerance": _SEARCH,
    "search.racing_gate_tolerance": _SEARCH,
    "search.racing_start": _EDITS,
    "search.racing_growth": _SEARCH,
    "search.racing_bounds": _SEARCH,
    "effects.error_rate": _PAGES,
    "effects.level": _SCORES,  # the gate counts features that enough images lack; which edits are made the other way
    "effects.minimum_effect": _PAGES,
    "effects.confidence": _PAGES,
    "effects.margin": _PAGES,
    "effects.side_effects": _SEARCH,  # how many edits are judged for each other's attributes
    "effects.absence": _SEARCH,  # which edits are made the other way
    "effects.subgroups": ("sample_images", *_REPORT),  # columns are kept with the images
    "effects.seeds": (*_CALIBRATION, *_EDITS),
    "effects.confirmation": _EDITS,
    "effects.confirmation_from": _EDITS,
    "effects.control_prompts": (*_CALIBRATION, *_EDITS),
    "effects.min_edit_strength": (*_CALIBRATION, *_SCORES),  # the gate counts edits that show their attribute
    "effects.min_edit_success": _SCORES,
    "judge": (*_CALIBRATION, *_SCORES),  # the gate counts edits that show their attribute
    "second_judge": _SEARCH,  # which edits are judged twice
    "report": _REPORT,
    "calibrate": (*_CALIBRATION, *_EDITS),
    "calibration.images": _CALIBRATION,
    "calibration.budget": _CALIBRATION,
    "rules": _PAGES,
    "seed": ("sample_images", *_CALIBRATION, *_EDITS),
    "workers": _NONE,  # any number of them makes the same edits
    "results.folder": _NONE,  # which database it is is observed
    "results.pictures": _NONE,
    "results.database": _NONE,
    "results.space": _NONE,
    "owners": _NONE,
    "truth": _REPORT,  # a caveat, and corpus recall; its code is in the version too (`stage_version`)
}

# (field, stage) -> when the field has a part in the stage after all.
_ONLY_WHERE: Mapping[tuple[str, str], Callable[[Study], bool]] = {
    ("effects.level", "level1_scores"): lambda study: study.search.gate == "magnitude" and study.judge.judges,
    ("effects.level", "level2_scores"): lambda study: (
        (study.effects.absence > 0 or study.search.gate == "magnitude") and study.judge.judges
    ),
    ("seed", "sample_images"): lambda study: study.images.sample is not None,
    ("effects.confirmation", "level1_edits"): lambda study: study.search.allocation == "racing",
    ("effects.confirmation_from", "level1_edits"): lambda study: study.search.allocation == "racing",
    ("search.racing_start", "level1_edits"): lambda study: study.search.allocation == "racing",
    ("search.racing_start", "level1_scores"): lambda study: study.search.allocation == "racing",
}

JUDGED: dict[str, int] = {"judging": 2}
"""Of the stages that hold which edits show their attribute. 1: a gain exceeds what pictures differ by of themselves;
2: which pictures show an attribute already is told by a level of its own."""

REVISIONS: Mapping[Stage | Beside, Mapping[str, int]] = {
    "vlm_corpus": {"rules": CORPUS_RULES},  # by which a corpus is cleaned and merged
    "corpus": {"rules": CORPUS_RULES},
    # 1: a trace is no edit that shows its attribute, and what changed is measured on the whole picture.
    # 2: what fills the picture has no mask, and an edit shows its attribute by the rule of reports.
    # 3: a prompt is tried under settings of its kind only; words are compared in small studies and under named options
    # 4 (source prompts): words were compared by the median pair; 5: they are by the mean again
    "source_prompts": {"revision": 5},
    "editor_calibration": {"revision": 3},
    "level1_scores": JUDGED,
    "level2_scores": JUDGED,
    # 1: how much of the classifier the features explain is in it; 2: of outputs that hardly vary there is no share;
    # 3: no claim that one more image would undo; 4: a feature that nothing tells from another is marked with it;
    # 5: the margin, the verdict by what the decisions test, how many claims nobody looked into; the interval of a
    # direct effect stays inside what the measure can take; 6: effects are against the null edits
    "ranked_report": {"revision": 6} | JUDGED,
    # 1: no change that one more image would undo; 2: what its reports say of control prompts, judge and images;
    # 3: effects are against the null edits
    "classifier_comparison": {"revision": 3} | JUDGED,
    "corpus_suggestions": {"revision": 2},
    "editor_comparison": {"revision": 4} | JUDGED,
}
"""What a stage makes of the same settings and data, by number: raised when the code comes to make something else.

What was made before counts as out of date then. A stage that is not named makes what it always did.
"""

_TWO_WORDS = ("flornip", "quazzle vint")  # control prompts by default once, and hashed as nothing: such results stay
_IN_FULL: Mapping[str, Callable[[Study], Any]] = {
    # BEAM was the default once, and hashed as nothing: results of such a search stay.
    "search.beam": lambda study: None if study.search.places == BEAM else study.search.places or "all",
    "effects.control_prompts": lambda study: (
        None if study.effects.control_prompts == _TWO_WORDS else list(study.effects.control_prompts)
    ),
}
"""Fields of which no value is left out as the default -> what they come to; None is what nothing was hashed for.

A field whose default changes belongs here, or else a study that does not name it counts as up to date.
"""

KEPT_NAMES: Mapping[str, str] = {
    "effects.control_prompts": "effects.nonsense",
    "judge": "probe",
    "second_judge": "second_probe",
}
"""Fields that have another name than before -> the name that versions were hashed under: results of before stay."""


def fields(model: type[BaseModel] = Study, prefix: str = "") -> Iterator[str]:
    """Every field of a study by its path, as deep as `DECIDES` goes; a part of several kinds has its kind's name."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        kinds = [] if path in DECIDES else list(_models_in(info.annotation))
        if not kinds:
            yield path
        for kind in kinds:
            of_kind = f".{_kind(kind)}" if len(kinds) > 1 else ""
            yield from fields(kind, f"{path}{of_kind}.")


def undecided() -> list[str]:
    """Fields of a study that nobody has decided about: which stages do they decide?"""
    return [field for field in fields() if field not in DECIDES]


def stage_settings(study: Study, stage: Stage) -> dict[str, Any]:
    """The settings of a study that decide a stage's result; what is as its default is left out (but see `_IN_FULL`).

    Args:
        study: for a classifier's stage, as that classifier sees it (`Study.for_classifier`).
        stage: which.

    Raises:
        ValueError: there is no such stage.
    """
    if stage not in STAGES:
        raise ValueError(f"there is no stage {stage!r}; the stages are {', '.join(STAGES)}")
    whole, said = study.settings(*Study.model_fields), study.settings(*Study.model_fields, chosen=True)
    found = {}
    for field, stages in DECIDES.items():
        if stage in stages and _ONLY_WHERE.get((field, stage), lambda _: True)(study):
            top = field.partition(".")[0]
            full = _IN_FULL.get(field)
            value = full(study) if full else _value(whole[top], said[top], field.split("."))
            if value is not None:
                found[field] = value
    if "editors" in found:
        found["editors"] = found["editors"][study.editor_name]
    if stage in DECIDES["calibrate"] and study.pinned:  # a prompt's own options are no part of the editor's fingerprint
        found["pinned"] = study.pinned
    if stage in DECIDES["calibrate"] and study.finds_source_prompts:
        # Another editor than without, of the same observed fingerprint, which knows no rule by which it describes.
        rules = describing()
        found["source_prompts"] = f"auto {rules}" if rules else "auto"
    if stage == "vlm_corpus":  # no feature may restate a class that any classifier explains
        found["target"] = list(study.labels)
    return found


_SETTINGS_OF: Mapping[Stage | Beside, Stage] = {
    **{stage: stage for stage in STAGES},
    "corpus_suggestions": "vlm_corpus",  # the same model is asked about the same domain
    "editor_comparison": "classifier_comparison",
}


def decided_by(field: str) -> set[Stage | Beside]:
    """The assets whose code version a field of `DECIDES` is part of, those beside the stages too."""
    return {asset for asset, stage in _SETTINGS_OF.items() if stage in DECIDES[field]}


def stage_version(study: Study, stage: Stage | Beside) -> str:
    """Hash of settings and `REVISIONS`: an asset's code version, whole.

    The package's own version has no part in it: a release makes nothing out of date that it makes as before. Of a
    report the code of the study's `truth` has, as far as it is beside the study file.

    Args:
        stage: or an asset beside the stages, whose settings are those of the stage that it resembles.
    """
    settings = as_hashed(stage_settings(study, _SETTINGS_OF[stage]))
    code = _code_of_truth(study) if stage == "ranked_report" else {}
    return digest({**settings, **REVISIONS.get(stage, {}), **code})[:16]


def _code_of_truth(study: Study) -> dict[str, str]:
    """What a report's corpus recall is made by, where that is code beside the study file."""
    if study.truth is None or not (code := code_digest(study.truth, study.folder, {})):
        return {}
    return {"truth_code": code}


def as_hashed(settings: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Settings under the names of `KEPT_NAMES`, at any depth; a key may be a path of its own."""
    found = {}
    for name, value in settings.items():
        path = f"{within}{name}"
        former = KEPT_NAMES.get(path, path).removeprefix(within)
        found[former] = as_hashed(value, f"{path}.") if isinstance(value, Mapping) else value
    return found


def _value(whole: Any, said: Any, path: Sequence[str]) -> Any:
    """What a study says at a path; None where it says nothing, or has another kind of part there.

    Args:
        whole: the study, or a part of it, as JSON.
        said: the same without what is as its default.
    """
    if not path or not isinstance(whole, dict):
        return said
    name, *rest = path
    if name == "kind" and not rest:
        return whole.get("kind")
    if name not in whole and whole.get("kind") == name:
        return _value(whole, said, rest)  # the name of this part's kind
    return _value(whole[name], said[name], rest) if name in whole and name in (said or {}) else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _kind(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].default)
