"""From what a model sends to a tree of features.

`read_answer` takes any of the forms that models are known to send: the structured form that we ask for, plain nested
JSON, the paper's pseudo-JSON with braces as sets, fenced blocks, prose around it, several objects, a truncated tail, or
a Markdown outline. `tree_from_raw` turns the result into a `Corpus`.

The structured form (also that of `studies/*/proposal.json`) is

    {"categories": [{"name": "Eyewear", "prompt": "eyewear", "direction": "add", "editable": true, "region": "eyes",
                     "exclusive": true, "children": [{"name": "Round glasses", ...}, ...]}, ...]}

where everything but `name` may be left out, and a child may be a plain string.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from diffex_dagster.corpus.tree import Corpus, Drop, Feature, slug
from diffex_dagster.corpus.vlm.boxes import from_boxes, join_twins
from diffex_dagster.corpus.vlm.lenient import parse_boxes
from diffex_dagster.corpus.vlm.messages import from_file, without_thinking
from diffex_dagster.corpus.vlm.outline import from_outline
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.wording import names_an_edit, same_key, standalone_prompt, tidy
from diffex_dagster.errors import CorpusError

CUT_OFF = "\n<cut off>"  # stands at the end of an answer that the server stopped in the middle


@dataclass(frozen=True)
class Answer:
    """What could be read: the groups, and whether the text ended before the answer did."""

    tree: list[RawFeature]
    truncated: bool


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
        tree = join_twins(from_boxes(boxes))
        if tree:
            return Answer(tree, truncated=any(not box.whole for box in boxes))
    cut = text.endswith(CUT_OFF)  # braces show by themselves that they were left open, an outline does not
    outline_text = "\n".join(fenced) if fenced else visible
    outline = join_twins(from_outline(outline_text.rpartition("\n")[0] if cut else outline_text))
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
            exclusive=node.get("exclusive"),
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


def _excerpt(text: str) -> str:
    line = tidy(text)
    return line if len(line) <= 80 else line[:79] + "…"
