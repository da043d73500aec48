"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

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


def imports_of(package: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports anywhere: at its top, in a function, for a type only."""
    files = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in files.items():
        named = {name for node in ast.walk(ast.parse(path.read_text())) for name in _named(node)}
        found = {name if name in files else name.rpartition(".")[0] for name in named}
        graph[module] = {name for name in found if name in files} - {module}
    return graph


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Nor inside a function, nor for a type: what needs each other is one module, or needs a third."""
    graph = imports_of(ROOT / "diffex_dagster")
    assert graph["diffex_dagster.__main__"] == {"diffex_dagster.cli.main"}
    assert not circle_in(graph)


def test_a_circle_is_found_wherever_its_imports_are(tmp_path: Path) -> None:
    package = tmp_path / "some"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("def late():\n    from some.two import that\n")
    (package / "two.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import some.three\n")
    (package / "three.py").write_text("")
    assert not circle_in(imports_of(package))
    (package / "three.py").write_text("from some import one\n")
    assert set(circle_in(imports_of(package))) == {"some.one", "some.two", "some.three"}


def test_every_room_has_its_layer() -> None:
    """A room that no layer names may import what it likes; see [tool.importlinter] in pyproject.toml."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    placed = {name.removeprefix("diffex_dagster.") for layer in layers for name in re.findall(r"[\w.]+", layer)}
    package = ROOT / "diffex_dagster"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}  # above and beside all of them
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert placed == modules | rooms


def test_the_root_of_the_package_is_small() -> None:
    assert len(list((ROOT / "diffex_dagster").glob("*.py"))) <= 8


def test_a_module_is_read_in_one_sitting() -> None:
    package = ROOT / "diffex_dagster"
    lines = {path.relative_to(package).as_posix(): len(path.read_text().splitlines()) for path in package.rglob("*.py")}
    assert not {name for name, count in lines.items() if count > 400}


def test_what_is_passed_in_order_is_six_things_at_most() -> None:
    """More than that a caller names. The options of a command are those of its framework."""
    package, found = ROOT / "diffex_dagster", set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                command = "typer." in ast.unparse(node.args)
                given = [each.arg for each in node.args.posonlyargs + node.args.args]
                if len(given) - (given[:1] in (["self"], ["cls"])) > 6 and not command:
                    found.add(f"{path.relative_to(package).as_posix()}: {node.name}")
    assert not found


MANY_PARAMETERS = {
    # How to decide, told in facts that a caller has or has not, each on its own.
    "effects/comparing.py: compare",
    "effects/deciding.py: decide",
    "effects/subgroups.py: subgroup_effects",
    # The fields of a section of a study file, which Python code may give as well.
    "classifying/files_adapter.py: FileClassifier.__init__",
    "classifying/python_adapter.py: CallableClassifier.__init__",
    "classifying/timm_adapter.py: TimmClassifier.__init__",
    # The options of a command, as a function.
    "api/applying.py: apply_to",
}
"""Functions with more than six parameters, named ones too, and why. The list only shrinks."""


def functions_of(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a module by name, those of classes and functions as well."""
    for node in ast.iter_child_nodes(tree):
        name = f"{within}{getattr(node, 'name', '')}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, node
        yield from functions_of(node, f"{name}." if isinstance(node, ast.ClassDef) or name != within else within)


def test_a_function_has_six_parameters_at_most() -> None:
    package, found = ROOT / "diffex_dagster", set()
    for path in package.rglob("*.py"):
        for name, function in functions_of(ast.parse(path.read_text())):
            of = function.args
            given = [each.arg for each in (*of.posonlyargs, *of.args, *of.kwonlyargs)]
            if len(given) - (given[:1] in (["self"], ["cls"])) > 6 and "typer." not in ast.unparse(of):
                found.add(f"{path.relative_to(package).as_posix()}: {name}")
    assert found == MANY_PARAMETERS


def test_a_docstring_stands_below_what_it_is_about() -> None:
    found = []
    for path in sorted((ROOT / "diffex_dagster").rglob("*.py")):
        body = ast.parse(path.read_text()).body
        for before, node in itertools.pairwise(body):
            text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if text and not isinstance(before, ast.Assign | ast.AnnAssign | ast.If):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
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
