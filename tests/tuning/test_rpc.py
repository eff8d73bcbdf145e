# SPDX-License-Identifier: Apache-2.0
"""Measuring on a farm: a real TVM RPC tracker with two servers, on the loopback device."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.execution.boards import Execution
from bnncc.kernels.space import candidates
from bnncc.tuning import measure as measuring
from bnncc.tuning.database import Database
from bnncc.tuning.devices import open_device
from bnncc.tuning.measure import Subject, measure
from bnncc.tuning.rpc import Rpc
from bnncc.tuning.tuner import Limits, tune
from tests.tuning.bad_candidates import misbehave, only_the_second_fails
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
        for _ in range(600):
            if _servers(address) == SERVERS:
                break
            time.sleep(0.1)
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


@pytest.mark.parametrize("statement", ["__builtin_trap();", "for (;;) ;", "p[0] = p[1];"])
def test_a_bad_candidate_costs_itself_only(tracker: str, monkeypatch: pytest.MonkeyPatch, statement: str):
    misbehave(monkeypatch, statement)
    monkeypatch.setattr(measuring, "SECONDS", 2)
    only_the_second_fails(measure(SUBJECT, candidates(SUBJECT.spec, NATIVE)[:3], _device(tracker), NATIVE))


def test_servers_work_side_by_side(tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Eight candidates alone, the others in two programs at a time, the best alone; each is checked, then
    timed."""
    calls, both, run = itertools.count(), threading.Barrier(SERVERS, timeout=120), Rpc.run

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


@pytest.mark.slow
def test_two_servers_measure_nearly_twice_as_many(
    tracker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Candidates are built beforehand, and the boards' time is what counts: each call of a kernel waits for a
    while, as it would for another processor."""
    misbehave(monkeypatch, "extern int usleep(unsigned); usleep(10000);", "")
    # One call at a time: waiting takes nothing of the processor, whose time is measured.
    monkeypatch.setitem(measuring.SLICES, "s", 1e-9)
    device, choices = _device(tracker), candidates(SUBJECT.spec, NATIVE)[:16]
    parts = [choices[start : start + 4] for start in range(0, 16, 4)]
    build, built = measuring._build, {}

    def once(chosen, form, target, folder, failed):
        key = str([parameters for _, parameters in chosen])
        if key not in built:
            folder = tmp_path / str(len(built))
            folder.mkdir()
            built[key] = build(chosen, form, target, folder, failed)
        return built[key]

    monkeypatch.setattr(measuring, "_build", once)

    def seconds(servers: int) -> float:
        start = time.monotonic()
        with ThreadPoolExecutor(servers) as threads:
            found = list(threads.map(lambda part: measure(SUBJECT, part, device, NATIVE), parts))
        assert all(outcome.score and not outcome.problem for part in found for outcome in part)
        return time.monotonic() - start

    seconds(1)
    turns = [(seconds(1), seconds(SERVERS)) for _ in range(2)]
    ratio = sum(one for one, _ in turns) / sum(two for _, two in turns)
    print(f"two servers measure {ratio:.2f} times the candidates of one")
    assert ratio >= 1.7, turns


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
        thread.join(5)


@pytest.mark.parametrize("address", ["", "host", "host:9190", "host:x?key=k", "host:9190?key=a&key=b"])
def test_addresses_that_are_incomplete(address: str):
    with pytest.raises(BnnccError, match="is incomplete"):
        open_device(f"rpc://{address}", targets.native())
