"""A study and its corpus as they are searched: every feature with the options of the editor that were found for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.store import Store
from diffex_dagster.study import Study

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
