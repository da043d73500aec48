"""`report.json`, `comparison.json` and `editors.json`: what pages show without their pictures, for other programs.

Each file is one of the documents below, and its JSON Schema is the document's (`load_schema`). A field may be added
under the same version; a field that changes its meaning or goes away raises it. Reports of earlier days are brought to
what is written now as they are read (`report_from_json`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from diffex_dagster.report.rows import PairRow, comparison_rows, pair_rows
from diffex_dagster.report.verdict import agreement_sentences, comparison_verdict, verdict
from diffex_dagster.results import Comparison, EditorComparison, Example, Report
from diffex_dagster.utils.columns import Number, Says, as_row, finite, flattened, nested, row_fields
from diffex_dagster.utils.mistakes import first_fault

REPORT_SCHEMA = "diffex.report/1"


@dataclass(frozen=True, kw_only=True)
class ReportDocument(Report):
    """The explanation of one classifier version in one study: everything on the report page but the pictures.

    A number that could not be computed is null.
    """

    schema: Literal["diffex.report/1"] = "diffex.report/1"
    verdict: Annotated[tuple[str, ...], Says("three sentences")]
    interactions: Annotated[
        tuple[PairRow, ...],
        Says(
            "what the strongest features do in pairs beyond adding up; absent or empty where none were edited together"
        ),
    ] = ()


@dataclass(frozen=True)
class ComparedImage:
    """One image under the first and the last version."""

    image: Annotated[str, Says("key of the sample image")]
    file: Annotated[str, Says("name of the file that it was read from")]
    effects: Annotated[dict[str, Number], Says("effect under the first and the last version")]
    scores_null: Annotated[dict[str, Number], Says("target measure of the null edit")]
    scores_edit: Annotated[dict[str, Number], Says("target measure of the edit")]


@dataclass(frozen=True, kw_only=True)
class ComparisonDocument(Comparison):
    """Two or more classifier versions on the same images, corpus and edits.

    A number that could not be computed is null.
    """

    schema: Literal["diffex.comparison/1"] = "diffex.comparison/1"
    verdict: Annotated[tuple[str, ...], Says("three sentences")]
    examples: Annotated[
        dict[str, tuple[ComparedImage, ...]],
        Says("feature -> the images that explain the change, those that differ most first"),
    ]


@dataclass(frozen=True, kw_only=True)
class EditorsDocument(EditorComparison):
    """One classifier's reports under two editors of a study. A number that could not be computed is null."""

    schema: Literal["diffex.editors/1"] = "diffex.editors/1"
    verdict: Annotated[tuple[str, ...], Says("what it says, in sentences")]


DOCUMENTS: Mapping[str, type] = {
    "report-1": ReportDocument,
    "comparison-1": ComparisonDocument,
    "editors-1": EditorsDocument,
}
"""The name of a schema -> what is written by it."""


class _Schema(GenerateJsonSchema):
    """Without a title for each field, which would repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


@functools.cache
def _adapter(document: type) -> TypeAdapter[Any]:
    return TypeAdapter(document)


def load_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of `report-1`, `comparison-1` or `editors-1`."""
    document = DOCUMENTS[name]
    schema = _adapter(document).json_schema(mode="serialization", schema_generator=_Schema)
    shape: dict[str, Any] = {}
    for field, of in nested(document, schema["properties"]).items():
        inside = field not in schema["properties"] or of is not schema["properties"][field]
        shape[field] = {"type": "object", "properties": of, "required": list(of)} if inside else of
    needed = [field for field in shape if field in ("schema", *schema["required"])]
    head = {"$schema": GenerateJsonSchema.schema_dialect}
    return head | schema | {"title": shape["schema"]["const"], "properties": shape, "required": needed}


def report_as_json(explanation: Report) -> dict[str, Any]:
    """An explanation as plain JSON data (schema `report-1`): everything but the pictures. No number is NaN."""
    pairs = tuple(pair_rows(explanation))
    return _as_json(ReportDocument(**vars(explanation) | {"interactions": pairs}, verdict=tuple(verdict(explanation))))


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON data (schema `comparison-1`). No number is NaN."""
    names = comparison.classifiers
    examples = {f.feature: tuple(_compared(pair, names) for pair in f.examples) for f in comparison.features}
    said = tuple(comparison_verdict(comparison))
    document = ComparisonDocument(**vars(comparison), verdict=said, examples=examples)
    return _as_json(document) | {"features": comparison_rows(comparison)}


def editors_as_json(found: EditorComparison) -> dict[str, Any]:
    """Two editors' reports as plain JSON data (schema `editors-1`). No number is NaN."""
    document = EditorsDocument(**vars(found), verdict=tuple(agreement_sentences(found)))
    return _as_json(document) | {"features": [as_row(feature, found.editors) for feature in found.features]}


def report_from_json(data: Mapping[str, Any]) -> Report:
    """The explanation in a `report.json`, without its examples (their pictures are not in it).

    A report of earlier days is read too; its last caveat says what it lacks.

    Raises:
        ValueError: the data is not of this schema version, or no report; names the field.
    """
    if data.get("schema") != REPORT_SCHEMA:
        raise ValueError(f"expected schema {REPORT_SCHEMA!r}, found {data.get('schema')!r}")
    told = flattened(Report, _brought_up(data))
    missing = list(_lacks(Report, told))
    of_controls = _less_control_edits(told.get("examples"))
    told["examples"] = {}
    if of_controls:
        told["caveats"] = [*told.get("caveats", ()), OF_CONTROLS]
    if missing:
        note = f"This report was made by an earlier version, which did not say: {', '.join(missing)}."
        told["caveats"] = [*told.get("caveats", ()), note]
    try:
        explanation: Report = _adapter(Report).validate_python(told)
    except ValidationError as error:
        raise ValueError(f"{REPORT_SCHEMA}: {first_fault(error)}") from None
    return explanation


OF_CONTROLS = (
    "This report was made by an earlier version: its effects are less those of the control prompts, and not against "
    "the null edits."
)


def _less_control_edits(examples: Any) -> bool:
    """Whether the effects of a report's examples are differences to the control edits."""
    every = [each for of in examples.values() for each in of] if isinstance(examples, Mapping) else []
    numbers = ([each.get(name) for name in ("effect", "score_edit", "score_null")] for each in every)
    return any(abs(d - (edit - null)) > 1e-9 for d, edit, null in numbers if None not in (d, edit, null))


def _brought_up(data: Mapping[str, Any]) -> dict[str, Any]:
    """A report of earlier days as it would be written now, as far as it says it."""
    told = dict(data)
    if "looks" in told:  # what attributions were called
        told.setdefault("attributions", told.pop("looks"))
    if "bounded" not in told:  # the unit was in the words alone
        told |= _unit_in(str(told.get("target", "")))
    if told.get("joint"):
        told["joint"] = {**told["joint"], "examples": []}
    if "interactions" in told:
        told["interactions"] = [_with_ends(pair) for pair in told["interactions"]]
    return told


_UNIT = re.compile(r" \(([^()\"]{1,24})\)$")


def _unit_in(target: str) -> dict[str, Any]:
    """What the words of a target say of its measure, as reports said it before they had `unit` and `bounded`."""
    bounded = target.strip().lower().startswith("probability of ")
    found = None if bounded else _UNIT.search(target)
    return {"unit": found[1] if found else "", "bounded": bounded}


def _with_ends(pair: Mapping[str, Any]) -> dict[str, Any]:
    """A pair with the ends of its interval that JSON has no number for: where something is there, null is infinite."""
    ends = {"beyond_low": -math.inf, "beyond_high": math.inf} if pair.get("beyond") is not None else {}
    return {**pair, **{end: infinite for end, infinite in ends.items() if pair.get(end) is None}}


def _lacks(row: type, data: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """The fields of a row that the data does not have; of rows within it, those of the first: `features.effect`."""
    for field in row_fields(row):
        if field.name not in data:
            yield within + field.name
        elif field.row and field.row is not Example and (rows := data[field.name]):
            yield from _lacks(field.row, rows[0] if isinstance(rows, list) else rows, f"{within}{field.name}.")


def _as_json(document: Any) -> dict[str, Any]:
    of: type = document.__class__
    data = _adapter(of).dump_python(document, by_alias=True, warnings=False)
    data["created"] = document.created.isoformat()
    plain: dict[str, Any] = finite(nested(of, data))
    return {"schema": plain.pop("schema"), **plain}


def _compared(pair: tuple[Example, Example], names: tuple[str, ...]) -> ComparedImage:
    both = dict(zip((names[0], names[-1]), pair, strict=True))
    return ComparedImage(
        image=pair[0].image,
        file=pair[0].file,
        effects={name: x.effect for name, x in both.items()},
        scores_null={name: x.score_null for name, x in both.items()},
        scores_edit={name: x.score_edit for name, x in both.items()},
    )
