"""The hold on a store in a bucket: one run has it, shows that it lives, and another takes it only if it does not."""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import dask
import pytest
from draws import Counted
from processes import running, says, wait_until
from s3_server import PRIVATE

import specufex_dask as sx
from specufex_dask import holders, leases, places
from specufex_dask.places import Remote
from specufex_dask.runs import BusyStoreError, LostStoreError, holder, holding, log, still_held

if TYPE_CHECKING:
    from buckets import Bucket
    from s3_server import Server

HOLDING = """
import os, sys, time
os.environ["FSSPEC_S3"] = sys.argv[2]
from specufex_dask.runs import holding
with holding(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
ELSEWHERE = {
    "pid": 4321, "host": "another", "user": "someone", "since": "2026-01-01T00:00:00.000+00:00", "command": "run",
    "token": "theirs", "kernel": "another kernel", "born": "77", "released": False,
}  # fmt: skip


@pytest.fixture
def store(bucket: Bucket) -> Remote:
    return Remote(bucket.url("s.zarr"), bucket.options)


def _folder(store: Remote) -> Remote:
    return Remote(f"{store.url}.run/holder", store.options)


def _held_elsewhere(store: Remote, number: int = 1, **about: object) -> Remote:
    """The object of a hold of a process on another machine, which renews it no more."""
    file = _folder(store) / f"{number:08d}.json"
    places.write(file, json.dumps(ELSEWHERE | about).encode())
    return file


def _holds(bucket: Bucket) -> dict[str, Any]:
    return {name: json.loads(content) for name, content in bucket.objects("s.zarr.run/holder").items()}


def test_a_second_process_is_refused_and_told_who_holds_the_store(bucket: Bucket, store: Remote) -> None:
    with running(HOLDING, store, bucket.environment["FSSPEC_S3"]) as process:
        assert says(process) == "held"
        found = holder(store)
        with pytest.raises(BusyStoreError) as refused:
            sx.save(Counted(16, 8).dataset, store.url, storage_options=bucket.options)
        assert found is not None
        who = f"process {process.pid} on {socket.gethostname()} (user {getpass.getuser()})"
        assert str(refused.value) == (
            f"got {store}, to which {who} has been writing since {found.since}; expected no other run on it: "
            f"wait for that one to end, or stop it. If it was killed or its machine is gone, its hold ends 90 s after "
            f"it last renewed it."
        )
        assert bucket.objects("s.zarr") == {}
        process.kill()
        process.wait(30)
        assert holder(store) is None
        with holding(store), holding(store):  # at once: its kernel knows that it is dead
            ours = holder(store)
            assert ours is not None
            assert ours.pid == os.getpid()
            assert list(_holds(bucket)) == ["00000002.json"]
    assert [hold["released"] for hold in _holds(bucket).values()] == [True]
    assert holder(store) is None


def test_a_hold_that_was_released_is_free_and_no_number_comes_twice(bucket: Bucket, store: Remote) -> None:
    for number in range(1, 4):
        with holding(store):
            assert list(_holds(bucket)) == [f"{number:08d}.json"]
            assert not _holds(bucket)[f"{number:08d}.json"]["released"]
        assert _holds(bucket)[f"{number:08d}.json"]["released"]


def test_a_silent_hold_ends_and_a_renewed_one_does_not(
    bucket: Bucket, store: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "STALE", 2.0)  # a server tells whole seconds
    file = _held_elsewhere(store)
    with pytest.raises(BusyStoreError, match=r"process 4321 on another \(user someone\) has been writing since 2026"):
        leases.take(store, _folder(store))
    found = holder(store)
    assert found is not None
    assert found.host == "another"
    end = time.monotonic() + 4
    while time.monotonic() < end:  # as its holder would
        _held_elsewhere(store)
        with pytest.raises(BusyStoreError):
            leases.take(store, _folder(store))
        time.sleep(0.5)
    time.sleep(3.5)
    assert holder(store) is None
    lease = leases.take(store, _folder(store))
    assert list(_holds(bucket)) == ["00000002.json"]
    assert not places.names(_folder(store))[1:], "the probes are gone"
    places.write(file, b"{}")  # what the one before may still write harms nobody
    with pytest.raises(BusyStoreError, match=f"process {os.getpid()} on"):
        leases.take(store, _folder(store))
    lease.release()


def test_a_holder_renews_its_hold(bucket: Bucket, store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWED", 0.3)
    monkeypatch.setattr(leases, "STALE", 2.0)
    with holding(store):
        (name,) = _holds(bucket)
        first = places.modified(_folder(store) / name)
        wait_until(lambda: (places.modified(_folder(store) / name) - first).total_seconds() >= 4)
        still_held(store)
        with pytest.raises(BusyStoreError):
            leases.take(store, _folder(store))


def test_a_run_whose_hold_lapsed_ends_and_another_goes_on(
    bucket: Bucket, store: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not answer the holder; it ends before the hold could be taken by others."""
    monkeypatch.setattr(leases, "RENEWED", 0.1)
    monkeypatch.setattr(leases, "GIVEN_UP", 0.8)
    write = places.write

    def unreachable(place: Any, content: bytes) -> None:
        if "/holder/" in str(place):
            msg = "no answer"
            raise ConnectionError(msg)
        write(place, content)

    stage = Counted(160, 8, seconds=0.2)
    with monkeypatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(places, "write", unreachable)
        with pytest.raises(
            LostStoreError, match=r"got no answer of s3://.* for \d+ s, .*run again, which goes on from"
        ):
            sx.save(stage.dataset, store.url, storage_options=bucket.options)
    assert 1 <= len(stage.blocks) < 15
    assert log(store)[-1]["event"] == "failed"
    assert "LostStoreError" in log(store)[-1]["error"]
    assert not _holds(bucket)["00000001.json"]["released"]
    _held_elsewhere(store, 2, released=True)  # which a run on another machine took meanwhile, and released
    n_done = len({name for name in bucket.objects("s.zarr") if name.startswith("spectrograms/quality/c/")})
    assert n_done == len(stage.blocks)
    sx.save(stage.dataset, store.url, storage_options=bucket.options)
    assert len(stage.blocks) == 20


@pytest.mark.parametrize("server", ["quick", "real"])
def test_of_many_that_try_at_once_one_succeeds(server: str, request: pytest.FixtureRequest) -> None:
    """Servers refuse the condition in different words."""
    quick = server == "quick"
    options = request.getfixturevalue("quick_s3") if quick else request.getfixturevalue("s3").storage_options("admin")
    name = request.getfixturevalue("bucket").name if quick else PRIVATE
    store = Remote(f"s3://{name}/race.zarr", options)
    for _ in range(3):
        taken: list[leases.Lease] = []
        refused: list[str] = []
        barrier = threading.Barrier(8)

        def take(barrier: threading.Barrier = barrier, taken: Any = taken, refused: Any = refused) -> None:
            barrier.wait()
            try:
                taken.append(leases.take(store, _folder(store)))
            except BusyStoreError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(taken), len(refused)) == (1, 7)
        assert all(f"process {os.getpid()} on " in text for text in refused)
        taken[0].release()


def test_whoever_was_too_slow_withdraws(bucket: Bucket, store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read that number 3 is released; until it creates 4, others had 4 and 5, and 4 is removed."""
    _held_elsewhere(store, 5)
    said = {name: ELSEWHERE[name] for name in ("token", "kernel", "born")}
    who = holders.Holder(4321, "another", "someone", "2026-01-01T00:00:00.000+00:00", "run")
    views = iter([(3, leases._Hold(who, **said, released=True)), (5, leases._Hold(who, **said))])  # type: ignore[arg-type]
    monkeypatch.setattr(leases, "_last", lambda _: next(views))
    with pytest.raises(BusyStoreError, match="process 4321 on another"):
        leases.take(store, _folder(store))
    assert list(_holds(bucket)) == ["00000005.json"]


def test_an_object_is_created_once(bucket: Bucket, s3: Server) -> None:
    _assert_created_once(Remote(bucket.url("one"), bucket.options))
    _assert_created_once(Remote(f"s3://{PRIVATE}/one", s3.storage_options("admin")))


def _assert_created_once(place: Remote) -> None:
    assert places.create(place, b"ours")
    assert places.create(place, b"ours"), "asked again, because the answer got lost"
    assert not places.create(place, b"theirs")
    assert places.read(place) == b"ours"


def test_a_process_is_dead_only_if_its_own_kernel_says_so() -> None:
    here = holders.kernel()
    if not here:
        pytest.skip("a process cannot be known for dead here: there is no /proc")
    born = holders.birth(os.getpid())
    assert not holders.is_dead(os.getpid(), born, here)
    assert holders.is_dead(os.getpid(), str(int(born) - 1), here), "another process that had the same number"
    with running("import time; print('up', flush=True); time.sleep(60)") as process:
        says(process)
        child = holders.birth(process.pid)
        assert not holders.is_dead(process.pid, child, here)
        process.kill()
        wait_until(lambda: holders.is_dead(process.pid, child, here))  # also while nobody has asked how it ended
        process.wait(30)
        assert holders.is_dead(process.pid, child, here)
        assert not holders.is_dead(process.pid, child, "another kernel")
        assert not holders.is_dead(process.pid, "", here)
