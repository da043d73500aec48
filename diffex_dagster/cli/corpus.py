"""`diffex corpus show|check|diff|read`: look at a study's tree, compare versions, check a file, read a saved answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from diffex_dagster.cli.console import TreeFormat
from diffex_dagster.corpus.overrides import merge
from diffex_dagster.corpus.overrides_file import read_overrides
from diffex_dagster.corpus.showing import diff, render_tree
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.corpus.vlm.answers import read_answer, saved_answer, tree_from_raw
from diffex_dagster.errors import CorpusError, StoreError, in_words
from diffex_dagster.stages.corpus import problems
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study
from diffex_dagster.utils.text import read_text


def show(corpus: Corpus, title: str, output: TreeFormat, console: Console) -> None:
    """Print a tree."""
    if output is TreeFormat.json:
        print(as_json(corpus))
    else:
        console.print(render_tree(corpus, title=title))


def show_diff(study: Study, against: str | None, console: Console) -> None:
    """Print what the corpus is now against the version last materialized, or a named one."""
    store = build_store(study, reading=True)
    before = store.corpus_version(study.kept_as, against) if against else store.current_corpus(study.kept_as)
    console.print(diff(before, corpus_now(study)))


def check(study: Study, console: Console) -> None:
    """Validate the study's corpus file without running anything.

    Raises:
        CorpusError: it is wrong, contradicts the proposal, or leaves nothing to search.
    """
    edits = read_overrides(study.path(study.corpus.overrides))
    try:
        corpus = corpus_now(study)
    except StoreError:
        if edits.tree is None:
            console.print("the corpus file can be read; what it names is checked once the model has been asked")
            return
        corpus = merge(edits.tree, edits)
    if found := problems(corpus, study.search):
        raise CorpusError(f"{study.path(study.corpus.overrides)}: " + "; ".join(found))
    console.print(f"{len(list(corpus.walk()))} features in {len(corpus.groups)} groups: ready to be searched")


def read_file(file: Path) -> Corpus:
    """A saved answer of a vision-language model, in any of the forms that models send.

    Raises:
        CorpusError: the file cannot be read, or holds no feature.
    """
    try:
        text = read_text(file)
    except OSError as error:
        raise CorpusError(f"{file}: the answer cannot be read ({in_words(error)}); name a text file") from error
    try:
        return tree_from_raw(read_answer(saved_answer(text)))
    except CorpusError as error:
        raise CorpusError(f"{file}: {error}") from error


def as_json(corpus: Corpus) -> str:
    """The tree and its drops as JSON."""

    def node(feature: Feature) -> dict[str, Any]:
        fields = asdict(feature)
        fields["children"] = [node(child) for child in feature.children]
        return fields

    tree = {"groups": [node(group) for group in corpus.groups], "drops": [asdict(drop) for drop in corpus.drops]}
    return json.dumps(tree, indent=2, ensure_ascii=False)
