"""From several answers to one tree: batches of images, answers that go on, children below their groups."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import Image

from diffex_dagster.corpus.merging import merge_answers
from diffex_dagster.corpus.tree import Drop
from diffex_dagster.corpus.vlm.answers import Answer, read
from diffex_dagster.corpus.vlm.context import Passage
from diffex_dagster.corpus.vlm.lenient import parse_boxes
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.wording import same_key
from diffex_dagster.errors import CorpusError


def image_batches(images: Sequence[Image.Image], size: int, limit: int) -> list[tuple[Image.Image, ...]]:
    """At most `limit` images, evenly chosen, dealt out so that every batch spans the whole folder."""
    count = max(1, min(len(images), limit))
    chosen = [images[i * len(images) // count] for i in range(count)]
    number = -(-count // max(1, size))
    return [tuple(chosen[i::number]) for i in range(number)]


def is_readable(answer: str) -> bool:
    try:
        read(answer)
    except CorpusError:
        return False
    return True


def is_structured(answer: str) -> bool:
    try:
        return bool(parse_boxes(answer))
    except CorpusError:
        return False


def tree_size(tree: Sequence[RawFeature]) -> int:
    return sum(1 + tree_size(node.get("children", [])) for node in tree)


def continued(tree: list[RawFeature], part: Answer) -> list[RawFeature]:
    """An answer and its continuation: one answer, so that nothing counts twice."""
    if not tree:
        return part.tree
    joined = merge_answers([[*tree, *part.tree]])

    def uncounted(node: RawFeature) -> RawFeature:
        bare: RawFeature = {**node}
        bare.pop("support", None)
        if "children" in bare:
            bare["children"] = [uncounted(child) for child in bare["children"]]
        return bare

    return [uncounted(node) for node in joined]


def listed(tree: Sequence[RawFeature]) -> str:
    lines = []
    for node in tree:
        children = ", ".join(child["name"] for child in node.get("children", []))
        lines.append(f"- {node['name']}" + (f": {children}" if children else ""))
    return "\n".join(lines)


def attach(groups: list[RawFeature], expanded: Sequence[RawFeature]) -> list[Drop]:
    """Give each group the children that the second pass found; what belongs to no group is dropped."""
    known = {same_key(group["name"]): group for group in groups}
    drops = []
    for node in expanded:
        group = known.get(same_key(node["name"]))
        if group is None:
            drops.append(Drop(node["name"], "is no category of the first pass", "merging"))
        elif children := node.get("children"):
            group["children"] = merge_answers([[*group.get("children", []), *children]])
    return drops


def with_citations(node: RawFeature, passages: Sequence[Passage]) -> RawFeature:
    """The node with the passage that it cites by number; a number that no passage has is no citation."""
    cited: RawFeature = {**node}
    number = re.search(r"\d{1,4}", cited.pop("citation", ""))
    if number and 1 <= int(number.group()) <= len(passages):
        cited["citation"] = passages[int(number.group()) - 1].citation
    if "children" in cited:
        cited["children"] = [with_citations(child, passages) for child in cited["children"]]
    return cited
