# SPDX-License-Identifier: Apache-2.0
"""Requests and answers over a serial line that may lose and damage bytes: the other half of
`runtime/bsp/agent.c`, whose header describes the frames."""

from __future__ import annotations

import random
import struct
import time
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

PAYLOAD = 1024
HEAD, TAIL = 6, 4
SYNC = b"bn"

TRIES = 5
"""A request is sent so many times before the board counts as silent."""

PATIENCE = 0.5
"""Seconds to wait for an answer, beside the time that the bytes take."""


class Operation(IntEnum):
    """What is asked of the agent."""

    HELLO = 1
    WRITE = 2
    READ = 3
    START = 4
    CALL = 5
    RESET = 6


class Answer(IntEnum):
    """What it says."""

    DONE = 0x80
    ACCEPTED = 0x81
    NOISE = 0x90
    REFUSED = 0x91
    CRASHED = 0x92
    TOO_LONG = 0x93
    BOOTED = 0x94


LEAST_HELLO = 24
"""Bytes before the core's name."""

FINAL = (Answer.DONE, Answer.REFUSED)


class Port(Protocol):
    """A serial port, as pyserial has it."""

    @property
    def in_waiting(self) -> int:
        """How many bytes have come."""
        ...

    def read(self, size: int = 1, /) -> bytes:
        """Up to so many bytes, those that come within the port's time limit."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """Send bytes."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class Silent(Exception):
    """The board does not answer."""


class Failed(Exception):
    """What the board did instead of what it was asked: it crashed, started anew, or refused."""


@dataclass(frozen=True)
class _Frame:
    sequence: int
    answer: int
    payload: bytes


def frame(sequence: int, operation: int, payload: bytes) -> bytes:
    """A frame with its check sum."""
    body = struct.pack("<BBH", sequence, operation, len(payload)) + payload
    return SYNC + body + struct.pack("<I", zlib.crc32(body))


class Link:
    """Asks and waits for answers; asks again where a frame was damaged or lost."""

    def __init__(self, port: Port, baud: int):
        self._port, self._baud = port, baud
        self._heard = bytearray()
        # Late answers to whoever was here before shall not be taken for ours.
        self._sequence = random.randrange(255)

    def hello(self) -> bytes:
        """What the agent says of itself, whatever was said before. Raises Silent."""
        self._heard.clear()
        said = self._ask(Operation.HELLO, b"", ignored=(Answer.BOOTED, Answer.CRASHED, Answer.TOO_LONG))
        if len(said) < LEAST_HELLO:
            raise Silent
        return said

    def ask(self, operation: Operation, payload: bytes = b"") -> bytes:
        """The answer to a request. Raises Silent and Failed."""
        return self._ask(operation, payload)

    def call(self, payload: bytes, seconds: float) -> bytes:
        """The answer to CALL, which may take so many seconds. Raises Silent and Failed."""
        answer = self._exchange(Operation.CALL, payload)
        if answer.answer == Answer.ACCEPTED:
            said = self._listen(time.monotonic() + seconds)
            # What was damaged is said once more.
            answer = (
                said if said and said.answer in FINAL else self._exchange(Operation.CALL, payload, again=True)
            )
        return self._content(answer)

    def _ask(self, operation: Operation, payload: bytes, ignored: tuple[Answer, ...] = ()) -> bytes:
        return self._content(self._exchange(operation, payload, ignored=ignored))

    @staticmethod
    def _content(answer: _Frame) -> bytes:
        if answer.answer == Answer.REFUSED:
            raise Failed(answer.payload.decode(errors="replace"))
        return answer.payload

    def _exchange(
        self,
        operation: Operation,
        payload: bytes,
        ignored: tuple[Answer, ...] = (),
        again: bool = False,
    ) -> _Frame:
        """again: it is the request before, whose answer was damaged."""
        if not again:
            self._sequence = self._sequence % 255 + 1
        request = frame(self._sequence, operation, payload)
        patience = PATIENCE + 10 * (len(request) + PAYLOAD) / self._baud
        for attempt in range(TRIES):
            if attempt:
                # The agent may wait for the rest of a frame: this is more than any rest.
                self._port.write(bytes(HEAD + PAYLOAD + TAIL))
            self._port.write(request)
            answer = self._listen(time.monotonic() + patience, ignored)
            if answer is not None and answer.answer != Answer.NOISE:
                return answer
        raise Silent

    def _listen(self, deadline: float, ignored: tuple[Answer, ...] = ()) -> _Frame | None:
        """The next frame that concerns the request; None where it is damaged or does not come."""
        while (found := self._next(deadline)) is not None:
            if found.answer in ignored:
                continue
            if found.answer == Answer.BOOTED:
                raise Failed("the board started anew")
            if found.sequence == self._sequence and found.answer == Answer.CRASHED:
                raise Failed("the processor faulted")
            if found.sequence == self._sequence and found.answer == Answer.TOO_LONG:
                raise Failed("it took too long")
            if found.sequence == self._sequence or found.answer == Answer.NOISE:
                return found
        return None

    def _next(self, deadline: float) -> _Frame | None:
        """The next whole frame; None where one is damaged or the time is over."""
        heard = self._heard
        while True:
            start = heard.find(SYNC)
            del heard[: start if start >= 0 else max(0, len(heard) - 1)]
            if start >= 0 and len(heard) >= HEAD:
                sequence, answer, length = struct.unpack_from("<BBH", heard, len(SYNC))
                if length > PAYLOAD:
                    del heard[: len(SYNC)]
                    return None
                whole = HEAD + length + TAIL
                if len(heard) >= whole:
                    body, check = bytes(heard[2 : whole - TAIL]), heard[whole - TAIL : whole]
                    if struct.pack("<I", zlib.crc32(body)) != check:
                        del heard[: len(SYNC)]
                        return None
                    del heard[:whole]
                    return _Frame(sequence, answer, body[4:])
            if time.monotonic() >= deadline:
                return None
            heard += self._port.read(max(1, self._port.in_waiting))
