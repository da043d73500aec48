"""A study and its corpus as they are searched: every feature with the options of the editor that were found for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.errors import StoreError
from diffex_dagster.store import Store
from diffex_dagster.study import Study

if TYPE_CHECKING:
    from diffex_dagster.stages.context import StudyContext

Work = TypeVar("Work", bound="StudyContext")

Settings = Mapping[tuple[str, str], str]
"""(prompt, direction) -> `Concept.setting`."""


def what(study: Study) -> str:
    """The name under which the store says whose calibration a study uses: each of its editors has its own."""
    return f"calibration of {study.editor_name}"


def chosen_settings(study: Study, store: Store) -> Settings:
    """The settings that have been found, and those that a person pinned; empty for a study that does not calibrate."""
    if not study.calibrates:
        return {}
    editor = store.current(study.kept_as, what(study))
    found = {} if editor is None else store.calibration(study.kept_as, editor)
    pinned = {(prompt, way): setting for prompt, setting in study.pinned.items() for way in ("add", "remove")}
    return {of: choice.setting for of, choice in found.items()} | pinned


def with_settings(corpus: Corpus, settings: Settings) -> Corpus:
    """The corpus with the setting of each feature, where there is one."""

    def of(feature: Feature) -> Feature:
        children = tuple(of(child) for child in feature.children)
        return replace(feature, setting=settings.get((feature.prompt, feature.direction), ""), children=children)

    return replace(corpus, groups=tuple(of(group) for group in corpus.groups)) if settings else corpus


def calibrated(work: Work) -> Work:
    """The same work, whose control prompts are edited with every setting that a feature of its corpus has.

    Raises:
        StoreError: there is no corpus yet, or a feature of it has not been calibrated (a plan is made all the same).
    """
    study, store = work.study, work.store
    if not study.calibrates:
        return work
    settings, editable = chosen_settings(study, store), [f for f in work.corpus.walk() if f.editable]
    lacking = [feature for feature in editable if (feature.prompt, feature.direction) not in settings]
    if lacking and not store.planning:
        raise StoreError(
            f"{store.place}: nobody has looked yet with which options the editor should edit {lacking[0].prompt!r} "
            f"({len(lacking)} prompts in all); materialize editor_calibration first, or write calibrate: false"
        )
    return work.changed(study.edited_with([feature.setting for feature in editable]))
