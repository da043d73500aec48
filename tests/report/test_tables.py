from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from diffex_dagster.assets.report import _ranking_table as ranking_table
from diffex_dagster.cli import apply, explain
from diffex_dagster.cli.console import TableFormat
from diffex_dagster.report import image_page, notebook, tables, wording
from diffex_dagster.report import markdown_tables as markdown
from diffex_dagster.report import rows as report_rows
from diffex_dagster.report.applied_page import render_applied
from diffex_dagster.report.image_model import feature_rows
from diffex_dagster.results import Comparison, Control, Report
from tests.support import material


def printed(table: object) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system="standard")
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_rows_hold_what_show_promises(explanation: Report) -> None:
    rows = json.loads(json.dumps(report_rows.rows(explanation.features)))
    promised = {"rank", "feature", "name", "group", "level", "effect", "ci_low", "ci_high", "flip_rate", "images",
                "decision", "magnitude"}  # fmt: skip
    assert promised <= rows[0].keys()
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))


def test_a_confounded_feature_is_marked_wherever_its_decision_is_shown(explanation: Report) -> None:
    (grey,) = [f for f in explanation.features if f.confounded_with]
    (row,) = [row for row in report_rows.rows(explanation.features) if row["confounded_with"]]
    assert (row["name"], row["confounded_with"]["name"]) == ("Grey hair", "Majestic beard")
    for text in (
        printed(tables.rich_table([grey])),
        markdown.markdown_table([grey]),
        markdown.markdown_tree(explanation),
        notebook.in_lines(replace(explanation, features=(grey,))),
        notebook.as_html(replace(explanation, features=(grey,), gallery=None)),
    ):
        assert text.count("confounded with Majestic beard") == 1
    found = ranking_table(explanation.features)
    assert [column.name for column in found.schema.columns][-1] == "mark"
    marks = {record.data["name"]: record.data["mark"] for record in found.records}
    assert {name for name, mark in marks.items() if mark} == {"Grey hair"}
    assert marks["Grey hair"] == "confounded with Majestic beard"
    hostile = replace(grey, confounded_with=replace(grey.confounded_with, name="[red]x[/red]\x1b[2J"))
    assert "[red]x[/red]" in (text := printed(tables.rich_table([hostile]))) and "\x1b[2J" not in text


def test_how_many_images_had_an_attribute_is_shown_where_there_is_room(explanation: Report) -> None:
    plain, seen = explanation.features[0], replace(explanation.features[1], prevalence=0.375)
    assert plain.prevalence is None
    for told in (printed(tables.rich_table([plain, seen])), printed(tables.rich_table([plain, seen], width=120))):
        assert "had it" in told and "38%" in told
    assert "had it" not in printed(tables.rich_table([plain, seen], width=80))  # its columns are no wider than before
    assert "had it" not in printed(tables.rich_table([plain]))
    headings, _, first, second, *notes = markdown.markdown_table([plain, seen]).splitlines()
    assert headings.endswith("| flips | had it | decision |")
    assert first.count("|") == second.count("|") == headings.count("|")
    assert " | 38% | " in second and " | – | " in first
    assert "had it: images that show the attribute before any edit, by the judge." in notes
    assert "had it" not in markdown.markdown_table([plain])


def test_control_prompts_are_one_line() -> None:
    one = Control("flumox\n[red]", 0.01, -0.02, 0.04, 0.03, 0.0, 0.06, 0.0, 12, "inconclusive")
    assert wording.controls_in_words([], 2) == ""
    assert wording.controls_in_words([one], 2) == "control prompt against the null edit: “flumox [red]” +0.03"
    two = [one, replace(one, prompt="quazzle", effect=-0.2, decision="lowers")]
    assert wording.controls_in_words(two, 2) == (
        "control prompts, each against the others: “flumox [red]” +0.01 (inconclusive), “quazzle” −0.20 (lowers)"
    )


def test_what_the_study_says_of_a_feature_has_its_mark_beside_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    finding = material.image_finding()
    first = replace(finding.features[1], study_mark="cannot be told from Round glasses")
    finding = replace(finding, features=(first, *finding.features[2:]))
    page = image_page.render_image(finding)
    assert page.count("raises, cannot be told from Round glasses</span>") == 1
    for text in (image_page.in_lines(finding), image_page.as_html(finding)):
        assert text.count(", cannot be told from Round glasses") == 1
    explain.show([(finding, Path("page.html"))], TableFormat.table, False)
    assert " ".join(capsys.readouterr().out.split()).count("told from") == 1
    (_, row, *_) = [feature_rows([each])[0] for each in (finding.features[1], first)]
    assert row["study_mark"] == "cannot be told from Round glasses"


def test_what_is_applied_has_the_mark_of_its_study(capsys: pytest.CaptureFixture[str]) -> None:
    found = material.applied()
    assert [f.relation for f in found.features] == [None, "cannot be told from"]
    page = render_applied(found)
    assert "may be due to" not in page
    assert page.count('<span class="group">cannot be told from Eyewear</span>') == 1
    assert page.count("In the study: raises (cannot be told from Eyewear), ") == 1
    apply.show(found, Path("page.html"), TableFormat.table, False)
    assert "told from" in " ".join(capsys.readouterr().out.split())


def test_comparison_rows_are_keyed_by_version(comparison: Comparison) -> None:
    assert report_rows.comparison_rows(comparison)[0]["effects"].keys() == {"persona_v1", "persona_v2"}


def test_the_terminal_prints_markup_and_escapes_as_text(explanation: Report) -> None:
    bad = replace(explanation.features[0], name="[red]x[/red] [link=file:///etc]y[/link]\x1b[2J\x1b]8;;z\x07")
    text = printed(tables.rich_table([bad]))
    assert "[red]x[/red] [link=file:///etc]y[/link]" in text
    assert "\x1b[2J" not in text and "\x1b]8" not in text


def test_the_terminal_table_says_what_it_left_out(explanation: Report) -> None:
    text = printed(tables.rich_table(explanation.features, limit=3))
    assert f"{len(explanation.features) - 3} more features" in text
    assert "Eyewear" in text


def test_the_comparison_prints(comparison: Comparison) -> None:
    assert "less reliant" in printed(tables.comparison_rich_table(comparison))
    assert "less reliant" in markdown.comparison_markdown_table(comparison).replace("&#45;", "-")


def test_the_comparison_says_how_many_images_had_an_attribute(comparison: Comparison) -> None:
    first, *others = (replace(f, prevalence=None) for f in comparison.features)
    unknown = markdown.comparison_markdown_table(replace(comparison, features=(first, *others)))
    assert "had it" not in unknown
    known = markdown.comparison_markdown_table(
        replace(comparison, features=(replace(first, prevalence=0.42), *others))
    ).splitlines()
    column = known[0].split(" | ").index("had it")
    assert known[2].split(" | ")[column] == "42%" and known[3].split(" | ")[column] == "–"
    assert "had it: images that show the attribute before any edit, by the judge." in known
    assert len({line.count(" | ") for line in known[: known.index("")] if "---" not in line}) == 1


@pytest.mark.parametrize(
    "name",
    [material.HOSTILE, "a|b", "`code`", "[x](javascript:alert(1))", "![i](http://e.vil/x.png)", "**b**", "a\n\n# h",
     "<https://e.vil>", "&lt;b&gt;"],
)  # fmt: skip
def test_markdown_is_inert(explanation: Report, name: str) -> None:
    from markdown_it import MarkdownIt

    table = markdown.markdown_table([replace(explanation.features[0], name=name)])
    assert len(table.splitlines()) == 5  # heading, rule, row, and what the flips are of
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(table)
    assert html.count("<td") == 7
    assert html.count("<strong>") == 1  # the effect, and nothing else
    assert not any(tag in html for tag in ("<img", "<script", "<a ", "<code", "<h1", "<b>"))
    assert "://" not in html.replace("\u2060://", "")  # no bare address that an autolinker would find


def test_the_tree_holds_every_group_and_feature_once_the_strongest_group_first(explanation: Report) -> None:
    lines = markdown.markdown_tree(explanation).splitlines()
    assert lines[0].startswith("- **Eyewear**, searched: ")
    assert sum(line.startswith("- ") for line in lines) == len(explanation.groups)
    assert sum(line.startswith("  - ") for line in lines) == len(explanation.features)


def test_markdown_says_what_it_left_out(explanation: Report) -> None:
    assert f"{len(explanation.features) - 2} more features" in markdown.markdown_table(explanation.features, limit=2)


@pytest.mark.parametrize(
    ("value", "text"), [(0.314, "+0.31"), (-0.07, "−0.07"), (-0.001, "0.00"), (float("nan"), "–"), (None, "–")]
)
def test_signed(value: float | None, text: str) -> None:
    assert wording.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0%"), (0.001, "<1%"), (0.5, "50%"), (0.999, ">99%"), (1.0, "100%"), (None, "–")]
)
def test_share_never_rounds_something_to_nothing(value: float | None, text: str) -> None:
    assert wording.share(value) == text


def test_plain_removes_what_could_deceive() -> None:
    assert wording.plain("a\u202eb\n\x1b[31mc\u200b d") == "ab [31mc d"
