"""Results that an earlier version made are today's: nothing is edited or scored again, and a report says the same."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import level1_scores, run_search
from diffex_dagster.study import load_study
from tests.support.toys import edits_made, prepared, write_study

EARLIER = Path(__file__).parent / "earlier.zip"
"""Tables (as DuckDB exports them) and pictures of the toy study with four images, by commit b82a64b: the last one
before modules, study keys and the store's tables got the names and places that they have."""
SEARCH = {"beam": 2, "probes": 1}  # no edit that the defaults of then did not ask for


def results_of_then(folder: Path) -> None:
    import duckdb

    with zipfile.ZipFile(EARLIER) as kept:
        kept.extractall(folder)
    with duckdb.connect(folder / "diffex.duckdb") as database:
        database.execute((folder / "tables" / "schema.sql").read_text())
        for rows in (folder / "tables").glob("*.csv"):
            database.execute(f"COPY {rows.stem} FROM '{rows}' (FORMAT csv, HEADER true)")


@pytest.mark.slow
@pytest.mark.duckdb_file
def test_what_an_earlier_version_made_is_not_made_again(tmp_path: Path) -> None:
    reports = []
    for then in (True, False):
        folder = tmp_path / ("then" if then else "new")
        study = load_study(write_study(folder, 4, search=SEARCH))
        if then:
            results_of_then(study.results_folder)
        work = prepared(study)
        assert work.store.count("edits") == (28 if then else 0)
        subject = work.subject("v1")
        counts, first, searched = level1_edits(work)[0], level1_scores(subject), run_search(subject)
        made, scored = counts.made + searched.edits.made, first.scored + searched.scored
        assert len(edits_made(folder)) == made and (made, scored) == (0, 0) if then else made > 0 < scored
        report, _ = classifier_report(subject, "the test")
        reports.append([(row.name, row.effect, row.decision) for row in report.features])
    assert len(reports[0]) > 3 and reports[0] == reports[1]
