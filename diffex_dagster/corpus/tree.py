"""The feature tree: what can be edited, in levels."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from diffex_dagster.corpus.wording import exclude_each_other

Direction = Literal["add", "remove"]
_WRITERS = frozenset({"vlm", "person", "starter"})  # any other `source` is a citation


def slug(name: str) -> str:
    """A name as a stable id part: lower case ASCII letters and digits joined by dashes."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or hashlib.sha256(name.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Feature:
    """A node of the corpus tree.

    Attributes:
        id: path of slugs from the root, e.g. ``eyewear/round-glasses``; unique in a corpus.
        name: what a person reads, e.g. "Round glasses".
        prompt: the edit prompt that stands on its own, e.g. "round glasses".
        direction: whether the edit adds the attribute or removes it.
        editable: whether the name itself is a sensible edit. "Hair colour" is not: it is scored through its children.
        children: the next level.
        support: how many answers of the VLM named it (None: written by a person).
        region: where in the picture it shows, if known ("eyes").
        exclusive: whether a picture shows at most one of its children; None where nobody said (see `wording`).
        source: where it came from: "vlm", "person", "starter" or a citation of a context document.
        setting: how the editor edits it (`Concept.setting`), where a study calibrates; no part of the tree's version.
    """

    id: str
    name: str
    prompt: str
    direction: Direction = "add"
    editable: bool = True
    children: tuple[Feature, ...] = ()
    support: int | None = None
    region: str | None = None
    source: str = "vlm"
    exclusive: bool | None = None
    setting: str = field(default="", compare=False)

    @property
    def citation(self) -> str | None:
        """The passage of a context document that the feature came from, if it came from one."""
        return None if self.source in _WRITERS else self.source

    @property
    def level(self) -> int:
        """1 for a group, 2 for its children, and so on."""
        return self.id.count("/") + 1

    @property
    def one_of(self) -> bool:
        """Whether a picture shows at most one of its children: as somebody said, or else as the names tell."""
        if self.exclusive is not None:
            return self.exclusive
        return exclude_each_other(self.name, [child.name for child in self.children])

    @property
    def group(self) -> str:
        """Id of the level-1 group that the feature belongs to."""
        return self.id.split("/")[0]


@dataclass(frozen=True)
class Drop:
    """Something that cleaning or merging left out, why, and in which step."""

    name: str
    reason: str
    step: str = field(default="", compare=False)


@dataclass(frozen=True)
class Corpus:
    """A tree of features, with what was dropped on the way to it.

    `corpus[id]` is one of its features, a KeyError where there is none.

    Attributes:
        groups: the features of level 1, with their children.
        drops: what cleaning or merging left out; no part of the version.
    """

    groups: tuple[Feature, ...]
    drops: tuple[Drop, ...] = field(default=(), compare=False)

    def walk(self) -> Iterator[Feature]:
        """Every feature, parents before children, in the order of the tree."""

        def visit(feature: Feature) -> Iterator[Feature]:
            yield feature
            for child in feature.children:
                yield from visit(child)

        for group in self.groups:
            yield from visit(group)

    def __getitem__(self, feature_id: str) -> Feature:
        for feature in self.walk():
            if feature.id == feature_id:
                return feature
        raise KeyError(feature_id)

    @property
    def version(self) -> str:
        """Hash of all that an edit or a report depends on (not of what was dropped)."""
        tree = json.dumps([_said(group) for group in self.groups], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(tree.encode()).hexdigest()[:16]


def _said(feature: Feature) -> dict[str, Any]:
    """A feature as its file or its model says it, for the version."""
    said = {f.name: getattr(feature, f.name) for f in fields(feature) if f.name != "setting"}
    if feature.exclusive is None:  # trees of which nobody said it keep the version that they had
        del said["exclusive"]
    return said | {"children": [_said(child) for child in feature.children]}
