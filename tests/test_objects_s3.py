"""Objects behind a network: whole although their beginning was asked for ahead, and few requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fault_proxy import fault_proxy
from fault_rules import Fault, Request

from specufex_dask import objects
from specufex_dask.objects import Objects

if TYPE_CHECKING:
    from s3_server import Server

SIZES = {"ahead/empty": 0, "ahead/short": 5_000, "ahead/exact": 4_000_000, "ahead/long": 6_000_001}
CONTENTS = {key: np.random.default_rng(size).bytes(size) for key, size in SIZES.items()}


def _is_ahead(request: Request) -> bool:
    return request.reads_object and request.range == (0, objects._AHEAD - 1)


@pytest.mark.parametrize("kind", [None, "short", "cut", "reset", "404", "500"])
def test_an_object_is_whole_whatever_becomes_of_what_was_asked_for_ahead(s3: Server, kind: Any) -> None:
    s3.put(CONTENTS, "scedc-pds")
    with fault_proxy(s3.endpoint) as proxy:
        archive = Objects(s3.storage_options("anonymous", endpoint=proxy.endpoint))
        for key, content in CONTENTS.items():
            objects._listings.clear()
            proxy.reset()
            if kind:
                proxy.rules.append(Fault(kind, _is_ahead, times=1))
            assert b"".join(archive.read_parts(f"s3://scedc-pds/{key}")) == content
            assert kind is None or not content or proxy.faults.total() >= 1
            proxy.reset()
            assert b"".join(archive.read_parts(f"s3://scedc-pds/{key}")) == content
            assert all(request.reads_object for request in proxy.log), "the folder is listed once"
            assert len(proxy.log) <= objects._CONNECTIONS
        objects._listings.clear()
        with pytest.raises(FileNotFoundError):
            archive.read_parts("s3://scedc-pds/ahead/none")


def test_a_folder_that_may_not_be_listed_is_asked_for_its_list_once(s3: Server) -> None:
    s3.put(CONTENTS, "scedc-pds")
    with fault_proxy(s3.endpoint) as proxy:
        proxy.rules.append(Fault("403", lambda request: "list-type" in request.query))
        archive = Objects(s3.storage_options("anonymous", endpoint=proxy.endpoint))
        for key, content in CONTENTS.items():
            path = f"s3://scedc-pds/{key}"
            assert archive.size(path) == len(content)
            assert not archive.knows_size(path)
            assert b"".join(archive.read_parts(path)) == content
        assert proxy.faults.total() == 1
        assert len([request for request in proxy.log if "list-type" in request.query]) == 1


def test_a_mistake_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def list_wrongly(self: Objects, folder: str) -> dict[str, int]:
        asked.append(folder)
        return len(self.options, folder)  # type: ignore[call-arg,return-value]

    monkeypatch.setattr(Objects, "_list", list_wrongly)
    with pytest.raises(TypeError, match="takes exactly one argument"):
        Objects({"mistaken": 1}).size("memory://folder/object")
    assert asked == ["memory://folder"]
