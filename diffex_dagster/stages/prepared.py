"""What a study finds out before its first edit, where no stage before has done so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from PIL import Image

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.stages.calibration import calibrate
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.sample_images import keep_samples
from diffex_dagster.stages.source_prompts import find_source_prompts

Work = TypeVar("Work", bound=StudyContext)


def prepared(work: Work) -> Work:
    """Find out what is lacking: words that describe pictures, and options of the editor for the corpus as it is.

    What is known stays as it is.

    Returns:
        The same work, whose editor knows the words.
    """
    if work.study.finds_source_prompts:
        find_source_prompts(work)
        work = work.changed()
    if work.study.calibrates:
        calibrate(work)
    return work


def prepared_for(work: Work, pictures: Mapping[str, Image.Image], corpus: Corpus) -> Work:
    """The same for another corpus, or a study that nobody can run first: it has no file.

    The corpus that the study had stays its own.

    Args:
        pictures: name -> prepared picture, to find it out on where the study has no sample images.
        corpus: whose features are to be edited.
    """
    study, store = work.study, work.store
    if not study.finds_source_prompts and not study.calibrates:
        return work
    if not store.sample_count(study.kept_as):
        keep_samples(study, store, pictures)
    before = store.current(study.kept_as, "corpus")
    store.put_corpus(study.kept_as, corpus)
    store.set_current(study.kept_as, "corpus", corpus.version)
    try:
        return prepared(work)
    finally:
        if before is not None:
            store.set_current(study.kept_as, "corpus", before)
