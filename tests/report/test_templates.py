"""Every template names only fields that exist and names that its page passes, also on lines that no test reaches."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from jinja2 import meta, nodes

import diffex_dagster.report
from diffex_dagster.effects.subgroups import SubgroupEffect
from diffex_dagster.report.applied_model import Applied
from diffex_dagster.report.applied_page import Sheet
from diffex_dagster.report.axis import Axis
from diffex_dagster.report.calibration_page import CalibrationPage
from diffex_dagster.report.comparison_page import ComparedRow
from diffex_dagster.report.gallery import Gallery
from diffex_dagster.report.html import _environment
from diffex_dagster.report.image_model import FlipSet, ImageFeature, ImageFinding
from diffex_dagster.report.matrix import Matrix
from diffex_dagster.report.page import Branch, Row
from diffex_dagster.report.preview_page import Preview
from diffex_dagster.results import Comparison, EditorComparison, Report
from tests.support.templates import unknown_fields

FOLDER = Path(diffex_dagster.report.__file__).parent
EVERY_PAGE = {"policy", "style", "script", "data", "native", "pictures", "sizes"}  # what `render` adds
GIVEN: dict[str, dict[str, Any]] = {
    "applied.html.j2": {"a": Applied, "sheets": list[Sheet]},
    "calibration.html.j2": {"c": CalibrationPage},
    "comparison.html.j2": {"c": Comparison, "rows": list[ComparedRow], "highlights": list[ComparedRow],
                           "axis": Axis, "change_axis": Axis},
    "editors.html.j2": {"c": EditorComparison},
    "image.html.j2": {"f": ImageFinding, "shown": list[ImageFeature], "more": list[ImageFeature],
                      "rest": list[ImageFeature], "sets": list[FlipSet], "axis": Axis},
    "preview.html.j2": {"p": Preview},
    "report.html.j2": {"e": Report, "rows": list[Row], "highlights": list[Row], "branches": list[Branch],
                       "joint_rows": list[Row], "matrix": Matrix, "by_feature": dict[str, Row],
                       "subgroups": dict[str, list[SubgroupEffect]], "axis": Axis, "joint_axis": Axis,
                       "gallery": Gallery},
    "survey.html.j2": {"e": Report},
}  # fmt: skip
"""Template -> the types of what its page passes, of those that have fields."""


def _passed() -> dict[str, set[str]]:
    """Template -> the names that its page hands to `render`."""
    found = {}
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "render":
                assert isinstance(node.args[0], ast.Constant)
                found[str(node.args[0].value)] = {keyword.arg for keyword in node.keywords if keyword.arg}
    return found


def test_each_page_has_its_types_here() -> None:
    assert _passed().keys() == GIVEN.keys()
    assert all(given.keys() <= _passed()[template] for template, given in GIVEN.items())


@pytest.mark.parametrize("template", GIVEN)
def test_a_template_names_only_fields_that_exist(template: str) -> None:
    assert unknown_fields(_environment(), template, GIVEN[template]) == []


@pytest.mark.parametrize("template", GIVEN)
def test_a_template_names_only_what_its_page_passes(template: str) -> None:
    environment = _environment()
    tree = environment.parse((FOLDER / "templates" / template).read_text("utf-8"))
    imported = {"m"}  # of base.html.j2
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}  # set in an if, for its own block
    own |= {macro.name for macro in tree.find_all(nodes.Macro)}
    passed = _passed()[template] | EVERY_PAGE | environment.globals.keys()
    assert meta.find_undeclared_variables(tree) - own - passed <= imported


def test_when_an_edit_shows_its_attribute_is_said_in_one_place() -> None:
    """Pages that count the edits that show it hold them to one rule (`stages.judging.least_gain`)."""
    texts = {template: (FOLDER / "templates" / template).read_text("utf-8") for template in GIVEN}
    assert {template for template, text in texts.items() if "{{ shows }}" in text} == {
        "calibration.html.j2",
        "preview.html.j2",
    }
    assert not [t for t, text in texts.items() if "one of four edits" in text or "three in four edits" in text]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{% if p.describe %}{{ p.describe }}{% endif %}", "Preview has no describe"),
        ("{% for row in p.rows %}{% for x in row.edits %}{{ x.took }}{% endfor %}{% endfor %}", "Shown has no took"),
        ("{{ p.rows | selectattr('judged') | list | length }}", "Row has no judged"),
        ("{% macro a(rows) %}{% for r in rows %}{{ r.title }}{% endfor %}{% endmacro %}{{ a(p.grid) }}",
         "Row has no title"),
        ("{{ p.rows[0].heading | plain }}", "Row has no heading"),
    ],
)  # fmt: skip
def test_a_field_that_was_renamed_is_found(written: str, said: str) -> None:
    found = unknown_fields(_environment(), "preview.html.j2", GIVEN["preview.html.j2"], written)
    assert found == [f"preview.html.j2, line 1: {said}"]
