"""Take the instrument out of records: StationXML's responses of channels, each valid for a time."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import recipe
from specufex_dask.fetching import fetch, is_place
from specufex_dask.from_obspy import load
from specufex_dask.kept import Kept
from specufex_dask.reading import quiet_obspy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr

    from specufex_dask.anchors import Rows
    from specufex_dask.preprocess import Preprocess

Array = np.ndarray[Any, Any]
UNITS = {"DISP": "m", "VEL": "m/s", "ACC": "m/s2"}
"""Units of records without their instrument, by the name that ObsPy has for them."""

_MOTIONS = {"DISP": "ground displacement", "VEL": "ground velocity", "ACC": "ground acceleration"}
_PER = ("", "/S", "/SEC", "/S**2", "/(S**2)", "/SEC**2", "/(SEC**2)", "/S/S")
_GROUND_MOTION = {f"{prefix}M{per}" for prefix in ("", "N", "M", "C") for per in _PER}  # as evalresp knows them
_TRIED_POINTS = 64
_MOST_BYTES = 64_000_000
_N_SHOWN = 3
_FIRST_NS, _LAST_NS = (int(limit) for limit in (np.iinfo(np.int64).min, np.iinfo(np.int64).max))
_inverses: Kept[tuple[Array | None, Array]] = Kept(_MOST_BYTES, lambda each: 24 * len(each[1]))


@dataclass(frozen=True)
class Responses:
    """The responses of channels and what they are made to: small, and the same on every worker.

    `epochs` holds, by channel, first and last time [ns] and the hash of a response, in the order of
    the inventory; `packed` the responses themselves.
    """

    output: str
    pre_filt: tuple[float, float, float, float] | None
    water_level: float | None
    epochs: Mapping[str, tuple[tuple[int, int, str], ...]]
    packed: Mapping[str, bytes] = field(repr=False)

    @property
    def identity(self) -> str:
        """A hash of all that the responses do to records."""
        return recipe.digest(json.dumps(self.epochs, sort_keys=True))

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (self.output, self.pre_filt, self.water_level, self.identity)

    def at(self, station_id: str, time_ns: int) -> str | None:
        """The hash of the channel's response at `time_ns`; None if there is none. Of several, the first, as ObsPy."""
        epochs = self.epochs.get(station_id, ())
        return next((name for first_ns, last_ns, name in epochs if first_ns <= time_ns <= last_ns), None)

    def remove(self, samples: Array, name: str, sampling_rate: float) -> Array:
        """`samples` (sample,) [counts] at `sampling_rate` [Hz] without the response of the hash `name`.

        It is what ObsPy's ``Trace.remove_response`` makes of them with the same `output`, `pre_filt` and
        `water_level`, bit for bit: mean taken off, 2.5 % of either end tapered, divided in frequency.
        """
        from obspy.signal.invsim import cosine_taper

        x = samples.astype(np.float64)
        x -= x.mean()
        x *= cosine_taper(x.size, 0.05, sactaper=True, halfcosine=False)
        n_points, pass_band, inverse = self._inverse(name, x.size, sampling_rate)
        spectrum = np.fft.rfft(x, n=n_points)
        if pass_band is not None:
            spectrum *= pass_band
        spectrum *= inverse
        spectrum[-1] = abs(spectrum[-1]) + 0.0j
        return np.asarray(np.fft.irfft(spectrum)[: x.size])

    def _inverse(self, name: str, n_samples: int, sampling_rate: float) -> tuple[int, Array | None, Array]:
        """Points of the transform, the pass band and the inverse response at its frequencies: made once."""
        from obspy.signal.util import _npts2nfft  # no public name

        n_points = int(_npts2nfft(n_samples))
        key = (name, self.output, self.pre_filt, self.water_level, n_points, sampling_rate)
        kept = _inverses.get(key)
        return n_points, *(kept or _inverses.put(key, self._made(name, n_points, sampling_rate)))

    def _made(self, name: str, n_points: int, sampling_rate: float) -> tuple[Array | None, Array]:
        from obspy.signal.invsim import cosine_sac_taper, invert_spectrum

        response = pickle.loads(self.packed[name])  # noqa: S301 - our own, of `open_responses`
        inverse, frequencies = _evaluated(response, 1.0 / sampling_rate, n_points, self.output)
        if self.water_level is None:
            inverse[0] = 0.0
            inverse[1:] = 1.0 / inverse[1:]
        else:
            invert_spectrum(inverse, self.water_level)
        return None if self.pre_filt is None else cosine_sac_taper(frequencies, flimit=self.pre_filt), inverse


def open_responses(
    steps: Preprocess,
    rows: Rows,
    inventory: Any = None,  # noqa: ANN401 - ObsPy has no types
    storage_options: Mapping[str, Any] | None = None,
) -> Responses | None:
    """The responses of the channels of `rows` from the inventory of `steps`, or else `inventory`.

    None where `steps` leave the instrument in. Those valid at the time of an event are tried.

    Raises
    ------
    ValueError
        No inventory, no response for a channel, or one that cannot be taken out.
    """
    if steps.response is None:
        return None
    network = _inventory(steps.inventory if steps.inventory is not None else inventory, storage_options)
    found: dict[str, list[tuple[int, int, Any]]] = {name: [] for name in rows.station_id.tolist()}
    for name, first, last, response in _epochs(network):
        if name in found:
            found[name].append((first, last, response))
    if lacking := [name for name, epochs in found.items() if not epochs]:
        msg = (
            f"got an inventory without a response for {len(lacking)} of {len(found)} channels "
            f"({', '.join(lacking[:_N_SHOWN])} …), expected one for each: request StationXML with level='response', or "
            f"leave these channels out with station_id=."
        )
        raise ValueError(msg)
    _try(found, (int(rows.origin_ns.min()), int(rows.origin_ns.max())), steps.response)
    named = {name: [(first, last, _hash(each), each) for first, last, each in some] for name, some in found.items()}
    return Responses(
        steps.response,
        steps.pre_filt,
        steps.water_level,
        {name: tuple((first, last, key) for first, last, key, _ in some) for name, some in named.items()},
        {key: pickle.dumps(each) for some in named.values() for *_, key, each in some},
    )


def with_units(waveforms: xr.Dataset, responses: Responses | None) -> xr.Dataset:
    """`waveforms` that say what their samples are without the instrument, where it was taken out."""
    if responses is not None:
        waveforms.waveform.attrs.update(units=UNITS[responses.output], long_name=_MOTIONS[responses.output])
    return waveforms


def _inventory(source: Any, storage_options: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - ObsPy has no types
    if hasattr(source, "networks"):
        return source
    if source is None or not is_place(source):
        msg = (
            f"got preprocess with response and inventory of type {type(source).__name__}, expected the path or URL of "
            f"a StationXML file, or an ObsPy Inventory: pass inventory=, or an Inventory as the stations."
        )
        raise ValueError(msg)
    expected = "responses such as those of StationXML with level='response'"
    files = fetch(source, storage_options)
    return reduce(add, [load(file, "read_inventory", expected) for file in files])


def _epochs(inventory: Any) -> Iterator[tuple[str, int, int, Any]]:  # noqa: ANN401 - ObsPy has no types
    """Channel, first and last time [ns] and response of each epoch that has one, in the order of the inventory."""
    for network in inventory:
        for station in network:
            for channel in station:
                if channel.response is not None:
                    name = f"{network.code}.{station.code}.{channel.location_code}.{channel.code}"
                    first = _FIRST_NS if channel.start_date is None else int(channel.start_date.ns)
                    last = _LAST_NS if channel.end_date is None else int(channel.end_date.ns)
                    yield name, first, last, channel.response


def _try(found: Mapping[str, list[tuple[int, int, Any]]], span_ns: tuple[int, int], output: str) -> None:
    """Raise ``ValueError`` for a response that cannot be evaluated, of those that the records may need."""
    for name, epochs in found.items():
        for first, last, response in epochs:
            if first <= span_ns[1] and last >= span_ns[0] and (reason := _defect(response, output)):
                msg = (
                    f"got a response of {name} that cannot be taken out ({reason}), expected poles, zeros and "
                    f"coefficients from ground motion to counts: correct the inventory, or leave the channel out with "
                    f"station_id=."
                )
                raise ValueError(msg)


def _defect(response: Any, output: str) -> str:  # noqa: ANN401 - ObsPy has no types
    stages = response.response_stages
    if not stages or "Polynomial" in type(stages[0]).__name__:
        return "it has no stages" if not stages else "it is a polynomial"
    if str(stages[0].input_units).upper() not in _GROUND_MOTION:
        return f"its input is in {stages[0].input_units}"
    try:
        values, _ = _evaluated(response, 0.01, _TRIED_POINTS, output)
    # ObsPy raises whatever the stages lead it to.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "" if np.isfinite(values).all() and values[1:].any() else "it is zero or not finite"


def _evaluated(response: Any, spacing: float, n_points: int, output: str) -> tuple[Array, Array]:  # noqa: ANN401
    """The response at the frequencies of a transform; under the lock of ObsPy, as evalresp's state is global."""
    with quiet_obspy():
        values, frequencies = response.get_evalresp_response(
            spacing, n_points, output=output, hide_sensitivity_mismatch_warning=True
        )
    return values, frequencies


def _hash(response: Any) -> str:  # noqa: ANN401 - ObsPy has no types
    return recipe.digest(json.dumps(_plain(response), sort_keys=True))


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a response is made of
    """`value` as JSON knows it: numbers without their errors, objects by their attributes."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    inner = value if isinstance(value, dict) else vars(value)
    return [type(value).__name__, {str(key): _plain(each) for key, each in inner.items()}]
