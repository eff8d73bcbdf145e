# SPDX-License-Identifier: Apache-2.0
"""What the layers of a network read on samples: how many neurons spike, and the ranges of real numbers.

Counted spikes decide between events and products (`bnncc.plan.density`), which never changes results; ranges
are what --quantize-real rounds by.
"""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from bnncc import reference
from bnncc.data.samples import Samples, sequences
from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.network import main_function, states_of
from bnncc.dialect.operations import is_spiking
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import element_of
from bnncc.passes.pipeline import run_pipeline
from bnncc.passes.quantize_real import Bounds
from bnncc.passes.recognize_spikes import Rates
from bnncc.plan.density import Costs

NOTHING: Bounds = (np.inf, -np.inf)
"""The bounds of no numbers."""


class Readings:
    """What the contractions of a fused network read: arrays are added, then asked for by layer."""

    def __init__(self, main: FuncOp):
        """main: whose layers are watched."""
        layers = [op for op in main.walk() if isinstance(op, ops.CONTRACTIONS)]
        self._inputs = {op: origin(op.input) for op in layers}
        self._watched = set(self._inputs.values())
        self._bits: dict[SSAValue, tuple[int, int]] = {}
        self._bounds: dict[SSAValue, Bounds] = {}

    def add(self, value: SSAValue, array: np.ndarray) -> None:
        """Take in what a value was once, if a layer reads it."""
        if value not in self._watched or not array.size:
            return
        if is_spiking(element_of(value)):
            bits, size = self._bits.get(value, (0, 0))
            self._bits[value] = bits + int(np.bitwise_count(array).sum()), size + array.size
        elif element_of(value) == f32:
            low, high = self._bounds.get(value, NOTHING)
            # NumPy's, unlike Python's, keep a NaN.
            self._bounds[value] = float(np.minimum(low, array.min())), float(np.maximum(high, array.max()))

    def set_bits(self) -> dict[str, float]:
        """Set bits of an input, on average, of each contraction of spikes, by its location."""
        found = {op: self._bits[value] for op, value in self._inputs.items() if value in self._bits}
        return {location_text(op): bits / size for op, (bits, size) in found.items()}

    def ranges(self) -> dict[str, Bounds]:
        """The smallest and the largest number that each contraction of real numbers reads, by its location.
        Raises BnnccError where a number is not finite."""
        ranges: dict[str, Bounds] = {}
        for op, value in self._inputs.items():
            if value not in self._bounds:
                continue
            where, (low, high) = location_text(op), self._bounds[value]
            if not np.isfinite((low, high)).all():
                message = "on the samples it reads a number that is not finite"
                raise BnnccError(where, message, "look at the samples")
            lowest, highest = ranges.get(where, NOTHING)
            ranges[where] = min(lowest, low), max(highest, high)
        return ranges


def measure(module: ModuleOp, samples: Samples, costs: Costs, assume_sign_zero: int | None) -> Readings:
    """Run a network on samples, by the reference; the module, which no pass has seen, is left as it is.

    costs: of the target. Every layer of spikes looks at events there, whatever it costs, so that they are
    counted. Raises BnnccError where the samples do not fit the network."""
    fused = module.clone()
    run_pipeline(fused, None, assume_sign_zero, Rates(costs=costs, form="events"))
    return read(fused, samples)


def read(module: ModuleOp, samples: Samples) -> Readings:
    """The same of a module that is fused already."""
    main = main_function(module)
    readings, pairs = Readings(main), states_of(main)

    def look(op: Operation, results: list[np.ndarray]) -> None:
        for value, array in zip(op.results, results, strict=True):
            readings.add(value, array)

    for sequence in sequences(module, samples):
        carried: dict[str, np.ndarray] = {}
        for batch in sequence:
            inputs = {**carried, **batch}
            arguments = reference.check_inputs(main, inputs)
            for value, array in zip(main.body.block.args, arguments, strict=True):
                readings.add(value, array)
            outputs = reference.evaluate(module, inputs, look)
            carried = {name: outputs[pairs[name]] for name in pairs}
    return readings


def origin(value: SSAValue) -> SSAValue:
    """The value that a block argument of a region stands for, as far as it is one value."""
    while isinstance(value, BlockArgument) and isinstance(value.owner, Block):
        parent = value.owner.parent_op()
        if parent is None or value.index >= len(parent.operands):
            return value
        value = parent.operands[value.index]
    return value
