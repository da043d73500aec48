"""The rules of the house that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

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


def test_only_one_module_imports_what_dagster_keeps_private() -> None:
    package = ROOT / "diffex_dagster"
    private = re.compile(r"^\s*(?:from|import) dagster\w*\.\S*", re.MULTILINE)
    found = {
        path.relative_to(package).as_posix(): match[0].strip()
        for path in package.rglob("*.py")
        for match in private.finditer(path.read_text())
        if "._" in match[0]
    }
    assert set(found) == {"assets/status.py"}, found


def test_what_dagster_keeps_is_made_in_one_module() -> None:
    """There it loses every secret, whatever names, sentences and errors stand in it."""
    kinds = "MaterializeResult|AssetMaterialization|AssetCheckResult|AssetObservation|ObserveResult|SkipReason"
    made = re.compile(rf"\bdg\.(?:{kinds}|SensorResult|RunRequest|Failure)\(|\.log\.(?:warning|error|critical)\(")
    assets = ROOT / "diffex_dagster" / "assets"
    found = {path.name: match[0] for path in assets.rglob("*.py") if (match := made.search(path.read_text()))}
    assert set(found) == {"kept.py"}, found


def test_no_command_knows_sql() -> None:
    sql = re.compile(r"\bSELECT\b|\.(?:rows|query|execute)\(")
    for path in (ROOT / "diffex_dagster" / "cli").rglob("*.py"):
        assert not sql.search(path.read_text()), f"{path.name}: put the query into the store"


HEAVY = ("dagster", "diffusers", "duckdb", "jinja2", "matplotlib", "pandas", "scipy", "torch", "transformers")


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        ("import diffex_dagster.cli.main", (*HEAVY, "numpy", "PIL", "pydantic")),
        ("from pathlib import Path; from diffex_dagster import load_study; load_study(Path('studies/avatars'))", HEAVY),
    ],
)
def test_what_is_light_stays_light(code: str, banned: tuple[str, ...]) -> None:
    """Help, completion and the reading of a study wait for no model library, database or Dagster."""
    print_loaded = f"; import sys; print(sorted({set(banned)} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code + print_loaded], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr
