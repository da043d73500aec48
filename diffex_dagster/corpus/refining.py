"""Refining a corpus: what a vision-language model is shown of a report, and what of its answer can be tried.

Nothing is applied here. An answer is material: each suggestion goes through the cleaning and the leakage check that a
proposal goes through, together with the corpus that it would join, and what does not survive says why.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from diffex_dagster.corpus.cleaning import CleaningOptions, clean, vectors_of
from diffex_dagster.corpus.tree import Corpus, Feature, slug
from diffex_dagster.corpus.vlm.answers import tree_from_raw
from diffex_dagster.corpus.vlm.lenient import Box, parse_boxes
from diffex_dagster.corpus.vlm.prompts import worded
from diffex_dagster.corpus.vlm.protocol import Help
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.vlm.usage import Usage
from diffex_dagster.corpus.wording import names_an_edit, tidy
from diffex_dagster.errors import CorpusError

KINDS = ("group", "finer", "split")
LIMIT = 6
"""Suggestions that are asked for in a round."""
MOST = 24
"""Suggestions that are read of an answer, and children of each."""
_WHY = 300  # characters


@dataclass(frozen=True)
class Seen:
    """One picture that the model is shown, and what is said of it.

    Attributes:
        caption: what is said.
        picture: of any size.
        side: which side of a comparison it stands for: "above" or "below" its prediction, "up" or "down" by an edit; ""
            for none.
    """

    caption: str
    picture: Image.Image = field(repr=False)
    side: str = ""


@dataclass(frozen=True)
class Refinement:
    """What a model is asked.

    Attributes:
        domain: what the images show.
        measure: what an effect is measured in, e.g. `probability of "senior"`.
        pictures: what it is shown.
        tried: one line for each attribute of the list: its id, its name and what its edits did.
        before: names that earlier rounds suggested and that are not in the list.
        class_labels: what no attribute may restate.
        limit: how many suggestions are asked for.
    """

    domain: str
    measure: str
    pictures: tuple[Seen, ...]
    tried: tuple[str, ...]
    before: tuple[str, ...] = ()
    class_labels: tuple[str, ...] = ()
    limit: int = LIMIT

    def with_pictures(self, most: int) -> Refinement:
        """The same with at most so many pictures, of each side the first ones; they keep their order.

        Sides take turns, so that no comparison loses one of its sides before the other. Pictures above and below their
        prediction get two turns for each one of the others: they are what the question is about.
        """
        if len(self.pictures) <= most:
            return self
        turns: list[tuple[int, int, int]] = []
        so_far: dict[str, int] = {}
        for i, seen in enumerate(self.pictures):
            before = so_far[seen.side] = so_far.get(seen.side, -1) + 1
            turns.append((*divmod(before, 2 if seen.side in ("above", "below") else 1), i))
        chosen = sorted(i for _, _, i in sorted(turns)[:most])
        return dataclasses.replace(self, pictures=tuple(self.pictures[i] for i in chosen))


@dataclass(frozen=True)
class Refined:
    """What a model answered.

    Attributes:
        answer: its text.
        model: its name, or the recorded file.
        usage: what it cost.
    """

    answer: str
    model: str = ""
    usage: Usage = field(default_factory=Usage)


@runtime_checkable
class Refiner(Protocol):
    """Anything that can be asked for the next attributes."""

    def refine(self, asked: Refinement) -> Refined:
        """Answer.

        Raises:
            CorpusError: it cannot be asked, or there is no answer that can be read.
        """


@dataclass(frozen=True)
class Suggestion:
    """One attribute to try next.

    Attributes:
        id: what it is accepted by, and the id that it would have in the corpus; of a split its name below the id of
            what it splits.
        kind: one of `KINDS`.
        under: id of the feature that it goes under; "" for a new group.
        name: what a person reads.
        entries: what would stand in the corpus file under `add:`.
        why: in the model's words.
        left_out: why it cannot be tried; "" where it can.
    """

    id: str
    kind: str
    under: str
    name: str
    entries: tuple[Mapping[str, Any], ...]
    why: str
    left_out: str = ""

    @property
    def brings(self) -> tuple[str, ...]:
        """Ids that its entries would have in the corpus."""
        own = ((entry.get("group"), slug(str(entry["name"]))) for entry in self.entries)
        return tuple(f"{group}/{name}" if group else name for group, name in own)


def refine_prompt(asked: Refinement) -> str:
    """The text of the question; names from a corpus or a file are tidied and say nothing to the template."""
    labels = ", ".join(f'"{tidy(label)}"' for label in asked.class_labels)
    before = ", ".join(map(tidy, asked.before))
    return worded(
        "refine",
        domain=tidy(asked.domain),
        measure=tidy(asked.measure),
        pictures="\n".join(f"{i}. {tidy(seen.caption)}" for i, seen in enumerate(asked.pictures, 1)),
        tried="\n".join(f"- {tidy(line)}" for line in asked.tried),
        before=f"\nNamed in earlier rounds and not taken up, so name something else: {before}.\n" if before else "",
        avoid=f"\nDo not name anything that only says one of these classes in other words: {labels}.\n"
        if labels
        else "",
        limit=str(asked.limit),
    )


# Reading an answer


def read_suggestions(text: str) -> list[dict[str, Any]]:
    """The suggestions of an answer, as they were sent: dictionaries with a `name`, and whatever else there was.

    Raises:
        CorpusError: there is none in it.
    """
    found = [each for box in parse_boxes(text) for each in _suggested(_plain(box))][:MOST]
    if not found:
        raise CorpusError(f'The answer holds no suggestion ("{tidy(text)[:80]}"): ask again, or use another model.')
    return found


def _suggested(value: Any) -> Iterator[dict[str, Any]]:
    """What looks like a suggestion, at the top of an answer or within its list."""
    if isinstance(value, list):
        for each in value:
            yield from _suggested(each)
    elif isinstance(value, dict):
        if isinstance(value.get("name"), str) and tidy(value["name"]):
            yield value
        else:
            for each in value.values():
                yield from _suggested(each)


def _plain(value: Any) -> Any:
    if not isinstance(value, Box):
        return value
    if value.pairs:
        return {str(key).strip().lower(): _plain(item) for key, item in reversed(value.pairs)}
    return [_plain(item) for item in value.items]


def _text(value: Any, limit: int = 200) -> str:
    return tidy(value)[:limit] if isinstance(value, str) else ""


def _raw(said: Mapping[str, Any]) -> RawFeature:
    """One node, with the fields that a corpus file may have; no more."""
    node = RawFeature(name=_text(said.get("name")))
    if prompt := _text(said.get("prompt")):
        node["prompt"] = prompt
    if said.get("direction") in ("add", "remove"):
        node["direction"] = said["direction"]
    for flag in ("editable", "exclusive"):
        if isinstance(said.get(flag), bool):
            node[flag] = said[flag]
    children = said.get("children")
    below = [
        _raw(each if isinstance(each, dict) else {"name": each})
        for each in (children if isinstance(children, list) else [])[:MOST]
        if isinstance(each, dict | str)
    ]
    if below := [child for child in below if child["name"]]:
        node["children"] = below
    return node


# What can be tried


def usable_suggestions(
    said: Sequence[Mapping[str, Any]],
    corpus: Corpus,
    class_labels: Sequence[str] = (),
    options: CleaningOptions | None = None,
) -> list[Suggestion]:
    """Suggestions, each cleaned together with the corpus that it would join; what cannot be tried says why.

    Args:
        said: as `read_suggestions` gives them.
        corpus: as it is now.
        class_labels, options: as of `cleaning.clean`.
    """
    read = [_read(each, corpus) for each in said]
    options = _asked_at_once(options or CleaningOptions(), corpus, [f for each in read for f in each.new], class_labels)
    found: dict[str, Suggestion] = {}
    for each in read:
        one = _checked(each, corpus, class_labels, options)
        known = found.get(one.id)
        if known is None or (known.left_out and not one.left_out):
            found[one.id] = one
        elif one.entries != known.entries:
            own = _free(one.id, found)
            found[own] = _another(one, own)
    return list(found.values())


def _free(wanted: str, taken: Container[str]) -> str:
    return next(own for n in itertools.count(2) if (own := f"{wanted}-{n}") not in taken)


def _another(one: Suggestion, own: str) -> Suggestion:
    """A second suggestion of one id under an id of its own. Two splits can both be tried; two of one name cannot."""
    if one.kind == "split" or one.left_out:
        return dataclasses.replace(one, id=own)
    return dataclasses.replace(
        one, id=own, entries=(), left_out=f"the answer names {one.id!r} twice: this is the second"
    )


@dataclass(frozen=True)
class _Read:
    """A suggestion before it is cleaned: what it goes under, and the features that it would bring."""

    suggestion: Suggestion
    parent: Feature | None = None
    new: tuple[Feature, ...] = ()


def _read(said: Mapping[str, Any], corpus: Corpus) -> _Read:
    node, why = _raw(said), _text(said.get("why") or said.get("reason"), _WHY)
    name, wanted, parent = node["name"], _text(said.get("under")), _parent(said.get("under"), corpus)
    kind = str(said.get("kind") if said.get("kind") in KINDS else "finer" if wanted else "group")
    if kind == "group" and parent is not None:
        kind = "finer"
    if kind != "group" and parent is None:
        lacks = f"goes under {wanted!r}, which the corpus lacks"
        return _Read(Suggestion(slug(name), kind, "", name, (), why, lacks))
    own = f"{parent.id}/{slug(name)}" if parent else slug(name)
    one = Suggestion(own, kind, parent.id if parent else "", name, (), why)
    nodes = node.get("children", []) if kind == "split" else [node]
    if kind == "split" and len(nodes) < 2:
        return _Read(dataclasses.replace(one, left_out="names fewer than two kinds to split it into"))
    return _Read(one, parent, _features(nodes, parent))


def _features(nodes: Sequence[RawFeature], parent: Feature | None) -> tuple[Feature, ...]:
    if parent is None:
        return tree_from_raw(nodes).groups
    (shell,) = tree_from_raw([RawFeature(name=parent.name, children=list(nodes))]).groups
    return tuple(_below(child, parent.id) for child in shell.children)


def _asked_at_once(
    options: CleaningOptions, corpus: Corpus, new: Sequence[Feature], labels: Sequence[str]
) -> CleaningOptions:
    """The same options, whose models have been asked about all suggestions at once.

    The leakage check is asked about what is new: a person's corpus gives way to nothing.
    """
    prompts = [f.prompt for f in Corpus(tuple(new)).walk() if f.editable]
    if options.leak_check and labels and prompts:
        leaks = dict(options.leak_check(list(dict.fromkeys(prompts)), labels))
        options = dataclasses.replace(options, leak_check=lambda names, _: {n: leaks[n] for n in names if n in leaks})
    else:
        options = dataclasses.replace(options, leak_check=None)
    if options.embed and prompts:
        texts = list(dict.fromkeys([*(f.prompt for f in corpus.walk() if f.editable), *prompts]))
        vectors = dict(zip(texts, vectors_of(texts, options.embed), strict=True))
        options = dataclasses.replace(options, embed=lambda asked: np.stack([vectors[text] for text in asked]))
    return options


def _checked(read: _Read, corpus: Corpus, labels: Sequence[str], options: CleaningOptions) -> Suggestion:
    one = read.suggestion
    if one.left_out:
        return one
    kept, reason = _kept(read, corpus, labels, options)
    return dataclasses.replace(one, entries=tuple(_entry(feature, read.parent) for feature in kept), left_out=reason)


def _parent(under: Any, corpus: Corpus) -> Feature | None:
    """The feature that a suggestion names, by its id, its name where only one has it, or a line (`hat: Hat`)."""
    wanted, features = _text(under), list(corpus.walk())
    for said in dict.fromkeys((wanted, wanted.partition(": ")[0])):
        path = "/".join(slug(part) for part in said.replace(">", "/").split("/") if part.strip())
        named = [feature for feature in features if feature.id == path]
        named = named or [feature for feature in features if feature.id.split("/")[-1] == path]
        if path and len(named) == 1:
            return named[0]
    return None


def _kept(read: _Read, corpus: Corpus, labels: Sequence[str], options: CleaningOptions) -> tuple[list[Feature], str]:
    """What cleaning leaves of new features beside the corpus, and why nothing is left where that is so."""
    # The corpus is a person's by now: nothing of it is dropped, and what is new gives way to it.
    ours, new, parent = Corpus(tuple(_by_person(group) for group in corpus.groups)), read.new, read.parent
    there = {feature.id for feature in corpus.walk()}
    if again := [feature for feature in new if feature.id in there]:
        return [], f"the corpus has {again[0].id!r} already"
    with_new = _joined(ours, new, parent)
    # A limit on children is for proposals: one more that somebody asked for is not too many.
    cleaned = clean(with_new, labels, dataclasses.replace(options, max_children=None))
    ids = {feature.id for feature in new}
    kept = [feature for feature in cleaned.walk() if feature.id in ids]
    if read.suggestion.kind == "split" and len(kept) < 2:
        kept = []
    reasons = [drop.reason for drop in cleaned.drops if drop not in corpus.drops]
    return kept, "" if kept else "; ".join(dict.fromkeys(reasons)) or "nothing of it is left"


def _by_person(feature: Feature) -> Feature:
    return dataclasses.replace(feature, source="person", children=tuple(map(_by_person, feature.children)))


def _below(feature: Feature, parent: str) -> Feature:
    own = f"{parent}/{feature.id.split('/')[-1]}"
    return dataclasses.replace(feature, id=own, children=tuple(_below(child, own) for child in feature.children))


def _joined(corpus: Corpus, new: Sequence[Feature], parent: Feature | None) -> Corpus:
    if parent is None:
        return Corpus((*corpus.groups, *new))

    def grow(feature: Feature) -> Feature:
        children = tuple(map(grow, feature.children))
        return dataclasses.replace(feature, children=(*children, *new) if feature.id == parent.id else children)

    return Corpus(tuple(map(grow, corpus.groups)))


def _entry(feature: Feature, parent: Feature | None) -> dict[str, Any]:
    """What would stand in the corpus file."""
    entry: dict[str, Any] = {"group": parent.id} if parent else {}
    entry |= {"name": feature.name, "prompt": feature.prompt}
    if feature.direction != "add":
        entry["direction"] = feature.direction
    if feature.editable != names_an_edit(feature.name, bool(feature.children)):
        entry["editable"] = feature.editable
    if feature.exclusive is not None and feature.children:
        entry["exclusive"] = feature.exclusive
    if feature.children:
        entry["children"] = [_entry(child, None) for child in feature.children]
    return entry


def helped(options: CleaningOptions, help_: Help | None) -> CleaningOptions:
    """The same with what a model does for cleaning, where it is asked to."""
    return options if help_ is None else dataclasses.replace(options, embed=help_.embed, leak_check=help_.leak_check)
