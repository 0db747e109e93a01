"""Check settings written as text against the signature of the function that they go to.

The functions' own annotations are the only list of what is allowed. They are read as text, since
most of their names are imported for the type checker alone.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Rule = tuple[Callable[[Any], bool], str]

_PLAIN = {"str": "text", "int": "an integer", "float": "a number", "bool": "true or false", "None": "null"}
_PLURALS = {"text": "texts", "an integer": "integers", "a number": "numbers"}
_TEXT_LIKE = {"Path", "PathLike", "DTypeLike"}
_LISTS = {"list", "Sequence", "Iterable", "Collection", "Set", "set", "frozenset"}
_MAPPINGS = {"dict", "Mapping"}
_ANYTHING = {"Any", "object"}  # beside other types: what only a program can pass


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the signature is PyYAML's
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                msg = f"got the key {key!r} twice"
                raise yaml.constructor.ConstructorError(None, None, msg, node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def load_yaml(text: str, name: str) -> Any:  # noqa: ANN401 - YAML holds anything
    """The content of a YAML `text`; ``ValueError`` with the line if it is none."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 a subclass of the safe loader
    except yaml.YAMLError as error:
        msg = f"got {name} that is not YAML, expected keys and values: correct it.\n{error}"
        raise ValueError(msg) from error


class MismatchError(ValueError):
    """A value that an annotation does not allow."""


def accepted(function: Callable[..., Any], *, inputs: int = 0) -> dict[str, inspect.Parameter]:
    """The parameters of `function` that text can set, without the first `inputs` ones."""
    named = list(inspect.signature(function).parameters.values())[inputs:]
    return {p.name: p for p in named if allowed(p, function) not in {"", "null"}}


def nested(parameter: inspect.Parameter, function: Callable[..., Any]) -> type | None:
    """The dataclass whose fields a mapping for `parameter` sets, if it is annotated with one."""
    for node in ast.walk(ast.parse(str(parameter.annotation), mode="eval")):
        named = _names(function).get(node.id) if isinstance(node, ast.Name) else None
        if isinstance(named, type) and is_dataclass(named):
            return named
    return None


def unknown(key: str, allowed: Iterable[str]) -> str:
    """Say that `key` is none of `allowed`, with the nearest of them."""
    names = sorted(allowed)
    near = get_close_matches(key, names, n=1) or [name for name in names if key.startswith(name)]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"expected one of {', '.join(names)}.{hint}"


def allowed(parameter: inspect.Parameter, function: Callable[..., Any]) -> str:
    """What `parameter` of `function` may be, in words."""
    return _describe(_annotation(parameter, function))


def convert(
    value: object, parameter: inspect.Parameter, function: Callable[..., Any], rules: Mapping[str, Rule]
) -> Any:  # noqa: ANN401 - a value as YAML gives it, converted
    """Return `value` as the type that `parameter` of `function` declares.

    A list becomes a tuple where one is declared, and text such as ``1e-3``, which YAML 1.1 does not
    take for a number, a float. Raises ``MismatchError`` that says what is allowed if the value is of
    another type, or breaks the rule (a predicate and its description) of the parameter's name.
    """
    annotation = _annotation(parameter, function)
    converted = _convert(value, annotation)
    if converted is _NO:
        raise MismatchError(_describe(annotation))
    holds, allowed = rules.get(parameter.name, (None, ""))
    if holds and converted is not None and not holds(converted):
        raise MismatchError(allowed)
    return converted


_NO = object()


def _names(function: Callable[..., Any]) -> Mapping[str, Any]:
    return vars(sys.modules[function.__module__])


def _annotation(parameter: inspect.Parameter, function: Callable[..., Any]) -> ast.expr:
    return _resolve(ast.parse(str(parameter.annotation), mode="eval").body, _names(function))


def _resolve(node: ast.expr, names: Mapping[str, object]) -> ast.expr:
    """Replace a name by the alias that it stands for in its module, if it is one."""

    class Resolve(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            alias = names.get(name.id)
            if alias is None or isinstance(alias, type) or not hasattr(alias, "__args__"):
                return name
            return ast.parse(str(alias), mode="eval").body

    resolved: ast.expr = Resolve().visit(node)
    return resolved


def _convert(value: object, node: ast.expr) -> Any:  # noqa: ANN401 - a value as YAML gives it, converted
    """`value` as the annotation `node` has it, or `_NO`."""
    if isinstance(node, ast.BinOp):
        exact = [_convert(value, side) for side in _sides(node) if _name(side) not in _ANYTHING]
        return next((result for result in exact if result is not _NO), _NO)
    if isinstance(node, ast.Subscript):
        return _convert_items(value, node)
    return _convert_plain(value, _name(node))


def _convert_plain(value: object, name: str) -> Any:  # noqa: ANN401 - a value as YAML gives it, converted
    if name in _ANYTHING:
        return value
    if name == "float":
        return _number(value)
    if name in _LISTS | _MAPPINGS | {"tuple"}:
        return value if isinstance(value, dict if name in _MAPPINGS else list) else _NO
    kinds: dict[str, type] = {"str": str, "int": int, "bool": bool, "None": type(None)}
    wanted = kinds.get(name, str if name in _TEXT_LIKE else None)
    fits = wanted is not None and isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    return value if fits else _NO


def _number(value: object) -> Any:  # noqa: ANN401 - a value as YAML gives it, converted
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return _NO
    try:
        number = float(value)
    except ValueError:
        return _NO
    return number if math.isfinite(number) else _NO


def _convert_items(value: object, node: ast.Subscript) -> Any:  # noqa: ANN401 - a value as YAML gives it, converted
    name, items = _name(node.value), _items(node)
    if name == "Literal":
        return value if any(value == ast.literal_eval(item) for item in items) else _NO
    if name in _MAPPINGS:
        return value if isinstance(value, dict) else _NO
    if name not in _LISTS | {"tuple"} or not isinstance(value, list):
        return _NO
    fixed = name == "tuple" and not _is_open(items)
    if fixed and len(value) != len(items):
        return _NO
    kinds = items if fixed else items[:1] * len(value)
    converted = [_convert(item, kind) for item, kind in zip(value, kinds, strict=True)]
    if any(item is _NO for item in converted):
        return _NO
    return tuple(converted) if name == "tuple" else converted


def _describe(node: ast.expr) -> str:
    """What the annotation allows, for a reader of YAML."""
    if isinstance(node, ast.BinOp):
        return " or ".join(dict.fromkeys(text for side in _sides(node) if (text := _describe(side))))
    if not isinstance(node, ast.Subscript):
        name = _name(node)
        return _PLAIN.get(name, "text" if name in _TEXT_LIKE else "a mapping" if name in _MAPPINGS else "")
    name, items = _name(node.value), _items(node)
    if name == "Literal":
        return "one of " + ", ".join(str(ast.literal_eval(item)) for item in items)
    if name == "tuple" and not _is_open(items):
        return "a list [" + ", ".join(_describe(item) for item in items) + "]"
    each = _describe(items[0])
    return "a mapping" if name in _MAPPINGS else f"a list of {_PLURALS.get(each, f'items, each {each}')}"


def _sides(node: ast.BinOp) -> list[ast.expr]:
    """The alternatives of ``a | b | c``, in the order written."""
    left = _sides(node.left) if isinstance(node.left, ast.BinOp) else [node.left]
    return [*left, node.right]


def _items(node: ast.Subscript) -> list[ast.expr]:
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def _is_open(items: list[ast.expr]) -> bool:
    """Whether a tuple's items are ``kind, ...``: of any number."""
    last = items[-1]
    return isinstance(last, ast.Constant) and last.value is Ellipsis


def _name(node: ast.expr) -> str:
    """The last part of a dotted name; a constant as it is written."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Constant):
        return str(node.value)
    return node.id if isinstance(node, ast.Name) else ""
