"""The sample images that a study names, whatever kind of source it has (`images.sources.kinds`).

What every source shares: which columns and labels are asked for, that no two entries have one name, and that what is
left out is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diffex_dagster.errors import StudyError
from diffex_dagster.images.section import Images
from diffex_dagster.images.sources.columns import column_of
from diffex_dagster.images.sources.parts import Entry, Found, Where, few


def find_images(images: Images, file: Path, columns: Sequence[str] = ()) -> Found:
    """Every image that a study's `images` names, in name order (lists and tables in their own), none opened yet.

    Args:
        images: the section of the study.
        file: the study file: paths start from its folder, and messages name it.
        columns: of the images' table, that the study names (`effects.subgroups`).

    Raises:
        StudyError: what the field names is missing or holds no image; the message names the field and the remedy.
    """
    found = images.kind.find(images, Where(file, file.parent))
    found.entries = [_with_columns(entry, columns, file) for entry in found.entries]
    if images.labels:
        known = sorted({entry.label for entry in found.entries if entry.label is not None})
        missing = [label for label in images.labels if label not in known]
        if missing:
            raise StudyError(
                f"{file}: images.labels: no image has the label {missing[0]!r}; "
                + (f"the labels are {', '.join(known[:20])}" if known else "only tables and datasets have labels")
            )
        found.entries = [entry for entry in found.entries if entry.label in images.labels]
    found.entries = _named_apart(found)
    return found


def _with_columns(entry: Entry, columns: Sequence[str], file: Path) -> Entry:
    """An entry with these columns, and no others.

    Raises:
        StudyError: there is no such column.
    """
    found = {}
    for wanted in columns:
        if (column := column_of(list(entry.columns), wanted, ())) is not None:
            found[wanted] = entry.columns[column]
        elif wanted == "label":
            found[wanted] = entry.label
        else:
            raise StudyError(
                f"{file}: effects.subgroups: there is no column {wanted!r}; the columns are "
                f"{', '.join(entry.columns) or 'none'}"
            )
    return replace(entry, columns=found)


def _named_apart(found: Found) -> list[Entry]:
    """The entries, no two of one name: what names a file again is left out and counted, what only shares a name with
    another picture gets its origin added.
    """
    kept: dict[str, Entry] = {}
    for entry in found.entries:
        known = kept.get(entry.name)
        if known is not None and isinstance(entry.content, Path) and entry.content == known.content:
            reason = "named again" if entry.label == known.label else "named again with another label"
            found.leave_out(reason, f"{entry.name} ({known.label}, {entry.label})" if entry.label else entry.name)
            continue
        name, turn = entry.name, 1
        while name in kept:
            name = f"{entry.name} ({entry.origin})" if turn == 1 and entry.origin else f"{entry.name} ({turn + 1})"
            turn += 1
        kept[name] = replace(entry, name=name)
    return list(kept.values())


def left_out_in_words(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """What a source left out, a phrase a reason: "6 hidden (._a.jpg, ._b.jpg, …)", "1 other file (.json 1)"."""
    others = Counter({reason: len(names) for reason, names in left_out.items() if _is_ending(reason)})
    said = [f"{len(names)} {reason} ({few(names)})" for reason, names in left_out.items() if not _is_ending(reason)]
    if others:
        kinds = few([f"{ending} {count}" for ending, count in others.most_common()], 5)
        said.append(f"{others.total()} other file{'s' if others.total() > 1 else ''} ({kinds})")
    return said


def _is_ending(reason: str) -> bool:
    return reason.startswith(".") or reason == "no ending"
