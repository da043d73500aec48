"""Class names in every form that people keep them in, each read by its numbers where it has some, or refused."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAMLError

from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.text import load_yaml, read_bytes

_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_NESTED = ("id2label", "labels", "label_names", "names", "classes", "class_names", "categories", "label2id",
           "class_to_idx")  # fmt: skip
_HEADINGS = {"label", "labels", "name", "names", "class", "classes", "class_name", "category"}
_NUMBERED = re.compile(r"(\d+)\s*[\s:,;=)\t]\s*(\S.*)")  # "0 cold", "0: cold", "0,cold"
_NUMBER_LAST = re.compile(r"(.*\S)\s*[\s:,;=\t]\s*(\d+)")  # "cold 0", "cold,0"


def read_labels(labels: Sequence[str] | Path) -> tuple[str, ...]:
    """Class names as they stand, or from a file.

    A text file has one a line, in order or with its number before or after it; a JSON or YAML file a list, or a mapping
    from numbers to names or from names to numbers; a CSV or TSV file a column of names, with their numbers or without.

    Raises:
        ClassifierError: the file cannot be read, or it does not say which name belongs to which output.
    """
    if not isinstance(labels, Path):
        return tuple(labels)
    text = read_text(labels, "labels", "write one class name a line, or a JSON list")
    kind = labels.suffix.lower()
    if kind in (".json", ".yaml", ".yml"):
        try:
            content = json.loads(text) if kind == ".json" else load_yaml(text)
        except (ValueError, YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ClassifierError(
                f"{labels}: labels: the file cannot be read ({reason}); write one class name a line, or a JSON list"
            ) from error
        names = names_of(content, f"{labels}: labels")
    elif kind in (".csv", ".tsv"):
        names = _of_table(text, "\t" if kind == ".tsv" else ",", f"{labels}: labels")
    else:
        names = _of_lines([line.strip() for line in text.splitlines() if line.strip()], f"{labels}: labels")
    if not names:
        raise ClassifierError(f"{labels}: labels: the file names no class; write one a line, in the outputs' order")
    return names


def read_text(file: Path, what: str, remedy: str) -> str:
    """A text file of any system: UTF-8 with or without a mark, or UTF-16 with one.

    Raises:
        ClassifierError: it cannot be read, or is in another encoding.
    """
    try:
        content = read_bytes(file)
        encoding = next((name for mark, name in _BOMS.items() if content.startswith(mark)), "utf-8")
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ClassifierError(
            f"{file}: {what}: the file cannot be read (it is neither UTF-8 nor UTF-16: {error.reason} at byte "
            f"{error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise ClassifierError(f"{file}: {what}: the file cannot be read ({error}); {remedy}") from error


def names_of(content: Any, where: str) -> tuple[str, ...]:
    """Class names from what a JSON or YAML file holds.

    Args:
        content: a list of names (or of records with a name, and an id); a mapping from numbers to names or the other
            way round; or a mapping that holds one of these under `id2label`, `labels`, `names`, `classes` and the like.
        where: file and field, for messages.

    Raises:
        ClassifierError: it is none of these, or numbers are missing or used twice.
    """
    if isinstance(content, Mapping):
        numbered = _numbered(content, where)
        if numbered is not None:
            return in_order(numbered, where)
        for key in _NESTED:
            if isinstance(content.get(key), Mapping | list):
                return names_of(content[key], where)
    elif isinstance(content, list | tuple) and content:
        if all(isinstance(each, Mapping) for each in content):
            return _of_records(content, where)
        return tuple(_name(each, where) for each in content)
    raise ClassifierError(
        f"{where}: {_short(content)} does not say which class is which output; write a list of names in the outputs' "
        "order, or a mapping from numbers (0, 1, …) to names"
    )


def in_order(numbered: Mapping[int, str], where: str) -> tuple[str, ...]:
    """Names by number -> names in order.

    Raises:
        ClassifierError: the numbers are not 0, 1, 2, … without a gap.
    """
    missing = [number for number in range(len(numbered)) if number not in numbered]
    if missing:
        starts = min(numbered)
        more = f" (they start at {starts})" if starts else ""
        raise ClassifierError(
            f"{where}: there are {len(numbered)} classes and none has the number {missing[0]}{more}; the outputs are "
            f"numbered 0 to {len(numbered) - 1}: add the missing class, or correct the numbers"
        )
    return tuple(numbered[number] for number in range(len(numbered)))


def _numbered(content: Mapping[Any, Any], where: str) -> dict[int, str] | None:
    """A mapping between numbers and names, either way round, as number -> name; None where it is none."""
    keys, values = [_whole(key) for key in content], [_whole(value) for value in content.values()]
    numbers_first, numbers_last = None not in keys, None not in values
    if not content or not (numbers_first or numbers_last):
        return None
    if numbers_first and numbers_last:
        if list(keys) == list(values):
            return {key: str(value) for key, value in zip(keys, content.values(), strict=True) if key is not None}
        raise ClassifierError(
            f"{where}: it maps numbers to numbers, and which of them are the classes' names cannot be told; write a "
            "list of names in the outputs' order"
        )
    pairs = zip(keys, content.values(), strict=True) if numbers_first else zip(values, content, strict=True)
    found: dict[int, str] = {}
    for number, name in pairs:
        assert number is not None
        if number in found:
            raise ClassifierError(f"{where}: the number {number} belongs to two classes; give each its own")
        found[number] = _name(name, where)
    return found


def _of_records(records: Sequence[Mapping[str, Any]], where: str) -> tuple[str, ...]:
    """[{"id": 0, "name": "cold"}, …] -> names, by their ids where they have some."""
    name = next((key for key in ("name", "label", "class") if all(key in each for each in records)), None)
    if name is None:
        raise ClassifierError(f"{where}: its entries have no 'name'; write a list of names in the outputs' order")
    number = next((key for key in ("id", "index", "idx", "number") if all(key in each for each in records)), None)
    if number is None:
        return tuple(_name(each[name], where) for each in records)
    return in_order(_numbered({_name(each[name], where): each[number] for each in records}, where) or {}, where)


def _of_lines(lines: Sequence[str], where: str) -> tuple[str, ...]:
    if any(line.endswith("{") or line in ("}", "},", "]") for line in lines):
        raise ClassifierError(
            f"{where}: {_short(lines[0])} is no class name (the file is written in a format of its own); write one "
            "name a line"
        )
    for form, number, name in ((_NUMBERED, 1, 2), (_NUMBER_LAST, 2, 1)):
        matches = [form.fullmatch(line) for line in lines]
        found = [(int(match[number]), match[name].strip()) for match in matches if match]
        if not lines or len(found) < len(lines) or len({each for _, each in found}) < len(lines):
            continue
        numbers = sorted(each for each, _ in found)
        if numbers == list(range(len(lines))):
            return in_order(dict(found), where)
        if numbers == list(range(1, len(lines) + 1)) and form is _NUMBERED and len(lines) > 1:
            raise ClassifierError(
                f"{where}: the lines are numbered from 1, and outputs from 0: number them from 0, or leave the "
                "numbers out"
            )
    return tuple(lines)


def _of_table(text: str, separator: str, where: str) -> tuple[str, ...]:
    """A column of names, with a column of numbers or without, under a heading or not."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator)]
    rows = [row for row in rows if any(row)]
    if not rows:
        return ()
    if all(len(row) == 1 for row in rows):
        lines = [row[0] for row in rows]
        return _of_lines(lines[1:] if lines[0].lower() in _HEADINGS else lines, where)
    heading = rows[0] if not any(_whole(cell) is not None for cell in rows[0]) else None
    body = rows[1:] if heading else rows
    if not body or any(len(row) != 2 for row in body):
        raise ClassifierError(f"{where}: write a column of names, or one of numbers and one of names")
    columns = list(zip(*body, strict=True))
    whole = [all(_whole(cell) is not None for cell in column) for column in columns]
    if sum(whole) != 1:
        raise ClassifierError(f"{where}: one of the two columns must hold the outputs' numbers (0, 1, …)")
    numbers, names = (columns[0], columns[1]) if whole[0] else (columns[1], columns[0])
    by_number = {int(number): name for number, name in zip(numbers, names, strict=True)}
    if len(by_number) < len(body):
        raise ClassifierError(f"{where}: a number belongs to two classes; give each its own")
    return in_order(by_number, where)


def _name(value: Any, where: str) -> str:
    """A class name; ["n01440764", "tench"], as Keras writes ImageNet's, is called tench."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) for part in value):
        value = value[-1]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ClassifierError(f"{where}: {_short(value)} is no class name; write it in quotes")
    name = str(value).strip()
    if not name:
        raise ClassifierError(f"{where}: a class has no name; give it one")
    return name


def _whole(value: Any) -> int | None:
    """A number of an output: 3 or "3"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d+", value.strip()) else None


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
