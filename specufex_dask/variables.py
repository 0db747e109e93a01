"""How a stage's arrays are declared: a variable and the schema of a stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One array of a stage: its dims, NumPy kinds (``"f"``, ``"iu"`` …), units and meaning."""

    name: str
    dims: tuple[str, ...]
    kinds: str
    units: str
    description: str
    optional: bool = False
    coordinate: bool = False


@dataclass(frozen=True)
class Schema:
    """The declared variables of a stage, by name."""

    stage: str
    variables: tuple[Variable, ...]

    def __getitem__(self, name: str) -> Variable:
        return next(v for v in self.variables if v.name == name)


def coordinate(name: str, dims: str, kinds: str, units: str, text: str, *, optional: bool = False) -> Variable:
    """Declare a coordinate; `dims` are separated by blanks."""
    return Variable(name, tuple(dims.split()), kinds, units, text, optional, coordinate=True)


def data(name: str, dims: str, kinds: str, units: str, text: str, *, optional: bool = False) -> Variable:
    """Declare a data variable; `dims` are separated by blanks."""
    return Variable(name, tuple(dims.split()), kinds, units, text, optional)
