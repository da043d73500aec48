"""Which fields a page's Jinja template names, held against the types of what the page hands to it.

`StrictUndefined` complains of a missing field only where a page is made in which the line is reached. Here every line
is read, with the types of the names that a page passes; what has no type that is known (`Any`, a number) is not held to
one.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from jinja2 import Environment, nodes

Scope = dict[str, Any]  # name in a template -> its type, as it would be annotated
_KEEPS = {"list", "sort", "reverse", "unique", "selectattr", "rejectattr", "select", "reject", "default"}  # filters
_ELEMENT = {"first", "last", "max", "min"}


def unknown_fields(environment: Environment, template: str, given: Mapping[str, Any], where: str = "") -> list[str]:
    """Every field that a template names and that its object has not, as "template, line: Class.field".

    Args:
        given: name -> type of what the page passes.
        where: the text of the template; "" for that of the environment's loader.

    Macros are read where they are called, with the types of their arguments.
    """
    reader = _Reader(environment, template)
    tree = environment.parse(where or reader.text(template))
    for parent in tree.find_all(nodes.Extends):
        reader.read_macros(parent.template.value)  # type: ignore[attr-defined]
    reader.statements(tree.body, dict(given))
    return list(dict.fromkeys(reader.faults))


class _Reader:
    def __init__(self, environment: Environment, template: str) -> None:
        self._environment, self._template = environment, template
        self._macros: dict[str, nodes.Macro] = {}  # "name", or "m.name" of a module
        self._open: list[str] = []  # macros that are being read
        self.faults: list[str] = []

    def text(self, template: str) -> str:
        assert self._environment.loader
        return self._environment.loader.get_source(self._environment, template)[0]

    def read_macros(self, template: str) -> None:
        """Those of the modules that a template imports, under the name that it imports them as."""
        for each in self._environment.parse(self.text(template)).find_all(nodes.Import):
            self._imported(each)

    def _imported(self, each: nodes.Import) -> None:
        module = self._environment.parse(self.text(each.template.value))  # type: ignore[attr-defined]
        self._macros |= {f"{each.target}.{macro.name}": macro for macro in module.find_all(nodes.Macro)}

    # -- statements --------------------------------------------------------------------------------------------------

    def statements(self, body: Sequence[nodes.Node], scope: Scope) -> None:
        for node in body:
            self._statement(node, scope)

    def _statement(self, node: nodes.Node, scope: Scope) -> None:
        if isinstance(node, nodes.Import):
            self._imported(node)
        elif isinstance(node, nodes.Macro):
            self._macros[node.name] = node
        elif isinstance(node, nodes.For):
            inner = scope | {"loop": Any}
            _bind(node.target, _element(self.type_of(node.iter, scope)), inner)
            if node.test:
                self.type_of(node.test, inner)
            self.statements(node.body, inner)
            self.statements(node.else_, dict(scope))
        elif isinstance(node, nodes.If):
            self.type_of(node.test, scope)
            for part in (node.body, node.elif_, node.else_):
                self.statements(part, scope)
        elif isinstance(node, nodes.Assign):
            _bind(node.target, self.type_of(node.node, scope), scope)
        elif isinstance(node, nodes.Block):
            self.statements(node.body, dict(scope))
        elif isinstance(node, nodes.Expr):
            self.type_of(node, scope)
        else:
            self.statements(list(node.iter_child_nodes()), scope)

    # -- expressions -------------------------------------------------------------------------------------------------

    def type_of(self, node: nodes.Node | None, scope: Scope) -> Any:
        """The type of an expression; whatever it names on the way is held against its types."""
        if isinstance(node, nodes.Name):
            return scope.get(node.name, Any)
        if isinstance(node, nodes.Getattr):
            return self._field(self.type_of(node.node, scope), node.attr, node.lineno)
        if isinstance(node, nodes.Getitem):
            self.type_of(node.arg, scope)
            return _element(self.type_of(node.node, scope), node.arg)
        if isinstance(node, nodes.Filter):
            return self._filtered(node, scope)
        if isinstance(node, nodes.Call):
            return self._called(node, scope)
        if isinstance(node, nodes.CondExpr):
            self.type_of(node.test, scope)
            return _either(self.type_of(node.expr1, scope), self.type_of(node.expr2, scope))
        if isinstance(node, (nodes.Or, nodes.And)):
            return _either(self.type_of(node.left, scope), self.type_of(node.right, scope))
        if isinstance(node, (nodes.List, nodes.Tuple)):
            found = [self.type_of(each, scope) for each in node.items]
            return list[_either(*found)] if found else list[Any]  # type: ignore[misc]
        for child in node.iter_child_nodes() if node else ():
            self.type_of(child, scope)
        return Any

    def _filtered(self, node: nodes.Filter, scope: Scope) -> Any:
        kind = self.type_of(node.node, scope)
        for each in [*node.args, *(keyword.value for keyword in node.kwargs)]:
            self.type_of(each, scope)
        if node.name in ("selectattr", "rejectattr"):
            self._field(_element(kind), node.args[0].as_const(), node.lineno)
        return kind if node.name in _KEEPS else _element(kind) if node.name in _ELEMENT else Any

    def _called(self, node: nodes.Call, scope: Scope) -> Any:
        given = [self.type_of(each, scope) for each in node.args]
        named = {keyword.key: self.type_of(keyword.value, scope) for keyword in node.kwargs}
        if (macro := self._macros.get(_dotted(node.node))) and macro.name not in self._open:
            arguments: Scope = {each.name: Any for each in macro.args}
            arguments |= dict(zip((each.name for each in macro.args), given, strict=False)) | named
            self._open.append(macro.name)
            self.statements(macro.body, scope | arguments)
            self._open.pop()
            return Any
        if isinstance(node.node, nodes.Getattr) and node.node.attr in ("items", "values"):
            owner = self.type_of(node.node.node, scope)
            if isinstance(get_origin(owner), type) and issubclass(get_origin(owner), Mapping):  # type: ignore[arg-type]
                key, value = get_args(owner)
                return list[tuple[key, value]] if node.node.attr == "items" else list[value]  # type: ignore[valid-type]
        self.type_of(node.node, scope)
        return Any

    def _field(self, owner: Any, name: str, line: int) -> Any:
        classes = [each for each in _members(owner) if _is_known(each)]
        if not classes or len(classes) < len(_members(owner)):  # nothing is known of one that it may be
            return Any
        found = [kind for each in classes if (kind := _declared(each, name)) is not _NOTHING]
        if len(found) < len(classes):
            lacking = " and ".join(each.__name__ for each in classes if _declared(each, name) is _NOTHING)
            self.faults.append(f"{self._template}, line {line}: {lacking} has no {name}")
        return _either(*found) if found else Any


_NOTHING = object()


def _dotted(node: nodes.Node) -> str:
    if isinstance(node, nodes.Getattr):
        return f"{_dotted(node.node)}.{node.attr}"
    return node.name if isinstance(node, nodes.Name) else "?"


def _is_known(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or kind is datetime)


def _declared(owner: type, name: str) -> Any:
    """The type of a field or property of a class; `_NOTHING` where it has none of that name."""
    if name in (hints := get_type_hints(owner) if dataclasses.is_dataclass(owner) else {}):
        return hints[name]
    found = getattr(owner, name, _NOTHING)
    if isinstance(found, property):
        return get_type_hints(found.fget).get("return", Any)
    return found if found is _NOTHING else Any


def _members(kind: Any) -> list[Any]:
    """What a type may be, besides None."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for each in get_args(kind) for member in _members(each)]
    return [] if kind is type(None) else [kind]


def _either(*kinds: Any) -> Any:
    members = list(dict.fromkeys(member for each in kinds for member in _members(each)))
    return Any if not members or Any in members else Union[tuple(members)]  # noqa: UP007 (made of a list)


def _element(kind: Any, place: nodes.Node | None = None) -> Any:
    """What a sequence holds, or a mapping where it is looked up; the type at that place of a tuple of fixed length."""
    found = []
    for each in _members(kind):
        origin, inside = get_origin(each), get_args(each)
        if not isinstance(origin, type) or not inside:
            return Any
        if issubclass(origin, tuple) and inside[-1] is not Ellipsis:
            at = place.value if isinstance(place, nodes.Const) else None
            found.append(inside[at] if isinstance(at, int) else _either(*inside))
        elif issubclass(origin, Mapping):
            found.append(inside[-1] if place is not None else inside[0])
        else:
            found.append(inside[0])
    return _either(*found)


def _bind(target: nodes.Node, kind: Any, scope: Scope) -> None:
    if isinstance(target, nodes.Name):
        scope[target.name] = kind
    elif isinstance(target, nodes.Tuple):
        [only] = _members(kind) if len(_members(kind)) == 1 else [Any]
        inside = get_args(only) if get_origin(only) is tuple else ()
        fits = len(inside) == len(target.items) and Ellipsis not in inside
        for i, each in enumerate(target.items):
            _bind(each, inside[i] if fits else _element(only), scope)
