"""A tree written as a Markdown outline: headings, bullets, numbers and indentation."""

from __future__ import annotations

import re

from diffex_dagster.corpus.vlm.boxes import split_list
from diffex_dagster.corpus.vlm.raw import MAX_LEVELS, RawFeature
from diffex_dagster.corpus.wording import tidy

_LINE = re.compile(r"^(?P<indent>[ \t]*)(?P<mark>#{1,6}[ ]|[-*•+][ ]|\d{1,3}[.)][ ])?[ ]*(?P<text>.*)$")


def from_outline(text: str) -> list[RawFeature]:
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
        parts = [RawFeature(name=part) for part in split_list(rest)]
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
