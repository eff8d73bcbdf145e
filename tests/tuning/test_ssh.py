# SPDX-License-Identifier: Apache-2.0
"""Measuring over ssh, with a real sshd on the loopback device."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.kernels.space import candidates
from bnncc.tuning import devices
from bnncc.tuning.devices import Ssh, open_device
from bnncc.tuning.measure import Subject, measure
from tests.conditions import wait_until
from tests.tuning.bad_candidates import HANG, impatient_at_first, misbehave, only_the_second_fails
from tests.tuning.layers import NATIVE, layer, numbers

SUBJECT = Subject.of(layer(), numbers(layer()))


Address = tuple[str, int, tuple[str, ...]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """This machine, as one that is reached by ssh: destination, port, ssh's options."""
    folder = tmp_path_factory.mktemp("sshd")
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd, "sshd is missing: python -m tests.install"
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    lines = [
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'authorized'}",
        f"PidFile {folder / 'pid'}",
        "PasswordAuthentication no",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin yes",
    ]
    (folder / "config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server, port = _listening([sshd, "-D", "-e", "-f", str(folder / "config")])
    try:
        known = f"UserKnownHostsFile={folder / 'known'}"
        options = ("-i", str(folder / "user"), "-o", "StrictHostKeyChecking=no", "-o", known)
        yield f"{getpass.getuser()}@127.0.0.1", port, options
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def board(address: Address) -> Ssh:
    """Which measures there."""
    return Ssh(*address)


def _listening(command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """A server and its port; other ports are tried where somebody took the one that was free."""
    for _ in range(10):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = _started([*command, "-p", str(port)], port)
        if server.poll() is None:
            return server, port
    raise AssertionError("sshd finds no port")


def _started(command: list[str], port: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: server.poll() is not None or _answers(port), "sshd does not answer")
    return server


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where programs were put on the board."""
    names: list[Path] = []
    draw = uuid.uuid4

    def drawn() -> uuid.UUID:
        names.append(Path(f"/tmp/bnncc-{(found := draw()).hex}"))
        return found

    monkeypatch.setattr(devices.uuid, "uuid4", drawn)
    return names


def test_candidates_are_measured_on_the_board(board: Ssh, copied: list[Path]):
    outcomes = measure(SUBJECT, candidates(SUBJECT.spec, NATIVE)[:3], board, NATIVE)
    assert all(outcome.score and not outcome.problem for outcome in outcomes)
    assert len(copied) == 2 and not any(path.exists() for path in copied)


@pytest.mark.parametrize("statement", ["__builtin_trap();", HANG], ids=["crash", "hang"])
def test_a_bad_candidate_costs_itself_only(
    board: Ssh, copied: list[Path], monkeypatch: pytest.MonkeyPatch, statement: str
):
    misbehave(monkeypatch, statement)
    if statement is HANG:
        impatient_at_first(monkeypatch, board, 5)
    only_the_second_fails(measure(SUBJECT, candidates(SUBJECT.spec, NATIVE)[:3], board, NATIVE), "it failed")
    assert len(copied) == 3 and not any(path.exists() for path in copied)


def test_a_host_that_is_not_there_is_told():
    with pytest.raises(BnnccError, match=r"ssh -p 1 nobody@127\.0\.0\.1 true. work without a password"):
        open_device("ssh://nobody@127.0.0.1:1", NATIVE)


def test_a_board_with_another_key_than_known_is_told(board: Ssh, tmp_path: Path):
    known = tmp_path / "known"
    port = board._ssh[board._ssh.index("-p") + 1]
    key = (Path(board._ssh[board._ssh.index("-i") + 1])).with_suffix(".pub").read_text()
    known.write_text(f"[127.0.0.1]:{port} {key}")
    other = Ssh("127.0.0.1", int(port), ("-o", f"UserKnownHostsFile={known}"))
    with pytest.raises(BnnccError, match="Host key verification failed"):
        other.meet()


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("ssh://", "native", "names no host"),
        ("ssh://-oProxyCommand=true", "native", "names no host"),
        ("ssh://user@-oProxyCommand=true", "native", "names no host"),
        ("ssh://board -oProxyCommand=true", "native", "names no host"),
        ("ssh://board:\N{SUPERSCRIPT TWO}", "native", "names no host"),
        ("ssh://::1:22", "native", "names no host"),
        ("ssh://board", "cortex-m4", "no operating system"),
        ("ssh:board", "native", "is no device"),
        ("quemu", "cortex-m4", "did you mean 'qemu'"),
        ("local", "cortex-m4", "cannot run code for cortex-m4"),
        ("qemu", "native", "names no emulator"),
    ],
)
def test_devices_that_are_none(text: str, target: str, message: str):
    with pytest.raises(BnnccError) as caught:
        open_device(text, targets.load(target))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("address", "destination", "port"),
    [
        ("pi@raspberry:2222", "pi@raspberry", ("-p", "2222")),
        ("raspberry", "raspberry", ()),
        ("pi@[fe80::1%eth0]:22", "pi@fe80::1%eth0", ("-p", "22")),
    ],
)
def test_addresses(address: str, destination: str, port: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Ssh, "meet", lambda self: None)
    device = open_device(f"ssh://{address}", targets.load("cortex-a72"))
    assert isinstance(device, Ssh) and device.name == f"ssh: {destination}"
    assert device._ssh[-2:] == ("--", destination) and device._port == port


def test_sockets_lie_where_their_names_are_short_enough(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    Ssh(*address).meet()
    assert not [*folder.iterdir()]


def test_the_kept_connection_ends_with_the_device(board: Ssh, tmp_path: Path):
    board.meet()
    control = Path(next(word for word in board._ssh if word.startswith("ControlPath=")).partition("=")[2])
    assert control.exists()
    board._closing()
    # The kept process answers first and leaves after that.
    wait_until(lambda: not control.exists(), "the kept connection is still there")
