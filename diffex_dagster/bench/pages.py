"""Figures that a command measured, written into the documentation between two marks of a page."""

from __future__ import annotations

import re
from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Put a text between the marks `<!-- NAME begins -->` and `<!-- NAME ends -->` of a page.

    Args:
        page: a Markdown file.
        name: of the marks.
        text: Markdown that ends with a line break.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    whole = page.read_text("utf-8")
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not marked.search(whole):
        raise ValueError(f"{page} has no {begin} ... {end}: write them where the tables belong")
    page.write_text(marked.sub(lambda _: f"{begin}\n\n{text}\n{end}", whole), "utf-8")
