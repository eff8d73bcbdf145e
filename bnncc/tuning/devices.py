# SPDX-License-Identifier: Apache-2.0
"""Where candidates are measured: this machine, an emulated processor, boards behind ssh, RPC or serial ports.

A device runs a measuring program on a stream of requests (`bnncc.tuning.program`) and hands back what it
answered, whatever happened to the program.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bnncc.bench import processor
from bnncc.diagnostics import BnnccError, ExitCode, did_you_mean
from bnncc.execution import boards
from bnncc.execution.boards import Execution
from bnncc.targets import Target
from bnncc.tuning.program import Form, Requests
from bnncc.tuning.rpc import open_rpc
from bnncc.tuning.serial_port import open_serial
from bnncc.tuning.units import Unit


class Device(Protocol):
    """Somewhere to run programs. unit: what a trial's score is. form: what a program has to be. parallel: how
    many it runs at a time, asked for by as many threads."""

    name: str

    @property
    def unit(self) -> Unit: ...

    @property
    def form(self) -> Form: ...

    @property
    def parallel(self) -> int: ...

    def run(self, program: Path, requests: Requests, seconds: float) -> Execution:
        """The program's answers, at most `seconds` later; of a program that fails, those before, or none.
        Raises BnnccError where the device itself fails, which is no fault
        of a candidate."""
        ...


class Local:
    """This machine, one core of it."""

    unit: Unit = "s"
    form: Form = "program"
    parallel = 1

    def __init__(self, target: Target):
        if not target.runs_here():
            raise BnnccError(
                "--device",
                f"this machine cannot run code for {target.name}",
                "`--device qemu` counts instructions; `ssh://user@host` measures on a board",
            )
        self.name = f"local: {processor()}"

    def run(self, program: Path, requests: Requests, seconds: float) -> Execution:
        """As Device says."""
        taskset = shutil.which("taskset")
        core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        pinned = (taskset, "-c", str(core)) if taskset else ()
        return boards.run((*pinned, str(program)), program.parent, requests.stream, seconds)


class Emulated:
    """The target's emulator, which counts instructions: not cycles."""

    unit: Unit = "instructions"
    form: Form = "program"
    parallel = 1

    def __init__(self, target: Target):
        self.target = target
        self.name = f"qemu: {Path(boards.command(target)[0]).name}, instructions"
        self._folder = tempfile.TemporaryDirectory(prefix="bnncc-")

    @functools.cached_property
    def _counter(self) -> Path:
        return boards.link_counter(Path(self._folder.name))

    def run(self, program: Path, requests: Requests, seconds: float) -> Execution:
        """As Device says; a count for each call of a kernel is among what was said."""
        options = ("-plugin", f"file={self._counter}")
        return boards.execute(self.target, program, requests.stream, options, seconds)


UNREACHABLE = 255
"""The exit status of ssh where it fails itself."""

SSH_ADDRESS = re.compile(
    r"(?!-)(?P<user>[^@\s]+@)?(?:\[(?P<address6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^-@:\s\[\]][^@:\s]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
"""What follows ssh://. A user or host with a dash in front would be an option."""

MEETING = 30
"""Seconds that a board may take to let us in."""


class Ssh:
    """A board with sshd, and nothing else: programs are static, copied, run and removed.

    One connection is kept for all programs (ssh's ControlMaster)."""

    unit: Unit = "s"
    form: Form = "program"
    parallel = 1

    def __init__(self, destination: str, port: int | None = None, options: tuple[str, ...] = ()):
        """destination: as ssh takes it; options: of ssh, besides."""
        if shutil.which("ssh") is None:
            raise BnnccError(
                "--device", "ssh is not installed", "apt-get install openssh-client", ExitCode.FAILURE
            )
        self.name = f"ssh: {destination}"
        self._folder = tempfile.TemporaryDirectory(prefix="bnncc-", dir=_folder_of_sockets())
        control = Path(self._folder.name) / "control"
        self._port = ("-p", str(port)) if port else ()
        self._ssh = (
            *("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=60"),
            *self._port,
            *options,
            *("--", destination),
        )
        # The kept connection is a process of its own, which would wait for more.
        leave = (*self._ssh[:-2], "-O", "exit", *self._ssh[-2:])
        self._closing = weakref.finalize(self, boards.run, leave, Path("/"), b"", MEETING)

    def run(self, program: Path, requests: Requests, seconds: float) -> Execution:
        """As Device says. `timeout` on the board ends a program that hangs there."""
        there = f"/tmp/bnncc-{uuid.uuid4().hex}"
        self._execute(f"cat > {there} && chmod 700 {there}", program.read_bytes(), 120)
        limit = max(1, round(seconds))
        command = (
            f"if command -v timeout > /dev/null; then timeout {limit} {there}; else {there}; fi; "
            f"status=$?; rm -f {there}; exit $status"
        )
        done = boards.run((*self._ssh, command), program.parent, requests.stream, seconds + 30)
        if done.problem.startswith(f"exit status {UNREACHABLE}"):
            raise self._gone(done)
        return done

    def meet(self) -> None:
        """Raise BnnccError where the board does not let us in."""
        self._execute("true", b"", MEETING)

    def _execute(self, command: str, given: bytes, seconds: float) -> None:
        done = boards.run((*self._ssh, command), Path(self._folder.name), given, seconds)
        if done.problem:
            raise self._gone(done)

    def _gone(self, done: Execution) -> BnnccError:
        hint = f"does `{shlex.join(('ssh', *self._port, self._ssh[-1]))} true` work without a password?"
        return BnnccError("--device", f"{self.name} failed: {done.problem}", hint, ExitCode.FAILURE)


def _folder_of_sockets() -> str:
    """The folder for temporary files, unless the names of sockets in it, which ssh makes 17 characters longer
    for a while, were too long: macOS has 104 bytes for them."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) + len("/bnncc-abcdefgh/control") + 17 < 104 else "/tmp"


def open_device(text: str, target: Target, flash: Sequence[str] = ()) -> Device:
    """The device that `--device` names: `local`, `qemu`, `ssh://[user@]host[:port]`,
    `rpc://tracker:port?key=K`, or `serial:///dev/ttyACM0?baud=B`, whose board `flash` writes programs to.
    Raises BnnccError, also where a board, a tracker or a port is not there."""
    scheme, separator, rest = text.partition("://")
    kinds: dict[str, Callable[[], Device]] = {
        "local": lambda: Local(target),
        "qemu": lambda: Emulated(target),
        "ssh": lambda: _ssh(rest, target),
        "rpc": lambda: _rpc(rest, target),
        "serial": lambda: open_serial(rest, target, flash),
    }
    if scheme not in kinds or (scheme in ("ssh", "rpc", "serial")) != bool(separator):
        hint = (
            f"{_meant(text) or did_you_mean(scheme, kinds)}devices: local, qemu, ssh://[user@]host[:port], "
            "rpc://tracker:port?key=K, serial:///dev/ttyACM0?baud=B"
        )
        raise BnnccError("--device", f"'{text}' is no device", hint)
    return kinds[scheme]()


def _meant(text: str) -> str:
    """A question to begin a hint with, of a device without its scheme."""
    if text.startswith("/dev/"):
        return f"did you mean 'serial://{text}'? "
    return f"did you mean 'ssh://{text}'? " if "@" in text and "://" not in text else ""


def _ssh(address: str, target: Target) -> Device:
    _refuse_bare(target)
    match = SSH_ADDRESS.fullmatch(address)
    if match is None:
        hint = "ssh://[user@]host[:port], an IPv6 address in brackets"
        raise BnnccError("--device", f"'ssh://{address}' names no host", hint)
    user, address6, host, port = match.groups(default="")
    board = Ssh(user + (address6 or host), int(port) if port else None)
    board.meet()
    return board


def _rpc(address: str, target: Target) -> Device:
    _refuse_bare(target)
    return open_rpc(address)


def _refuse_bare(target: Target) -> None:
    if target.is_bare:
        raise BnnccError(
            "--device",
            f"{target.name} has no operating system, so no server runs there",
            "`--device serial:///dev/ttyACM0` measures on a board, `--device qemu` counts instructions",
        )
