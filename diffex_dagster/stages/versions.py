"""Versions of what the stages make: hashes of all that a reader of it may see. Equal versions re-run nothing.

Fingerprints of editor and classifier are part of them: a report names both, and what was made with another says so.
Those of images and corpus are beside the stages that make them (`samples_version`, `tree_version`).
"""

from __future__ import annotations

from collections.abc import Sequence

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.report.rows import comparison_rows, interaction_rows, rows, subgroup_rows
from diffex_dagster.results import Comparison, Completeness, Report
from diffex_dagster.stages.searched import Level1, Searched
from diffex_dagster.utils.hashing import digest

KNOWN_IN_TRUTH = ("recall", "recall_of", "missing", "recall_why")
"""Of `Completeness`: what only a world with known truth can say."""


def overrides_version(keys: Sequence[str]) -> str:
    """Of level-1 edits, by their keys."""
    return digest(sorted(keys))


def level1_version(level1: Level1, editor: str, classifier: str) -> str:
    """Of level-1 scores.

    Args:
        editor, classifier: fingerprints.
    """
    effects = {feature: [float(x) for x in d] for feature, d in level1.effects.items()}
    return digest(effects, level1.noise.floor, editor, classifier)


def search_version(searched: Searched, corpus: Corpus, editor: str, classifier: str) -> str:
    """Of a whole search; see `level1_version`."""
    result = searched.result
    effects = {feature: [float(x) for x in d] for feature, d in result.scores.items()}
    joint = [] if result.joint is None else [f.name for f in result.joint.features]
    # A renamed feature scores the same, but the report must say its new name.
    said = [(f.name, f.prompt, f.direction, corpus[f.group].name) for f in corpus.walk() if f.id in result.scores]
    pairs = [[pair.features, [float(x) for x in pair.scored.edit]] for pair in searched.pairs]
    return digest(effects, joint, said, editor, classifier, *([pairs] if pairs else []))


def report_version(explanation: Report) -> str:
    """Of what a report says, of which classifier, and what it was made with."""
    said = explanation
    return digest(
        rows(said.features), said.corpus_version, said.classifier_fingerprint, said.editor_fingerprint, said.title,
        said.domain, said.target, said.drops, said.caveats, said.settings,
        *(some for some in (interaction_rows(said), subgroup_rows(said)) if some),
        *(_explained(said.completeness) if said.completeness else ()),
    )  # fmt: skip


def _explained(found: Completeness) -> list[object]:
    """How much is explained, and the images that are explained least: all that the report says of it but pictures.

    Without what the images' world says of the corpus: nothing follows from it, and it may be known on one machine only.
    """
    apart = {"least_explained", *KNOWN_IN_TRUTH}
    said = {name: value for name, value in vars(found).items() if name not in apart}
    least = [{name: value for name, value in vars(each).items() if name != "picture"} for each in found.least_explained]
    return [said, least]


def comparison_version(comparison: Comparison, editor: str, classifiers: Sequence[str]) -> str:
    """Of what a comparison says; see `level1_version`."""
    prints = [editor, *classifiers]
    warned = [comparison.warnings] if comparison.warnings else []
    return digest(comparison_rows(comparison), comparison.caveats, comparison.corpus_version, prints, *warned)
