"""The assets of the demo study are those that were reviewed."""

from __future__ import annotations

import pytest

from tests.support.specs import FILE, described


def test_the_assets_are_the_reviewed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the change is meant: `python -m tests.support.specs`, and the difference goes into the review."""
    monkeypatch.delenv("DIFFEX_CODE_URL", raising=False)
    assert described() == FILE.read_text("utf-8")
