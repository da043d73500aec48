"""A toy study whose images and corpus are there, so that its prompts can be calibrated."""

from __future__ import annotations

from dataclasses import replace

from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.study import Study


def set_up(study: Study, region: str | None = None) -> StudyContext:
    work, corpus = StudyContext(study), corpus_now(study)
    groups = [replace(group, region=region if group.id == "red" else None) for group in corpus.groups]
    corpus = replace(corpus, groups=tuple(groups))
    sample_images(work)
    work.store.put_corpus(study.name, corpus)
    work.store.set_current(study.name, "corpus", corpus.version)
    return work
