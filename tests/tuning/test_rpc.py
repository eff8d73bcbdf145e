# SPDX-License-Identifier: Apache-2.0
"""Measuring on a farm: a real TVM RPC tracker with two servers, on the loopback device."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.execution.boards import Execution
from bnncc.kernels.space import candidates
from bnncc.tuning.database import Database
from bnncc.tuning.devices import open_device
from bnncc.tuning.measure import Subject, measure
from bnncc.tuning.rpc import Rpc
from bnncc.tuning.tuner import Limits, tune
from tests.conditions import wait_until
from tests.tuning.bad_candidates import HANG, impatient_at_first, misbehave, only_the_second_fails
from tests.tuning.layers import NATIVE, layer, numbers, steps

SUBJECT = Subject.of(layer(), numbers(layer()))
KEY = "board"
SERVERS = 2


@pytest.fixture(scope="module")
def tracker() -> Iterator[str]:
    """The address of a tracker that knows two servers, each in processes of its own."""
    from tvm import rpc
    from tvm.rpc.tracker import Tracker

    host = "127.0.0.1"
    farm = Tracker(host, 19190, 19290, silent=True)

    def start(number: int) -> rpc.Server:
        ports = (19300 + 100 * number, 19399 + 100 * number)
        return rpc.Server(host, *ports, key=KEY, tracker_addr=(host, farm.port), silent=True)

    address = f"{host}:{farm.port}"
    with ThreadPoolExecutor(SERVERS) as threads:
        servers = list(threads.map(start, range(SERVERS)))
    try:
        wait_until(lambda: _servers(address) == SERVERS, "the servers do not come")
        yield address
    finally:
        for one in (*servers, farm):
            one.terminate()


def _servers(address: str) -> int:
    try:
        return _device(address).servers
    except BnnccError:
        return 0


def _device(address: str, key: str = KEY) -> Rpc:
    device = open_device(f"rpc://{address}?key={key}", NATIVE)
    assert isinstance(device, Rpc)
    return device


def test_candidates_are_measured_on_a_server(tracker: str):
    outcomes = measure(SUBJECT, candidates(SUBJECT.spec, NATIVE)[:3], _device(tracker), NATIVE)
    assert all(outcome.score and not outcome.problem for outcome in outcomes)


@pytest.mark.parametrize("statement", ["__builtin_trap();", HANG, "p[0] = p[1];"])
def test_a_bad_candidate_costs_itself_only(tracker: str, monkeypatch: pytest.MonkeyPatch, statement: str):
    misbehave(monkeypatch, statement)
    device = _device(tracker)
    if statement is HANG:
        impatient_at_first(monkeypatch, device, 5)
    only_the_second_fails(measure(SUBJECT, candidates(SUBJECT.spec, NATIVE)[:3], device, NATIVE))


def test_servers_work_side_by_side(tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Eight candidates alone, the others in two programs at a time, the best alone; each is checked, then
    timed."""
    calls, both, run = itertools.count(), threading.Barrier(SERVERS, timeout=600), Rpc.run

    def counted(self: Rpc, *arguments) -> Execution:
        if next(calls) in range(2, 2 + 2 * SERVERS):
            both.wait()
        return run(self, *arguments)

    monkeypatch.setattr(Rpc, "run", counted)
    device = _device(tracker)
    assert device.parallel == SERVERS
    found = tune(
        steps(layer()), NATIVE, device, Database(tmp_path / "db.json"), Limits(64), lambda message: None
    )
    assert next(calls) >= 2 + 2 * SERVERS + 2 and not both.broken
    count = len(candidates(layer(), NATIVE))
    assert len(found.layers[0].scores) == count > 8 and None not in found.layers[0].scores


def test_a_key_that_no_server_has_is_told(tracker: str):
    with pytest.raises(BnnccError, match="no server has the key 'bord', there are board"):
        _device(tracker, "bord")


def test_a_tracker_that_is_not_there_is_told():
    with pytest.raises(BnnccError, match="no tracker answers") as caught:
        _device("127.0.0.1:1")
    assert "rpc_tracker" in caught.value.hint


def test_what_is_no_tracker_is_told():
    """Whatever listens there, and says what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            for _ in range(2):
                client, _ = server.accept()
                client.sendall(b"\xff" * 64)
                client.close()

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        with pytest.raises(BnnccError, match="no tracker answers"):
            _device(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("address", ["", "host", "host:9190", "host:x?key=k", "host:9190?key=a&key=b"])
def test_addresses_that_are_incomplete(address: str):
    with pytest.raises(BnnccError, match="is incomplete"):
        open_device(f"rpc://{address}", targets.native())
