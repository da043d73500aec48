"""Writes a report or a comparison into a folder: the page, and the same facts for other programs."""

from __future__ import annotations

import csv
import functools
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.errors import DiffExError
from diffex_dagster.report.comparison_page import render_comparison
from diffex_dagster.report.editors_page import render_editors
from diffex_dagster.report.figures import ranked_bars
from diffex_dagster.report.html import linked
from diffex_dagster.report.page import render_report
from diffex_dagster.report.rows import (
    COLUMNS,
    PAIRS,
    PER_IMAGE,
    SUBGROUPS,
    comparison_columns,
    comparison_flat_rows,
    editor_columns,
    editor_rows,
    flat_rows,
    image_flat_rows,
    interaction_flat_rows,
    subgroup_rows,
)
from diffex_dagster.report.schema import comparison_as_json, editors_as_json, report_as_json
from diffex_dagster.results import Comparison, EditorComparison, RankedFeature, Report
from diffex_dagster.utils.columns import SQL_TYPES, columns
from diffex_dagster.utils.files import write_atomically
from diffex_dagster.utils.hashing import digest, folder_fingerprint

MARK = ".report"  # beside the files: a hash of what they say
Contents = dict[str, Callable[[], bytes]]  # file -> what makes it, asked only where it is written

# A spreadsheet runs a cell that starts with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_report(explanation: Report, folder: Path, keep_same: bool = False) -> list[Path]:
    """Write index.html, report.json, effects.csv, effects.parquet, images.csv, effects.svg and effects.png.

    Where something divides the images, subgroups.csv too; where features were edited in pairs, interactions.csv.

    Each file appears whole or not at all; what the folder held under other names stays.

    Args:
        folder: made when it is missing.
        keep_same: leave a report as it is, with its date, that says the same and was written by the same code. Only
            where the pictures follow from what the report says (editor, images, prompts), as those of a study do.

    Returns:
        The files of the report, the page first.

    Raises:
        DiffExError: the folder cannot be written.
    """
    data, table, images = report_as_json(explanation), flat_rows(explanation.features), image_flat_rows(explanation)
    figure = functools.cache(
        lambda: ranked_bars(
            explanation.features, explanation.target, explanation.noise_floor, controls=explanation.controls
        )
    )
    contents: Contents = {
        "index.html": lambda: render_report(explanation).encode("utf-8"),
        "report.json": lambda: _json(data),
        "effects.csv": lambda: effects_csv(table, COLUMNS).encode("utf-8"),
        "effects.parquet": lambda: _parquet(table),
        "images.csv": lambda: effects_csv(images, PER_IMAGE).encode("utf-8"),
        **(
            {"interactions.csv": lambda: effects_csv(interaction_flat_rows(explanation), PAIRS).encode("utf-8")}
            if explanation.interactions
            else {}
        ),
        **(
            {"subgroups.csv": lambda: effects_csv(subgroup_rows(explanation), SUBGROUPS).encode("utf-8")}
            if explanation.subgroups
            else {}
        ),
        "effects.svg": lambda: figure()["svg"],
        "effects.png": lambda: figure()["png"],
    }
    says = {**data, "method": explanation.method, "images": images}
    return _write(folder, contents, says, keep_same)


def write_comparison(comparison: Comparison, folder: Path, keep_same: bool = False) -> list[Path]:
    """Write index.html, comparison.json and comparison.csv, as `write_report` does.

    Raises:
        DiffExError: the folder cannot be written.
    """
    data, table, headings = (
        comparison_as_json(comparison),
        comparison_flat_rows(comparison),
        comparison_columns(comparison),
    )
    contents: Contents = {
        "index.html": lambda: render_comparison(comparison).encode("utf-8"),
        "comparison.json": lambda: _json(data),
        "comparison.csv": lambda: effects_csv(table, headings).encode("utf-8"),
    }
    return _write(folder, contents, data, keep_same)


def write_editor_comparison(found: EditorComparison, folder: Path) -> list[Path]:
    """Write index.html, editors.json and editors.csv of two editors' reports, as `write_report` does.

    Raises:
        DiffExError: the folder cannot be written.
    """
    data = editors_as_json(found)
    contents: Contents = {
        "index.html": lambda: render_editors(found).encode("utf-8"),
        "editors.json": lambda: _json(data),
        "editors.csv": lambda: effects_csv(editor_rows(found), editor_columns(found)).encode("utf-8"),
    }
    return _write(folder, contents, data, keep_same=True)


def link_page(page: Path, links: Sequence[tuple[str, str]], images: Mapping[str, str] | None = None) -> None:
    """Give a page that is there links to the other pages of its study; written only where that changes it.

    Args:
        links, images: as of `report.html.linked`.

    Raises:
        DiffExError: it cannot be written.
    """
    try:
        before = page.read_text("utf-8")
        if (after := linked(before, links, images)) != before:
            write_atomically(page, after.encode("utf-8"))
    except OSError as error:
        raise DiffExError(
            f"{page}: the links to the study's other pages cannot be written ({error.strerror or error}); make the "
            "folder writable and run again: nothing else is lost"
        ) from error


def _write(folder: Path, contents: Contents, data: dict[str, Any], keep_same: bool) -> list[Path]:
    """Write `contents`, and beside them what they say in one hash; or leave files alone that say the same."""
    files, mark = [folder / name for name in contents], folder / MARK
    says = digest({**data, "created": None}, _code())
    try:
        if keep_same and mark.is_file() and mark.read_text("utf-8") == says and all(file.is_file() for file in files):
            return files
        folder.mkdir(parents=True, exist_ok=True)
        mark.unlink(missing_ok=True)  # a mixture of old and new files must not pass for the old ones
        for name, content in {name: make() for name, make in contents.items()}.items():
            write_atomically(folder / name, content)
        write_atomically(mark, says.encode("utf-8"))
    except OSError as error:
        raise DiffExError(
            f"The report cannot be written to {folder} ({error.strerror or error}): choose a folder that you may write "
            f"to, on a disk with room left."
        ) from error
    return files


@functools.cache
def _code() -> str:
    """Hash of the code and templates that write reports."""
    return folder_fingerprint(Path(__file__).parent, (".py", ".j2", ".css", ".js"))


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8")


def effects_csv(table: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV with a heading. Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    columns = columns or (list(table[0]) if table else [])
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_cell(column) for column in columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in table)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value


def _parquet(table: Sequence[dict[str, Any]]) -> bytes:
    import duckdb

    declared = ", ".join(f'"{name}" {SQL_TYPES[kind]}' for name, kind in columns(RankedFeature).items())
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as database:
        path = Path(scratch) / "effects.parquet"
        database.execute(f"CREATE TABLE effects ({declared})")
        if table:
            marks = ", ".join("?" for _ in COLUMNS)
            statement = f"INSERT INTO effects VALUES ({marks})"  # noqa: S608 (question marks alone)
            database.executemany(statement, [[row[c] for c in COLUMNS] for row in table])
        database.table("effects").write_parquet(str(path))
        return path.read_bytes()
