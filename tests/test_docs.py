"""The documents: their Python compiles, their names exist, and the recipe for FDSN services runs as it stands."""

from __future__ import annotations

import ast
import inspect
import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from fdsn_server import fdsn_server

import specufex_dask as sx
from specufex_dask.archive import FIELDS, LAYOUTS
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(path: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_block_of_python_names_what_there_is(path: Path) -> None:
    for block in _blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "sx":
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                accepted = inspect.signature(getattr(sx, node.func.attr)).parameters
                assert given <= accepted.keys(), f"{node.func.attr}: {given - accepted.keys()}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_table_of_archives_has_every_layout_and_field() -> None:
    text = (ROOT / "docs" / "archives.md").read_text(encoding="utf-8")
    assert set(re.findall(r'^\| `"([a-z-]+)"` \|', text, re.MULTILINE)) == LAYOUTS.keys()
    assert all(f"`{{{field}}}`" in text for field in FIELDS)
    (study,) = _blocks(ROOT / "docs" / "archives.md", "yaml")
    assert yaml.safe_load(study)["waveforms"]["archive"] in LAYOUTS


def test_the_rules_name_every_flag_and_existing_tests() -> None:
    text = (ROOT / "docs" / "waveforms.md").read_text(encoding="utf-8")
    assert [flag for flag in QUALITY[1:] if f"`{flag}`" not in text] == []
    assert [name for name in re.findall(r"`(tests/\w+\.py)`", text) if not (ROOT / name).is_file()] == []


@pytest.fixture
def quiet_downloader() -> Iterator[None]:
    """ObsPy's downloader puts its own handlers on its logger, which would talk on in other tests."""
    logger = logging.getLogger("obspy.clients.fdsn.mass_downloader")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.mark.usefixtures("quiet_downloader")
def test_the_recipe_for_fdsn_fills_an_archive_that_gives_the_same_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sx.simulate(
        tmp_path / "made", n_events=6, n_stations=2, sampling_rate=50.0, layout="scedc", seed=0, events_per_day=3
    )
    download, use = [block for block in _blocks(ROOT / "docs" / "archives.md", "python") if "ROOT" in block]
    stations = sx.read_stations(made.stations)
    place = float(stations.latitude.mean()), float(stations.longitude.mean())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with fdsn_server(made) as address:
        changed = {
            '"NCEDC"': repr(address), "UTCDateTime(2022, 9, 11)": "UTCDateTime(2024, 1, 1)",
            "UTCDateTime(2022, 9, 13)": "UTCDateTime(2024, 1, 4)", '"NC,BG"': '"XX"',
            "latitude=38.8, longitude=-122.8": f"latitude={place[0]}, longitude={place[1]}",
        }  # fmt: skip
        for before, after in changed.items():
            assert before in download
            download = download.replace(before, after)
        with warnings.catch_warnings():  # ObsPy's own
            warnings.simplefilter("ignore")
            exec(compile(download, "docs/archives.md", "exec"), names)  # noqa: S102 - our own document
    tree = sorted(str(p.relative_to(tmp_path / "archive")) for p in (tmp_path / "archive").rglob("*.D.*"))
    assert tree[0] == "2024/XX/S001/BHZ.D/XX.S001..BHZ.D.2024.001"
    assert len(tree) == 6
    exec(compile(use.replace("100.0", "50.0"), "docs/archives.md", "exec"), names)  # noqa: S102
    found = names["waveforms"].compute()
    picks = sx.read_picks(made.quakeml)
    expected = sx.open_waveforms(
        sx.read_catalog(made.quakeml), stations, archive="scedc", root=f"{made.folder}/waveforms", sampling_rate=50.0,
        window=(-2.0, 18.0), anchor="P", picks=picks,
    ).compute()  # fmt: skip
    assert found.event_id.values.tolist() == expected.event_id.values.tolist()
    usable = expected.quality.values == 0
    assert usable.sum() >= 10
    np.testing.assert_array_equal(found.waveform.values[usable], expected.waveform.values[usable])
    np.testing.assert_array_equal(found.quality.values, expected.quality.values)
