"""Fixtures that several test folders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffex_dagster.study import Study, load_study
from tests.toys import write_study


@pytest.fixture
def toy(tmp_path: Path) -> Study:
    """The toy study in a folder of its own."""
    return load_study(write_study(tmp_path / "toy"))
