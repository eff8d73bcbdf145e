# SPDX-License-Identifier: Apache-2.0
"""Running one layer of a compiled network by itself, on values that the caller chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from xdsl.dialects.builtin import f32, i1
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import Scan
from bnncc.dialect.types import Bipolar, Level, Spike, Ternary, element_of, numpy_type, shape_of
from bnncc.execution.artifact import Artifact
from bnncc.lowering import Lowered
from bnncc.lowering.geometry import canonical
from bnncc.lowering.storage import Plane
from bnncc.plan import simulate
from bnncc.plan.kernel import Upstream
from bnncc.plan.layout import Element


class LayerRunner:
    """Feeds the steps of one operation through the shared library and reads what they wrote."""

    def __init__(self, lowered: Lowered, artifact: Artifact):
        self.program = lowered.program
        self.operations = lowered.operations
        self.placements = lowered.placements
        self.artifact = artifact
        self.arena = artifact.arena()
        self.state = artifact.state_memory() if artifact.is_stateful else None
        self.inputs = [np.zeros(port.shape, port.dtype) for port in self.program.inputs]
        self.outputs = [np.zeros(port.shape, port.dtype) for port in self.program.outputs]

    def layers(self) -> Iterator[tuple[Operation, int]]:
        """Every operation with a kernel of its own, and its main step (halos and copies come before it)."""
        last = {op: index for index, op in enumerate(self.operations)}
        for op, index in last.items():
            is_upstream = isinstance(self.program.steps[index].kernel.root, Upstream)
            if isinstance(op, ops.Fused | ops.Softmax | ops.CountPool) or (
                is_upstream and not isinstance(op, ReturnOp | Scan)
            ):
                yield op, index

    def run(self, op: Operation, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The operation's results for these values of its operands, from the compiled code."""
        for value, array in zip(op.operands, operands, strict=True):
            if isinstance(value.owner, ops.Constant) and value not in self.placements:
                continue  # part of the kernel
            planes = self.placements[value]
            for plane, part in zip(planes, _planes(value, array, len(planes)), strict=True):
                self._write(plane, part)
        for index, owner in enumerate(self.operations):
            if owner is op:
                self.artifact.run_layer(index, self.arena, self.inputs, self.outputs, self.state)
        return [self._result(value) for value in op.results]

    def _result(self, value: SSAValue) -> np.ndarray:
        planes = [self._read(plane) for plane in self.placements[value]]
        element = element_of(value)
        array = planes[0]
        if isinstance(element, Bipolar):
            array = np.where(array, 1, -1)
        elif isinstance(element, Level) and len(planes) == 1:
            array = array.astype(int) + element.lowest
        elif isinstance(element, Level):
            array = (
                np.sum([plane.astype(int) << b for b, plane in enumerate(planes)], axis=0) + element.lowest
            )
        elif isinstance(element, Ternary):
            array = np.where(planes[1], np.where(planes[0], 1, -1), 0)
        return array.reshape(shape_of(value)).astype(numpy_type(element))

    def _write(self, plane: Plane, array: np.ndarray) -> None:
        memory = self._memory(plane)
        if plane.layout.halo:
            around = simulate.with_halo(plane.layout)
            simulate.store(around, memory, np.full(around.shape, _outside(plane)))
        simulate.store(plane.layout, memory, array.reshape(plane.layout.shape))

    def _read(self, plane: Plane) -> np.ndarray:
        return simulate.load(plane.layout, self._memory(plane))

    def _memory(self, plane: Plane) -> np.ndarray:
        """The buffer of a plane as a flat array of its stored type, not a copy; of a part, that of the first
        trip."""
        bytes_ = self.program.buffers[plane.buffer].bytes
        index = self.program.whole(plane.buffer)
        buffer = self.program.buffers[index]
        dtype = plane.layout.element.dtype
        if buffer.place == "input":
            return self.inputs[buffer.index].reshape(-1)
        if buffer.place == "output":
            return self.outputs[buffer.index].reshape(-1)
        if buffer.place == "constant":
            assert buffer.data is not None
            return buffer.data.reshape(-1).copy()
        start = self.artifact.manifest["buffers"][index]["offset"]
        memory = self.state if buffer.place == "state" else self.arena
        assert memory is not None
        return memory[start : start + bytes_].view(dtype)


def _planes(value: SSAValue, array: np.ndarray, count: int) -> list[np.ndarray]:
    """The array of a value as its planes: numbers, one boolean plane, sign and mask, or bits; of a level that
    has one plane, bytes."""
    element, shaped = element_of(value), array.reshape(canonical(array.shape))
    if isinstance(element, Ternary):
        return [shaped > 0, shaped != 0]
    if isinstance(element, Level):
        levels = shaped.astype(int) - element.lowest
        if count == 1:
            return [levels]
        return [levels >> b & 1 != 0 for b in range(element.planes)]
    if isinstance(element, Bipolar | Spike) or element == i1:
        return [shaped > 0]
    return [shaped.astype(np.float32) if element == f32 else shaped]


def _outside(plane: Plane) -> bool | float:
    return plane.fill > 0 if plane.layout.element is Element.BIT else float(plane.fill)
