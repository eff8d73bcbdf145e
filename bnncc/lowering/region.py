# SPDX-License-Identifier: Apache-2.0
"""One fused region becomes one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import NEURON, Scan
from bnncc.dialect.types import element_of, shape_of
from bnncc.lowering.demands import outer_value, root_of
from bnncc.lowering.expressions import ExpressionBuilder, unsupported
from bnncc.lowering.geometry import broadcast, canonical, without_halo
from bnncc.lowering.input_spikes import mask_of_spikes
from bnncc.lowering.reasons import about_spikes, why_real
from bnncc.lowering.recurrence import State, scan_of, states_of
from bnncc.lowering.roots import Contraction, contraction, describe, grid_of, window_of
from bnncc.lowering.spikes import density_of, fired
from bnncc.lowering.steps import Steps
from bnncc.lowering.storage import Plane
from bnncc.plan import density
from bnncc.plan import expression as ex
from bnncc.plan.kernel import (
    BinaryConv,
    ByteConv,
    ChannelMean,
    Constant,
    KernelSpec,
    Map,
    Output,
    Pool,
    RealConv,
    Root,
    SpikeConv,
)
from bnncc.plan.layout import Element, Layout
from bnncc.plan.program import Alternative, Spikes


class Region:
    """One fused region on its way to a step."""

    def __init__(self, steps: Steps, op: ops.Fused):
        self.steps = steps
        self.op = op
        self.root = root_of(op)
        self.scans = [inner for inner in op.block.ops if isinstance(inner, Scan)]
        self.shape = self._shape()
        self.states: list[State] = []
        self.mask: Plane | None = None
        """Where the input of a contraction is 0 or 1, if that is looked at."""
        self.reads: list[int] = []
        self.operands: list[Layout] = []
        self.operand_index: dict[SSAValue, int] = {}
        self.reserved: list[np.ndarray] = []

    def _shape(self) -> tuple[int, ...]:
        """Of the values inside; where there are recurrences, over all steps."""
        if self.root is not None:
            return shape_of(self.root.result)
        if self.scans:
            return (self.scans[0].steps, *shape_of(self.scans[0].initial[0]))
        return shape_of(self.op.results_inside[0])

    def lower(self) -> None:
        """Append its step, and those that its inputs need before it."""
        root, alternative_root, inputs, alternative_inputs = self._root()
        for scan in self.scans:
            self.states += states_of(scan, self.steps, lambda value: outer_value(self.op, value), self.op)
        builder = ExpressionBuilder(
            canonical(self.shape)[-1], self.root, self._load, len(self.reserved), self._load_array
        )
        self.builder = builder
        finals = {state.final: state for state in self.states}
        outputs, writes, copied = [], [], []
        for value, result in zip(self.op.results_inside, self.op.outputs, strict=True):
            if value in finals:
                copied.append((result, finals[value].plane))
                continue
            planes = self.steps.storage.destination(result)
            for plane, expression in zip(planes, builder.planes(value), strict=True):
                outputs.append(Output(plane.layout, expression))
            writes += [plane.buffer for plane in planes]
            self.steps.fill_halos(planes, self.op)
        pairs = []
        for state in self.states:
            operand = builder.value(state.scan.block.args[len(state.scan.sequences) + state.number])
            assert isinstance(operand, ex.Operand)
            pairs.append((operand.index, len(outputs)))
            outputs.append(Output(state.over_time, builder.value(state.new)))
            writes.append(state.plane.buffer)
        weights = tuple(Constant(_weight_element(array), array.shape) for array in self.reserved)
        spec = KernelSpec(root, tuple(self.operands), weights + tuple(builder.constants), tuple(outputs))
        spec = replace(spec, in_place=tuple(pairs))
        when_zero = None
        if alternative_root is not None:
            spec_when_zero = replace(spec, root=alternative_root)
            reads = (*alternative_inputs, *self.reads)
            mask = self.mask or Plane(alternative_inputs[1], _mask_layout(alternative_root))
            when_zero = Alternative(spec_when_zero, reads, mask.buffer, mask.layout)
        self.steps.step(
            self.op,
            spec,
            (*inputs, *self.reads),
            writes,
            (*self.reserved, *builder.arrays),
            about=self._about(),
            operation=self._operation(),
            when_zero=when_zero,
            note=self._note(when_zero is not None),
            spikes=self._spikes(),
            density=density_of(self.root),
        )
        for result, plane in copied:
            self._place_final(result, plane)

    def _place_final(self, result: SSAValue, plane: Plane) -> None:
        """A state after the last step lies where it is; the caller may want it elsewhere."""
        reserved = self.steps.storage.reserved(result)
        if reserved is not None:
            self.steps.copy(plane, reserved, self.op, "end of the state")
        self.steps.storage.placements[result] = (reserved or plane,)

    def _root(self) -> tuple[Root, BinaryConv | RealConv | None, tuple[int, ...], tuple[int, ...]]:
        """The root, one that takes what it does not (exact zeros, what is no spike), the buffers of each."""
        match self.root:
            case None:
                return Map(), None, (), ()
            case ops.Conv2d() | ops.Dense():
                return self._contraction(contraction(self.root))
            case ops.ChannelMean():
                plane = self._input(self.root.input)
                return ChannelMean(without_halo(plane.layout)), None, (plane.buffer,), ()
            case ops.MaxPool() | ops.MeanPool():
                plane = self._input(self.root.input)
                window = window_of(self.root, *ops.unpack(self.root.kernel))
                mean, is_bytes = isinstance(self.root, ops.MeanPool), plane.layout.element is Element.U8
                outside = isinstance(self.root, ops.MeanPool) and bool(self.root.count_outside.value.data)
                lowest = grid_of(element_of(self.root.input)).lowest if mean and is_bytes else 0
                pool = Pool("mean" if mean else "max", without_halo(plane.layout), window, outside, lowest)
                return pool, None, (plane.buffer,), ()

    def _contraction(
        self, read: Contraction
    ) -> tuple[Root, BinaryConv | RealConv | None, tuple[int, ...], tuple[int, ...]]:
        value = outer_value(self.op, read.input)
        planes = self.steps.with_halo(value, read, self.op)
        buffers = tuple(plane.buffer for plane in planes)
        self.reserved.append(read.weight)
        if planes[0].layout.element is Element.BIT and not read.is_binary:
            more = tuple(plane.layout for plane in planes[1:])
            weight = Element.I8 if read.weight.dtype == np.int8 else Element.F32
            root = SpikeConv(planes[0].layout, read.window, more, weight, read.groups, self._density())
            return root, None, buffers, ()
        if not read.is_binary:
            dense = RealConv(planes[0].layout, read.window, read.groups)
            self.mask = mask_of_spikes(self.steps, self.op, self.root, value)
            if self.mask is None:
                return dense, None, buffers, ()
            return SpikeConv(planes[0].layout, read.window), dense, buffers, buffers
        if planes[0].layout.element is Element.U8:
            grid, planes_ = read.grid, read.weight_planes
            root = ByteConv(planes[0].layout, read.window, grid.lowest, planes_, read.groups)
            return root, None, buffers, ()
        levels = planes[: read.grid.planes]
        plain = BinaryConv(
            planes[0].layout,
            read.window,
            read.groups,
            read.pad_value,
            sum(int(plane.fill > 0) << b for b, plane in enumerate(levels)),
            read.weight_is_ternary,
            grid=read.grid,
            more=tuple(plane.layout for plane in levels[1:]),
            weight_planes=read.weight_planes,
        )
        if not read.input_is_ternary:
            return plain, None, buffers, ()
        masked = replace(plain, ternary_input=True, mask=planes[1].layout)
        return plain, masked, buffers[:1], buffers

    def _density(self) -> float:
        """Of the spikes that the contraction reads."""
        known = density_of(self.root)
        return density.DEFAULT if known is None else density.nearest_class(known.bits)

    def _input(self, inner: SSAValue) -> Plane:
        sign, *mask = self.steps.placement(outer_value(self.op, inner))
        if mask:
            raise unsupported(self.op, "a pool over several planes of bits has no kernel")
        return sign

    def _load(self, argument: BlockArgument) -> ex.Expression:
        scan = scan_of(argument)
        if scan is not None:
            return self._load_inside(scan, argument)
        if argument not in self.operand_index:
            value = outer_value(self.op, argument)
            self.operand_index[argument] = len(self.operands)
            for plane in self.steps.placement(value):
                self._add_operand(plane, len(shape_of(value)))
        return ex.Operand(self.operand_index[argument])

    def _load_inside(self, scan: Scan, argument: BlockArgument) -> ex.Expression:
        """An argument of a recurrence: part of a sequence, an invariant, or a state, which is an operand."""
        number = argument.index - len(scan.sequences)
        if not 0 <= number < len(scan.initial):
            return self.builder.value(scan.operands[argument.index])
        if argument not in self.operand_index:
            state = next(s for s in self.states if s.scan is scan and s.number == number)
            self.operand_index[argument] = len(self.operands)
            self.operands.append(state.over_time)
            self.reads.append(state.plane.buffer)
        return ex.Operand(self.operand_index[argument])

    def _load_array(self, array: np.ndarray) -> ex.Expression:
        self._add_operand(self.steps.constant_plane(array), array.ndim)
        return ex.Operand(len(self.operands) - 1)

    def _add_operand(self, plane: Plane, rank: int) -> None:
        self.operands.append(broadcast(plane.layout, rank, len(self.shape)))
        self.reads.append(plane.buffer)

    def _note(self, may_be_zero: bool) -> str:
        if self.mask is not None:
            return "events where the input is all 0 and 1, which is looked at; else float products"
        if may_be_zero:
            return "sign(0) = 0 kept: the masked kernel runs when a zero occurs"
        if not isinstance(self.root, ops.Conv2d | ops.Dense):
            return ""
        read = contraction(self.root)
        spikes = about_spikes(self.root)
        if read.is_binary or spikes:
            return spikes
        return why_real(outer_value(self.op, read.input), read.weight)

    def _spikes(self) -> list[Spikes]:
        """Those among the outputs of the kernel: a value of several planes takes several of them."""
        if not self.steps.has_neurons:
            return []
        finals = {state.final for state in self.states}
        pairs = zip(self.op.results_inside, self.op.outputs, strict=True)
        stored = [(value, result) for value, result in pairs if value not in finals]
        first = np.cumsum([0] + [len(self.steps.placement(result)) for _, result in stored])
        found = fired([value for value, _ in stored])
        return [replace(spikes, output=int(first[spikes.output])) for spikes in found]

    def _about(self) -> Operation:
        """The operation that names the step: the root, or the last one of a map."""
        if self.root is not None:
            return self.root
        owner = self.op.results_inside[-1].owner
        return owner if isinstance(owner, Operation) else self.op

    def _operation(self) -> str:
        names: list[str] = []
        for op in (inner for outer in self.op.block.ops for inner in outer.walk()):
            neuron = op.attributes.get(NEURON)
            name = neuron.data if isinstance(neuron, StringAttr) else op.name.removeprefix("bnn.")
            if (neuron and name not in names) or (neuron is None and _is_epilogue(op, self.root)):
                names.append(name)
        first = [describe(self.root)] if self.root is not None else []
        return " + ".join(first + counted(names)) or "copy"


def counted(names: Sequence[str]) -> list[str]:
    """Names in order, those that repeat themselves said once: "3 x (mul + add)"."""
    found, at = [], 0
    while at < len(names):
        period, times = _repetition(names[at:])
        several = names[at : at + period]
        text = " + ".join(several)
        found.append(text if times == 1 else f"{times} x ({text})" if period > 1 else f"{times} x {text}")
        at += period * times
    return found


def _repetition(names: Sequence[str]) -> tuple[int, int]:
    """How many names at the beginning are said how often; (1, 1) where nothing repeats itself."""
    for period in range(1, len(names) // 2 + 1):
        times = 1
        while names[times * period : (times + 1) * period] == names[:period]:
            times += 1
        if times > 1:
            return period, times
    return 1, 1


def _is_epilogue(op: Operation, root: Operation | None) -> bool:
    return op is not root and not isinstance(op, ops.Constant | ops.Yield | ops.Cast | Scan)


def _mask_layout(root: Root) -> Layout:
    assert isinstance(root, BinaryConv) and root.mask is not None
    return root.mask


def _weight_element(array: np.ndarray) -> Element:
    return Element.I8 if array.dtype == np.int8 else Element.F32
