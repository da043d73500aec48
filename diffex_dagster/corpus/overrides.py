"""Merging user overrides over what the model proposed; `overrides_file` says what a person's file holds.

`add` is merged last, so that `deny` and `allow` never touch what a person wrote.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.corpus.overrides_file import Addition, Mention, UserOverrides, addition_of, at_line
from diffex_dagster.corpus.tree import Corpus, Drop, Feature, slug
from diffex_dagster.corpus.vlm.answers import tree_from_raw
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.wording import same_key, tidy, words
from diffex_dagster.errors import CorpusError
from diffex_dagster.utils.mistakes import closest


def merge(proposal: Corpus, overrides: UserOverrides) -> Corpus:
    """The proposal with the user overrides.

    Args:
        proposal: what the model (or a starter) named.
        overrides: the corpus file. A hand-written tree in it takes the proposal's place.

    Returns:
        The corpus, with one `Drop` for each feature that `remove`, `deny` or `allow` left out.

    Raises:
        CorpusError: an edit names a feature that the proposal does not have (any more), or makes a second feature of
            the same id; the message names file and line.
    """
    base = overrides.tree or proposal
    if overrides.is_empty:
        return base
    find = _Finder(base, overrides.path)
    file = Path(overrides.path).name  # reasons are shown in reports, which travel without the folder
    dropped: dict[str, str] = {}  # id -> reason
    for mention in overrides.remove:
        dropped[find(mention, "remove").id] = f"removed by {at_line(file, mention.line)}"
    for mention in overrides.deny:
        for feature in base.walk():
            if _denies(mention.feature, feature):
                dropped.setdefault(feature.id, f"denied by {at_line(file, mention.line)}")
    if overrides.allow:
        allowed = [find(mention, "allow").id for mention in overrides.allow]
        for feature in base.walk():
            if not any(_related(feature.id, one) for one in allowed):
                dropped.setdefault(feature.id, f"not on the allow list of {file}")
    names = {find(mention, "rename").id: mention for mention in overrides.rename}
    prompts = {find(mention, "prompt").id: mention for mention in overrides.prompt}
    exclusive = {find(mention, "exclusive").id: mention for mention in overrides.exclusive}
    for key, changes in (("rename", names), ("prompt", prompts), ("exclusive", exclusive)):
        for feature_id, mention in changes.items():
            if reason := next((why for one, why in dropped.items() if _within(feature_id, one)), None):
                raise CorpusError(
                    f"{at_line(overrides.path, mention.line)}: `{key}` changes {mention.feature!r}, which is {reason}: "
                    "keep one of the two."
                )
    drops = list(base.drops)
    reworded: list[tuple[str, Mention]] = []

    def rebuild(features: Sequence[Feature], parent: str | None) -> tuple[Feature, ...]:
        kept: dict[str, Feature] = {}
        lines: dict[str, int] = {}
        for feature in features:
            if feature.id in dropped:
                drops.append(Drop(feature.name, dropped[feature.id], "user overrides"))
                continue
            renamed = names.get(feature.id)
            name = tidy(renamed.to) if renamed else feature.name
            own = slug(name) if renamed else feature.id.split("/")[-1]
            new_id = f"{parent}/{own}" if parent else own
            if new_id in kept:  # only a rename can do this
                line = renamed.line if renamed else lines[new_id]
                raise CorpusError(
                    f"{at_line(overrides.path, line)}: a second feature would have the id {new_id!r}: choose "
                    "another name."
                )
            changed, alone = prompts.get(feature.id), exclusive.get(feature.id)
            lines[new_id] = renamed.line if renamed else 0
            if changed:
                reworded.append((new_id, changed))
            kept[new_id] = dataclasses.replace(
                feature,
                id=new_id,
                name=name,
                prompt=tidy(changed.to) if changed else feature.prompt,
                exclusive=alone.to == "True" if alone else feature.exclusive,
                children=rebuild(feature.children, new_id),
            )
        return tuple(kept.values())

    groups = rebuild(base.groups, None)
    for feature_id, mention in reworded:
        corpus = Corpus(groups)
        if twin := _same_edit(corpus[feature_id], corpus):
            raise CorpusError(
                f"{at_line(overrides.path, mention.line)}: `prompt` gives {mention.feature!r} the edit that "
                f"{twin.id!r} has already: choose other words, or remove one of them."
            )
    for addition in overrides.add:
        groups = _added(groups, addition, find, names, overrides.path)
    if not groups:
        raise CorpusError(f"{overrides.path} leaves no feature at all: take something off `remove`, `deny` or `allow`.")
    return Corpus(groups, tuple(drops))


def why_not_added(proposal: Corpus, overrides: UserOverrides, entry: Mapping[str, Any]) -> str:
    """Why an entry cannot be added to what a file says; "" where it can.

    Args:
        proposal, overrides: as of `merge`.
        entry: as in a file, under `add`. What its `group` names has to be there.

    Raises:
        CorpusError: what the file says is wrong without it.
    """
    before = merge(proposal, overrides)
    try:
        new = addition_of(entry)
        now = merge(proposal, dataclasses.replace(overrides, add=(*overrides.add, new)))
    except CorpusError as error:
        return str(error).removeprefix(f"{at_line(overrides.path, 0)}: ")
    if new.group is not None and len(now.groups) > len(before.groups):
        return f"it goes under {new.group!r}, which the corpus does not have (any more)"
    return ""


class _Finder:
    """Looks up the feature that a file mentions, and explains when there is none or more than one."""

    def __init__(self, corpus: Corpus, path: str) -> None:
        self.corpus, self.path = corpus, path
        self.by_id = {feature.id: feature for feature in corpus.walk()}

    def get(self, name: str) -> list[Feature]:
        wanted = "/".join(slug(part) for part in name.replace(">", "/").split("/") if part.strip())
        if wanted in self.by_id:
            return [self.by_id[wanted]]
        return [feature for one, feature in self.by_id.items() if one.split("/")[-1] == wanted]

    def __call__(self, mention: Mention, key: str) -> Feature:
        found = self.get(mention.feature)
        if len(found) == 1:
            return found[0]
        where = at_line(self.path, mention.line)
        if found:
            ids = ", ".join(feature.id for feature in found)
            raise CorpusError(
                f"{where}: `{key}` names {mention.feature!r}, which is several features: write one of {ids}."
            )
        close = closest(mention.feature, [*self.by_id, *(feature.name for feature in self.by_id.values())])
        raise CorpusError(
            f"{where}: `{key}` names {mention.feature!r}, which the proposal does not have (any more)"
            + (f": did you mean {close!r}?" if close else ": take the line out, or name a feature of the proposal.")
        )


def _added(
    groups: tuple[Feature, ...], addition: Addition, find: _Finder, names: dict[str, Mention], path: str
) -> tuple[Feature, ...]:
    """The tree with one addition; its group is found under its old or its new name, or made."""
    where = at_line(path, addition.line)
    if addition.group is None:
        target = None
    else:
        renamed = {slug(tidy(mention.to)): tidy(mention.to) for mention in names.values()}
        proposed = find.get(addition.group)
        moved = names.get(proposed[0].id) if len(proposed) == 1 else None
        target = tidy(moved.to) if moved and slug(addition.group) not in renamed else addition.group
    corpus = Corpus(groups)
    if target is None:
        (new,) = tree_from_raw([addition.node], "person").groups
        return (*groups, _fresh(new, corpus, where))
    found = _Finder(corpus, path).get(target)
    if len(found) > 1:
        ids = ", ".join(feature.id for feature in found)
        raise CorpusError(f"{where}: `group` {target!r} is several features: write one of {ids}.")
    if not found:
        (new,) = tree_from_raw([RawFeature(name=target, editable=False, children=[addition.node])], "person").groups
        return (*groups, _fresh(new, corpus, where))
    parent = found[0]
    (shell,) = tree_from_raw([RawFeature(name=parent.name, children=[addition.node])], "person").groups
    child = _fresh(_moved(shell.children[0], parent.id), corpus, where)

    def grow(feature: Feature) -> Feature:
        if feature.id == parent.id:
            return dataclasses.replace(feature, children=(*feature.children, child))
        return dataclasses.replace(feature, children=tuple(grow(one) for one in feature.children))

    return tuple(grow(group) for group in groups)


def _moved(feature: Feature, parent: str) -> Feature:
    own = f"{parent}/{feature.id.split('/')[-1]}"
    return dataclasses.replace(feature, id=own, children=tuple(_moved(child, own) for child in feature.children))


def _fresh(feature: Feature, corpus: Corpus, where: str) -> Feature:
    """The feature, if the corpus has none of its id and none with the same edit."""
    if any(known.id == feature.id for known in corpus.walk()):
        raise CorpusError(
            f"{where}: `add` names {feature.name!r}, but the corpus already has {feature.id!r}: use `prompt` or "
            "`rename` to change it, or choose another name."
        )
    for new in Corpus((feature,)).walk():
        if twin := _same_edit(new, corpus):
            raise CorpusError(
                f"{where}: `add` names {new.name!r} with the edit prompt {new.prompt!r}, the edit that {twin.id!r} has "
                "already: leave it out, or write another `prompt`."
            )
    return feature


def _same_edit(feature: Feature, corpus: Corpus) -> Feature | None:
    """Another feature of the corpus that asks the editor for the same thing."""
    if not feature.editable:
        return None
    edit = (same_key(feature.prompt), feature.direction)
    return next(
        (
            known
            for known in corpus.walk()
            if known.editable and known.id != feature.id and (same_key(known.prompt), known.direction) == edit
        ),
        None,
    )


def _within(feature_id: str, ancestor: str) -> bool:
    return feature_id == ancestor or feature_id.startswith(ancestor + "/")


def _related(one: str, other: str) -> bool:
    return _within(one, other) or _within(other, one)


def _denies(entry: str, feature: Feature) -> bool:
    denied = set(words(entry))
    return feature.id == entry or (bool(denied) and denied <= set(words(feature.name)))


# YAML, with lines ----------------------------------------------------------------------------------------------------
