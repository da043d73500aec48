"""One definition of a row: a dataclass whose fields say what they are and how they stand in a table.

A field's type, what it means (`Says`) and its place in tables (`Column`) are written once, at the field. From them
follow the row as JSON data, its JSON Schema (pydantic's, of the dataclass), its columns in CSV, Parquet and SQL, and
the columns that the Dagster UI lists. A new column is one field.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema
from pydantic.fields import FieldInfo

Kind = Literal["int", "float", "string", "bool"]
"""What a column holds, in Dagster's words for the types of a table."""
SQL_TYPES: Mapping[Kind, str] = {"int": "INTEGER", "float": "DOUBLE", "string": "VARCHAR", "bool": "BOOLEAN"}
_KINDS: Mapping[Any, Kind] = {int: "int", float: "float", str: "string", bool: "bool"}
_NUMBER = {"type": ["number", "null"]}

Number = Annotated[
    float, BeforeValidator(lambda value: math.nan if value is None else value), WithJsonSchema(_NUMBER, "serialization")
]
"""A number that may be none: NaN here, null in JSON, which has no NaN and no infinity."""
Maybe = Annotated[float | None, WithJsonSchema(_NUMBER, "serialization")]
"""A number that is not always there: None here, null in JSON."""


def Says(text: str, alias: str | None = None, **schema: Any) -> Any:
    """What a field means, for the JSON Schema.

    Args:
        text: a clause.
        alias: what JSON calls the field, where that is not its name.
        schema: further keywords of the Schema: minimum=0.
    """
    return Field(description=text, serialization_alias=alias, json_schema_extra=schema or None)


Inner: Any = Field(exclude=True)
"""A field that stays in this program: in no JSON and no table."""


@dataclass(frozen=True)
class Column:
    """How a field stands in a table, where it is not one column under its own name.

    Attributes:
        heading: what its column is called; of several, what each begins with. "" is no column.
        listed: the Dagster UI lists it: a table there has room for the columns that a reader looks for first.
        each: the field holds one value (or row) for each of several names, as a classifier version is one. In JSON
            they are an object by name; in a table a column each, "effect v1", "effect v2".
        spread: the columns of a tuple's values.
        names: of a row within a row: this field is what the outer row's column of it holds.
    """

    heading: str | None = None
    listed: bool = False
    each: bool = False
    spread: tuple[str, ...] = ()
    names: bool = False

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        """Values by name are an object; anything else is what its type says."""
        schema = handler(core)
        if not self.each:
            return schema
        return {"type": "object", "additionalProperties": schema.get("items") or schema["prefixItems"][0]}


@dataclass(frozen=True)
class Within:
    """A field that JSON has inside an object: `Within("editor", "name")` is editor.name."""

    outer: str
    inner: str


@dataclass(frozen=True)
class RowField:
    """A field of a row: its name, what one value of it is, and how it stands in a table."""

    name: str
    kind: Kind | None  # None of a row within the row
    row: type | None  # its class, where it is one
    column: Column


@functools.cache
def row_fields(row: type) -> tuple[RowField, ...]:
    """The fields of a dataclass that leave this program, in their order."""
    hints = typing.get_type_hints(row, include_extras=True)
    found = []
    for field in fields(row):
        extras = list(_extras(hints[field.name]))
        if any(isinstance(extra, FieldInfo) and extra.exclude for extra in extras):
            continue
        column = next((extra for extra in extras if isinstance(extra, Column)), Column())
        held = _held(hints[field.name])
        inner = held if isinstance(held, type) and is_dataclass(held) else None
        found.append(RowField(field.name, None if inner else _KINDS.get(held, "string"), inner, column))
    return tuple(found)


def columns(row: type, each: Sequence[str] = (), listed: bool = False) -> dict[str, Kind]:
    """The columns of a table of such rows, in order: heading -> what it holds.

    Args:
        row: a dataclass.
        each: the names that its fields of several values have values for.
        listed: only the columns that the Dagster UI lists.
    """
    return {
        heading: kind
        for field in row_fields(row)
        for heading, kind in _headings(field, each)
        if field.column.listed or not listed
    }


def as_row(value: Any, each: Sequence[str] = ()) -> dict[str, Any]:
    """A row as plain JSON data: nested where it has rows within, values of several names by name. Nothing is NaN."""
    of: type = value.__class__
    data = _adapter(of).dump_python(value, by_alias=True, warnings=False)
    for field in row_fields(of):
        if field.column.each:
            data[field.name] = dict(zip(each, data[field.name], strict=False))
    plain: dict[str, Any] = finite(data)
    return plain


def as_flat_row(value: Any, each: Sequence[str] = ()) -> dict[str, Any]:
    """A row as `columns` has it: heading -> value, None where there is none. Nothing is NaN."""
    of: type = value.__class__
    row, headings = as_row(value, each), columns(of, each)
    flat: dict[str, Any] = dict.fromkeys(headings)
    for field in row_fields(of):
        content = row[field.name]
        if field.column.each:
            for name in each:
                flat |= _flat_part(field, content.get(name), f" {name}")
        elif field.column.spread:
            flat |= dict(zip(field.column.spread, content, strict=True))
        else:
            flat |= _flat_part(field, content, "")
    return {heading: flat[heading] for heading in headings}


def nested(row: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> value of a dataclass's fields with those that belong `Within` an object inside it, in their order.

    Also of the properties of its JSON Schema.
    """
    places, whole = _places(row), dict[str, Any]()
    for name, value in data.items():
        if name in places:
            whole.setdefault(places[name].outer, {})[places[name].inner] = value
        else:
            whole[name] = value
    return whole


def flattened(row: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """What `nested` was made of; what is not in the data is not in the result."""
    places = _places(row)
    outer = {place.outer for place in places.values()}
    objects = {name: data.get(name) or {} for name in outer}
    found = {name: objects[at.outer][at.inner] for name, at in places.items() if at.inner in objects[at.outer]}
    return {name: value for name, value in data.items() if name not in outer} | found


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null, at any depth. numpy scalars become Python's."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if not isinstance(value, str | bool | int | float | None) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _headings(field: RowField, each: Sequence[str]) -> Iterator[tuple[str, Kind]]:
    column = field.column
    if column.heading == "":
        return
    if column.spread:
        yield from dict.fromkeys(column.spread, field.kind or "string").items()
        return
    for ending in [f" {name}" for name in each] if column.each else [""]:
        if field.row is None:
            yield (column.heading or field.name) + ending, field.kind or "string"
        for inner in row_fields(field.row) if field.row else ():
            if inner.column.heading != "":
                yield _inner_heading(field, inner) + ending, inner.kind or "string"


def _flat_part(field: RowField, content: Any, ending: str) -> dict[str, Any]:
    """One value, or one row within a row, under its headings."""
    if field.row is None:
        return {(field.column.heading or field.name) + ending: content}
    return {
        _inner_heading(field, inner) + ending: content and content[inner.name]
        for inner in row_fields(field.row)
        if inner.column.heading != ""
    }


def _inner_heading(field: RowField, inner: RowField) -> str:
    return field.name if inner.column.names else (inner.column.heading or inner.name)


@functools.cache
def _places(row: type) -> dict[str, Within]:
    hints = typing.get_type_hints(row, include_extras=True)
    return {name: extra for name, hint in hints.items() for extra in _extras(hint) if isinstance(extra, Within)}


@functools.cache
def _adapter(row: type) -> TypeAdapter[Any]:
    return TypeAdapter(row)


def _extras(annotation: Any) -> Iterator[Any]:
    """What stands beside the type of a field."""
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        yield from _extras(inner)
        yield from extras


def _held(annotation: Any) -> Any:
    """The type of one value of a field: without None, and what a tuple holds."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _held(arguments[0])
    if origin in (Union, types.UnionType):
        return _held(next(each for each in arguments if each is not type(None)))
    if origin is tuple:
        return _held(arguments[0])
    return annotation
