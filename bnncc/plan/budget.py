# SPDX-License-Identifier: Apache-2.0
"""What a network needs of a device's memory, and whether that is within the user's budgets.

RAM: the arena, the state, and the inputs and outputs, which are the caller's but lie somewhere, too; not the
stack.
Flash: code and constant weights of the library, not the compiler's run-time library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.plan import arena
from bnncc.plan.memory import ALIGNMENT
from bnncc.plan.program import Program, Step

Goal = Literal["size", "speed"] | None
"""What kernels are chosen for; None: a balance of both."""


@dataclass(frozen=True)
class Budgets:
    """Bytes that a network may take; None: as many as it wants."""

    ram: int | None = None
    flash: int | None = None


class FlashExceeded(BnnccError):
    """The library is larger than the budget of flash."""


def port_bytes(program: Program) -> tuple[int, int]:
    """Bytes of all inputs, and of all outputs but those that the caller can do without."""
    inputs, outputs = (
        sum(program.buffers[port.buffer].bytes for port in ports if not port.optional)
        for ports in (program.inputs, program.outputs)
    )
    return inputs, outputs


def live_bytes(program: Program) -> list[int]:
    """For each step the bytes of the arena that hold something then."""
    owner = arena.owners(program.steps, program.buffers)
    requests = arena.requests(program.steps, program.buffers, owner, program.loops)
    return [
        sum(
            -(-request.bytes // ALIGNMENT) * ALIGNMENT
            for request in requests.values()
            if request.first <= index <= request.last
        )
        for index in range(len(program.steps))
    ]


def check_ram(program: Program, budgets: Budgets) -> None:
    """Raise a BnnccError that names the layer with the most memory if the network needs more than allowed."""
    inputs, outputs = port_bytes(program)
    needed = program.arena_bytes + program.state_bytes + inputs + outputs
    if budgets.ram is None or needed <= budgets.ram:
        return
    live = live_bytes(program)
    worst = max(range(len(live)), key=live.__getitem__)
    step = program.steps[worst]
    raise BnnccError(
        "--ram",
        f"the network needs {needed:,} bytes of RAM, {needed - budgets.ram:,} more than {budgets.ram:,}: "
        f"{program.arena_bytes:,} for the arena, {_state(program)}{inputs:,} for the inputs, "
        f"{outputs:,} for the outputs; "
        f"most of the arena is in use at {_named(step)}, {live[worst]:,} bytes",
        _ram_hint(program, inputs),
        ExitCode.DIFFERS,
    )


def _state(program: Program) -> str:
    return f"{program.state_bytes:,} for the state, " if program.states else ""


def _ram_hint(program: Program, inputs: int) -> str:
    ideas = []
    if inputs and any(port.dtype == "float32" and len(port.shape) == 4 for port in program.inputs):
        ideas.append(f"--input-type u8 takes {inputs // 4:,} bytes for the inputs instead of {inputs:,}")
    ideas.append("a larger stride or fewer channels in the layers up to there, or a smaller input")
    return "; ".join(ideas)


def check_flash(program: Program, sizes: FlashSizes, budgets: Budgets) -> None:
    """Raise a FlashExceeded that names the layer with the largest weights if the library is too large."""
    if budgets.flash is None or sizes.total <= budgets.flash:
        return
    worst = max(range(len(program.steps)), key=sizes.weights_of_steps.__getitem__)
    step = program.steps[worst]
    real = step.domains.startswith("f32")
    hint = "its weights are real-valued: binary ones take a thirty-second" if real else "fewer channels there"
    raise FlashExceeded(
        "--flash",
        f"the library takes {sizes.total:,} bytes of flash, {sizes.total - budgets.flash:,} more than "
        f"{budgets.flash:,}: {sizes.code:,} for code, {sizes.weights:,} for weights; the largest are those "
        f"of {_named(step)}, {sizes.weights_of_steps[worst]:,} bytes",
        hint,
        ExitCode.DIFFERS,
    )


@dataclass(frozen=True)
class FlashSizes:
    """Bytes of the library: its code, its weights (equal ones are stored once), and the weights that each
    step reads."""

    code: int
    weights: int
    weights_of_steps: Sequence[int]

    @property
    def total(self) -> int:
        """All of it."""
        return self.code + self.weights


def _named(step: Step) -> str:
    return f"{step.location or step.name} ({step.operation})"
