# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of a leaky neuron in integers.

A membrane is kept as v / unit, rounded, in int16 or int32; the unit is a number for each channel. One step,
all of it integers (W: bits of the membrane; D: decay, less 1 from one half on; `bnn.mul_shift` rounds half
up):

    s  = saturate(x + v)            (x alone where decay < 1/2)
    u  = s + mul_shift(v, round(2^W D), W)
    fires where u > round(threshold / unit), or u >= it
    v' = saturate(u - reset / unit) or reset / unit where it fires, else u

with saturate(y) = min(max(y, -2^B), 2^B - 1), B = 15 or 30. A current that is a sum of integers times a
number for each channel (binary weights, int8 weights, another membrane) stays an integer: the unit is chosen
as that number over a power of two. Other currents are divided by the unit and rounded to even.
"""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import f32, i16, i32
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.neurons import Body
from bnncc.dialect.time import Neuron
from bnncc.dialect.types import element_of, spike
from bnncc.passes.fixed_currents import LIMIT, sum_of
from bnncc.passes.neuron_parameters import Parameters, location_of

THRESHOLD = {16: 1 << 12, 32: 1 << 24}
"""A threshold is at most this many units, where that can be chosen: room for membranes beyond it."""

REAL_THRESHOLD = 1 << 18
"""The same where currents are real: float32 holds no more bits of them."""

MOST_SHIFT = 20
"""Bits behind the point that a sum of integers is given."""


class FixedNeuron:
    """A neuron in integers of `bits` bits. unit: what 1 of the membrane stands for, float64 [] or [c]."""

    def __init__(self, old: Neuron, found: Parameters, bits: int):
        self.old, self.found, self.bits = old, found, bits
        self.limit = LIMIT[bits]
        self.element = i16 if bits == 16 else i32
        self.current = sum_of(old.inputs[0])
        self.shift, self.factor = 0, None
        self.unit = self._unit()

    def _unit(self) -> np.ndarray:
        """What 1 of the membrane stands for: float64 [] or [c]."""
        found, room = self.found, float(THRESHOLD[self.bits])
        levels = [np.abs(a) for a in (found.threshold, found.reset_by) if a is not None]
        level = float(max((array.max() for array in levels), default=0.0))
        if self.current is None:
            return np.asarray((level or 1.0) / min(room, REAL_THRESHOLD))
        scale, largest = np.abs(found.gain * self.current.scale), max(1, self.current.largest)
        units = 0.0 if not level else float((level / scale).max())
        if units > room * 2:
            # Too fine: sums of integers are scaled down.
            self.shift, self.factor = 0, scale / (level / room)
            return np.asarray(level / room)
        shift = 0
        while (
            shift < MOST_SHIFT
            and max(units, 1) * 2 ** (shift + 1) <= room
            and largest << shift + 1 < LIMIT[32]
        ):
            shift += 1
        if self.bits == 16 and not level:
            shift = 0
            while shift < MOST_SHIFT and largest << shift + 3 < self.limit:
                shift += 1
        self.shift = shift
        return scale / 2.0**shift

    # --- Before the neuron --------------------------------------------------------------------------------

    def integer_current(self, made: list[Operation]) -> SSAValue:
        """The current in units, i32 within the range of a membrane."""

        def add(op: Operation) -> SSAValue:
            made.append(op)
            return op.results[0]

        def integers(numbers: np.ndarray) -> SSAValue:
            return add(ops.Constant(_channels(numbers).astype(np.int32)))

        found, unit = self.found, self.unit
        if self.current is None:
            x = self.old.inputs[0]
            scaled = add(ops.Mul(x, add(ops.Constant(_channels(found.gain / unit).astype(np.float32)))))
            whole = add(ops.Clip(add(ops.Round(scaled)), float(-self.limit), float(self._highest)))
            value = add(ops.Cast(whole, i32))
            constant = found.offset / unit
        else:
            value = self.current.integers
            sign = np.sign(found.gain * self.current.scale)
            power = sign * 2.0**self.shift
            if not (power == 1).all():
                value = add(ops.Mul(value, integers(power)))
            if self.factor is not None:
                value = self._scaled_down(value, add)
            constant = (found.gain * self.current.bias + found.offset) / unit
        constant = np.clip(np.rint(constant), -self.limit, self._highest)
        if constant.any():
            value = add(ops.Add(value, integers(constant)))
        return value if self._bound(constant) < self.limit else self._saturated(value, add)

    def _bound(self, constant: np.ndarray) -> int:
        """Of the magnitude of the current in units."""
        most = self.limit - 1
        if self.current is not None and self.factor is None:
            turned = (self.found.gain * self.current.scale < 0).any()
            most = (self.current.largest + int(turned)) << self.shift
        elif self.current is not None:
            most = int(self.current.largest * self.factor.max()) + 1  # type: ignore[union-attr]
        return most + int(np.abs(constant).max())

    def _scaled_down(self, value: SSAValue, add) -> SSAValue:
        assert self.factor is not None and self.current is not None
        shift = 0
        while self.current.largest << shift + 1 < LIMIT[32] and shift < MOST_SHIFT:
            shift += 1
        if shift:
            value = add(ops.Mul(value, add(ops.Constant(np.array([1 << shift], np.int32)))))
        fraction = np.clip(np.rint(self.factor / 2.0**shift * 2.0**32), 0, 2**31 - 1).astype(np.int32)
        return add(ops.MulShift(value, add(ops.Constant(_channels(fraction))), 32))

    @property
    def _highest(self) -> int:
        return self.limit - 1

    def _saturated(self, value: SSAValue, add) -> SSAValue:
        low, high = (add(ops.Constant(np.array([v], np.int32))) for v in (-self.limit, self._highest))
        return add(ops.Min(add(ops.Max(value, low)), high))

    # --- The neuron ---------------------------------------------------------------------------------------

    def neuron(self, current: SSAValue, membrane: SSAValue) -> Neuron:
        """The neuron in integers."""
        found, old = self.found, self.old
        body = Body([current], [membrane])
        x, stored = body.arguments

        def integers(numbers: np.ndarray) -> SSAValue:
            rounded = np.clip(np.rint(numbers / self.unit), -self.limit, self._highest)
            return body.add(ops.Constant(_channels(rounded).astype(np.int32)))

        v = body.add(ops.Cast(stored, i32)) if self.bits == 16 else stored
        u = self._leaked(body, x, v)
        outputs: list[SSAValue] = []
        new = u
        if found.threshold is not None:
            level = integers(found.threshold)
            again = body.add(ops.Compare(found.fire, v, level)) if found.delayed else None
            if again is not None:
                u = new = self._after(body, u, again, integers)
            fired = body.add(ops.Compare(found.fire, u, level))
            fired.owner.location = location_of(old)  # type: ignore[union-attr, assignment]
            if again is None:
                new = self._after(body, u, fired, integers)
            outputs.append(body.add(ops.Cast(fired, spike)))
        else:
            outputs = [new] if old.outputs else []
        kept = body.add(ops.Cast(new, i16)) if self.bits == 16 else new
        kind, fire, reset = old.kind.data, old.fire.data, old.reset.data
        return body.neuron(outputs, [kept], kind, fire, reset, found.delayed)

    def _leaked(self, body: Body, x: SSAValue, v: SSAValue) -> SSAValue:
        base = (self.found.decay >= 0.5).all()
        fraction = np.rint((self.found.decay - base) * 2.0**self.bits)
        half = 1 << self.bits - 1
        total = self._saturated(body.add(ops.Add(x, v)), body.add) if base else x
        if not fraction.any():
            return total
        factor = body.add(ops.Constant(_channels(np.clip(fraction, -half, half - 1)).astype(np.int32)))
        leak = body.add(ops.MulShift(v, factor, self.bits))
        total = body.add(ops.Add(total, leak))
        return total if base else self._saturated(total, body.add)

    def _after(self, body: Body, u: SSAValue, fired: SSAValue, integers) -> SSAValue:
        found = self.found
        match found.reset:
            case "none":
                return u
            case "subtract":
                reset = body.add(ops.Sub(u, integers(found.reset_by)))
                reset = self._saturated(reset, body.add) if found.delayed else reset
                return body.add(ops.Select(fired, reset, u))
        return body.add(ops.Select(fired, integers(found.reset_by), u))

    # --- The membrane -------------------------------------------------------------------------------------

    def floats(self, value: SSAValue) -> list[Operation]:
        """Operations that give the membrane as float32 again; channels last."""
        unit = ops.Constant(_channels(self.unit).astype(np.float32))
        wide = [ops.Cast(value, i32)] if element_of(value) == i16 else []
        cast = ops.Cast(wide[-1].result if wide else value, f32)
        return [*wide, cast, unit, ops.Mul(cast.result, unit.result)]

    def integers(self, value: SSAValue) -> list[Operation]:
        """Operations that make a membrane out of float32; channels last."""
        factor = ops.Constant(_channels(1 / self.unit).astype(np.float32))
        scaled = ops.Mul(value, factor.result)
        rounded = ops.Round(scaled.result)
        clipped = ops.Clip(rounded.result, float(-self.limit), float(self._highest))
        cast = ops.Cast(clipped.result, i32)
        narrow = [ops.Cast(cast.result, i16)] if self.bits == 16 else []
        return [factor, scaled, rounded, clipped, cast, *narrow]


def is_leak(decay: np.ndarray) -> bool:
    """Whether a decay, less 1 where it is at least one half, is a fraction of at most one half everywhere."""
    return bool(((decay >= 0) & (decay < 0.5)).all() or ((decay >= 0.5) & (decay <= 1)).all())


def _channels(numbers: np.ndarray) -> np.ndarray:
    """[] as [1]."""
    return np.atleast_1d(np.asarray(numbers))
