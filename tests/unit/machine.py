# SPDX-License-Identifier: Apache-2.0
"""Running lowered programs step by step in NumPy, on an arena full of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto

from bnncc import driver, reference
from bnncc.lowering import Lowered
from bnncc.plan import simulate
from bnncc.plan.program import Buffer, Program, Step
from tests.models import write

RNG = np.random.default_rng(7)


def lowered(folder: Path, model: ModelProto) -> Lowered:
    """The program of a model."""
    return driver.lower_model(write(folder, model), driver.Options())


class Machine:
    """Memory of one run: the arena as one piece, at the offsets that were planned."""

    def __init__(self, program: Program, inputs: dict[str, np.ndarray]):
        self.program = program
        self.arena = RNG.integers(0, 256, program.arena_bytes, dtype=np.uint8)
        self.inputs = [np.ascontiguousarray(inputs[port.name]).reshape(-1) for port in program.inputs]
        self.outputs = [np.full(int(np.prod(p.shape)), 7, p.dtype) for p in program.outputs]

    def memory(self, index: int, dtype: str) -> np.ndarray:
        """A buffer in this type, not a copy."""
        buffer: Buffer = self.program.buffers[index]
        if buffer.place == "arena":
            start = self.program.offsets[index]
            return self.arena[start : start + buffer.bytes].view(dtype)
        if buffer.place == "constant":
            assert buffer.data is not None
            return buffer.data.reshape(-1)
        return (self.inputs if buffer.place == "input" else self.outputs)[buffer.index]

    def run(self, step: Step) -> None:
        """Run one step, the masked kernel where a zero occurs."""
        kernel, reads = step.kernel, step.reads
        if step.when_zero is not None:
            mask = step.when_zero.kernel.root.mask  # type: ignore[union-attr]
            assert mask is not None
            if not simulate.load(mask, self.memory(step.when_zero.mask, "uint32")).all():
                kernel, reads = step.when_zero.kernel, step.when_zero.reads
        layouts = (*kernel.inputs, *kernel.operands)
        sources = [self.memory(i, layout.element.dtype) for i, layout in zip(reads, layouts, strict=True)]
        writes = [layout.layout for layout in kernel.outputs] or [kernel.root.target]  # type: ignore[union-attr]
        targets = [
            self.memory(i, layout.element.dtype) for i, layout in zip(step.writes, writes, strict=True)
        ]
        simulate.run_step(kernel, sources, step.constants, targets)


def check(result: Lowered, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compare a run of all steps with the module; what the module answers."""
    machine = Machine(result.program, inputs)
    for step in result.program.steps:
        machine.run(step)
    expected = reference.evaluate(result.module, inputs)
    for port, got in zip(result.program.outputs, machine.outputs, strict=True):
        want = expected[port.name]
        np.testing.assert_allclose(got.reshape(port.shape), want, rtol=1e-4, atol=1e-4)
    return expected
