"""Cleaning a corpus: what cannot explain a classifier is left out, and every drop says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diffex_dagster.corpus.tree import Corpus, Drop, Feature
from diffex_dagster.corpus.wording import same_key, words
from diffex_dagster.errors import CorpusError

STEPS = ("merging", "leakage", "vagueness", "duplicates", "near-duplicates", "limits")
"""The steps in which a proposal loses features, as `Drop.step` names them."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts -> one vector each, shape (N, D)."""
LeakCheck = Callable[[Sequence[str], Sequence[str]], Mapping[str, str]]
"""(feature names, class labels) -> for the names that restate a class, the reason."""

_SYNONYMS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "male man men boy masculine gentleman maleness",
        "female woman women girl feminine lady femaleness",
        "old older elderly aged senior ageing aging",
        "young younger youthful child kid teenager teen juvenile",
        "happy happiness joyful cheerful",
        "attractive attractiveness beautiful handsome pretty",
        "sick ill diseased unhealthy disease",
        "healthy health",
        "cat feline kitten",
        "dog canine puppy",
    )
)  # fmt: skip
# Words of a label that name no class by themselves: "not smiling", "with glasses", "class 3".
_LABEL_FILLER = frozenset(
    "not no non without wearing has have having is are in on class category label type other person face image photo "
    "picture animal people likely looks looking".split()
)
_VAGUE = frozenset(
    "nice beautiful pretty attractive ugly good bad great cool interesting various varied different other misc "
    "miscellaneous general generic typical normal standard unusual unique notable distinctive specific certain "
    "appearance feature attribute characteristic quality aspect detail element thing style look vibe mood feeling "
    "personality identity character name emotion aesthetic realism realistic authenticity complexity creativity".split()
)
# About the file or the camera rather than the subject: an editor cannot draw them, or draws a different picture.
_UNEDITABLE = frozenset(
    "resolution pixel filename metadata exif watermark jpeg artefact artifact iso megapixel species genotype dna sound "
    "smell taste".split()
)
_MAX_WORDS = 10


@dataclass(frozen=True)
class CleaningOptions:
    """How strict cleaning is.

    Attributes:
        max_children: children kept under one feature, those with most support first; None for no limit.
        leakage: further words or phrases that restate a class ("intraocular pressure" for glaucoma).
        vague: further words that name nothing to draw.
        embed: an embedding model for near-duplicates, where one is configured.
        near_duplicate: cosine similarity of two prompts above which the second is dropped.
        leak_check: a language model's opinion on restated classes, where one is configured.
    """

    max_children: int | None = 12
    leakage: tuple[str, ...] = ()
    vague: tuple[str, ...] = ()
    embed: Embed | None = field(default=None, compare=False)
    near_duplicate: float = 0.93
    leak_check: LeakCheck | None = field(default=None, compare=False)


def clean(corpus: Corpus, class_labels: Sequence[str] = (), options: CleaningOptions | None = None) -> Corpus:
    """Drop what cannot explain the classifier: leakage, vague words, duplicates, and children beyond the limit.

    A group whose name is dropped keeps its good children and stays as a heading that is no edit itself. What a person
    wrote (`source` "person") is never dropped. Cleaning twice is cleaning once.

    Args:
        corpus: any corpus.
        class_labels: what the classifier tells apart, to find features that restate it.
        options: how strict to be.

    Returns:
        The clean corpus; its `drops` are those of `corpus` and one for each thing left out here.

    Raises:
        CorpusError: nothing is left.
    """
    options = options or CleaningOptions()
    drops = list(corpus.drops)
    reasons = _reasons(corpus, class_labels, options)
    groups = _without(corpus.groups, reasons, drops)
    groups = _with_fewer_children(groups, options.max_children, drops)
    if not groups:
        why = "; ".join(f"{drop.name}: {drop.reason}" for drop in drops[:3])
        raise CorpusError(
            f"Cleaning left no feature ({why}): name concrete attributes in the corpus file, or check the class labels."
        )
    return Corpus(groups, tuple(drops))


def restates(name: str, labels: Sequence[str]) -> str | None:
    """The label whose every content word is in `name` (or a synonym of it): "old man" restates "old"."""
    own = _with_synonyms(words(name))
    for label in labels:
        parts = [word for word in words(label.replace("_", " ")) if word not in _LABEL_FILLER and not word.isdigit()]
        if parts and all(len(part) > 1 or not part.isascii() for part in parts) and set(parts) <= own:
            return label
    return None


def _with_synonyms(tokens: Sequence[str]) -> set[str]:
    own = set(tokens)
    for group in _SYNONYMS:
        if own & group:
            own |= group
    return own


def _reasons(corpus: Corpus, labels: Sequence[str], options: CleaningOptions) -> dict[str, Drop]:
    """Feature id -> why its name cannot stay."""
    written = {feature.id for feature in corpus.walk() if feature.source == "person"}
    reasons: dict[str, Drop] = {}
    judged: Mapping[str, str] = {}
    if options.leak_check and labels:
        judged = options.leak_check([feature.prompt for feature in corpus.walk() if feature.editable], labels)
    vague = _VAGUE | {word for phrase in options.vague if len(words(phrase)) == 1 for word in words(phrase)}
    phrases = {same_key(phrase) for phrase in options.vague}
    for feature in corpus.walk():
        if feature.id in written:
            continue
        tokens = words(feature.name)
        if label := restates(feature.name, labels) or (restates(feature.prompt, labels) if feature.editable else None):
            step, why = "leakage", f"restates the class {label!r}"
        elif phrase := restates(feature.name, options.leakage):
            step, why = "leakage", f"is on the leakage list ({phrase!r})"
        elif feature.editable and feature.prompt in judged:
            step, why = "leakage", f"restates a class: {judged[feature.prompt]}"
        elif not tokens or all(token in vague for token in tokens) or same_key(feature.name) in phrases:
            step, why = "vagueness", "is too vague to draw"
        elif any(token in _UNEDITABLE for token in tokens):
            step, why = "vagueness", "cannot be drawn by an editor"
        elif len(feature.name.split()) > _MAX_WORDS:
            step, why = "vagueness", f"is a sentence of more than {_MAX_WORDS} words, not an attribute"
        else:
            continue
        reasons[feature.id] = Drop(feature.name, why, step)
    _mark_duplicates(corpus, written, reasons)
    if options.embed is not None:
        _mark_near_duplicates(corpus, written, reasons, options.embed, options.near_duplicate)
    return reasons


def _mark_duplicates(corpus: Corpus, written: set[str], reasons: dict[str, Drop]) -> None:
    """Of features that ask for the same edit, or siblings of the same name, the best one stays."""
    edits: dict[tuple[tuple[str, ...], str], Feature] = {}
    names: dict[tuple[str, tuple[str, ...]], Feature] = {}
    # A person's first, then a parent before its children, then by support: the first to come stays.
    order = sorted(
        (feature for feature in corpus.walk() if feature.id not in reasons),
        key=lambda feature: (feature.id not in written, feature.level, -(feature.support or 0)),
    )
    for feature in order:
        edit = (same_key(feature.prompt), feature.direction)
        sibling = (feature.id.rpartition("/")[0], same_key(feature.name))
        twin = (edits.get(edit) if feature.editable else None) or names.get(sibling)
        if twin is not None and feature.id not in written:
            reasons[feature.id] = Drop(feature.name, f"is the same as {twin.id!r}", "duplicates")
            continue
        if feature.editable:
            edits.setdefault(edit, feature)
        names.setdefault(sibling, feature)


def vectors_of(prompts: Sequence[str], embed: Embed) -> np.ndarray:
    """One vector for each prompt, (N, D).

    Raises:
        CorpusError: the model gives something else.
    """
    vectors = np.array(embed(prompts), dtype=np.float64)
    if vectors.shape[:1] != (len(prompts),) or vectors.ndim != 2:
        raise CorpusError(
            f"The embedding model gave shape {vectors.shape} for {len(prompts)} prompts: it must give one vector each."
        )
    return vectors


def _mark_near_duplicates(
    corpus: Corpus, written: set[str], reasons: dict[str, Drop], embed: Embed, threshold: float
) -> None:
    kept = [feature for feature in corpus.walk() if feature.editable and feature.id not in reasons]
    if len(kept) < 2:
        return
    vectors = vectors_of([feature.prompt for feature in kept], embed)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    alike = vectors @ vectors.T
    for i, feature in enumerate(kept):
        if feature.id in written:
            continue
        for j in range(i):
            other = kept[j]
            # A child is always close to its parent; that is what a tree is.
            related = feature.id.startswith(other.id + "/")
            same_way = feature.direction == other.direction
            if alike[i, j] >= threshold and same_way and not related and other.id not in reasons:
                why = f"means nearly the same as {other.id!r} (similarity {alike[i, j]:.2f})"
                reasons[feature.id] = Drop(feature.name, why, "near-duplicates")
                break


def _without(features: Sequence[Feature], reasons: Mapping[str, Drop], drops: list[Drop]) -> tuple[Feature, ...]:
    kept = []
    for feature in features:
        children = _without(feature.children, reasons, drops)
        reason = reasons.get(feature.id)
        if reason and not children:
            drops.append(reason)
        elif reason and feature.editable:
            drops.append(dataclasses.replace(reason, reason=f"{reason.reason}: only its children are edited"))
            kept.append(dataclasses.replace(feature, editable=False, children=children))
        elif not feature.editable and not children and feature.source != "person":
            drops.append(Drop(feature.name, "is no edit itself and has no children", "vagueness"))
        else:
            kept.append(dataclasses.replace(feature, children=children))
    return tuple(kept)


def _limited(features: tuple[Feature, ...], limit: int | None, what: str, drops: list[Drop]) -> tuple[Feature, ...]:
    """The features with most support (a person's own first), in their old order."""
    if limit is None or len(features) <= limit:
        return features
    ranked = sorted(features, key=lambda feature: (feature.source != "person", -(feature.support or 0)))
    keep = {feature.id for feature in ranked[:limit]} | {one.id for one in features if one.source == "person"}
    drops.extend(
        Drop(feature.name, f"is beyond the {limit} {what} with most support", "limits")
        for feature in features
        if feature.id not in keep
    )
    return tuple(feature for feature in features if feature.id in keep)


def _with_fewer_children(features: tuple[Feature, ...], limit: int | None, drops: list[Drop]) -> tuple[Feature, ...]:
    return tuple(
        dataclasses.replace(
            feature,
            children=_with_fewer_children(
                _limited(feature.children, limit, f"children of {feature.name!r}", drops), limit, drops
            ),
        )
        for feature in features
    )
