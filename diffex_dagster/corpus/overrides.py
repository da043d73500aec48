"""A person's corpus file, and merging it over what the model proposed.

The file (`studies/<name>/corpus.yaml`) holds any of these keys; without one it changes nothing:

    rename: {feature: new name}      what reports call it; the edit prompt stays, so no image is edited again
    prompt: {feature: new prompt}    other words for the editor; only this feature is edited again
    remove: [feature, ...]           leave it out, with its children
    add:    [entry, ...]             new features; an entry has `name`, and may have `group`, `prompt`, `direction`,
                                     `editable`, `region` and `children`; a group that does not
                                     exist is made, and is itself no edit
    deny:   [words, ...]             drop whatever the model names with these words, now and later
    allow:  [feature, ...]           keep only these, and what is above and below them
    tree:   [entry, ...]             a whole hand-written tree in place of the proposal

A feature is named by its id (`eyewear/round-glasses`), as `Group / Name`, or by its name alone where that is unique, as
the proposal has it. `add` is merged last, so that `deny` and `allow` never touch what a person wrote.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from ruamel.yaml.comments import CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from diffex_dagster.corpus.tree import Corpus, Direction, Drop, Feature, slug
from diffex_dagster.corpus.vlm.answers import tree_from_raw
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.wording import same_key, tidy, words
from diffex_dagster.errors import CorpusError, in_words
from diffex_dagster.utils.text import load_yaml, read_text

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Entry(_Strict):
    """A hand-written feature. A plain string in the file is an entry with that name."""

    name: Name
    prompt: Name | None = None
    direction: Direction = "add"
    editable: bool | None = None
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
class CorpusEdits:
    """What a corpus file says, each part with its line."""

    path: str
    add: tuple[Addition, ...] = ()
    remove: tuple[Mention, ...] = ()
    rename: tuple[Mention, ...] = ()
    prompt: tuple[Mention, ...] = ()
    allow: tuple[Mention, ...] = ()
    deny: tuple[Mention, ...] = ()
    tree: Corpus | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the file changes nothing."""
        return not (self.add or self.remove or self.rename or self.prompt or self.allow or self.deny or self.tree)

    @property
    def count(self) -> int:
        """How many changes it makes; a whole tree is one."""
        lists = (self.add, self.remove, self.rename, self.prompt, self.allow, self.deny)
        return sum(map(len, lists)) + (self.tree is not None)

    @property
    def version(self) -> str:
        """Hash of what the file says. Comments, blank lines and line numbers do not count."""
        said = {
            key: [[item.feature, item.to] for item in getattr(self, key)]
            for key in ("remove", "rename", "prompt", "allow", "deny")
        }
        content = {**said, "add": [[item.group, item.node] for item in self.add]}
        tree = self.tree.version if self.tree else None
        return hashlib.sha256(json.dumps([content, tree], sort_keys=True).encode()).hexdigest()[:16]


def read_edits(path: str | Path) -> CorpusEdits:
    """Read a person's corpus file.

    Args:
        path: the YAML file. One that does not exist, is empty, or holds only comments, is no edits.

    Raises:
        CorpusError: it is not YAML, or has an unknown key or a wrong value; the message names file and line.
    """
    path = Path(path)
    if not path.exists():
        return CorpusEdits(str(path))
    try:
        text = read_text(path)
    except OSError as error:
        raise CorpusError(
            f"{path} cannot be read ({in_words(error)}): name a corpus file, such as corpus.yaml; one that does not "
            "exist yet is no edits."
        ) from None
    return edits_from_text(text, str(path))


def edits_from_text(text: str, path: str, source: str = "person") -> CorpusEdits:
    """As `read_edits`, for text already read; `path` is what errors call it, `source` who wrote its features."""
    document = _load(text, path)
    if document is None:
        return CorpusEdits(path)
    if not isinstance(document, CommentedMap):
        raise CorpusError(f"{path}, line 1: expected keys such as `add:` or `tree:`, found a {_kind(document)}.")
    try:
        # an empty key (`add:` with every entry commented out) says nothing
        file = _File.model_validate({key: _plain(value) for key, value in document.items() if value is not None})
    except ValidationError as error:
        _explain(error, document, path)

    def mentions(key: str, values: Iterable[str]) -> tuple[Mention, ...]:
        return tuple(Mention(value, _line(document, (key, i))) for i, value in enumerate(values))

    def changes(key: str, values: dict[str, str]) -> tuple[Mention, ...]:
        return tuple(Mention(name, _line(document, (key, name)), to) for name, to in values.items())

    edits = CorpusEdits(
        path,
        add=tuple(
            Addition(getattr(entry, "group", None), _raw(entry), _line(document, ("add", i)))
            for i, entry in enumerate(file.add)
        ),
        remove=mentions("remove", file.remove),
        rename=changes("rename", file.rename),
        prompt=changes("prompt", file.prompt),
        allow=mentions("allow", file.allow),
        deny=mentions("deny", file.deny),
    )
    for addition in edits.add:
        _refuse_twins([addition.node], document, ("add",), path)
    if file.tree is None:
        return edits
    if (edits.add or edits.remove or edits.rename or edits.prompt) and file.tree:
        other = next(key for key in ("add", "remove", "rename", "prompt") if getattr(edits, key))
        raise CorpusError(
            f"{path}, line {_line(document, (other,))}: `{other}` edits a proposal, and this file has a whole `tree`: "
            "make the change in the tree itself."
        )
    raw = [_raw(entry) for entry in file.tree]
    if not raw:
        raise CorpusError(f"{path}, line {_line(document, ('tree',))}: `tree` is empty: name at least one group.")
    _refuse_twins(raw, document, ("tree",), path)
    return dataclasses.replace(edits, tree=tree_from_raw(raw, source))


def merge(proposal: Corpus, edits: CorpusEdits) -> Corpus:
    """The proposal with a person's edits.

    Args:
        proposal: what the model (or a starter) named.
        edits: the person's file. A hand-written tree in it takes the proposal's place.

    Returns:
        The corpus, with one `Drop` for each feature that `remove`, `deny` or `allow` left out.

    Raises:
        CorpusError: an edit names a feature that the proposal does not have (any more), or makes a second feature of
            the same id; the message names file and line.
    """
    base = edits.tree or proposal
    if edits.is_empty:
        return base
    find = _Finder(base, edits.path)
    file = Path(edits.path).name  # reasons are shown in reports, which travel without the folder
    dropped: dict[str, str] = {}  # id -> reason
    for mention in edits.remove:
        dropped[find(mention, "remove").id] = f"removed by {_where(file, mention.line)}"
    for mention in edits.deny:
        for feature in base.walk():
            if _denies(mention.feature, feature):
                dropped.setdefault(feature.id, f"denied by {_where(file, mention.line)}")
    if edits.allow:
        allowed = [find(mention, "allow").id for mention in edits.allow]
        for feature in base.walk():
            if not any(_related(feature.id, one) for one in allowed):
                dropped.setdefault(feature.id, f"not on the allow list of {file}")
    names = {find(mention, "rename").id: mention for mention in edits.rename}
    prompts = {find(mention, "prompt").id: mention for mention in edits.prompt}
    for key, changes in (("rename", names), ("prompt", prompts)):
        for feature_id, mention in changes.items():
            if reason := next((why for one, why in dropped.items() if _within(feature_id, one)), None):
                raise CorpusError(
                    f"{_where(edits.path, mention.line)}: `{key}` changes {mention.feature!r}, which is {reason}: keep "
                    "one of the two."
                )
    drops = list(base.drops)
    reworded: list[tuple[str, Mention]] = []

    def rebuild(features: Sequence[Feature], parent: str | None) -> tuple[Feature, ...]:
        kept: dict[str, Feature] = {}
        lines: dict[str, int] = {}
        for feature in features:
            if feature.id in dropped:
                drops.append(Drop(feature.name, dropped[feature.id], "a person's edits"))
                continue
            renamed = names.get(feature.id)
            name = tidy(renamed.to) if renamed else feature.name
            own = slug(name) if renamed else feature.id.split("/")[-1]
            new_id = f"{parent}/{own}" if parent else own
            if new_id in kept:  # only a rename can do this
                line = renamed.line if renamed else lines[new_id]
                raise CorpusError(
                    f"{_where(edits.path, line)}: a second feature would have the id {new_id!r}: choose another name."
                )
            changed = prompts.get(feature.id)
            lines[new_id] = renamed.line if renamed else 0
            if changed:
                reworded.append((new_id, changed))
            kept[new_id] = dataclasses.replace(
                feature,
                id=new_id,
                name=name,
                prompt=tidy(changed.to) if changed else feature.prompt,
                children=rebuild(feature.children, new_id),
            )
        return tuple(kept.values())

    groups = rebuild(base.groups, None)
    for feature_id, mention in reworded:
        corpus = Corpus(groups)
        if twin := _same_edit(corpus[feature_id], corpus):
            raise CorpusError(
                f"{_where(edits.path, mention.line)}: `prompt` gives {mention.feature!r} the edit that {twin.id!r} has "
                "already: choose other words, or remove one of them."
            )
    for addition in edits.add:
        groups = _added(groups, addition, find, names, edits.path)
    if not groups:
        raise CorpusError(f"{edits.path} leaves no feature at all: take something off `remove`, `deny` or `allow`.")
    return Corpus(groups, tuple(drops))


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
        where = _where(self.path, mention.line)
        if found:
            ids = ", ".join(feature.id for feature in found)
            raise CorpusError(
                f"{where}: `{key}` names {mention.feature!r}, which is several features: write one of {ids}."
            )
        close = _nearest(mention.feature, [*self.by_id, *(feature.name for feature in self.by_id.values())])
        raise CorpusError(
            f"{where}: `{key}` names {mention.feature!r}, which the proposal does not have (any more)"
            + (f": did you mean {close!r}?" if close else ": take the line out, or name a feature of the proposal.")
        )


def _added(
    groups: tuple[Feature, ...], addition: Addition, find: _Finder, names: dict[str, Mention], path: str
) -> tuple[Feature, ...]:
    """The tree with one addition; its group is found under its old or its new name, or made."""
    where = _where(path, addition.line)
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


def _raw(entry: Entry | str) -> RawFeature:
    if isinstance(entry, str):
        return RawFeature(name=tidy(entry))
    node = RawFeature(name=tidy(entry.name), direction=entry.direction)
    if entry.prompt is not None:
        node["prompt"] = entry.prompt
    if entry.editable is not None:
        node["editable"] = entry.editable
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
                f"{_where(path, line)}: {node['name']!r} is there already (line {seen[key]}): keep one of them."
            )
        seen[key] = line
        _refuse_twins(node.get("children", []), document, (*at, i, "children"), path)


# YAML, with lines ----------------------------------------------------------------------------------------------------


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


def _explain(error: ValidationError, document: CommentedMap, path: str) -> NoReturn:
    """The first thing that is wrong, in one sentence with its line."""
    # A union reports every branch; the branch that got furthest is what the person meant.
    problem = max(
        error.errors(include_url=False), key=lambda one: (len(_path(one["loc"])), one["type"] != "string_type")
    )
    place = _path(problem["loc"])
    line = _line(document, place)
    where = _where(path, line)
    field = ".".join(str(part) for part in place) or "the file"
    if problem["type"] == "extra_forbidden":
        known = list(_File.model_fields) if len(place) == 1 else list(AddedEntry.model_fields)
        if place[0] == "tree" or len([part for part in place if part == "children"]) > 0:
            known = [name for name in known if name != "group" or len(place) == 1]
        close = _nearest(str(place[-1]), known)
        hint = f"did you mean `{close}`?" if close else f"known keys are {', '.join(known)}."
        raise CorpusError(f"{where}: unknown key `{place[-1]}`: {hint}") from None
    if problem["type"] == "missing":
        raise CorpusError(f"{where}: `{'.'.join(map(str, place[:-1]))}` needs a `{place[-1]}`.") from None
    raise CorpusError(f"{where}: `{field}` is wrong: {problem['msg'][0].lower()}{problem['msg'][1:]}.") from None


def _path(loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """A pydantic location without the names of union branches and the `[key]` marks of mappings."""
    marks = {"Entry", "AddedEntry", "[key]"}
    return tuple(
        part for part in loc if part not in marks and not str(part).startswith(("constrained-str", "function-"))
    )


def _line(document: CommentedMap, place: Sequence[str | int]) -> int:
    """The 1-based line of a key or item; of its nearest known ancestor where the thing itself is missing."""
    node: Any = document
    line = document.lc.line + 1 if document.lc.line is not None else 1
    for part in place:
        if not isinstance(node, CommentedBase):
            break
        try:
            if isinstance(node, CommentedMap):
                key = part if part in node else next(one for one in node if str(one).strip() == part)
                line = node.lc.key(key)[0] + 1
                node = node[key]
            elif isinstance(node, CommentedSeq) and isinstance(part, int):
                line = node.lc.item(part)[0] + 1
                node = node[part]
        except (KeyError, IndexError, StopIteration, TypeError, AttributeError):
            break
    return line


def _where(path: str, line: int) -> str:
    return f"{path}, line {line}"


def _nearest(name: str, known: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(name.lower(), [one.lower() for one in known], n=1, cutoff=0.6)
    return next((one for one in known if close and one.lower() == close[0]), None)


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else type(value).__name__ if not isinstance(value, str) else "text"
