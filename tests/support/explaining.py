"""A study's stages as plain functions, from its images to one classifier's report."""

from __future__ import annotations

from diffex_dagster.results import Report
from diffex_dagster.stages.report import ranked_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.setup import reports_folder
from diffex_dagster.study import Study
from tests.support.toys import prepared


def explained(study: Study, name: str) -> Report:
    """Run every stage for one classifier and write its report."""
    subject = prepared(study).subject(name)
    run_search(subject)
    return ranked_report(subject, "run", reports_folder(study, name), f"diffex run {study.name}")[0]
