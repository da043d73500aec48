"""The rules of the house that no linter knows."""

from __future__ import annotations

import re

from tests.support.project import ROOT


def test_tests_share_through_support_only() -> None:
    """A test that imports a test runs with it, moves with it and breaks with it: what is shared is in tests/support."""
    elsewhere = re.compile(r"^\s*(?:from|import) (tests\S*)|\b(tests\.[\w.]+):\w", re.MULTILINE)
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for match in elsewhere.finditer(path.read_text()):
            module = match[1] or match[2]
            if module != own and not module.startswith("tests.support"):
                found.append(f"{path.relative_to(ROOT)} reads {module}")
    assert not found
