"""User overrides: what a person's corpus file says, and on which line.

The file (`studies/<name>/corpus.yaml`) holds any of these keys; without one it changes nothing:

    rename: {feature: new name}      what reports call it; the edit prompt stays, so no image is edited again
    prompt: {feature: new prompt}    other words for the editor; only this feature is edited again
    remove: [feature, ...]           leave it out, with its children
    add:    [entry, ...]             new features; an entry has `name`, and may have `group`, `prompt`, `direction`,
                                     `editable`, `exclusive`, `region` and `children`; a group
                                     that does not exist is made, and is itself no edit
    exclusive: {group: true|false}   whether a picture shows at most one of the group's children
    deny:   [words, ...]             drop whatever the model names with these words, now and later
    allow:  [feature, ...]           keep only these, and what is above and below them
    tree:   [entry, ...]             a whole hand-written tree in place of the proposal

A feature is named by its id (`eyewear/round-glasses`), as `Group / Name`, or by its name alone where that is unique, as
the proposal has it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from diffex_dagster.corpus.tree import Corpus, Direction
from diffex_dagster.corpus.vlm.answers import tree_from_raw
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.wording import same_key, tidy
from diffex_dagster.errors import CorpusError, in_words
from diffex_dagster.utils.mistakes import faults, line_of
from diffex_dagster.utils.text import load_yaml, read_text

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


_OF_A_PROPOSAL = ("add", "remove", "rename", "prompt", "exclusive")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Entry(_Strict):
    """A hand-written feature. A plain string in the file is an entry with that name."""

    name: Name
    prompt: Name | None = None
    direction: Direction = "add"
    editable: bool | None = None
    exclusive: bool | None = None
    region: Name | None = None
    children: list[Entry | Name] = Field(default_factory=list)


class AddedEntry(Entry):
    """An entry of `add`: `group` is the feature it goes under; without one it is a new group."""

    group: Name | None = None


class _File(_Strict):
    add: list[AddedEntry | Name] = Field(default_factory=list)
    remove: list[Name] = Field(default_factory=list)
    rename: dict[Name, Name] = Field(default_factory=dict)
    prompt: dict[Name, Name] = Field(default_factory=dict)
    exclusive: dict[Name, bool] = Field(default_factory=dict)
    allow: list[Name] = Field(default_factory=list)
    deny: list[Name] = Field(default_factory=list)
    tree: list[Entry | Name] | None = None


@dataclass(frozen=True)
class Mention:
    """A feature (or words) that the file names, and where; `to` is the new name or prompt."""

    feature: str
    line: int
    to: str = ""


@dataclass(frozen=True)
class Addition:
    """A feature to add under a group (None: as a new group)."""

    group: str | None
    node: RawFeature
    line: int


@dataclass(frozen=True)
class UserOverrides:
    """What a corpus file says, each part with its line."""

    path: str
    add: tuple[Addition, ...] = ()
    remove: tuple[Mention, ...] = ()
    rename: tuple[Mention, ...] = ()
    prompt: tuple[Mention, ...] = ()
    exclusive: tuple[Mention, ...] = ()
    allow: tuple[Mention, ...] = ()
    deny: tuple[Mention, ...] = ()
    tree: Corpus | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the file changes nothing."""
        return not self.count

    @property
    def count(self) -> int:
        """How many changes it makes; a whole tree is one."""
        lists = (self.add, self.remove, self.rename, self.prompt, self.exclusive, self.allow, self.deny)
        return sum(map(len, lists)) + (self.tree is not None)

    @property
    def version(self) -> str:
        """Hash of what the file says. Comments, blank lines and line numbers do not count."""
        said = {
            key: [[item.feature, item.to] for item in getattr(self, key)]
            for key in ("remove", "rename", "prompt", "allow", "deny")
        }
        if self.exclusive:
            said["exclusive"] = [[item.feature, item.to] for item in self.exclusive]
        content = {**said, "add": [[item.group, item.node] for item in self.add]}
        tree = self.tree.version if self.tree else None
        return hashlib.sha256(json.dumps([content, tree], sort_keys=True).encode()).hexdigest()[:16]


def read_overrides(path: str | Path) -> UserOverrides:
    """Read a person's corpus file.

    Args:
        path: the YAML file. One that does not exist, is empty, or holds only comments, is no edits.

    Raises:
        CorpusError: it is not YAML, or has an unknown key or a wrong value; the message names file and line.
    """
    path = Path(path)
    if not path.exists():
        return UserOverrides(str(path))
    try:
        text = read_text(path)
    except OSError as error:
        raise CorpusError(
            f"{path} cannot be read ({in_words(error)}): name a corpus file, such as corpus.yaml; one that does not "
            "exist yet is no edits."
        ) from None
    return overrides_from_text(text, str(path))


def overrides_from_text(text: str, path: str, source: str = "person") -> UserOverrides:
    """As `read_overrides`, for text already read; `path` is what errors call it, `source` who wrote its features."""
    document = _load(text, path)
    if document is None:
        return UserOverrides(path)
    if not isinstance(document, CommentedMap):
        raise CorpusError(f"{path}, line 1: expected keys such as `add:` or `tree:`, found a {_kind(document)}.")
    try:
        # an empty key (`add:` with every entry commented out) says nothing
        file = _File.model_validate({key: _plain(value) for key, value in document.items() if value is not None})
    except ValidationError as error:
        said = [
            f"{at_line(path, each.line or 1)}: {each.field}: {each.what}"
            for each in faults(error.errors(), _File, document)
        ]
        raise CorpusError("; ".join(said)) from None

    def mentions(key: str, values: Iterable[str]) -> tuple[Mention, ...]:
        return tuple(Mention(value, _line(document, (key, i))) for i, value in enumerate(values))

    def replacements(key: str, values: dict[str, str]) -> tuple[Mention, ...]:
        return tuple(Mention(name, _line(document, (key, name)), to) for name, to in values.items())

    overrides = UserOverrides(
        path,
        add=tuple(
            Addition(getattr(entry, "group", None), _raw(entry), _line(document, ("add", i)))
            for i, entry in enumerate(file.add)
        ),
        remove=mentions("remove", file.remove),
        rename=replacements("rename", file.rename),
        prompt=replacements("prompt", file.prompt),
        exclusive=replacements("exclusive", {name: str(value) for name, value in file.exclusive.items()}),
        allow=mentions("allow", file.allow),
        deny=mentions("deny", file.deny),
    )
    for addition in overrides.add:
        _refuse_twins([addition.node], document, ("add",), path)
    if file.tree is None:
        return overrides
    if other := next((key for key in _OF_A_PROPOSAL if file.tree and getattr(overrides, key)), None):
        raise CorpusError(
            f"{path}, line {_line(document, (other,))}: `{other}` edits a proposal, and this file has a whole `tree`: "
            "make the change in the tree itself."
        )
    raw = [_raw(entry) for entry in file.tree]
    if not raw:
        raise CorpusError(f"{path}, line {_line(document, ('tree',))}: `tree` is empty: name at least one group.")
    _refuse_twins(raw, document, ("tree",), path)
    return dataclasses.replace(overrides, tree=tree_from_raw(raw, source))


def addition_of(entry: Mapping[str, Any]) -> Addition:
    """An entry as `add` would have it, on no line of any file.

    Raises:
        CorpusError: `add` cannot have it.
    """
    try:
        said = AddedEntry.model_validate(dict(entry))
    except ValidationError as error:
        wrong = "; ".join(f"{each.field}: {each.what}" for each in faults(error.errors(), AddedEntry))
        raise CorpusError(f"an entry of `add` cannot be so: {wrong}") from None
    return Addition(said.group, _raw(said), 0)


def _raw(entry: Entry | str) -> RawFeature:
    if isinstance(entry, str):
        return RawFeature(name=tidy(entry))
    node = RawFeature(name=tidy(entry.name), direction=entry.direction)
    if entry.prompt is not None:
        node["prompt"] = entry.prompt
    if entry.editable is not None:
        node["editable"] = entry.editable
    if entry.exclusive is not None:
        node["exclusive"] = entry.exclusive
    if entry.region is not None:
        node["region"] = entry.region
    if entry.children:
        node["children"] = [_raw(child) for child in entry.children]
    return node


def _refuse_twins(raw: Sequence[RawFeature], document: CommentedMap, at: tuple[str | int, ...], path: str) -> None:
    """A person's own tree has no duplicate to merge: naming a sibling twice is a slip worth an error."""
    seen: dict[tuple[str, ...], int] = {}
    for i, node in enumerate(raw):
        line = _line(document, (*at, i))
        key = same_key(node["name"])
        if key in seen:
            raise CorpusError(
                f"{at_line(path, line)}: {node['name']!r} is there already (line {seen[key]}): keep one of them."
            )
        seen[key] = line
        _refuse_twins(node.get("children", []), document, (*at, i, "children"), path)


def _load(text: str, path: str) -> Any:
    try:
        return load_yaml(text, with_lines=True)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise CorpusError(f"{path}, line {line}: not valid YAML ({_first_line(error.problem)}).") from None
    except Exception as error:  # ruamel's, of any kind
        raise CorpusError(f"{path} is not valid YAML ({_first_line(str(error))}).") from None


def _first_line(text: str | None) -> str:
    return tidy((text or "unknown problem").strip().splitlines()[0]) or "unknown problem"


def _plain(value: Any, depth: int = 0) -> Any:
    """Plain lists, dicts and scalars of a document; names that YAML reads as numbers (`rename: {a: 3}`) are text."""
    if depth > 20:
        return None
    if isinstance(value, CommentedMap | dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, CommentedSeq | list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    width = getattr(value, "_width", None)  # of a number with zeros before it: 007
    return f"{value:0{width}d}" if width else str(value)


def _line(document: CommentedMap, place: Sequence[str | int]) -> int:
    """The 1-based line of a key or item; of its nearest known ancestor where the thing itself is missing."""
    return line_of(place, document) or (document.lc.line or 0) + 1


def at_line(path: str, line: int) -> str:
    """What errors begin with."""
    return f"{path}, line {line}"


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else type(value).__name__ if not isinstance(value, str) else "text"
