"""What pydantic finds wrong in what a person wrote, as sentences: where it stands, what is wrong, and the remedy."""

from __future__ import annotations

import difflib
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from diffex_dagster.utils.text import load_yaml, read_text


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with one field.

    Attributes:
        field: its path in the file, `images.folder`; "" of the whole.
        what: what is wrong and what to do, a clause.
        line: where it stands, from 1; of what should hold it where it is missing; None where that is not known.
    """

    field: str
    what: str
    line: int | None = None

    def __str__(self) -> str:
        """`line 3: images.folder: what is wrong`."""
        where = (f"line {self.line}: " if self.line else "") + (f"{self.field}: " if self.field else "")
        return where + self.what


def faults(problems: Iterable[Mapping[str, Any]], model: type[BaseModel], document: Any = None) -> list[Fault]:
    """What is wrong, a fault for each problem, in the order in which pydantic finds them.

    Args:
        problems: `ValidationError.errors()`.
        model: what was validated.
        document: the YAML that it was read from, as `load_yaml(..., with_lines=True)` gives it.
    """
    problems = list(problems)
    followed = [_follow(problem["loc"], model) for problem in problems]
    places = [tuple(path) for path, *_ in followed]
    # Of a field that may be of several types there is a problem for each: the one that looked deepest says most.
    deepest = [
        (problem, where) for problem, where, place in zip(problems, followed, places, strict=True)
        if not any(len(other) > len(place) and other[: len(place)] == place for other in places)
    ]  # fmt: skip
    found = [
        Fault(".".join(path), _what(problem, path, at, options), line_of(path, document))
        for problem, (path, at, options) in deepest
    ]
    return list(dict.fromkeys(found))


def first_fault(error: ValidationError) -> Fault:
    """The first thing that is wrong with values that are in no file."""
    problem = error.errors(include_url=False)[0]
    path = [str(part) for part in problem["loc"]]
    return Fault(".".join(path), _what(problem, path, None, []))


def explain_mistakes(problems: Iterable[Mapping[str, Any]], model: type[BaseModel], file: Path) -> str:
    """One sentence a problem, the file first; see `faults`.

    Args:
        file: the YAML file; line numbers are given where it can be read.
    """
    return f"{file}: " + "; ".join(map(str, faults(problems, model, _load_with_lines(file))))


def place_in(file: Path, field: Sequence[str]) -> str:
    """Where a field stands: "line 3: images.folder: "; without the line where the file cannot be read."""
    return str(Fault(".".join(field), "", line_of(field, _load_with_lines(file))))


def closest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, whatever its case; None where none is near."""
    near = difflib.get_close_matches(word.lower(), [each.lower() for each in known], 1)
    return next((each for each in known if near and each.lower() == near[0]), None)


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word that was probably meant, as a remedy; the known words where none is near."""
    if near := closest(word, known):
        return f"did you mean {near!r}?"
    return f"use one of {', '.join(known)}, or remove it" if known else "remove it"


def line_of(path: Sequence[str | int], document: Any) -> int | None:
    """The line of a field, from 1; that of what should hold it where it is missing; None without lines."""
    found, node = None, document
    for key in path:
        try:
            if isinstance(node, list):
                found, node = node.lc.item(int(key))[0] + 1, node[int(key)]  # type: ignore[attr-defined]
            else:
                actual = next(each for each in node if str(each).strip() == str(key).strip())
                found, node = node.lc.key(actual)[0] + 1, node[actual]
        except (AttributeError, KeyError, IndexError, StopIteration, TypeError, ValueError):
            break
    return found


def _what(
    problem: Mapping[str, Any], path: Sequence[str], at: type[BaseModel] | None, options: Iterable[type[BaseModel]]
) -> str:
    match problem["type"]:
        case "missing":
            return "the field is missing; add it"
        case "extra_forbidden":
            known = sorted(at.model_fields) if at else []
            if new := getattr(at, "renamed", {}).get(path[-1]):
                return f"it is called {new!r} now; rename it"
            return f"there is no such field; {nearest(path[-1], known)}"
        case "union_tag_not_found":
            return f"'kind' is missing; say which kind it is ({', '.join(_kinds(options))})"
        case "union_tag_invalid":
            known = _kinds(options)
            tag = str(problem["ctx"]["tag"])
            return f"kind: there is no kind {tag!r}; {nearest(tag, known)} (the kinds are {', '.join(known)})"
        case "string_type" if not isinstance(problem.get("input"), list | dict | None):
            return f"put it in quotes, so that it is text (got {_short(problem.get('input'))})"
        case "string_pattern_mismatch":
            return f"{_pattern(problem['ctx']['pattern'])} (got {_short(problem.get('input'))})"
        case "model_type" | "model_attributes_type":
            return f"write its fields here, each with its value (got {_short(problem.get('input'))})"
        case "value_error" if isinstance(problem.get("input"), Mapping):  # fields that do not go together
            return str(problem["msg"].removeprefix("Value error, "))
        case _:
            return f"{problem['msg'].removeprefix('Value error, ')} (got {_short(problem.get('input'))})"


_PATTERNS = {
    r"^[A-Za-z0-9_]+$": "use only letters, digits and underscores: it becomes part of asset keys and folder names",
    r"^[\w.]+:[\w.]+$": "write module:attribute, the module installed or beside the study file",
    r"^https?://": "write an address that begins with http:// or https://",
    r"\{\}": "write a sentence with {} where the class goes",
}


def _pattern(pattern: str) -> str:
    return _PATTERNS.get(pattern, f"it must match the pattern {pattern}")


def _kinds(options: Iterable[type[BaseModel]]) -> list[str]:
    return [kind for option in options for kind in _tags(option)]


def _follow(
    loc: Sequence[Any], model: type[BaseModel]
) -> tuple[list[str], type[BaseModel] | None, list[type[BaseModel]]]:
    """A problem's place as it is in the file (without the kinds that pydantic adds), the model that holds the field,
    and the models that may stand there.
    """
    path: list[str] = []
    here: list[Any] = [model]
    holder: type[BaseModel] | None = model
    for part in loc:
        here = [each for annotation in here for each in _alternatives(annotation)]
        models = [each for each in here if isinstance(each, type) and issubclass(each, BaseModel)]
        if len(here) > 1 and (named := [each for each in models if each.__name__ == part]):
            here, holder = list(named), named[0]
            continue  # the class that pydantic tried: not a key of the file
        tagged = [each for each in models if part in _tags(each)]
        if isinstance(part, str) and len(here) > 1 and _BRANCH.match(part) and not _has_key(models, part):
            continue  # which of several types pydantic tried: not a key of the file either
        if tagged and not any(part in each.model_fields for each in models):
            here, holder = list(tagged), tagged[0]
            continue  # the kind of a union: not a key of the file
        path.append(str(part))
        fields = [each.model_fields[part].annotation for each in models if part in each.model_fields]
        if models:
            holder = models[0]
        if fields:
            here = fields
        elif part == "[key]" and path:
            path.pop()
        else:
            here = [get_args(each)[-1] for each in here if get_args(each)]
    there = [each for annotation in here for each in _alternatives(annotation)]
    return path, holder, [each for each in there if isinstance(each, type) and issubclass(each, BaseModel)]


_BRANCH = re.compile(r"(str|int|float|bool|none|path|date|tuple|list|dict|model|constrained-\w+)$|.*[\[(-].*[\])]$")


def _has_key(models: Iterable[type[BaseModel]], part: str) -> bool:
    return any(part in each.model_fields for each in models)


def _alternatives(annotation: Any) -> list[Any]:
    """The types that an annotation stands for: unions taken apart, `Annotated` taken off."""
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [each for option in get_args(annotation) for each in _alternatives(option)]
    return [annotation]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _load_with_lines(file: Path) -> Any:
    try:
        return load_yaml(read_text(file), with_lines=True) if file.is_file() else None
    except Exception:  # the sentence goes without a line
        return None


_BRIEF = reprlib.Repr()  # a value may be of any size
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 3, 60, 60


def _short(value: object) -> str:
    text = _BRIEF.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
