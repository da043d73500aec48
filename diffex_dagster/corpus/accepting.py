"""Writing features into a person's corpus file: what the person wrote, comments and all, stays as it is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
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

    Args:
        text: what the file holds; "" where there is none yet.
        accepted: the entries. In a file with a whole `tree` they become part of it.
        path: what errors call the file.

    Raises:
        CorpusError: the file cannot be read, or has a form that lines cannot be added to.
    """
    before = overrides_from_text(text, path)
    document = load_yaml(text, with_lines=True)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if before.tree is not None:
        for each in accepted:
            lines = _into_tree("".join(lines), each, path)
    else:
        known = document if isinstance(document, CommentedMap) else CommentedMap()
        lines = _under(lines, known, "add", [(each.entry, each.comment) for each in accepted], path)
    after = "".join(lines)
    found = overrides_from_text(after, path)
    if found.count != before.count + (len(accepted) if before.tree is None else 0):
        raise CorpusError(f"{path}: its form is one that no entry can be added to; add {_names(accepted)} by hand")
    return after


def _names(accepted: Sequence[Accepted]) -> str:
    return ", ".join(repr(each.entry["name"]) for each in accepted)


def _under(
    lines: list[str], document: CommentedMap, key: str, entries: Sequence[tuple[Mapping[str, Any], str]], path: str
) -> list[str]:
    """Entries behind the last one of a list at the top of the file; the list is made where there is none."""
    if key not in document:
        gap = ["\n"] if lines and lines[-1].strip() else []
        return [*lines, *gap, f"{key}:\n", *_written(entries, 2)]
    of = document[key]
    at = int(document.lc.key(key)[0])
    if of is None:
        return [*lines[: at + 1], *_written(entries, 2), *lines[at + 1 :]]
    return _behind(lines, of, _end(lines, document, key), entries, path)


def _behind(
    lines: list[str], of: Any, end: int, entries: Sequence[tuple[Mapping[str, Any], str]], path: str
) -> list[str]:
    if not isinstance(of, CommentedSeq) or of.fa.flow_style() or not len(of):
        raise CorpusError(
            f"{path}: entries can be added to a list with one entry a line (`- name: …`); write it so, or add "
            f"{', '.join(repr(entry['name']) for entry, _ in entries)} by hand"
        )
    dash = lines[of.lc.item(0)[0]].index("-")
    last = max(i for i in range(of.lc.item(len(of) - 1)[0], end) if lines[i].strip() and not _is_comment(lines[i]))
    return [*lines[: last + 1], *_written(entries, dash), *lines[last + 1 :]]


def _end(lines: Sequence[str], document: CommentedMap, key: str) -> int:
    """The line behind all that belongs to a key at the top of the file."""
    at = int(document.lc.key(key)[0])
    return min((int(document.lc.key(k)[0]) for k in document if int(document.lc.key(k)[0]) > at), default=len(lines))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _into_tree(text: str, accepted: Accepted, path: str) -> list[str]:
    """An entry as part of a hand-written tree: at its end, or among the children of the feature that it names."""
    document, lines = load_yaml(text, with_lines=True), text.splitlines(keepends=True)
    entry = {name: value for name, value in accepted.entry.items() if name != "group"}
    of, end = document["tree"], _end(lines, document, "tree")
    for part in str(accepted.entry.get("group", "")).split("/"):
        if not part:
            break
        places = [i for i, node in enumerate(of) if slug(tidy(_name(node))) == part]
        node = of[places[0]] if places else None
        if not isinstance(node, CommentedMap) or not node.get("children"):
            raise CorpusError(
                f"{path}: {accepted.entry['name']!r} goes under {accepted.entry['group']!r}, which has no list of "
                "`children` in the tree; add it by hand"
            )
        end = of.lc.item(places[0] + 1)[0] if places[0] + 1 < len(of) else end
        later = [int(node.lc.key(k)[0]) for k in node if int(node.lc.key(k)[0]) > int(node.lc.key("children")[0])]
        of, end = node["children"], min([end, *later])
    return _behind(lines, of, end, [(entry, accepted.comment)], path)


def _name(node: Any) -> str:
    return str(node.get("name", "")) if isinstance(node, Mapping) else str(node)


def _written(entries: Sequence[tuple[Mapping[str, Any], str]], indent: int) -> list[str]:
    """Entries as lines of a list whose dashes stand at `indent`, each below its comment."""
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    found, pad = [], " " * indent
    for entry, comment in entries:
        stream = io.StringIO()
        yaml.dump(dict(entry), stream)
        if said := tidy(comment):
            found.append(f"{pad}# {said if len(said) <= _WIDTH else said[: _WIDTH - 1] + '…'}\n")
        body = stream.getvalue().splitlines(keepends=True)
        found += [f"{pad}{'- ' if i == 0 else '  '}{line}" for i, line in enumerate(body)]
    return found
