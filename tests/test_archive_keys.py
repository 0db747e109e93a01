"""The objects that a record is looked for in, against names written out by hand from dates and codes."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from specufex_dask.archive import LAYOUTS, PathTemplate

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LONGEST_RECORD = dt.timedelta(seconds=60)
LETTERS = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
CODES = st.tuples(
    st.text(LETTERS, min_size=1, max_size=2), st.text(LETTERS, min_size=1, max_size=5),
    st.sampled_from(["", "00", "10", "01", "N1", "2"]), st.text(LETTERS, min_size=3, max_size=3),
)  # fmt: skip
SEAMS = [dt.datetime(year, *rest, tzinfo=dt.UTC) for year in (1999, 2000, 2019, 2020, 2023, 2024)
         for rest in ((1, 1), (3, 1), (12, 31), (7, 5))]  # fmt: skip
TIMES = st.one_of(
    st.integers(0, 65 * 365 * 86_400_000).map(lambda offset: EPOCH + dt.timedelta(milliseconds=offset)),
    st.builds(
        lambda seam, offset: seam + dt.timedelta(milliseconds=offset),
        st.sampled_from(SEAMS), st.integers(-120_000, 120_000),
    ),
)  # fmt: skip


def _padded(code: str, length: int) -> str:
    return code + (length - len(code)) * "_"


def _key(layout: str, codes: tuple[str, str, str, str], day: dt.date, event_id: str) -> str:
    """The name of one object, as the archives' own pages have it."""
    network, station, location, channel = codes
    year, doy = f"{day.year:04d}", f"{day.timetuple().tm_yday:03d}"
    if layout == "scedc":
        name = _padded(network, 2) + _padded(station, 5) + channel + _padded(location, 2) + "_" + year + doy + ".ms"
        return f"continuous_waveforms/{year}/{year}_{doy}/{name}"
    if layout == "ncedc":
        name = f"{station}.{network}.{channel}.{location}.D.{year}.{doy}"
        return f"continuous_waveforms/{network}/{year}/{year}.{doy}/{name}"
    if layout == "earthscope":
        return f"miniseed/{network}/{year}/{doy}/{station}.{network}.{year}.{doy}"
    if layout == "sds":
        return f"{year}/{network}/{station}/{channel}.D/{network}.{station}.{location}.{channel}.D.{year}.{doy}"
    if layout == "scedc-events":
        return f"event_waveforms/{year}/{year}_{doy}/{event_id}.ms"
    return f"event_waveforms/{year}/{year}.{doy}/NC.{event_id}.NCSS.ms"


def _ns(time: dt.datetime) -> int:
    return (time - EPOCH) // dt.timedelta(microseconds=1) * 1000


def _days(first: dt.datetime, last: dt.datetime) -> list[dt.date]:
    return [first.date() + dt.timedelta(days=i) for i in range((last.date() - first.date()).days + 1)]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@given(codes=CODES, origin=TIMES, start=st.integers(-200, 200), length=st.integers(1, 200_000))
@example(("CI", "GMR", "", "LHN"), dt.datetime(2021, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), -2, 20)
@example(("CE", "13884", "10", "HNZ"), dt.datetime(2020, 1, 1, 0, 0, 1, tzinfo=dt.UTC), -2, 20)
def test_a_record_is_looked_for_where_its_archive_has_it(
    layout: str, codes: tuple[str, str, str, str], origin: dt.datetime, start: int, length: int
) -> None:
    """Events under the day of the origin; days under those of the samples, and of a record that began before them."""
    first = origin + dt.timedelta(seconds=start)
    last = first + dt.timedelta(seconds=length)
    template = PathTemplate(LAYOUTS[layout].template)
    found = template.sources("38457511", ".".join(codes), [_ns(origin), _ns(first), _ns(last)])
    of_events = layout.endswith("events")
    days = [origin.date()] if of_events else _days(first - LONGEST_RECORD, last)
    assert list(found) == [_key(layout, codes, day, "38457511") for day in days]


def test_the_examples_of_the_archives_own_pages() -> None:
    """Names that SCEDC, NCEDC and EarthScope show on their pages."""
    shown = {
        ("scedc", "AZ.BZN..BHE", "2016-01-01"): "continuous_waveforms/2016/2016_001/AZBZN__BHE___2016001.ms",
        ("scedc", "CI.GMR..LHN", "2022-01-02"): "continuous_waveforms/2022/2022_002/CIGMR__LHN___2022002.ms",
        ("scedc", "CE.13884.10.HNZ", "2022-01-02"): "continuous_waveforms/2022/2022_002/CE13884HNZ10_2022002.ms",
        ("ncedc", "BG.CLV..DPN", "2023-01-22"): "continuous_waveforms/BG/2023/2023.022/CLV.BG.DPN..D.2023.022",
        ("ncedc", "BK.MERC.00.HNZ", "2022-09-11"): "continuous_waveforms/BK/2022/2022.254/MERC.BK.HNZ.00.D.2022.254",
        ("earthscope", "UW.RATT..BHZ", "2019-07-06"): "miniseed/UW/2019/187/RATT.UW.2019.187",
        ("scedc-events", "CI.GMR..LHN", "2019-07-06"): "event_waveforms/2019/2019_187/38457511.ms",
    }
    for (layout, station_id, day), key in shown.items():
        noon = _ns(dt.datetime.fromisoformat(f"{day}T12:00:00+00:00"))
        found = PathTemplate(LAYOUTS[layout].template).sources("38457511", station_id, [noon, noon, noon + 10**10])
        assert found == (key,)


@given(TIMES, st.integers(1, 30_000))
def test_files_of_hours_are_those_that_the_window_touches(first: dt.datetime, length: int) -> None:
    last = first + dt.timedelta(seconds=length)
    begun = first - LONGEST_RECORD
    hour = begun.replace(minute=0, second=0, microsecond=0)
    hours = []
    while hour <= last:
        hours.append(f"{hour:%Y/%m/%d}/A.{hour:%H}.mseed")
        hour += dt.timedelta(hours=1)
    template = PathTemplate("{year}/{month}/{day}/{station}.{hour}.mseed")
    assert list(template.sources("1", "XX.A..HHZ", [_ns(first), _ns(first), _ns(last)])) == hours
