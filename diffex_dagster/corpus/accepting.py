"""Writing features into a person's corpus file: what the person wrote, comments and all, stays as it is."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from diffex_dagster.corpus.overrides_file import overrides_from_text
from diffex_dagster.corpus.tree import slug
from diffex_dagster.corpus.wording import tidy
from diffex_dagster.errors import CorpusError
from diffex_dagster.utils.text import load_yaml

_WIDTH = 110  # of a comment


@dataclass(frozen=True)
class Accepted:
    """One feature for the file: its entry under `add:`, and what a comment above it says."""

    entry: Mapping[str, Any]
    comment: str = ""


def with_additions(text: str, accepted: Sequence[Accepted], path: str) -> str:
    """The text of a corpus file with more entries; every line that was there is still there, in its order.

    What the file says afterwards is what it said before and the entries, or the text is not given.

    Args:
        text: what the file holds; "" where there is none yet.
        accepted: the entries. In a file with a whole `tree` they become part of it.
        path: what errors call the file.

    Raises:
        CorpusError: the file cannot be read, or has a form that lines cannot be added to, or an entry is its twin.
    """
    overrides_from_text(text, path)
    for each in accepted:
        text = _with(text, each, path)
    overrides_from_text(text, path)
    return text


def _with(text: str, accepted: Accepted, path: str) -> str:
    """The text with one more entry, in the first place where it adds that entry and changes nothing else."""
    wanted = _said_with(load_yaml(text), accepted.entry, path)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    for after in map("".join, _places(text, lines, accepted, path)):
        if _said(after) == wanted:
            return after
    raise CorpusError(f"{path}: its form is one that no entry can be added to; add {accepted.entry['name']!r} by hand")


def _said(text: str) -> Any:
    try:
        return load_yaml(text)
    except Exception:  # ruamel's, of any kind
        return None


def _said_with(said: Any, entry: Mapping[str, Any], path: str) -> dict[str, Any]:
    """What the file has to say with one more entry: it goes to the end of `add`, or into the tree."""
    said = said or {}
    if said.get("tree") is None:
        return {**said, "add": [*(said.get("add") or []), dict(entry)]}
    of = said["tree"]
    for part in _parts(entry):
        of = of[_place(of, part, entry, path)]["children"]
    of.append(_ungrouped(entry))
    return dict(said)


def _places(text: str, lines: list[str], accepted: Accepted, path: str) -> Iterator[list[str]]:
    """The lines with one more entry, in each place where it may belong; the likeliest first."""
    document = load_yaml(text, with_lines=True)
    known = document if isinstance(document, CommentedMap) else CommentedMap()
    # `...` closes a document: nothing can stand behind it
    close = next((i for i, line in enumerate(lines) if line.rstrip() == "..."), len(lines))
    if known.get("tree") is not None:
        of, end = known["tree"], _end(known, "tree", close)
        for part in _parts(accepted.entry):
            at = _place(of, part, accepted.entry, path)
            end = of.lc.item(at + 1)[0] if at + 1 < len(of) else end
            of, end = of[at]["children"], _end(of[at], "children", end)
        yield from _behind(lines, of, end, Accepted(_ungrouped(accepted.entry), accepted.comment), path)
    elif "add" not in known:
        gap = ["\n"] if close and lines[close - 1].strip() else []
        yield [*lines[:close], *gap, "add:\n", *_written(accepted, 2), *lines[close:]]
    elif known["add"] is None:
        at = int(known.lc.key("add")[0]) + 1
        yield [*lines[:at], *_written(accepted, 2), *lines[at:]]
    else:
        yield from _behind(lines, known["add"], _end(known, "add", close), accepted, path)


def _behind(lines: list[str], of: Any, end: int, accepted: Accepted, path: str) -> Iterator[list[str]]:
    """The lines with an entry behind the last one of a list, which ends before line `end`.

    What looks like comments behind the last entry stays behind the new one, but may be the end of a text.
    """
    if not isinstance(of, CommentedSeq) or of.fa.flow_style() or not len(of):
        raise CorpusError(
            f"{path}: entries can be added to a list with one entry a line (`- name: …`); write it so, or add "
            f"{accepted.entry['name']!r} by hand"
        )
    new, start = _written(accepted, of.lc.col), int(of.lc.item(len(of) - 1)[0])
    last = max((i for i in range(start, end) if lines[i].strip() and not _is_comment(lines[i])), default=start)
    for at in range(last + 1, max(end, last + 1) + 1):
        yield [*lines[:at], *new, *lines[at:]]


def _end(document: CommentedMap, key: str, end: int) -> int:
    """The line behind all that belongs to a key of a map that ends before line `end`."""
    starts = [int(document.lc.key(k)[0]) for k in document]
    return min([end, *(start for start in starts if start > int(document.lc.key(key)[0]))])


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _parts(entry: Mapping[str, Any]) -> list[str]:
    return [part for part in str(entry.get("group", "")).split("/") if part]


def _ungrouped(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "group"}


def _place(of: Sequence[Any], part: str, entry: Mapping[str, Any], path: str) -> int:
    """Where the feature is among its siblings of a hand-written tree that an entry goes under."""
    for i, node in enumerate(of):
        if slug(tidy(_name(node))) == part and isinstance(node, Mapping) and node.get("children"):
            return i
    raise CorpusError(
        f"{path}: {entry['name']!r} goes under {entry['group']!r}, which has no list of `children` in the tree; "
        "add it by hand"
    )


def _name(node: Any) -> str:
    return str(node.get("name", "")) if isinstance(node, Mapping) else str(node)


def _written(accepted: Accepted, indent: int) -> list[str]:
    """An entry as lines of a list whose dashes stand at `indent`, below its comment."""
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    found, pad, stream = [], " " * indent, io.StringIO()
    yaml.dump(dict(accepted.entry), stream)
    if said := tidy(accepted.comment):
        found.append(f"{pad}# {said if len(said) <= _WIDTH else said[: _WIDTH - 1] + '…'}\n")
    body = stream.getvalue().splitlines(keepends=True)
    return [*found, *(f"{pad}{'- ' if i == 0 else '  '}{line}" for i, line in enumerate(body))]
