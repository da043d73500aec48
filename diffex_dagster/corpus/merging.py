"""Several answers about one domain as one tree, with how many of them named each feature."""

from __future__ import annotations

from collections.abc import Sequence

from diffex_dagster.corpus.tree import Drop
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.wording import same_key


def merge_answers(answers: Sequence[Sequence[RawFeature]], drops: list[Drop] | None = None) -> list[RawFeature]:
    """Merge raw trees.

    Args:
        answers: one raw tree for each image batch.
        drops: where the wordings that gave way to another one are recorded (those that differ in case only are not).

    Returns:
        One tree. Names that differ only in case, number, spelling or word order are one feature; the first answer's
        wording stays, and fields that it left out come from later ones. `support` is the number of answers that named
        the feature (an answer that counted itself, as a recorded one may, adds its own count). Features with more
        support come first, then in order of appearance.
    """
    merged: dict[tuple[str, ...], RawFeature] = {}
    support: dict[tuple[str, ...], int] = {}
    children: dict[tuple[str, ...], list[list[RawFeature]]] = {}
    for answer in answers:
        counted: set[tuple[str, ...]] = set()
        here: dict[tuple[str, ...], list[RawFeature]] = {}
        for node in answer:
            key = same_key(node["name"])
            merged[key] = {**node, **merged.get(key, {})}
            if drops is not None and node["name"].casefold() != (kept := merged[key]["name"]).casefold():
                same = Drop(node["name"], f"is {kept!r} in other words", "merging")
                drops += [same] if same not in drops else []
            if key not in counted:
                counted.add(key)
                support[key] = support.get(key, 0) + node.get("support", 1)
            here.setdefault(key, []).extend(node.get("children", []))
        for key, own in here.items():
            children.setdefault(key, []).append(own)
    result = []
    for key in sorted(merged, key=lambda key: -support[key]):  # stable: ties stay in order of appearance
        node = {**merged[key], "support": support[key]}
        if below := merge_answers(children[key], drops):
            node["children"] = below
        else:
            node.pop("children", None)
        result.append(node)
    return result
