# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: inputs, and what the network answers by the reference, for a self-test on a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from bnncc import reference
from bnncc.data.arrays import random_array
from bnncc.data.spike_words import random_words
from bnncc.diagnostics import BnnccError
from bnncc.plan.program import Program

SEEDS = 20
"""Random inputs tried before giving up."""

STEPS = 4
"""Of a network with states."""

TOLERANCE = 1e-4
"""Of a float output, relative to the largest magnitude in it: orders of summation differ among devices."""


@dataclass(frozen=True)
class Golden:
    """Arrays of the ports in order, of a network with states for STEPS steps [STEPS, ...]. tolerance:
    absolute, for each output; 0 where values must be equal."""

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    tolerance: tuple[float, ...]


def golden_vectors(before: ModuleOp, after: ModuleOp, program: Program) -> Golden:
    """Random inputs on which the network as it was read and as it is compiled agree.

    before: the module before any pass; after: the one that was lowered to `program`. Where a value lies
    within rounding of a threshold the two may differ, and so might a device: such inputs are left out.
    Raises BnnccError if SEEDS inputs are all of that kind."""
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        steps = (STEPS,) if program.states else ()
        inputs = {
            port.name: random_words(rng, (*steps, *port.shape), port.channels)
            if port.spikes
            else random_array(rng, (*steps, *port.shape), port.dtype, port.most)
            for port in program.inputs
        }
        evaluate = reference.evaluate_steps if program.states else reference.evaluate
        expected, compiled = evaluate(before, inputs), evaluate(after, inputs)
        arrays = tuple(expected[port.name] for port in program.outputs)
        tolerance = tuple(_tolerance(array) for array in arrays)
        if all(
            np.allclose(compiled[port.name], array, rtol=0, atol=allowed)
            for port, array, allowed in zip(program.outputs, arrays, tolerance, strict=True)
        ):
            return Golden(tuple(inputs[port.name] for port in program.inputs), arrays, tolerance)
    raise BnnccError(
        "--emit selftest",
        f"for each of {SEEDS} random inputs some value lies within rounding of a threshold, so that devices "
        "may answer differently",
        "compare layer by layer with `bnncc verify` instead",
    )


def _tolerance(array: np.ndarray) -> float:
    if array.dtype.kind != "f" or not array.size:
        return 0.0
    finite = np.abs(array[np.isfinite(array)])
    return TOLERANCE * float(finite.max(initial=0.0))
