# SPDX-License-Identifier: Apache-2.0
"""Boards at serial ports: emulators whose serial port is a pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import serial

from bnncc import targets
from bnncc.execution import boards
from bnncc.targets import Target
from bnncc.tuning.serial_port import Serial

EMULATION = {"cortex-m4": ("-icount", "shift=5,sleep=off"), "rv32imc": ("-icount", "shift=0,sleep=off")}
"""Instructions make the time that the board's counters count: about one a cycle of its 25 MHz."""


class Board:
    """A board that may be pressed on reset, unplugged and flashed. path: the serial port."""

    def __init__(self, target: Target, folder: Path):
        self.target, self.path = target, folder / "port"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, image: Path) -> None:
        """Plug it in with a program in its flash."""
        self.unplug()
        command = [
            *boards.command(self.target),
            *EMULATION[self.target.name],
            *("-display", "none", "-monitor", "stdio", "-serial", "pty", "-kernel", str(image)),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        said = b""
        while not (found := re.search(rb"redirected to (\S+)", said)):
            piece = os.read(self._process.stdout.fileno(), 1000)
            assert piece, said
            said += piece
        self.path.symlink_to(found[1].decode())

    def reset(self) -> None:
        """Press the button."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(b"system_reset\n")
        self._process.stdin.flush()

    def freeze(self, frozen: bool = True) -> None:
        """Take the power of its crystal away, and give it back."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def unplug(self) -> None:
        """The port is gone."""
        self.path.unlink(missing_ok=True)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Line:
    """A serial line on which some frames are damaged. damage: numbers of the writes, and of the reads."""

    def __init__(self, path: str, baud: int, writes: frozenset[int], reads: frozenset[int]):
        self._port = serial.Serial(path, baud, timeout=0.02)
        self._writes, self._reads = writes, reads
        self.written = self.heard = 0

    @property
    def in_waiting(self) -> int:
        return self._port.in_waiting

    def read(self, size: int = 1, /) -> bytes:
        data = self._port.read(size)
        self.heard += bool(data)
        return _damaged(data) if data and self.heard in self._reads else data

    def write(self, data: bytes, /) -> int | None:
        self.written += 1
        return self._port.write(_damaged(data) if self.written in self._writes else data)

    def close(self) -> None:
        self._port.close()


def _damaged(data: bytes) -> bytes:
    """With one bit flipped in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def device(board: Board, **options) -> Serial:
    """What `bnncc tune` would open."""
    return Serial(str(board.path), 115200, board.target, **options)


def load(name: str) -> Target:
    return targets.load(name)
