"""The made-up study (coloured squares in place of faces, which take time to draw) and a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diffex_dagster.report.files import write_comparison, write_report
from diffex_dagster.results import Comparison, Report
from tests.support import material
from tests.support.browsers import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def explanation() -> Report:
    return material.with_gallery(material.explanation(12, draw=material.swatch))


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    return material.comparison(12, draw=material.swatch)


@pytest.fixture(scope="session")
def report_folder(explanation: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "report"
    write_report(explanation, folder)
    return folder


@pytest.fixture(scope="session")
def comparison_folder(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "comparison"
    write_comparison(comparison, folder)
    return folder


@pytest.fixture(scope="module")  # its event loop must be gone when the next module starts one
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found
