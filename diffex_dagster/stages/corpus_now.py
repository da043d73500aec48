"""The corpus as it would be searched now, before any stage has merged it."""

from __future__ import annotations

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.corpus import cleaned_proposal, merged
from diffex_dagster.stages.setup import build_proposer, build_store, classifier_labels
from diffex_dagster.study import Study


def corpus_now(study: Study) -> Corpus:
    """The tree that the study would search now: its proposal with the corpus file as it stands merged in.

    Raises:
        DiffExError: a live model has not been asked yet, or the file is wrong.
    """
    return merged(proposal_now(study), study.path(study.corpus.overrides))


def proposal_now(study: Study) -> Corpus:
    """What the study's corpus file changes.

    A recorded answer or a starter is read as it is now. A live model is not asked: its stored proposal is used.

    Raises:
        DiffExError: a live model has not been asked yet.
    """
    store = build_store(study, reading=True)
    if study.corpus.vlm and study.corpus.vlm.live:
        return store.current_corpus(study.kept_as, "proposal")
    try:
        labels = classifier_labels(study, list(study.classifiers))
    except DiffExError:  # a corpus can be looked at before the classifier is there
        labels = {}
    return cleaned_proposal(study, build_proposer(study, store), [], labels).corpus
