"""From the boxes of a lenient reading (objects, lists, texts) to features, in whatever shape a model nests them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diffex_dagster.corpus.tree import slug
from diffex_dagster.corpus.vlm.lenient import Box, Value
from diffex_dagster.corpus.vlm.raw import (
    ASIDE,
    CHILDREN,
    CITATION,
    FIELDS,
    MAX_LEVELS,
    NAME,
    PROMPT,
    REGION,
    REMOVE,
    UNNAMED_GROUP,
    WRAPPERS,
    RawFeature,
)
from diffex_dagster.corpus.wording import tidy


def from_boxes(boxes: Sequence[Box]) -> list[RawFeature]:
    """The features of all boxes; a loose `{word}` of the prose counts only where there is nothing better."""
    structured = [box for box in boxes if _has_structure(box)]
    return [feature for box in structured or boxes for feature in _groups(box)]


def _has_structure(box: Box) -> bool:
    return bool(box.pairs) or any(isinstance(item, Box) for item in box.items)


def _groups(box: Box) -> Iterator[RawFeature]:
    inner = _unwrap(box)
    loose: list[RawFeature] = []
    named = _field(inner, NAME) if not _is_category_map(inner) else None
    blank = any(_plain(key) in NAME and isinstance(value, str) and not tidy(value) for key, value in inner.pairs)
    if named is not None or blank:  # a node whose name is empty is one nevertheless: its fields are no features
        yield from _node(inner, 1)
        return
    for key, value in _entries(inner):
        if key is None and isinstance(value, Box) and not value.pairs and not _holds_nodes(value):
            loose += _children(value, 2)  # a set with no key before it
        elif key is None:
            yield from _members(value, 1)
        elif not _is_aside(key, value):
            yield from _keyed(key, value, 1)
    if loose:
        yield RawFeature(name=UNNAMED_GROUP, editable=False, children=loose)


def _unwrap(box: Box) -> Box:
    """Step into `{"domain": ..., "categories": ...}`, `[[...]]` and the like."""
    for _ in range(4):
        wrapped = [value for key, value in box.pairs if _plain(key) in WRAPPERS and isinstance(value, Box)]
        known = (*WRAPPERS, "drops")  # what `diffex corpus --format json` left out is no part of its tree
        others = [key for key, value in box.pairs if _plain(key) not in known and isinstance(value, Box)]
        named = [key for key, value in box.pairs if _plain(key) in NAME and isinstance(value, str)]
        if len(wrapped) == 1 and not others and not named:
            box = _with_loose(wrapped[0], box)
        elif not box.pairs and len(box.items) == 1 and isinstance(box.items[0], Box) and _has_structure(box.items[0]):
            box = box.items[0]
        else:
            break
    return box


def _with_loose(inner: Box, outer: Box) -> Box:
    """The inner box with the outer one's loose values after it: `{"categories": {...}, {"earrings"}}`."""
    if not any(isinstance(item, Box) for item in outer.items):
        return inner
    joined = Box(list(inner.items), list(inner.pairs), list(inner.order), inner.whole)
    for item in outer.items:
        joined.add(None, item)
    return joined


def _entries(box: Box) -> Iterator[tuple[str | None, Value]]:
    for kind, i in box.order:
        yield (None, box.items[i]) if kind == "item" else box.pairs[i]


def _keyed(key: str, value: Value, level: int) -> Iterator[RawFeature]:
    """`"Hat": ...` where the value is a list or set of children, a node without a name, or a string."""
    name = tidy(key)
    if not name:
        return
    node = RawFeature(name=name)
    if isinstance(value, Box):
        if _has_fields(value):
            yield from _node(value, level, name)
            return
        children = _children(value, level + 1)
        if children:
            node["children"] = children
    elif isinstance(value, str):
        if level == 1:
            node["children"] = [RawFeature(name=part) for part in split_list(value)]
            if not node["children"]:
                del node["children"]
        elif tidy(value):
            node["prompt"] = tidy(value)
    yield node


def _members(value: Value, level: int) -> Iterator[RawFeature]:
    """What a value without a key stands for at a level."""
    if isinstance(value, str):
        if _plain(value) not in FIELDS and (name := tidy(value)):
            yield RawFeature(name=name)
    elif isinstance(value, Box):
        if not _is_category_map(value) and (_field(value, NAME) is not None or _prompt_only(value)):
            yield from _node(value, level)
        else:
            yield from _children(value, level)


def _children(box: Box, level: int) -> list[RawFeature]:
    if level > MAX_LEVELS:
        return []
    found: list[RawFeature] = []
    for key, value in _entries(box):
        if key is None:
            found += _members(value, level)
        elif not _is_aside(key, value):
            found += _keyed(key, value, level)
    return found


def _node(box: Box, level: int, name: str | None = None) -> Iterator[RawFeature]:
    """A box with fields. `name` is given where it stood before the box."""
    prompt = _field(box, PROMPT)
    own_name: str | None = name or _field(box, NAME)
    named = own_name or prompt
    if not named:
        return
    node = RawFeature(name=named)
    if prompt and own_name:
        node["prompt"] = prompt
    used = set(NAME) if name is None else set()
    for key, value in box.pairs:
        plain = _plain(key)
        if plain == "direction" and isinstance(value, str):
            node["direction"] = "remove" if value.strip().lower() in REMOVE else "add"
        elif plain == "editable" and isinstance(value, bool | str | int):
            node["editable"] = str(value).strip().lower() not in ("false", "no", "0")
        elif plain == "exclusive" and isinstance(value, bool):
            node["exclusive"] = value
        elif plain == "support" and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            node["support"] = value
    for field_name, aliases in (("region", REGION), ("citation", CITATION)):
        if text := _field(box, aliases, numbers=True):
            node[field_name] = text  # type: ignore[literal-required]
    children: list[RawFeature] = []
    for child_key, value in _entries(box):
        kind = None if child_key is None else _plain(child_key)
        if child_key is None:
            if level < MAX_LEVELS:
                children += _members(value, level + 1)
        elif isinstance(value, Box) and level < MAX_LEVELS:
            children += _children(value, level + 1) if kind in CHILDREN else list(_keyed(child_key, value, level + 1))
        elif isinstance(value, str) and kind in CHILDREN and kind not in used:
            children += [RawFeature(name=part) for part in split_list(value)] if level < MAX_LEVELS else []
    if children:
        node["children"] = children
    yield node


def _field(box: Box, aliases: Sequence[str], numbers: bool = False) -> str | None:
    for alias in aliases:
        for key, value in box.pairs:
            if _plain(key) == alias:
                if numbers and isinstance(value, int) and not isinstance(value, bool):
                    value = str(value)
                if isinstance(value, str) and tidy(value):
                    return tidy(value)
    return None


def _plain(key: str) -> str:
    return re.sub(r"[\s-]+", "_", key.strip().lower())


def _is_aside(key: str, value: Value) -> bool:
    """A remark about the tree rather than a part of it: `"domain": "faces"`, `"count": 12`."""
    return not isinstance(value, Box) and (_plain(key) in ASIDE or isinstance(value, int | float | bool))


def _has_fields(box: Box) -> bool:
    """Whether a box describes one feature (has a prompt, children, ...) rather than listing several."""
    own = [key for key, value in box.pairs if _is_field(_plain(key), value)]
    return bool(own)


def _is_field(key: str, value: Value) -> bool:
    if key in CHILDREN:
        return isinstance(value, Box)
    return key in ("direction", "editable", "exclusive", "support", *PROMPT, *REGION, *CITATION) and not isinstance(
        value, Box
    )


def _prompt_only(box: Box) -> bool:
    return _field(box, PROMPT) is not None


def _is_category_map(box: Box) -> bool:
    """`{"Type": ["a", "b"], "Hair": [...]}`: names that happen to be field names, with containers as values."""
    return bool(box.pairs) and all(isinstance(value, Box) for _, value in box.pairs)


def _holds_nodes(box: Box) -> bool:
    return any(isinstance(item, Box) and item.pairs for item in box.items)


def split_list(text: str) -> list[str]:
    return [name for part in re.split(r"[,;|/]| and (?=\w+$)", text) if (name := tidy(part))]


def join_twins(tree: Sequence[RawFeature]) -> list[RawFeature]:
    """Groups that were sent more than once (by several objects, or repeated keys) as one, in order of appearance."""
    joined: dict[str, RawFeature] = {}
    for group in tree:
        key = slug(group["name"])
        if key not in joined:
            joined[key] = group
        elif children := group.get("children"):
            joined[key].setdefault("children", []).extend(children)
    return list(joined.values())
