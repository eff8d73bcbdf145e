# SPDX-License-Identifier: Apache-2.0
"""Boards that answer in whole frames, but not what they were asked."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.toolchain import elf
from bnncc.tuning import serial_port
from bnncc.tuning.frames import Answer, Operation, frame
from bnncc.tuning.program import Requests
from bnncc.tuning.serial_port import Serial

CORTEX_M4 = targets.load("cortex-m4")
HELLO = struct.pack("<6I", 1, 1, 0, 0x20000000, 4096, 0)
STARTED = struct.pack("<3I", 0x20000100, 1024, 7)

Says = Callable[[int, bytes], bytes]


class Liar:
    """A port whose other end says what `says` makes of an operation and its payload."""

    def __init__(self, says: Says):
        self.says, self.heard = says, b""

    @property
    def in_waiting(self) -> int:
        return len(self.heard)

    def read(self, size: int = 1, /) -> bytes:
        piece, self.heard = self.heard[:size], self.heard[size:]
        return piece

    def write(self, data: bytes, /) -> int:
        if data.startswith(b"bn"):
            self.heard += frame(data[2], Answer.DONE, self.says(data[3], data[6:-4]))
        return len(data)

    def close(self) -> None:
        pass


def board(says: Says) -> Serial:
    return Serial("port", 115200, CORTEX_M4, open_port=lambda path, baud: Liar(says))


def answers(**others: bytes) -> Says:
    """Right answers, but for those given by operation."""
    right = {"HELLO": HELLO + b"core", "START": STARTED, "WRITE": b"", "READ": bytes(4), "CALL": bytes(8)}
    return lambda operation, _: (right | others)[Operation(operation).name]


def run(where: Serial, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, str]:
    """Call a kernel, then read four bytes; what came, and what was wrong."""
    monkeypatch.setattr(elf, "memory_image", lambda code, first: bytes(8))
    requests = Requests()
    requests.call(0, [0])
    requests.read(0, 4)
    done = where.run(Path(__file__), requests, 1)
    return done.answer, done.problem


def test_right_answers_come_through(monkeypatch: pytest.MonkeyPatch):
    assert run(board(answers()), monkeypatch) == (bytes(12), "")


@pytest.mark.parametrize("said", [{"CALL": b""}, {"CALL": bytes(9)}, {"READ": bytes(1000)}], ids=str)
def test_answers_of_another_length_are_failures(said: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    _, problem = run(board(answers(**said)), monkeypatch)
    assert "bytes, " in problem and "were asked for" in problem


@pytest.mark.parametrize("started", [b"", bytes(3), bytes(13)], ids=len)
def test_a_board_that_says_not_where_its_pool_is_is_gone(started: bytes, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BnnccError, match="is gone: the board answered"):
        run(board(answers(START=started)), monkeypatch)


def test_a_name_is_no_more_than_a_name():
    """Terminals obey what begins with an escape."""
    name = board(answers(HELLO=HELLO + b"m4\x1b]0;owned\x07\n\xff")).name
    assert name == "serial: m4??0?owned???, cycles by CYCCNT"


def test_a_baud_rate_that_the_port_cannot_do_is_told(monkeypatch: pytest.MonkeyPatch):
    import serial

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Failed to set custom baud rate")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(BnnccError, match="cannot do 999999999 baud"):
        serial_port.open_serial("/dev/ttyACM0?baud=999999999", CORTEX_M4)
