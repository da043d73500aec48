"""Which source files decide what `module:attribute` does, without running any of them."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import io
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

NEVER_A_STUDYS = frozenset({*sys.stdlib_module_names, "diffex_dagster"})


def module_sources(reference: str, folder: Path) -> dict[str, str]:
    """The source files that decide what `module:attribute` does, without running any of them.

    The module's own file, and every file that it imports from the folder it is in, followed as they are written
    (imports inside functions count, names that are put together while the code runs do not).

    Args:
        reference: as the study writes it; the attribute does not matter.
        folder: the study file's.

    Returns:
        SHA-256 of each file's code by its path relative to the folder it was found in; empty where the module is built
        in, has no source, or is not there. Comments and empty lines are not code.
    """
    module_name = reference.partition(":")[0]
    for root in (folder.resolve(), Path.cwd()):
        if source_of(module_name, root) and module_name.partition(".")[0] != "diffex_dagster":
            return closure(files_run(root, module_name), root)
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError, AttributeError):
        return {}
    if spec is None or not spec.origin or not spec.has_location or not spec.origin.endswith(".py"):
        return {}
    origin = Path(spec.origin)
    return closure([origin], origin.parent) if is_own(origin) else {origin.name: _hash_of_code(origin)}


def beside(reference: str, folder: Path) -> bool:
    """Whether `module:attribute` is in a module beside the study file."""
    return source_of(reference.partition(":")[0], folder.resolve()) is not None


def sources_digest(reference: str, folder: Path) -> str:
    """One hash over `module_sources`: it changes when their code does, and not with a comment."""
    return hashlib.sha256(repr(sorted(module_sources(reference, folder).items())).encode()).hexdigest()


def source_of(name: str, root: Path) -> Path | None:
    """The source file of a module under a folder."""
    return source_at(root.joinpath(*name.split(".")))


def source_at(place: Path) -> Path | None:
    """The source file of a module, from its path without an ending; of a package, its `__init__.py`."""
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file
    return None


def closure(start: Iterable[Path], root: Path) -> dict[str, str]:
    """SHA-256 of the code of these files and of all that they import under `root`, by path relative to it."""
    seen: dict[Path, str] = {}
    waiting = list(start)
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen[file] = _hash_of_code(file)
        waiting += [found for found in _imports(file, root) if found not in seen]
    return {file.relative_to(root).as_posix(): digest for file, digest in sorted(seen.items())}


def _imports(file: Path, root: Path) -> Iterator[Path]:
    try:
        source = file.read_bytes()
    except OSError:
        return
    for level, name in _names_imported(source):
        base = file.parents[min(level, len(file.parents)) - 1] if level else root
        foreign = base == root and name.partition(".")[0] in NEVER_A_STUDYS
        if not foreign and base.is_relative_to(root):
            yield from files_run(base, name)


@functools.lru_cache(256)
def _names_imported(source: bytes) -> tuple[tuple[int, str], ...]:
    """Each name that source code imports, with the number of dots before it; none where it cannot be read as Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, each.name) for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = f"{node.module}." if node.module else ""
            found += [(node.level, f"{inside}{each.name}") for each in node.names]
    return tuple(found)


def files_run(base: Path, name: str) -> Iterator[Path]:
    """The files that an import of `a.b.c` runs: those of a, a.b and a.b.c, as far as they are there."""
    place = base
    for part in name.split("."):
        place = place / part
        if found := source_at(place):
            yield found


def hash_of(file: Path) -> str:
    """SHA-256 of a file; "gone" where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return "gone"


def _hash_of_code(file: Path) -> str:
    try:
        source = file.read_bytes()
    except OSError:
        return "gone"
    return hashlib.sha256(_without_comments(source)).hexdigest()


@functools.lru_cache(256)
def _without_comments(source: bytes) -> bytes:
    """Source code without comments and empty lines, by its tokens; as it is where it cannot be read as Python.

    Not a syntax tree: that is another one under another version of Python, and the code the same.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        lines = io.StringIO(source.decode(encoding)).readlines()
        tokens = list(tokenize.generate_tokens(iter(lines).__next__))
    except (SyntaxError, UnicodeDecodeError, LookupError, tokenize.TokenError):
        return source
    for token in tokens:
        row, column = token.start[0] - 1, token.start[1]
        if token.type == tokenize.COMMENT:
            end = lines[row][len(lines[row].rstrip("\r\n")) :]
            kept = lines[row][:column].rstrip()
            lines[row] = kept + end if kept else ""
        elif token.type == tokenize.NL and row < len(lines) and not lines[row].strip():
            lines[row] = ""
    return "".join(lines).encode()


@functools.cache
def _foreign() -> tuple[Path, ...]:
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*(Path(place).resolve() for place in places if place), Path(__file__).resolve().parent)


def is_own(file: Path) -> bool:
    """Whether a source file is the user's: neither Python's, nor an installed package's, nor ours."""
    resolved = file.resolve()
    return not any(resolved.is_relative_to(place) for place in _foreign()) and "site-packages" not in resolved.parts
