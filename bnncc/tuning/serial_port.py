# SPDX-License-Identifier: Apache-2.0
"""Boards at a serial port, without an operating system: the agent of `runtime/bsp/agent.h` runs there, takes
kernels into its memory or is flashed anew with them, and counts cycles."""

from __future__ import annotations

import contextlib
import math
import re
import shlex
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution import boards
from bnncc.execution.boards import Execution
from bnncc.targets import Target
from bnncc.toolchain import elf
from bnncc.tuning import firmware
from bnncc.tuning.frames import PAYLOAD, Failed, Link, Operation, Port, Silent
from bnncc.tuning.program import CALL, READ, WRITE, Form, Requests
from bnncc.tuning.units import Unit

EXTRAS = "pip install 'bnncc[serial]'"
VERSION = 1
BAUD = re.compile(r"[1-9][0-9]{0,8}")
COUNTERS = {1: "CYCCNT", 2: "SysTick", 3: "mcycle"}

WAKING = 10
"""Seconds that a board may take to start."""

RESTARTING = 3
"""Seconds until a board whose control lines were pulled answers, if that resets it."""

FLASHING = 300
"""Seconds that the flash command may take."""

USUAL_CLOCK = 100_000_000
"""Hertz of a core that does not say."""

STARTED = 12
"""Bytes of the answer to START."""

LIMIT_UNIT = 1 << 24
"""Cycles; limits of calls are multiples."""

Load = Literal["ram", "flash"]


@dataclass(frozen=True)
class Hello:
    """What an agent says of itself. ram, ram_bytes: its memory for kernels; clock: hertz, 0 if unknown."""

    core: str
    counter: str
    clock: int
    ram: int
    ram_bytes: int

    @staticmethod
    def read(payload: bytes) -> Hello:
        """Raises BnnccError where this is another version's, or the board counts nothing."""
        version, counter, clock, ram, ram_bytes, _ = struct.unpack_from("<6I", payload)
        if version != VERSION:
            raise BnnccError(
                "--device",
                f"the board's agent is of version {version}, {VERSION} is needed",
                "flash it anew: `python -m bnncc.tuning.firmware TARGET agent.elf` makes it",
                ExitCode.FAILURE,
            )
        if counter not in COUNTERS:
            raise BnnccError(
                "--device", "the board has no counter of cycles that runs", exit_code=ExitCode.FAILURE
            )
        # It stands in messages and files: a board must not write more than its name there.
        core = re.sub(r"[^\w .+()-]", "?", payload[24:].decode(errors="replace"))
        return Hello(core, COUNTERS[counter], clock, ram, ram_bytes)


class Serial:
    """A board with the agent, at a port of this machine.

    It is brought back where a candidate hung it: by the port's control lines, which reset many boards, or
    else by flashing the agent."""

    unit: Unit = "cycles"
    parallel = 1

    def __init__(
        self,
        path: str,
        baud: int,
        target: Target,
        flash: Sequence[str] = (),
        load: Load = "ram",
        open_port: Callable[[str, int], Port] | None = None,
    ):
        """flash: the command that writes a program to the board, with {image} and {port} in it; load: whether
        each program goes into its memory, or to its flash. Raises BnnccError where no agent answers."""
        self.path, self.baud, self.target, self.load = path, baud, target, load
        self._flash = tuple(flash) or target.flash_command
        if load == "flash" and not self._flash:
            raise BnnccError(
                "--device",
                f"the target {target.name} has no flash command",
                "`[flash] command = [...]` in its file, or --flash COMMAND",
            )
        self._open_port = open_port or _open
        self._port: Port | None = None
        self._link: Link | None = None
        self.hello = self._meet()
        self.name = f"serial: {self.hello.core}, cycles by {self.hello.counter}"
        if self.hello.counter == "SysTick":
            self.name += " (no CYCCNT)"

    @property
    def form(self) -> Form:
        """An image for the agent's memory, or a firmware."""
        if self.load == "flash":
            return firmware.Agent(self.baud)
        return firmware.Image(self.hello.ram, self.hello.ram_bytes)

    def run(self, program: Path, requests: Requests, seconds: float) -> Execution:
        """As Device says; `seconds` are those of its calls. A board that was unplugged is looked for anew."""
        answer = bytearray()
        try:
            pool = self._start(program)
        except (Silent, Failed, OSError) as error:
            self._close()
            raise self._gone(_why(error)) from error
        try:
            self._carry_out(requests, pool, answer, time.monotonic() + seconds)
        except Failed as error:
            return Execution(bytes(answer), "", str(error))
        except (Silent, OSError) as error:
            self._close()
            return Execution(bytes(answer), "", _why(error))
        return Execution(bytes(answer), "", "")

    def _carry_out(self, requests: Requests, pool: int, answer: bytearray, deadline: float) -> None:
        link = self._connected()
        for request in requests.each:
            if request.operation == WRITE:
                self._write(pool + request.a, request.data)
            elif request.operation == READ:
                for at in range(0, request.b, PAYLOAD):
                    count = min(PAYLOAD, request.b - at)
                    piece = link.ask(Operation.READ, struct.pack("<II", pool + request.a + at, count))
                    answer += _of(count, piece)
            else:
                assert request.operation == CALL
                seconds = max(0.0, deadline - time.monotonic())
                limit = 1 + math.ceil(seconds * (self.hello.clock or USUAL_CLOCK) / LIMIT_UNIT)
                head = struct.pack("<III", request.a, request.b, limit)
                answer += _of(8, link.call(head + request.data, seconds))

    def _write(self, at: int, data: bytes) -> None:
        room = PAYLOAD - 4
        for start in range(0, len(data), room):
            piece = data[start : start + room]
            self._connected().ask(Operation.WRITE, struct.pack("<I", at + start) + piece)

    def _start(self, program: Path) -> int:
        """Bring a program onto the board unless it is there; where its pool is."""
        self._meet()
        if self.load == "flash":
            return self._start_flashed(program)
        address = self.hello.ram
        image = elf.memory_image(program.read_bytes(), address)
        started = struct.pack("<III", address, len(image), zlib.crc32(image))
        link = self._connected()
        with contextlib.suppress(Failed):
            return _pool(link.ask(Operation.START, started))
        self._write(address, image)
        return _pool(link.ask(Operation.START, started))

    def _start_flashed(self, program: Path) -> int:
        number = int(program.with_name(firmware.NUMBER).read_text())
        built_in = struct.pack("<III", 0, 0, 0)
        with contextlib.suppress(Failed):
            payload = self._connected().ask(Operation.START, built_in)
            if _number(payload) == number:
                return _pool(payload)
        self._write_flash(program)
        self._say_hello(WAKING)
        payload = self._connected().ask(Operation.START, built_in)
        if _number(payload) != number:
            raise Failed("the flash command ended well, but the board runs another program than before")
        return _pool(payload)

    def _meet(self) -> Hello:
        """Hello; where nobody answers, the board is reset, then flashed if there is a command for that.

        Raises BnnccError."""
        try:
            return self._say_hello()
        except (Silent, OSError) as error:
            why = _why(error)
        with contextlib.suppress(Silent, OSError):
            self._pull_reset()
            return self._say_hello(RESTARTING)
        if not self._flash:
            raise self._gone(why)
        self._flash_agent()
        try:
            return self._say_hello(WAKING)
        except (Silent, OSError) as error:
            raise self._gone(f"after it was flashed, {_why(error)}") from error

    def _say_hello(self, seconds: float = 0) -> Hello:
        """The agent's answer, within some seconds. Raises Silent and OSError."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.hello = Hello.read(self._connected().hello())
                return self.hello
            except (Silent, OSError):
                self._close()
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.1)

    def _connected(self) -> Link:
        if self._link is None:
            self._port = self._open_port(self.path, self.baud)
            self._link = Link(self._port, self.baud)
        return self._link

    def _close(self) -> None:
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.close()
        self._port = self._link = None

    def _pull_reset(self) -> None:
        """DTR and RTS, of which one or both reset many boards."""
        self._connected()
        for level in (True, False):
            for line in ("dtr", "rts"):
                with contextlib.suppress(OSError, AttributeError):
                    setattr(self._port, line, level)
            time.sleep(0.1)

    def _flash_agent(self) -> None:
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            self._write_flash(firmware.link_agent(self.target, Path(folder), firmware.Agent(self.baud)))

    def _write_flash(self, image: Path) -> None:
        """Raises BnnccError where the command fails."""
        self._close()
        places = {"image": str(image), "port": self.path}
        command = [_filled(word, places) for word in self._flash]
        done = boards.run(command, image.parent, b"", FLASHING)
        if done.problem:
            raise BnnccError(
                "--device", f"the flash command failed: {done.problem}", shlex.join(command), ExitCode.FAILURE
            )

    def _gone(self, why: str) -> BnnccError:
        hint = (
            f"is the agent in the board's flash, at {self.baud} baud? `python -m bnncc.tuning.firmware "
            f"{self.target.name} agent.elf` makes it; with --flash COMMAND it is flashed when needed"
        )
        return BnnccError("--device", f"the board at {self.path} is gone: {why}", hint, ExitCode.FAILURE)


def _filled(word: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _of(size: int, answer: bytes) -> bytes:
    """An answer of so many bytes. Raises Failed for any other."""
    if len(answer) != size:
        raise Failed(f"the board answered {len(answer)} bytes, {size} were asked for")
    return answer


def _pool(started: bytes) -> int:
    return struct.unpack_from("<I", _of(STARTED, started))[0]


def _number(started: bytes) -> int:
    return struct.unpack_from("<I", _of(STARTED, started), 8)[0]


def _why(error: Exception) -> str:
    if isinstance(error, Silent):
        return "it does not answer"
    return str(error)


def _open(path: str, baud: int) -> Port:
    try:
        import serial
    except ImportError as error:
        raise BnnccError("--device", "serial ports need pyserial", EXTRAS, ExitCode.FAILURE) from error
    try:
        return serial.Serial(path, baud, timeout=0.02, write_timeout=WAKING)
    except (ValueError, OverflowError) as error:
        raise BnnccError("--device", f"{path} cannot do {baud} baud: {error}") from error


def open_serial(address: str, target: Target, flash: Sequence[str] = ()) -> Serial:
    """The device of `serial:///dev/ttyACM0?baud=B&load=ram|flash`. Raises BnnccError."""
    parts = urlsplit(f"serial://{address}")
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    baud, load = options.pop("baud", str(firmware.BAUD)), options.pop("load", "ram")
    if options or parts.hostname or len(parts.path) < 2 or not BAUD.fullmatch(baud):
        raise _not_understood(address)
    if load != "ram" and load != "flash":
        raise _not_understood(address)
    if not target.is_bare:
        raise BnnccError(
            "--device",
            f"{target.name} has an operating system, and the agent has none",
            "`ssh://user@host` measures there",
        )
    return Serial(parts.path, int(baud), target, flash, load)


def _not_understood(address: str) -> BnnccError:
    return BnnccError(
        "--device",
        f"'serial://{address}' is not understood",
        f"serial:///dev/ttyACM0?baud={firmware.BAUD}, and &load=flash to flash every program",
    )
