"""From what a model sends to a tree of features.

`read_answer` takes any of the forms that models are known to send: the structured form that we ask for, plain nested
JSON, the paper's pseudo-JSON with braces as sets, fenced blocks, prose around it, several objects, a truncated tail, or
a Markdown outline. `tree_from_raw` turns the result into a `Corpus`.

The structured form (also that of `studies/*/proposal.json`) is

    {"categories": [{"name": "Eyewear", "prompt": "eyewear", "direction": "add", "editable": true, "region": "eyes",
                     "children": [{"name": "Round glasses", ...}, ...]}, ...]}

where everything but `name` may be left out, and a child may be a plain string.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from diffex_dagster.corpus.tree import Corpus, Direction, Drop, Feature, slug
from diffex_dagster.corpus.vlm.lenient import Box, Value, parse_boxes
from diffex_dagster.corpus.vlm.messages import from_file, without_thinking
from diffex_dagster.corpus.wording import names_an_edit, same_key, standalone_prompt, tidy
from diffex_dagster.errors import CorpusError

MAX_LEVELS = 6  # deeper nesting is prose or an accident; the search has two or three levels
CUT_OFF = "\n<cut off>"  # stands at the end of an answer that the server stopped in the middle
UNNAMED_GROUP = "Other"  # children that came without the name of a group


class RawFeature(TypedDict, total=False):
    """One node as it was sent, tidied but not judged. Only `name` is always there."""

    name: str
    prompt: str
    direction: Direction
    editable: bool
    region: str
    support: int
    citation: str
    children: list[RawFeature]


@dataclass(frozen=True)
class Answer:
    """What could be read: the groups, and whether the text ended before the answer did."""

    tree: list[RawFeature]
    truncated: bool


_NAME = ("name", "category", "group", "attribute", "feature", "title", "label", "parent", "keyword", "value", "type")
_CHILDREN = (
    "children", "subcategories", "sub_categories", "subfeatures", "sub_features", "subtypes", "sub_types", "attributes",
    "features", "items", "values", "examples", "options", "types", "variants", "keywords", "subattributes",
    "sub_attributes", "fine_grained", "members",
)  # fmt: skip
_PROMPT = ("prompt", "edit_prompt", "editprompt", "edit", "edit_text", "phrase")
_REGION = ("region", "location", "area", "where", "body_part")
_CITATION = ("citation", "source", "passage", "reference")
_ASIDE = ("description", "id", "reason", "rationale", "explanation", "confidence", "note", "notes", "comment", "domain",
          "count", "level", "version", "error", "status")  # fmt: skip
_WRAPPERS = ("categories", "features", "attributes", "groups", "corpus", "tree", "hierarchy", "semantics", "taxonomy",
             "result", "results", "answer", "data", "output", "response", "json", "feature_tree", "editable_attributes",
             "items", "children")  # fmt: skip
_FIELDS = frozenset((*_NAME, *_CHILDREN, *_PROMPT, *_REGION, *_CITATION, *_ASIDE, "direction", "editable", "support"))
_REMOVE = frozenset({"remove", "removal", "delete", "subtract", "negative", "-", "without", "take away"})
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*\n?(.*?)(?:^[ \t]*(?:```|~~~)[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_REFUSAL = re.compile(
    r"\b(I(?:['’]m| am) (?:sorry|unable|not able)|I (?:can(?:['’]t|not)|won['’]t)|as an AI|"
    r"cannot (?:assist|help|comply))\b",
    re.IGNORECASE,
)


def read_answer(text: str) -> list[RawFeature]:
    """Read a model's answer, whatever its form.

    Args:
        text: the answer as it came.

    Returns:
        The groups in order. Repeated groups are one, with all their children. A name that was cut off in the middle is
        left out, and all that was whole is kept.

    Raises:
        CorpusError: there is no feature in it (a refusal is named as such), or it is too long or too deeply nested.
    """
    return read(text).tree


def read(text: str) -> Answer:
    """As `read_answer`, and also says whether the answer was cut off."""
    if not isinstance(text, str) or not text.strip():
        raise CorpusError("The answer is empty: ask the model again, or give it fewer images.")
    visible = without_thinking(text.removesuffix(CUT_OFF))
    fenced = [match.group(1) for match in _FENCE.finditer(visible)]
    for candidate in (*(["\n".join(fenced)] if fenced else []), visible):
        boxes = parse_boxes(candidate)
        tree = _join(_from_boxes(boxes))
        if tree:
            return Answer(tree, truncated=any(not box.whole for box in boxes))
    cut = text.endswith(CUT_OFF)  # braces show by themselves that they were left open, an outline does not
    outline_text = "\n".join(fenced) if fenced else visible
    outline = _join(_from_outline(outline_text.rpartition("\n")[0] if cut else outline_text))
    if outline:
        return Answer(outline, truncated=cut)
    if is_refusal(text):
        raise CorpusError(f'The model refused to describe the images ("{_excerpt(text)}"): use another model.')
    raise CorpusError(f'The answer holds no feature tree ("{_excerpt(text)}"): ask again, or use another model.')


_STUDY = re.compile(r"^(?:classifiers|editors|corpus|target|images):", re.MULTILINE)


def saved_answer(text: str) -> str:
    """The model's text in a file: the file itself, or the answer within a server's whole response.

    Raises:
        CorpusError: the response is an error, a refusal, or holds no answer.
    """
    said = from_file(text)
    if said is None:
        if len(_STUDY.findall(text)) > 2:
            raise CorpusError("This is a study file, not an answer of a model: name the file with the answer.")
        return text
    if said.error:
        raise CorpusError(f'This is no answer but a server\'s error ("{_excerpt(said.error)}"): save an answer.')
    if said.refusal:
        raise CorpusError(f'The model refused to describe the images ("{_excerpt(said.refusal)}"): use another model.')
    if not said.text.strip():
        raise CorpusError("The response holds no answer of the model, only its thinking: save one with an answer.")
    return said.text + (CUT_OFF if said.cut else "")


def is_refusal(text: str) -> bool:
    """Whether a text reads like a model that will not answer."""
    return bool(_REFUSAL.search(text[:2000]))


def write_answer(tree: Sequence[RawFeature]) -> str:
    """The structured form of a raw tree, as JSON; `read_answer` reads back exactly the same tree."""
    return json.dumps({"categories": list(tree)}, ensure_ascii=False, indent=2)


def tree_from_raw(raw: Sequence[RawFeature], source: str = "vlm") -> Corpus:
    """Give every node an id, a prompt that stands on its own, and the rest of its fields.

    Args:
        raw: groups as `read_answer` returns them.
        source: where features without a citation came from.

    Returns:
        The corpus. Of siblings with the same id the first stays, takes the other's children, and a `Drop` says so.

    Raises:
        CorpusError: there is no group.
    """
    drops: list[Drop] = []
    groups = _features(raw, None, source, drops)
    if not groups:
        raise CorpusError("The corpus has no groups: name at least one feature.")
    return Corpus(groups, tuple(drops))


def raw_from_tree(corpus: Corpus) -> list[RawFeature]:
    """The raw tree of a corpus, for printing it as JSON. `tree_from_raw` gives the same corpus back."""

    def raw(feature: Feature) -> RawFeature:
        node = RawFeature(
            name=feature.name, prompt=feature.prompt, direction=feature.direction, editable=feature.editable
        )
        if feature.region is not None:
            node["region"] = feature.region
        if feature.support is not None:
            node["support"] = feature.support
        if feature.citation is not None:
            node["citation"] = feature.citation
        if feature.children:
            node["children"] = [raw(child) for child in feature.children]
        return node

    return [raw(group) for group in corpus.groups]


def _features(raw: Sequence[RawFeature], parent: Feature | None, source: str, drops: list[Drop]) -> tuple[Feature, ...]:
    merged: dict[str, RawFeature] = {}
    for node in raw:
        name = tidy(node["name"])
        if not name:
            continue
        key = slug(name)
        if key in merged:
            drops.append(Drop(name, f"named twice under {parent.name if parent else 'the root'}", "merging"))
            children = [*merged[key].get("children", []), *node.get("children", [])]
            merged[key] = {**merged[key], "children": children} if children else merged[key]
        else:
            merged[key] = {**node, "name": name}
    features = []
    for key, node in merged.items():
        children_raw = node.get("children", [])
        feature = Feature(
            id=f"{parent.id}/{key}" if parent else key,
            name=node["name"],
            prompt=_prompt(node, parent.name if parent else None, source),
            direction=node.get("direction", "add"),
            editable=node.get("editable", names_an_edit(node["name"], bool(children_raw))),
            support=node.get("support"),
            region=tidy(node.get("region", "")) or None,
            source=tidy(node.get("citation", "")) or source,
        )
        below = _features(children_raw, feature, source, drops)
        features.append(dataclasses.replace(feature, children=below))
    return tuple(features)


def _prompt(node: RawFeature, parent: str | None, source: str) -> str:
    """The node's edit prompt. A model that only repeats the name ("logo" under "Hat") has not made it stand alone."""
    given = tidy(node.get("prompt", ""))
    alone = standalone_prompt(node["name"], parent)
    repeats = source == "vlm" and same_key(given) == same_key(node["name"]) != same_key(alone)
    return alone if not given or repeats else given


# From boxes to raw features ------------------------------------------------------------------------------------------


def _from_boxes(boxes: Sequence[Box]) -> list[RawFeature]:
    """The features of all boxes; a loose `{word}` of the prose counts only where there is nothing better."""
    structured = [box for box in boxes if _has_structure(box)]
    return [feature for box in structured or boxes for feature in _groups(box)]


def _has_structure(box: Box) -> bool:
    return bool(box.pairs) or any(isinstance(item, Box) for item in box.items)


def _groups(box: Box) -> Iterator[RawFeature]:
    inner = _unwrap(box)
    loose: list[RawFeature] = []
    named = _field(inner, _NAME) if not _is_category_map(inner) else None
    blank = any(_plain(key) in _NAME and isinstance(value, str) and not tidy(value) for key, value in inner.pairs)
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
        wrapped = [value for key, value in box.pairs if _plain(key) in _WRAPPERS and isinstance(value, Box)]
        known = (*_WRAPPERS, "drops")  # what `diffex corpus --format json` left out is no part of its tree
        others = [key for key, value in box.pairs if _plain(key) not in known and isinstance(value, Box)]
        named = [key for key, value in box.pairs if _plain(key) in _NAME and isinstance(value, str)]
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
            node["children"] = [RawFeature(name=part) for part in _split(value)]
            if not node["children"]:
                del node["children"]
        elif tidy(value):
            node["prompt"] = tidy(value)
    yield node


def _members(value: Value, level: int) -> Iterator[RawFeature]:
    """What a value without a key stands for at a level."""
    if isinstance(value, str):
        if _plain(value) not in _FIELDS and (name := tidy(value)):
            yield RawFeature(name=name)
    elif isinstance(value, Box):
        if not _is_category_map(value) and (_field(value, _NAME) is not None or _prompt_only(value)):
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
    prompt = _field(box, _PROMPT)
    own_name: str | None = name or _field(box, _NAME)
    named = own_name or prompt
    if not named:
        return
    node = RawFeature(name=named)
    if prompt and own_name:
        node["prompt"] = prompt
    used = set(_NAME) if name is None else set()
    for key, value in box.pairs:
        plain = _plain(key)
        if plain == "direction" and isinstance(value, str):
            node["direction"] = "remove" if value.strip().lower() in _REMOVE else "add"
        elif plain == "editable" and isinstance(value, bool | str | int):
            node["editable"] = str(value).strip().lower() not in ("false", "no", "0")
        elif plain == "support" and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            node["support"] = value
    for field_name, aliases in (("region", _REGION), ("citation", _CITATION)):
        if text := _field(box, aliases, numbers=True):
            node[field_name] = text  # type: ignore[literal-required]
    children: list[RawFeature] = []
    for child_key, value in _entries(box):
        kind = None if child_key is None else _plain(child_key)
        if child_key is None:
            if level < MAX_LEVELS:
                children += _members(value, level + 1)
        elif isinstance(value, Box) and level < MAX_LEVELS:
            children += _children(value, level + 1) if kind in _CHILDREN else list(_keyed(child_key, value, level + 1))
        elif isinstance(value, str) and kind in _CHILDREN and kind not in used:
            children += [RawFeature(name=part) for part in _split(value)] if level < MAX_LEVELS else []
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
    return not isinstance(value, Box) and (_plain(key) in _ASIDE or isinstance(value, int | float | bool))


def _has_fields(box: Box) -> bool:
    """Whether a box describes one feature (has a prompt, children, ...) rather than listing several."""
    own = [key for key, value in box.pairs if _is_field(_plain(key), value)]
    return bool(own)


def _is_field(key: str, value: Value) -> bool:
    if key in _CHILDREN:
        return isinstance(value, Box)
    return key in ("direction", "editable", "support", *_PROMPT, *_REGION, *_CITATION) and not isinstance(value, Box)


def _prompt_only(box: Box) -> bool:
    return _field(box, _PROMPT) is not None


def _is_category_map(box: Box) -> bool:
    """`{"Type": ["a", "b"], "Hair": [...]}`: names that happen to be field names, with containers as values."""
    return bool(box.pairs) and all(isinstance(value, Box) for _, value in box.pairs)


def _holds_nodes(box: Box) -> bool:
    return any(isinstance(item, Box) and item.pairs for item in box.items)


def _split(text: str) -> list[str]:
    return [name for part in re.split(r"[,;|/]| and (?=\w+$)", text) if (name := tidy(part))]


def _join(tree: Sequence[RawFeature]) -> list[RawFeature]:
    """Groups that were sent more than once (by several objects, or repeated keys) as one, in order of appearance."""
    joined: dict[str, RawFeature] = {}
    for group in tree:
        key = slug(group["name"])
        if key not in joined:
            joined[key] = group
        elif children := group.get("children"):
            joined[key].setdefault("children", []).extend(children)
    return list(joined.values())


# From a Markdown outline ---------------------------------------------------------------------------------------------

_LINE = re.compile(r"^(?P<indent>[ \t]*)(?P<mark>#{1,6}[ ]|[-*•+][ ]|\d{1,3}[.)][ ])?[ ]*(?P<text>.*)$")


def _from_outline(text: str) -> list[RawFeature]:
    """Headings and bullets: `## Hat` / `- cap`, `1. **Hat**: cap, beanie`. Lines without a mark are prose."""
    root: list[RawFeature] = []
    stack: list[tuple[int, RawFeature]] = []
    for line in text.expandtabs(4).splitlines():
        match = _LINE.match(line)
        mark = (match.group("mark") or "").strip() if match else ""
        if match is None:
            continue
        bold = re.fullmatch(r"\*\*([^*]+)\*\*:?", match.group("text").strip())
        key = re.fullmatch(r"\w[^:.!?]{0,60}:", match.group("text").strip())
        if not mark and not bold and not (key and len(key.group().split()) <= 4):
            continue
        if mark.startswith("#"):
            depth = len(mark) - 10  # headings stand above every bullet
        elif mark:
            depth = len(match.group("indent")) + 1
        else:
            depth = len(match.group("indent"))  # "**Hat**" or "Hat:" on a line of its own heads the bullets under it
        name, _, rest = match.group("text").replace("**", "").replace("__", "").partition(":")
        name = tidy(name.strip("# "))
        if not name:
            continue
        node = RawFeature(name=name)
        parts = [RawFeature(name=part) for part in _split(rest)]
        if parts:
            node["children"] = parts
        while stack and stack[-1][0] >= depth:
            stack.pop()
        if stack and len(stack) < MAX_LEVELS:
            stack[-1][1].setdefault("children", []).append(node)
        elif not stack:
            root.append(node)
        stack.append((depth, node))
    if len(root) == 1 and any(child.get("children") for child in root[0].get("children", [])):
        return root[0]["children"]  # a title above the groups
    return [group for group in root if group.get("children")]  # bullets alone are advice, not a tree


def _excerpt(text: str) -> str:
    line = tidy(text)
    return line if len(line) <= 80 else line[:79] + "…"
