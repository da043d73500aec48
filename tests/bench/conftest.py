"""A small study with known truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffex_dagster.bench import truth
from diffex_dagster.study import Study
from tests.support.drawn import write_small

SCOPE = truth.Scope(population=12, resamples=3)


@pytest.fixture
def small(tmp_path: Path) -> Study:
    """Six drawn avatars, two groups, an exact editor and one classifier."""
    return write_small(tmp_path)


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, truth.Benchmark]:
    """Such a study, and the marks of its classifier under the exact editor."""
    study = write_small(tmp_path_factory.mktemp("graded"))
    return study, truth.grade_all(study, truth.editors(study, "exact"), truth.subjects(study), SCOPE)
