"""What is public: the names at the package's root, their documentation, and what importing them costs."""

import dataclasses
import inspect
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import griffe
import pytest

import diffex_dagster
from diffex_dagster import DiffExError

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
NAMES = [name for name in diffex_dagster.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    assert getattr(diffex_dagster, name).__doc__


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_place_in_the_reference(name: str) -> None:
    home = diffex_dagster._HOMES[name]
    wanted = f"::: diffex_dagster.{home}.{name}\n"
    assert sum((page.read_text("utf-8") + "\n").count(wanted) for page in REFERENCE.glob("*.md")) == 1
    assert f"`{name}`" in (REFERENCE / "index.md").read_text("utf-8") or issubclass(
        getattr(diffex_dagster, name), DiffExError
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_a_public_name_takes_and_has_is_said(name: str) -> None:
    """Every parameter and every field of a dataclass stands in the docstring, which the reference shows."""
    public = getattr(diffex_dagster, name)
    named: dict[Any, list[str]] = {}
    if inspect.isfunction(public):
        named[public] = list(inspect.signature(public).parameters)
    elif dataclasses.is_dataclass(public):
        named[public] = [each.name for each in dataclasses.fields(public)]
    if inspect.isclass(public) and not issubclass(public, DiffExError):
        methods = [m for key, m in vars(public).items() if inspect.isfunction(m) and not key.startswith("_")]
        named |= {method: [p for p in inspect.signature(method).parameters if p != "self"] for method in methods}
    unsaid = {
        of.__qualname__: [w for w in words if not re.search(rf"\b{w}\b", of.__doc__)] for of, words in named.items()
    }
    assert not {of: words for of, words in unsaid.items() if words}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_public_name_raises_is_said(name: str) -> None:
    public = getattr(diffex_dagster, name)
    own = vars(public) if inspect.isclass(public) else {name: public}
    functions = {key: getattr(each, "__func__", getattr(each, "fget", each)) for key, each in own.items()}
    silent = {
        key
        for key, function in functions.items()
        if not key.startswith("_") and inspect.isfunction(function) and "Raises:" not in (function.__doc__ or "")
        if re.search(r"\braise \w+Error\(|\bwrite_\w+\(", inspect.getsource(function))
    }
    assert not silent


def test_the_reference_is_made_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """As `make docs` makes it, which a warning ends: griffe reads the docstrings."""
    package = griffe.load("diffex_dagster", search_paths=[str(REFERENCE.parents[1])])
    targets = [name for page in REFERENCE.glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)]
    assert len(targets) >= len(NAMES)
    for target in targets:
        shown = package[target.removeprefix("diffex_dagster.")]
        members = [] if shown.is_attribute else shown.all_members.values()
        for each in (shown, *(member for member in members if not member.is_alias)):
            if each.docstring:
                each.docstring.parse("google")
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_documentation_imports_from_the_root_alone() -> None:
    """The worlds are tooling of who develops this (decision 25)."""
    inside = re.compile(r"^(?:from|import) diffex_dagster\.(?!worlds)\S+", re.MULTILINE)
    called = re.compile(r"`diffex_dagster\.(?!worlds)\w+\.\w+")
    docs = REFERENCE.parent
    pages = [*docs.rglob("*.md"), docs.parent / "README.md"]
    assert not {
        str(page): found
        for page in pages
        if (found := inside.findall(page.read_text("utf-8")) + called.findall(page.read_text("utf-8")))
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        _ = diffex_dagster.explian


def test_importing_the_package_loads_no_model_database_or_dagster() -> None:
    heavy = "import sys, diffex_dagster; print(sorted({'torch', 'duckdb', 'dagster', 'pandas'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("command", [["-m", "diffex_dagster"], ["-m", "diffex_dagster.cli.main"]])
def test_the_version_is_printed(command: list[str]) -> None:
    printed = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, check=True).stdout
    assert printed == f"diffex_dagster {diffex_dagster.__version__}\n"


def test_types_are_shipped() -> None:
    assert (Path(diffex_dagster.__file__).parent / "py.typed").exists()


def test_the_changelog_has_the_version() -> None:
    """With its date: what is released is cut out of [Unreleased]."""
    changelog = (Path(__file__).parent.parent / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[{re.escape(diffex_dagster.__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
