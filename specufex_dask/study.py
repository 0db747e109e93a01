"""A study as a user writes it: read from YAML, every key and value checked, nothing computed."""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specufex_dask import places, settings, svi
from specufex_dask.anchors import FALLBACK
from specufex_dask.archive import LAYOUTS
from specufex_dask.predicted import is_velocity_model
from specufex_dask.sections import ALL, OPTIONS, REPORT, SECTIONS, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from specufex_dask.places import Place

_PATHS = frozenset({"archive", "folder", "inventory", "path", "root", "source", "store"})
_SHARED = {
    name: Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation)
    for name, annotation in (("seed", "int"), ("dtype", "Literal['float32', 'float64']"))
}


def _at_least(lowest: int) -> settings.Rule:
    return (lambda value: value >= lowest), f"a number from {lowest}"


_POSITIVE: settings.Rule = ((lambda value: value > 0), "a number above 0")
_RULES: dict[str, settings.Rule] = {
    "band": ((lambda band: 0 <= band[0] < band[1]), "two frequencies in Hz, the lower first"),
    "fallback": (is_velocity_model, FALLBACK),
    "keep": ((lambda keep: set(keep) <= {"initial", "state_probability"}), "names out of initial, state_probability"),
    "n_clusters": (
        (lambda tried: min(tried if isinstance(tried, list) else [tried], default=0) > 1),
        "an integer from 2, or a list of them",
    ),
    "nfft": _at_least(2),
    "overlap": ((lambda overlap: 0 <= overlap < 1), "a fraction of the window, from 0 to below 1"),
    "sampling_rate": _POSITIVE,
    "seed": _at_least(0),
    "time_pool": _at_least(1),
    "window_length": _POSITIVE,
}  # those of the fits stand in svi, which a fit asks as well

_LEFT_OUT = {"picks", "events", "pairs", "correlations", "reference", "candidates", "relocation", "repeaters"}
"""A study without one of these sections does without the stage."""
MODELS = ("shared", "station")
"""One model of all stations, or one for each."""


@dataclass(frozen=True)
class Study:
    """A validated study: the keyword arguments of each section's function."""

    arguments: dict[str, dict[str, Any]]
    by_station: bool = False

    @property
    def store(self) -> str:
        """Where the stages are saved."""
        return str(self.arguments["store"]["store"])

    @property
    def place(self) -> Place:
        """Where the stages are saved, and how to open it."""
        return places.at(self.store, self.arguments["store"].get(OPTIONS))

    @property
    def report(self) -> str:
        """Where the report is written."""
        return str(self.arguments["report"]["path"])


def read_study(study: str | os.PathLike[str] | Mapping[str, Any], *, overrides: Iterable[str] = ()) -> Study:
    """Read and validate a study; every key and value is checked before any data are read.

    A study has the keys ``store``, ``report``, ``seed``, ``dtype`` and one section a stage, whose
    keys are the keyword parameters of its function: ``spectrograms: {band: [1, 20]}`` is
    ``compute_spectrograms(..., band=(1, 20))``. A section that is plain text sets the first
    parameter: ``catalog: events.csv``. ``seed`` and ``dtype`` hold for every stage that takes them
    and does not set its own. Paths are relative to the file's folder; ``${NAME}`` is an environment
    variable; ``station_id: all`` is every station. ``models: station`` fits and clusters each station
    by itself, in its group of the store. `overrides` are ``"section.key=value"`` each.

    Raises ``ValueError`` with a line for each mistake: the key, the value, what is allowed.

    Examples
    --------
    >>> read_study({"store": "study.zarr", "seeds": 1})
    Traceback (most recent call last):
        ...
    ValueError: the study has mistakes; correct each line and run it again:
    - got seeds=1, expected one of activations, candidates, catalog, ... Did you mean 'seed'?
    ...
    """
    content, folder, name = _read(study)
    for override in overrides:
        _override(content, override)
    reader = _Reader(folder)
    arguments = reader.arguments(content)
    if reader.mistakes:
        lines = "\n".join(f"- {mistake}" for mistake in reader.mistakes)
        msg = f"{name} has mistakes; correct each line and run it again:\n{lines}"
        raise ValueError(msg)
    arguments["report"].setdefault("path", str(folder / f"{Path(arguments['store']['store']).stem}.html"))
    return Study(arguments, by_station=content.get("models") == "station")


def _read(study: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Any], Path, str]:
    """The content with each section a mapping, the folder of its paths, and a name for messages."""
    if isinstance(study, (str, os.PathLike)):
        path = Path(study)
        content, folder, name = settings.load_yaml(path.read_text(encoding="utf-8"), str(path)), path.parent, str(path)
    else:
        content, folder, name = copy.deepcopy(dict(study)), Path(), "the study"
    if not isinstance(content, dict):
        msg = f"got {name} that holds {type(content).__name__}, expected the keys store, catalog, …: see read_study."
        raise ValueError(msg)  # noqa: TRY004 a wrong value, not a wrong use of Python
    return {key: _section(key, value) for key, value in content.items()}, folder, name


def _section(key: str, value: object) -> object:
    """Text as the first parameter of its section, nothing as a section without settings."""
    section = next((s for s in ALL if s.stage == key), None)
    if section and isinstance(value, str):
        return {next(iter(section.parameters)): value}
    return {} if section and value is None else value


def _override(content: dict[str, Any], text: str) -> None:
    """Set ``section.key=value`` in `content`, the value read as YAML."""
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip():
        msg = f"got the override {text!r}, expected section.key=value, such as waveforms.station_id=all."
        raise ValueError(msg)
    section, _, key = dotted.strip().partition(".")
    parsed = settings.load_yaml(value, f"--set {text}")
    if key:
        content[section] = {**(content.get(section) or {}), key: parsed}
    else:
        content[section] = _section(section, parsed)


class _Reader:
    """Turns the content of a study into keyword arguments, and collects what is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.mistakes: list[str] = []

    def arguments(self, content: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The arguments of every section; complete if there are no mistakes."""
        sections = {section.stage: section for section in ALL}
        self._unknown(content, sections.keys() | _SHARED.keys() | {"models"})
        if content.get("models", MODELS[0]) not in MODELS:
            self.mistakes.append(f"got models={content['models']!r}, expected one of {', '.join(MODELS)}.")
        own = {key: content[key] for key in _SHARED if key in content}
        shared = self._converted(own, _SHARED, read_study)
        wanted = [stage for stage in sections if stage in content or stage not in _LEFT_OUT]
        for section in (s for s in SECTIONS if s.stage in wanted):
            for stage in (s for s in section.inputs + section.named if s not in wanted):
                self.mistakes.append(f"got {section.stage} without {stage}, which it is made from: add {stage}.")
        return {stage: self._section(sections[stage], content.get(stage, {}), shared) for stage in wanted}

    def _section(self, section: Section, given: object, shared: dict[str, Any]) -> dict[str, Any]:
        parameters, prefix = section.parameters, f"{section.stage}."
        if not isinstance(given, dict):
            self.mistakes.append(f"got {section.stage}={given!r}, expected the keys {', '.join(sorted(parameters))}.")
            return {}
        self._unknown(given, parameters, prefix)
        own = {name: value for name, value in given.items() if name in parameters}
        defaults = {name: value for name, value in shared.items() if name in parameters}
        for name in [name for name in parameters if name not in own | defaults]:
            self._required(name, parameters[name], section)
        return defaults | self._converted(own, parameters, section.call, prefix)

    def _required(self, name: str, parameter: Parameter, section: Section) -> None:
        key = name if name in _SHARED else f"{section.stage}.{name}"
        mistake = f"got no {key}, expected {settings.allowed(parameter, section.call)}."
        has_default = parameter.default is not Parameter.empty or (section, name) == (REPORT, "path")
        if not has_default and mistake not in self.mistakes:
            self.mistakes.append(mistake)

    def _unknown(self, given: Mapping[str, object], known: Iterable[str], prefix: str = "") -> None:
        names = sorted(known)
        for name in sorted(given.keys() - set(names), key=str):
            self.mistakes.append(f"got {prefix}{name}={given[name]!r}, {settings.unknown(str(name), names)}")

    def _converted(
        self,
        given: Mapping[str, Any],
        parameters: Mapping[str, Parameter],
        function: Callable[..., Any],
        prefix: str = "",
    ) -> dict[str, Any]:
        """The values of `given` as their parameters declare them."""
        converted = {}
        is_below_root = "root" in given or given.get("archive") in LAYOUTS
        paths = _PATHS - ({"archive"} if is_below_root else set())
        for name, value in given.items():
            try:
                expanded = self._expanded(name, value, paths)
                converted[name] = settings.convert(expanded, parameters[name], function, _RULES)
                svi.check({name: converted[name]})
            except settings.MismatchError as error:
                shown = "…" if name == OPTIONS else repr(value)
                self.mistakes.append(f"got {prefix}{name}={shown}, expected {error}.")
                continue
            except ValueError as error:
                self.mistakes.append(str(error).replace("got ", f"got {prefix}", 1))
                continue
            fields = settings.nested(parameters[name], function)
            if fields and isinstance(value, dict):
                converted[name] = self._nested(value, fields, f"{prefix}{name}.")
        return converted

    def _nested(self, given: Mapping[str, Any], fields: type, prefix: str) -> dict[str, Any]:
        parameters = settings.accepted(fields)
        self._unknown(given, parameters, prefix)
        known = {name: value for name, value in given.items() if name in parameters}
        return self._converted(known, parameters, fields, prefix)

    def _expanded(self, name: str, value: Any, paths: frozenset[str]) -> Any:  # noqa: ANN401 - a value as YAML gives it
        """Text with its environment variables, paths from the study's folder, ``all`` stations as no choice."""
        if (name, value) == ("station_id", "all"):
            return None
        if isinstance(value, list):
            return [self._expanded(name, item, paths) for item in value]
        if isinstance(value, dict) and name == OPTIONS:
            return {key: self._expanded(OPTIONS, item, paths) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        text = re.sub(r"\$\{(\w+)\}", _variable, value)
        return str(self._folder / Path(text).expanduser()) if name in paths and "://" not in text else text


def _variable(match: re.Match[str]) -> str:
    if match[1] not in os.environ:
        msg = f"the environment variable {match[1]} to be set: export {match[1]}=… first"
        raise settings.MismatchError(msg)
    return os.environ[match[1]]
