"""Stages: ask the vision-language model, and merge what a person changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from diffex_dagster.classifying.target import check_labels
from diffex_dagster.corpus.cleaning import CleaningOptions, clean
from diffex_dagster.corpus.context import read_context, select
from diffex_dagster.corpus.editing import merge, read_edits
from diffex_dagster.corpus.proposing import OpenAIProposer, Proposal, ProposalRequest, Proposer
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.errors import ClassifierError, CorpusError
from diffex_dagster.search.levels import level1_features
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.store import Store
from diffex_dagster.study import OpenAIVLM, Study


def proposal_request(study: Study) -> ProposalRequest:
    """What the study asks a vision-language model for, with the reference passages that fit it best."""
    part = study.corpus
    passages = read_context([study.path(path) for path in part.context])
    query = " ".join([study.domain, *study.labels, *part.examples])
    return ProposalRequest(
        domain=study.domain,
        class_labels=study.labels,
        examples=part.examples,
        levels=part.levels,
        groups=part.groups,
        children=part.max_children,
        context=select(passages, query, part.context_tokens),
    )


def cleaned_proposal(study: Study, proposer: Proposer, images: Sequence[Image.Image]) -> Proposal:
    """Ask for the features that the images show, and clean the answer.

    Raises:
        CorpusError: no answer could be used, or cleaning left nothing.
    """
    proposal = proposer.propose(images, proposal_request(study))
    if not proposal.corpus.groups:
        return proposal
    part, vlm = study.corpus, study.corpus.vlm
    options = CleaningOptions(max_children=part.max_children, leakage=part.leakage, vague=part.vague)
    if isinstance(proposer, OpenAIProposer) and isinstance(vlm, OpenAIVLM):
        if vlm.leak_check:
            options = replace(options, leak_check=proposer.leaks)
        if vlm.embedding_model:
            options = replace(options, embed=proposer.embedder(vlm.embedding_model))
    return replace(proposal, corpus=clean(proposal.corpus, study.labels, options))


def propose(study: Study, store: Store, proposer: Proposer) -> Proposal:
    """Ask for the features that the study's sample images show, and keep the answer as its proposal."""
    images = list(store.images(list(store.samples(study.name))).values())
    proposal = cleaned_proposal(study, proposer, images)
    store.put_corpus(study.name, proposal.corpus)
    store.set_current(study.name, "proposal", proposal.corpus.version)
    return proposal


def edits_version(study: Study) -> str:
    """Hash of the person's file as it is, comments included; a missing file is no edits.

    The merge then runs again after a comment, cheaply; its own version is that of the merged tree, so that nothing
    after it does.
    """
    path = study.path(study.corpus.edits)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else "none"


def merge_edits(study: Study, store: Store, labels: Mapping[str, Sequence[str]]) -> Corpus:
    """Merge the person's file into the proposal and keep the result as the study's corpus.

    Args:
        labels: class names of every classifier; checked here, before any picture is edited.

    Raises:
        CorpusError: the file is wrong or contradicts the proposal; names the line.
        ClassifierError: a classifier lacks a class that the study names.
    """
    for name, known in labels.items():
        try:
            check_labels(known, study.for_classifier(name).target)
        except ClassifierError as error:
            raise ClassifierError(f"{study.file}: classifiers.{name}: {error}") from error
    corpus = merged(store.current_corpus(study.name, "proposal"), study.path(study.corpus.edits))
    if not corpus.groups:
        raise CorpusError(
            f"{study.file}: corpus: there is no feature; name a vlm or a starter, or write a tree into "
            f"{study.corpus.edits}"
        )
    store.put_corpus(study.name, corpus)
    store.set_current(study.name, "corpus", corpus.version)
    return corpus


def merged(proposal: Corpus, path: Path) -> Corpus:
    """The proposal with the changes of a person's file; a missing file changes nothing."""
    return merge(proposal, read_edits(path)) if path.exists() else proposal


def problems(corpus: Corpus, options: SearchOptions) -> list[str]:
    """Why a corpus cannot be searched; nothing when it can."""
    found = []
    if not any(level1_features(corpus, options).values()):
        found.append("no group can be edited: add features with an edit prompt to the corpus file")
    asked: dict[tuple[str, str], str] = {}
    for feature in corpus.walk():
        if not feature.editable:
            continue
        wanted = (feature.prompt, feature.direction)
        if wanted in asked:
            found.append(f"{feature.id} and {asked[wanted]} are the same edit ({feature.direction} {feature.prompt!r})")
        asked[wanted] = feature.id
    return found
