from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from specufex_dask import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import xarray as xr

Pair = tuple[float, float]


@dataclass(frozen=True)
class Steps:
    corner: float = 1.0


def stage(
    dataset: xr.Dataset,
    path: str | Path,
    *,
    number: float = 1.0,
    whole: int | None = None,
    flag: bool = False,
    pair: Pair | None = None,
    texts: str | Sequence[str] = (),
    names: tuple[str, ...] = (),
    tried: int | Iterable[int] = 3,
    choice: Literal["a", "b"] = "a",
    steps: Steps | Mapping[str, Any] | None = None,
    archive: str | Any = "",
) -> None:
    """Have a parameter of each kind that the stage functions use."""


def _convert(name: str, value: object) -> Any:
    return settings.convert(
        value, inspect.signature(stage).parameters[name], stage, {"whole": (_even, "an even number")}
    )


def _even(value: int) -> bool:
    return value % 2 == 0


@pytest.mark.parametrize(
    ("name", "value", "converted"),
    [
        ("path", "a/b", "a/b"),
        ("number", 2, 2.0),
        ("number", "1e-3", 1e-3),  # YAML 1.1 takes this for text
        ("whole", 4, 4),
        ("whole", None, None),
        ("flag", True, True),
        ("pair", [1, 2.5], (1.0, 2.5)),
        ("pair", None, None),
        ("texts", ["a", "b"], ["a", "b"]),
        ("texts", "a", "a"),
        ("names", ["a", "b", "c"], ("a", "b", "c")),
        ("names", [], ()),
        ("tried", [2, 3], [2, 3]),
        ("choice", "b", "b"),
        ("steps", {"corner": 2}, {"corner": 2}),
        ("archive", "x", "x"),
    ],
)
def test_converts_to_what_the_signature_declares(name: str, value: object, converted: object) -> None:
    result = _convert(name, value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("path", 3, "text"),
        ("number", "fast", "a number"),
        ("number", True, "a number"),
        ("number", float("nan"), "a number"),
        ("whole", 2.0, "an integer or null"),
        ("whole", True, "an integer or null"),
        ("whole", 3, "an even number"),
        ("flag", 1, "true or false"),
        ("pair", [1, 2, 3], "a list [a number, a number] or null"),
        ("pair", [1, "x"], "a list [a number, a number] or null"),
        ("pair", 1, "a list [a number, a number] or null"),
        ("texts", ["a", 1], "text or a list of texts"),
        ("names", "a", "a list of texts"),
        ("tried", [2, "3"], "an integer or a list of integers"),
        ("choice", "c", "one of a, b"),
        ("steps", "corner", "a mapping or null"),
        ("archive", 5, "text"),
    ],
)
def test_says_what_is_allowed(name: str, value: object, allowed: str) -> None:
    with pytest.raises(settings.MismatchError) as error:
        _convert(name, value)
    assert str(error.value).startswith(allowed)


def test_accepts_only_what_text_can_set() -> None:
    accepted = settings.accepted(stage)
    assert next(iter(accepted)) == "path"  # a Dataset comes from the stage before
    assert "choice" in accepted
    assert settings.nested(accepted["steps"], stage) is Steps
    assert settings.nested(accepted["pair"], stage) is None


def test_unknown_names_the_nearest() -> None:
    assert settings.unknown("overlp", ["band", "overlap"]) == "expected one of band, overlap. Did you mean 'overlap'?"
    assert settings.unknown("tolerance", ["tol"]) == "expected one of tol. Did you mean 'tol'?"
    assert settings.unknown("zzz", ["band"]) == "expected one of band."


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: 1\na: 2\n", "got the key 'a' twice"), ("a: [1\n", "line 2"), ("s: {b: 1, b: 2}", "got the key 'b' twice")],
)
def test_bad_yaml_names_the_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"got study\.yaml that is not YAML") as error:
        settings.load_yaml(text, "study.yaml")
    assert says in str(error.value)
    assert "line" in str(error.value)
