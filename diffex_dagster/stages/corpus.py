"""Stages: ask the vision-language model, and merge what a person changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from diffex_dagster.classifying.target import check_labels
from diffex_dagster.corpus.cleaning import CleaningOptions, Embed, clean
from diffex_dagster.corpus.overrides import merge
from diffex_dagster.corpus.overrides_file import read_overrides
from diffex_dagster.corpus.showing import CorpusDiff, diff
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.context import read_context, select
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.protocol import HelpingProposer, Proposal, Proposer
from diffex_dagster.errors import ClassifierError, CorpusError, StoreError
from diffex_dagster.search.levels import level1_features
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.store.files import InOrder
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest, file_fingerprint
from diffex_dagster.utils.imports import at_own_code

Labels = Mapping[str, Sequence[str]]
"""Class names of each classifier, by the classifier's name in the study."""

NO_PRICE = "unknown: add the model's price to corpus.vlm.prices"
MANY_CLASSES = 20  # a classifier of a thousand classes has some ("sunglasses") that are attributes of the others


def class_names(study: Study, labels: Labels) -> tuple[str, ...]:
    """What no feature may restate: the classes that the study names, and all of the classifiers' where they are few."""
    named = [*study.labels, *([study.target.against] if study.target.against else [])]
    every = list(dict.fromkeys([*named, *(label for known in labels.values() for label in known)]))
    return tuple(every if len(every) <= MANY_CLASSES else named)


def proposal_request(study: Study, labels: Labels, embed: Embed | None = None) -> ProposalRequest:
    """What the study asks a vision-language model for, with the reference passages that fit it best.

    Args:
        embed: an embedding model that judges the fit, where one is configured.
    """
    part, classes = study.corpus, class_names(study, labels)
    passages = read_context([study.path(path) for path in part.context])
    query = " ".join([study.domain, *classes, *part.examples])
    return ProposalRequest(
        domain=study.domain,
        class_labels=classes,
        examples=part.examples,
        levels=part.levels,
        groups=part.groups,
        children=part.max_children,
        context=select(passages, query, part.context_tokens, embed),
    )


def cleaned_proposal(
    study: Study, proposer: Proposer, images: Sequence[Image.Image], labels: Labels | None = None
) -> Proposal:
    """Ask for the features that the images show, and clean the answer.

    Returns:
        The proposal; its usage counts everything that was asked, embeddings and the leakage check too.

    Raises:
        CorpusError: no answer could be used, or cleaning left nothing.
    """
    part = study.corpus
    options = CleaningOptions(max_children=part.max_children, leakage=part.leakage, vague=part.vague)
    if isinstance(proposer, HelpingProposer):
        usage = proposer.new_usage()
        help_ = proposer.help(usage)
        options = replace(options, embed=help_.embed, leak_check=help_.leak_check)
        request = proposal_request(study, labels or {}, options.embed)
        proposal = proposer.propose(images, request, usage)
    else:
        request = proposal_request(study, labels or {})
        proposal = proposer.propose(images, request)
    if not proposal.corpus.groups:
        return proposal
    return replace(proposal, corpus=clean(proposal.corpus, request.class_labels, options))


def labels_of(work: StudyContext, classifiers: Sequence[str]) -> Labels:
    """Class names of these classifiers."""
    return {name: work.subject(name).classifier.labels for name in classifiers}


def propose(work: StudyContext, classifiers: Sequence[str] = ()) -> Proposal:
    """Ask for the features that the study's sample images show, and keep the answer as its proposal.

    Args:
        classifiers: those that are explained, by name: no feature may restate their classes.
    """
    study, store, proposer, labels = work.study, work.store, work.proposer, labels_of(work, classifiers)
    images = InOrder(list(store.images(list(work.samples)).stored.values()))
    doing = f"{study.file}: corpus.vlm: {proposer.__class__.__name__} fails while it proposes features"
    with at_own_code(doing, "mend it, or name a starter or a recorded answer", CorpusError):
        proposal = cleaned_proposal(study, proposer, images, labels)
    store.put_corpus(study.kept_as, proposal.corpus)
    store.set_current(study.kept_as, "proposal", proposal.corpus.version)
    return proposal


def tree_version(corpus: Corpus) -> str:
    """Hash of all that a report shows of a corpus: the tree, and what was left out and why."""
    return digest(corpus.version, sorted({(drop.name, drop.reason) for drop in corpus.drops}))


def input_files(study: Study) -> list[Path]:
    """The files that a proposal is made from besides the images: reference text, a recorded answer."""
    part = study.corpus
    recorded = part.vlm.files() if part.vlm else ()
    return [study.path(path) for path in (*part.context, *recorded)]


def inputs_version(study: Study) -> str:
    """Hash of `input_files`."""
    known = [file_fingerprint(file) if file.is_file() else "none" for file in input_files(study)]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def overrides_version(study: Study) -> str:
    """Hash of the user overrides: a comment or an empty line changes nothing; a missing file says nothing.

    Of a file that cannot be read it is a hash of the bytes, so that the merge runs and says what is wrong.
    """
    path = study.path(study.corpus.overrides)
    try:
        return read_overrides(path).version
    except CorpusError:
        return f"broken-{file_fingerprint(path)[:16]}" if path.is_file() else "broken"


def merge_edits(work: StudyContext, classifiers: Sequence[str] = ()) -> tuple[Corpus, CorpusDiff]:
    """Merge the user overrides into the proposal and keep the result as the study's corpus.

    Args:
        classifiers: those that are explained, by name: their classes are checked here, before any picture is edited.

    Returns:
        The corpus, and what changed since it was last merged (everything is new the first time).

    Raises:
        CorpusError: the file is wrong or contradicts the proposal; names the line.
        ClassifierError: a classifier lacks a class that the study names.
    """
    study, store = work.study, work.store
    for name, known in labels_of(work, classifiers).items():
        try:
            check_labels(known, study.for_classifier(name).target)
        except ClassifierError as error:
            raise ClassifierError(f"{study.file}: classifiers.{name}: {error}") from error
    corpus = merged(store.current_corpus(study.kept_as, "proposal"), study.path(study.corpus.overrides))
    if not corpus.groups:
        raise CorpusError(
            f"{study.file}: corpus: there is no feature; name a vlm or a starter, or write a tree into "
            f"{study.corpus.overrides}"
        )
    try:
        before = store.current_corpus(study.kept_as)
    except StoreError:
        before = Corpus(())
    store.put_corpus(study.kept_as, corpus)
    store.set_current(study.kept_as, "corpus", corpus.version)
    return corpus, diff(before, corpus)


def merged(proposal: Corpus, path: Path) -> Corpus:
    """The proposal with the user overrides; a missing file changes nothing."""
    return merge(proposal, read_overrides(path)) if path.exists() else proposal


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
