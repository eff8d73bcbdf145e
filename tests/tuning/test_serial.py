# SPDX-License-Identifier: Apache-2.0
"""Measuring on boards at a serial port: the agent's firmware in emulators behind pseudo-terminals."""

from __future__ import annotations

import builtins
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.kernels.space import candidates
from bnncc.toolchain.c_compiler import Toolchain
from bnncc.tuning import firmware, frames, serial_port, tuner
from bnncc.tuning.database import Database
from bnncc.tuning.devices import Emulated, open_device
from bnncc.tuning.measure import Outcome, Subject, measure
from bnncc.tuning.serial_port import Serial
from bnncc.tuning.tuner import Limits, tune
from tests.kernels.contractions import Shape
from tests.tuning.bad_candidates import impatient_at_first, misbehave, only_the_second_fails
from tests.tuning.layers import layer, numbers, steps
from tests.tuning.serial_boards import Board, Line, device

SPEC = layer(Shape((1, 3, 3, 96), 32))
SUBJECT = Subject.of(SPEC, numbers(SPEC))
BOARDS = ("cortex-m4", "rv32imc")


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The agent's firmware for a target, made once."""
    made: dict[str, Path] = {}

    def agent(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "agent.elf"
            assert firmware.main([name, str(made[name])]) == 0
        return made[name]

    return agent


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    """Most of these tests call the same kernels: they are compiled once, and linked with what a test does to
    a program."""
    kept: dict[tuple[object, ...], bytes] = {}
    really = Toolchain.compile

    def compile(tools: Toolchain, source: Path, output: Path, flags: Sequence[str] = ()) -> None:
        key = (tools, source.read_text(), *flags)
        if key not in kept:
            really(tools, source, output, flags)
            kept[key] = output.read_bytes()
        output.write_bytes(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Toolchain, "compile", compile)
        yield


BRIEF = 0.5
"""Seconds for boards that are silent."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an emulator takes a second for a frame that it otherwise has in a tenth of one."""
    monkeypatch.setattr(frames, "PATIENCE", 5)


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest, agents: Callable[[str], Path], tmp_path: Path) -> Iterator[Board]:
    """One that runs the agent."""
    plugged = Board(targets.load(request.param), tmp_path)
    plugged.start(agents(request.param))
    yield plugged
    plugged.unplug()


cortex_m4 = pytest.mark.parametrize("board", ["cortex-m4"], indirect=True)


def measured(where: Serial, count: int = 3) -> list[Outcome]:
    return measure(SUBJECT, candidates(SPEC, where.target)[:count], where, where.target)


def test_kernels_are_loaded_executed_and_counted(board: Board):
    """In cycles that are those of the instructions: the emulator's clock is made of these, which the plugin
    counts exactly."""
    where = device(board)
    counter = {"cortex-m4": "SysTick (no CYCCNT)", "rv32imc": "mcycle"}[board.target.name]
    assert where.name == f"serial: {board.target.name}, cycles by {counter}"
    assert open_device(f"serial://{board.path}?baud=115200", board.target).name == where.name
    choices = candidates(SPEC, board.target)[:2]
    counted = measure(SUBJECT, choices, Emulated(board.target), board.target)
    cycles = {"cortex-m4": 32 * 25e-3, "rv32imc": 1.0}[board.target.name]
    for outcome, exact in zip(measured(where, 2), counted, strict=True):
        assert outcome.score and exact.score and exact.score > 1000 and not outcome.problem
        assert outcome.score / cycles == pytest.approx(exact.score, rel=0.02)


@pytest.mark.parametrize(
    ("board", "statement", "problem"),
    [
        ("cortex-m4", "__builtin_trap();", "the processor faulted"),
        ("rv32imc", "__builtin_trap();", "the processor faulted"),
        ("cortex-m4", "((unsigned char *)p[3])[-1] = 1;", "outside of its outputs"),
        ("rv32imc", "p[0] = p[1];", "its answer is wrong"),
    ],
    ids=["crash-cortex-m4", "crash-rv32imc", "outside", "wrong"],
    indirect=["board"],
)
def test_a_bad_candidate_costs_itself_only(
    board: Board, monkeypatch: pytest.MonkeyPatch, statement: str, problem: str
):
    misbehave(monkeypatch, statement)
    only_the_second_fails(measured(device(board)), problem)


@cortex_m4
def test_a_hanging_candidate_is_ended_by_the_board(board: Board, monkeypatch: pytest.MonkeyPatch):
    misbehave(monkeypatch, "for (;;) ;")
    # The board's clock is made of instructions, and may lag behind ours.
    monkeypatch.setattr(frames, "PATIENCE", 60)
    where = device(board)
    impatient_at_first(monkeypatch, where, 1)
    only_the_second_fails(measured(where), "took too long")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards that are not there are given up soon."""
    monkeypatch.setattr(serial_port, "RESTARTING", 0.1)
    monkeypatch.setattr(tuner, "PAUSES", (0.1, 0.1, 0.1))


@pytest.mark.parametrize(
    ("board", "damage"), [("cortex-m4", "written"), ("rv32imc", "heard")], indirect=["board"]
)
def test_damaged_frames_are_sent_again(board: Board, damage: str):
    lines: list[Line] = []

    def noisy(path: str, baud: int) -> Line:
        chosen = frozenset(range(3, 100_000, 7 if damage == "written" else 997))
        lines.append(
            Line(path, baud, *((chosen, frozenset()) if damage == "written" else (frozenset(), chosen)))
        )
        return lines[-1]

    outcomes = measured(device(board, open_port=noisy), 2)
    assert all(outcome.score and not outcome.problem for outcome in outcomes)
    assert len(lines) == 1 and lines[0].written > 40


class Calls:
    """How often the board was told to call a kernel; something happens just before one of these."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], object]):
        self.count, call = 0, frames.Link.call

        def counted(link: frames.Link, payload: bytes, seconds: float) -> bytes:
            self.count += 1
            if self.count == number:
                action()
            return call(link, payload, seconds)

        monkeypatch.setattr(frames.Link, "call", counted)


@pytest.mark.parametrize(
    ("board", "accident"),
    [("rv32imc", "reset"), ("cortex-m4", "unplugged"), ("rv32imc", "frozen")],
    indirect=["board"],
)
def test_an_accident_costs_one_trial(
    board: Board, agents: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, accident: str
):
    """The board is reset, is unplugged and plugged in again, is silent for a while, at the second call."""
    where = device(board)
    actions = {
        "reset": board.reset,
        "unplugged": lambda: board.start(agents(board.target.name)),
        "frozen": lambda: (board.freeze(), monkeypatch.setattr(frames, "PATIENCE", BRIEF)),
    }
    calls = Calls(monkeypatch, 2, actions[accident])
    if accident == "frozen":
        exchange = frames.Link._exchange

        def thawed(link: frames.Link, *arguments, **options):
            try:
                return exchange(link, *arguments, **options)
            except frames.Silent:
                board.freeze(False)
                monkeypatch.setattr(frames, "PATIENCE", 5)
                raise

        monkeypatch.setattr(frames.Link, "_exchange", thawed)
    only_the_second_fails(measured(where), "it failed: ")
    assert calls.count > 3


@cortex_m4
def test_a_board_that_stays_away_is_told(board: Board, quick: None, tmp_path: Path):
    where = device(board)
    board.unplug()
    with pytest.raises(BnnccError, match=r"is gone.*could not open port"):
        tune(steps(SPEC), board.target, where, Database(tmp_path / "db"), Limits(4), lambda message: None)


def flasher(folder: Path) -> tuple[list[str], Path]:
    """A flash command that leaves what it was given in a file, for somebody who plays the board."""
    script, given = folder / "flash.py", folder / "flashed"
    script.write_text(
        "import pathlib, shutil, sys, time\n"
        f"given = pathlib.Path({str(given)!r})\n"
        "shutil.copy(sys.argv[1], f'{given}.elf')\n"
        "given.write_text(sys.argv[2])\n"
        "deadline = time.monotonic() + 300\n"
        "while given.exists() and time.monotonic() < deadline:\n"
        "    time.sleep(0.02)\n"
    )
    return [sys.executable, str(script), "{image}", "{port}"], given


@pytest.fixture
def flashed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Board, list[str], list[str]]]:
    """A board with nothing in it, its flash command, and the ports that the command was told of."""
    plugged = Board(targets.load(request.param), tmp_path)
    command, given = flasher(tmp_path)
    ports: list[str] = []
    stop = threading.Event()

    def flash() -> None:
        while not stop.is_set():
            if given.exists() and given.read_text():
                plugged.start(Path(f"{given}.elf"))
                ports.append(given.read_text())
                given.unlink()
            time.sleep(0.02)

    thread = threading.Thread(target=flash, daemon=True)
    thread.start()
    yield plugged, command, ports
    stop.set()
    thread.join()
    plugged.unplug()


@pytest.mark.parametrize("flashed", ["cortex-m4"], indirect=True)
def test_a_board_is_flashed_with_every_program(flashed: tuple[Board, list[str], list[str]]):
    """Once with the agent, as nobody answered; once with the kernels, which both programs of requests use."""
    plugged, command, ports = flashed
    outcomes = measured(device(plugged, flash=command, load="flash"))
    assert all(outcome.score and not outcome.problem for outcome in outcomes)
    assert ports == [str(plugged.path)] * 2


@pytest.mark.parametrize("flashed", ["rv32imc"], indirect=True)
def test_a_hanging_board_is_flashed_with_the_agent(
    flashed: tuple[Board, list[str], list[str]], monkeypatch: pytest.MonkeyPatch, quick: None
):
    """This board has nothing of its own that would end a call."""
    plugged, command, ports = flashed
    where = device(plugged, flash=command)
    misbehave(monkeypatch, "for (;;) ;")
    impatient_at_first(monkeypatch, where, 1)
    Calls(monkeypatch, 2, lambda: monkeypatch.setattr(frames, "PATIENCE", BRIEF))
    write = Serial._write_flash

    def patiently(board: Serial, image: Path) -> None:
        monkeypatch.setattr(frames, "PATIENCE", 5)
        write(board, image)

    monkeypatch.setattr(Serial, "_write_flash", patiently)
    only_the_second_fails(measured(where), "does not answer")
    assert len(ports) == 2


def test_a_flash_command_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serial_port, "RESTARTING", 0.1)
    script = tmp_path / "fail"
    script.write_text("#!/bin/sh\necho no probe found >&2\nexit 3\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(BnnccError, match=r"flash command failed: exit status 3: no probe found"):
        Serial(str(tmp_path / "port"), 115200, targets.load("cortex-m4"), [str(script), "{image}"])


@cortex_m4
def test_a_network_is_tuned(board: Board, tmp_path: Path):
    path = tmp_path / "db.json"
    found = tune(steps(SPEC), board.target, device(board), Database(path), Limits(4), lambda message: None)
    assert found.unit == "cycles" and len(found.layers[0].scores) > 1 and None not in found.layers[0].scores
    assert Database(path).size == len(found.layers[0].scores)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("serial://", "cortex-m4", "is not understood"),
        ("serial://host/dev/ttyACM0", "cortex-m4", "is not understood"),
        ("serial:///dev/ttyACM0?baud=fast", "cortex-m4", "is not understood"),
        ("serial:///dev/ttyACM0?speed=9600", "cortex-m4", "is not understood"),
        ("serial:///dev/ttyACM0?load=rom", "cortex-m4", "is not understood"),
        ("serial:///dev/ttyACM0?load=flash", "cortex-m4", "has no flash command"),
        ("serial:///dev/ttyACM0", "cortex-a72", "has an operating system"),
        ("serial:///dev/no-such-port", "cortex-m4", "is gone"),
    ],
)
def test_addresses_that_are_none(text: str, target: str, message: str):
    with pytest.raises(BnnccError) as caught:
        open_device(text, targets.load(target))
    assert message in str(caught.value)


def test_pyserial_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    load = builtins.__import__

    def without(name: str, *arguments, **options):
        if name == "serial":
            raise ImportError("No module named 'serial'", name="serial")
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BnnccError, match=r"pip install 'bnncc\[serial\]'"):
        serial_port._open("/dev/ttyACM0", 115200)
