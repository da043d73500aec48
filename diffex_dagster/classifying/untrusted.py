"""Model files that could run code: what is in them is looked at before torch reads them.

A TorchScript file is a program in a small language that can read and write files. An exported program of `torch.export`
keeps pickles, the names of Python functions, and Python expressions, and torch evaluates all of them when it loads the
file. Here a file passes when nothing in it can do more than compute with tensors; any other needs `trusted: true`.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffex_dagster.errors import ClassifierError

_REACHES_OUT = re.compile(r"\b(save|from_file|load_tensor|rpc_async|rpc_sync|rpc_remote|call_torchbind)\b")
_OTHER_OPERATORS = re.compile(r"\bops\.(?!aten\b|prim\b|prims\b|quantized\b|torchvision\b|_quantized\b)(\w+)")
_TARGET = re.compile(r"torch\.ops\.(aten|prim|prims|quantized|quantized_decomposed|torchvision)\.\w+(\.\w+)?")
_ARITHMETIC = re.compile(
    r"(_operator|math)\.(add|sub|mul|truediv|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_|ceil|floor|"
    r"sqrt|trunc)|torch\.sym_(int|float|max|min|not|ite|sum|sqrt)"
)
_PLAIN = re.compile(r"[\w\s.,:;+>*=\-\[\]/]*")  # names, numbers, an equation of einsum: nothing that calls
_SYMBOLIC = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "Max", "Min", "FloorDiv", "CleanDiv",
    "CeilDiv", "PythonMod", "ModularIndexing", "Where", "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "FloatPow",
    "TruncToInt", "CeilToInt", "FloorToInt", "RoundToInt", "ToFloat", "Identity", "Eq", "Ne", "Equality", "Unequality",
    "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "Boolean", "true", "false",
    "BooleanTrue", "BooleanFalse", "Infinity", "NegativeInfinity", "oo", "int_oo", "IntInfinity", "NegativeOne", "One",
    "Zero", "Half",
}  # fmt: skip
_CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", None}
_ASIDE = {
    "metadata",
    "guards_code",
}  # notes on where a node came from, and checks of shapes that are executed: left out


class _Found(Exception):
    """Something in a file that could do more than compute with tensors."""


def _refusal(file: Path, what: str) -> ClassifierError:
    return ClassifierError(
        f"{file}: trusted: the file holds {what}, which could run code of whoever made it on this machine; export the "
        "model to ONNX, or write trusted: true where you know who made it"
    )


def check_torchscript(file: Path) -> None:
    """Look at the code in a TorchScript file, which `torch.jit.load` may start to run.

    Raises:
        ClassifierError: it reads or writes files, calls other machines, or uses operators that torch does not bring.
        ValueError: it is no TorchScript file.
    """
    for name, text in _sources(file):
        found = _REACHES_OUT.search(text) or _OTHER_OPERATORS.search(text)
        if found:
            raise _refusal(file, f"a call of {found[0]!r} in {name}")


def _sources(file: Path) -> Iterator[tuple[str, str]]:
    if not zipfile.is_zipfile(file):
        raise ValueError(what_it_is(file) or "it is not a TorchScript archive")
    with zipfile.ZipFile(file) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".py")]
        if not any("/code/" in entry.filename for entry in entries):
            raise ValueError(what_it_is(file) or "it holds no TorchScript code")
        for entry in entries:
            yield entry.filename.partition("/")[2], archive.read(entry).decode("utf-8", "replace")


def checked_export(file: Path) -> bytes:
    """An exported program with nothing in it that torch would execute.

    Its example inputs are read as tensors only and written anew; its notes and the checks that torch compiles are left
    out; what remains are weights, names of torch's own operators, and arithmetic.

    Returns:
        A file of the same format.

    Raises:
        ClassifierError: it holds a pickle of something else than tensors, compiled code, the name of a Python function,
            or an expression that calls one.
        ValueError: it is no exported program.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError(what_it_is(file) or "it is not an archive of torch.export")
    clean = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as written:
        names = [entry.filename for entry in archive.infolist()]
        if not any(re.fullmatch(r"[^/]+/models/[^/]+\.json", name) for name in names):
            raise ValueError(what_it_is(file) or "it holds no program in the format of this torch; export it again")
        if len(set(names)) < len(names):
            raise _refusal(file, "two entries of one name")
        for name in names:
            try:
                written.writestr(name, _clean(name.partition("/")[2], archive.read(name)))
            except _Found as found:
                raise _refusal(file, f"{found} in {name.partition('/')[2]}") from None
    return clean.getvalue()


def _clean(name: str, content: bytes) -> bytes:
    """One entry of the archive."""
    if name.startswith("data/sample_inputs/"):
        return _tensors_only(content)
    if name.endswith(".json") and name.startswith(("models/", "data/weights/", "data/constants/")):
        program = json.loads(content)
        return json.dumps(_looked_at(program)).encode()
    if re.fullmatch(r"data/(weights|constants)/(weight|tensor)_\d+", name):
        return content  # bytes of a tensor: `use_pickle` was looked at above
    if name in ("archive_format", "archive_version", "byteorder", "version") or name.startswith((".data/", "extra/")):
        return content
    raise _Found("an entry that is neither weights nor a program")


def _tensors_only(content: bytes) -> bytes:
    import torch

    try:
        value = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # whatever is wrong with it, it is not only tensors
        raise _Found("a pickle of something else than tensors") from error
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _looked_at(value: Any, key: str = "") -> Any:
    """A JSON value without what is left aside; raises `_Found` where it names something that would be executed."""
    if isinstance(value, dict):
        if value.get("use_pickle"):
            raise _Found("a pickle")
        if value.get("as_custom_obj") is not None or value.get("custom_obj_values"):
            raise _Found("an object of a class of its own")
        for each in value:
            if not _PLAIN.fullmatch(str(each)):
                raise _Found(f"the name {str(each)[:60]!r}")
        return {
            each: ([] if isinstance(of, list) else {}) if each in _ASIDE else _looked_at(of, each)
            for each, of in value.items()
        }
    if isinstance(value, list):
        return [_looked_at(each, key) for each in value]
    if isinstance(value, str):
        _text(value, key)
    return value


def _text(text: str, key: str) -> None:
    if key in ("target", "as_operator"):
        if not (_TARGET.fullmatch(text) or _ARITHMETIC.fullmatch(text)) or _REACHES_OUT.search(text):
            raise _Found(f"the function {text[:80]!r}")
    elif key == "expr_str":
        _expression(text)
    elif key in ("in_spec", "out_spec"):
        _containers(json.loads(text))
    elif not _PLAIN.fullmatch(text):
        raise _Found(f"the text {text[:60]!r}")


def _expression(text: str) -> None:
    """A length as sympy writes it: calls of its own names on numbers and symbols."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError) as error:
        raise _Found(f"the expression {text[:60]!r}") from error
    for node in ast.walk(tree.body):
        allowed = (
            (isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
            or (isinstance(node, ast.Name) and (node.id in _SYMBOLIC or re.fullmatch(r"[suz]\d+", node.id)))
            or (isinstance(node, ast.Constant) and (not isinstance(node.value, str) or node.value.isidentifier()
                                                    or re.fullmatch(r"[\d.+\-einf]+", node.value)))
            or isinstance(node, ast.keyword | ast.Load | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop)
        )  # fmt: skip
        if not allowed:
            raise _Found(f"the expression {text[:60]!r}")


def _containers(spec: Any) -> None:
    """How inputs and outputs are nested: tuples, lists and dictionaries, and no class that would be imported."""
    if isinstance(spec, list):
        for each in spec:
            _containers(each)
    elif isinstance(spec, dict):
        if spec.get("type") not in _CONTAINERS:
            raise _Found(f"inputs or outputs of the type {str(spec.get('type'))[:60]!r}")
        if not re.fullmatch(r"[\w\s\"',\[\].\-]*", str(spec.get("context"))):
            raise _Found("inputs or outputs with a context of their own")
        _containers(spec.get("children_spec", []))


def what_it_is(file: Path) -> str:
    """What a file that torch cannot read is, where that can be told; empty where it cannot."""
    if file.is_dir():
        return "it is a folder"
    with file.open("rb") as opened:
        start = opened.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file: run `git lfs pull`"
    if start[:1] == b"\x80":
        return "it is a pickle, a checkpoint of an old torch: export the model itself"
    if start.lstrip()[:1] == b"<":
        return "it is a web page: download the file again"
    if not zipfile.is_zipfile(file):
        return ""
    with zipfile.ZipFile(file) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    if any(name.startswith("models/") for name in names):
        return "it is a program of torch.export: write kind: torch_export"
    if any(name.startswith("code/") for name in names):
        return "it is TorchScript: write kind: torchscript"
    if "data.pkl" in names:
        return (
            "it is a checkpoint that torch.save wrote, weights without the model: build the model, load them into it "
            "and export it"
        )
    return ""
