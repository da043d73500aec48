"""Objects that a study names as `module:attribute`; `utils.sources` says which files decide what they do.

A module beside the study file belongs to that study alone: it is loaded under a package of the folder's own, so that
two studies in one process may each have a `my_model.py`. Absolute imports between such modules (`import helpers`, also
inside functions) stay in the folder. A module that is changed is loaded anew the next time it is asked for. Every other
module is imported as usual, with the working directory searched last.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffex_dagster.errors import DiffExError, StudyError, at_the_boundary, in_words
from diffex_dagster.utils.sources import (
    NEVER_A_STUDYS,
    closure,
    hash_of,
    is_own,
    source_at,
    source_of,
)

_PACKAGE = "_diffex_study_"
_HERE = Path(__file__).resolve().parent.parent  # this package


@contextmanager
def at_own_code(doing: str, remedy: str, kind: type[DiffExError] = DiffExError) -> Iterator[None]:
    """Around a call of a user's code: whatever it raises is one sentence, with file and line where it failed.

    See `errors.at_the_boundary`. `sys.exit` in somebody's code ends no run.
    """
    with at_the_boundary(doing, remedy, kind, words=lambda error: _readable(_place(error) + in_words(error))):
        try:
            yield
        except SystemExit as error:
            raise RuntimeError(f"{_place(error)}it ends the program, SystemExit: {error.code}") from error


def load_object(reference: str, folder: Path, field: str) -> Any:
    """Import `module:attribute`: a module beside the study file, else an installed one or one in the working directory.

    Args:
        reference: as the study writes it.
        folder: the study file's.
        field: where the reference is in the study file, for messages.

    Raises:
        StudyError: there is no such module or attribute, or the module fails while it is imported; the message says
            where and why.
    """
    module_name, _, attribute = reference.partition(":")
    try:
        module = _import(module_name, folder)
    except (DiffExError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # somebody else's code: anything, sys.exit among it
        if isinstance(error, ModuleNotFoundError) and error.name in _parents(module_name):
            why = f"there is no module {error.name!r}"
        else:
            why = _readable(f"{_place(error)}{in_words(error)}")
        raise StudyError(
            f"{folder}: {field}: {reference!r} cannot be imported ({why}); write module:attribute, with the module "
            "installed or beside the study file, and mend what fails while it is imported"
        ) from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise StudyError(
            f"{folder}: {field}: {reference!r} cannot be imported ({_readable(str(error))}); the module is "
            f"{getattr(module, '__file__', module_name)}: name something that it defines"
        ) from error


def make(reference: str, folder: Path, field: str, needs: Sequence[str], options: Mapping[str, Any]) -> Any:
    """Call a factory that a study names, with `folder` (the study file's) and `options`.

    Args:
        reference: `module:factory`, as the study writes it.
        folder: the study file's.
        field: where the reference is in the study file, for messages.
        needs: attributes that what it makes must have.
        options: as the study writes them.

    Raises:
        StudyError: it cannot be imported, it fails, or what it returns lacks an attribute; the message says which.
    """
    factory = load_object(reference, folder, field)
    doing = f"{folder}: {field}: {reference!r} fails when it is called with folder and options"
    with at_own_code(doing, "mend it, or correct the options that it is given", StudyError):
        made = factory(folder=folder, options=options)
    if missing := [name for name in needs if not hasattr(made, name)]:
        raise StudyError(
            f"{folder}: {field}: {reference!r} returned {type(made).__name__}, which has no {missing[0]!r}; return an "
            f"object with {', '.join(needs)}"
        )
    return made


def imported_sources(file: Path) -> dict[str, str]:
    """What a source file imports from its own folder or its study's: `module_sources` without the file itself."""
    if not is_own(file):
        return {}
    file = file.resolve()
    roots = [home.root for home in _homes.values() if file.is_relative_to(home.root)]
    outside = next(each for each in file.parents if not (each / "__init__.py").is_file())  # of the package it is in
    root = max(roots, key=lambda each: len(each.parts), default=outside)
    return {name: digest for name, digest in closure([file], root).items() if root / name != file}


# Loading -------------------------------------------------------------------------------------------------------------


class _Home:
    """The modules of one study's folder, loaded under one package; a new package once one of their files changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = hashlib.sha256(str(root).encode()).hexdigest()[:12]
        self.generation = 0
        self.loaded: dict[Path, str] = {}  # source file -> its hash when it was loaded
        self.package = ""
        self._begin()

    def _begin(self) -> None:
        for name in [each for each in _aliases if self.has(each)]:
            _aliases.discard(name)
            sys.modules.pop(name, None)  # it stands for what was loaded before
        self.generation += 1
        self.loaded = {}
        self.package = f"{_PACKAGE}{self.key}_{self.generation}"
        package = types.ModuleType(self.package)
        package.__path__ = [str(self.root)]
        sys.modules[self.package] = package

    def module(self, name: str) -> types.ModuleType:
        """A module of the folder, loaded anew where a file that was loaded has changed."""
        if any(hash_of(file) != known for file, known in self.loaded.items()):
            self._begin()
        return importlib.import_module(f"{self.package}.{name}")

    def has(self, name: str) -> bool:
        """Whether an import of this name, written in a module of the folder, means the folder's own."""
        top = name.partition(".")[0]
        if top in NEVER_A_STUDYS:
            return False
        if source_at(self.root / top) is not None:
            return True
        # A folder of modules without an __init__.py; `datasets/` full of pictures must not hide the package datasets.
        if not (self.root / top).is_dir() or not any((self.root / top).glob("*.py")):
            return False
        installed = importlib.machinery.PathFinder.find_spec(top)
        return installed is None or installed.origin is None

    def import_name(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        """`__import__` of the folder's modules."""
        # The interpreter itself (unpickling) passes a list and then looks in sys.modules for the bare name: _BareNames.
        if level or isinstance(fromlist, list) or not self.has(name):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        package = str((globals or {}).get("__package__") or self.package).partition(".")[0]
        inside = f"{package}.{name}"
        if fromlist:
            return builtins.__import__(inside, globals, locals, fromlist, 0)
        builtins.__import__(inside)
        return sys.modules[inside.removesuffix(name) + name.partition(".")[0]]


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs a module of a study's folder with an `__import__` that looks in the folder first."""

    home: _Home

    def exec_module(self, module: types.ModuleType) -> None:
        file = Path(self.path).resolve()
        self.home.loaded[file] = hash_of(file)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self.home.import_name}
        super().exec_module(module)

    def get_code(self, fullname: str) -> types.CodeType | None:
        # Not from a cached .pyc: those go by time and size, and an edit within a second may change neither.
        return self.source_to_code(self.get_data(self.path), self.path)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of studies' folders under the folders' packages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_PACKAGE):
            return None
        home = next((each for each in _homes.values() if fullname.startswith(f"{_PACKAGE}{each.key}_")), None)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if home and spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            loader = _Loader(spec.loader.name, spec.loader.path)
            loader.home = home
            spec.loader = loader
        return spec


class _BareNames(importlib.abc.MetaPathFinder):
    """Finds a module of a study's folder by its bare name, where nothing else has it and only one folder does: pickles
    and `importlib.import_module` name modules so.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        having = [] if path is not None else [home for home in _homes.values() if home.has(fullname)]
        if not having:
            return None
        if len(having) > 1:
            places = " and ".join(str(home.root) for home in having)
            raise ModuleNotFoundError(
                f"{places} each have a module {fullname!r}, and what names it (a pickle, import_module) does not say "
                "which is meant: give one of them another name",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, _Alias(having[0]), is_package=_is_package(having[0], fullname))


class _Alias(importlib.abc.Loader):
    """The bare name of a folder's module stands for the module that the folder has."""

    def __init__(self, home: _Home) -> None:
        self.home = home

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        actual = self.home.module(module.__name__)
        _aliases.add(module.__name__)
        sys.modules[module.__name__] = actual


_homes: dict[Path, _Home] = {}
_aliases: set[str] = set()
_lock = threading.RLock()


def _import(name: str, folder: Path) -> types.ModuleType:
    root = folder.resolve()
    file = source_of(name, root)
    known = sys.modules.get(name)
    if file is None or name.partition(".")[0] == "diffex_dagster":
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
        return importlib.import_module(name)
    if known is not None and name not in _aliases and _same(getattr(known, "__file__", None), file):
        return known  # the program that uses us has imported this very file
    return _home(root).module(name)


def _home(root: Path) -> _Home:
    with _lock:
        if root not in _homes:
            if not any(isinstance(each, _Finder) for each in sys.meta_path):
                sys.meta_path.insert(0, _Finder())
                sys.meta_path.append(_BareNames())
            for name in [each for each in _aliases if source_at(root / each.partition(".")[0])]:
                _aliases.discard(name)
                sys.modules.pop(name, None)  # no longer the only one of that name
            _homes[root] = _Home(root)
        return _homes[root]


def _same(file: str | None, other: Path) -> bool:
    return file is not None and Path(file).resolve() == other.resolve()


def _is_package(home: _Home, name: str) -> bool:
    return (home.root / name / "__init__.py").is_file()


def _parents(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[: i + 1]) for i in range(len(parts))}


def _place(error: BaseException) -> str:
    """ "my_model.py, line 3: ", the last line of somebody's own code that an import failed in."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: " if error.filename else ""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not Path(frame.filename).resolve().is_relative_to(_HERE)
        and is_own(Path(frame.filename))
    ]  # fmt: skip
    return f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""


def _readable(text: str) -> str:
    """A message without the package that a folder's modules are loaded under."""
    for home in _homes.values():
        text = text.replace(f"{home.package}.", "")
    return text
