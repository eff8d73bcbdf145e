# SPDX-License-Identifier: Apache-2.0
"""Leaky neurons with integer membranes as a network of their own, to count the instructions of an update."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr, f32, i16, i32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from bnncc import codegen, targets
from bnncc.dialect import neurons
from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS, set_states
from bnncc.dialect.types import bipolar, tensor
from bnncc.execution.artifact import Artifact
from bnncc.kernels import build
from bnncc.lowering import lower
from bnncc.passes.pipeline import Rounded, run_pipeline

LEVELS = {"int16": 2560, "int32": 12_000_000}
"""The threshold in units of the currents, which are then the units of the membranes."""


def network(
    count: int,
    membranes: str | None,
    levels: np.ndarray | None = None,
    decay: float | np.ndarray = 0.875,
    reset: str = "subtract",
    fire: str = "gt",
    batch: int = 1,
) -> ModuleOp:
    """Integers x [batch, count] of the membranes' type, times a number, are the currents of LIF neurons; what
    spikes goes through a binary layer, so that spikes are packed. Fused; the neurons are the first step.

    levels: thresholds, float32 [count], instead of 40 for all; decay: for all, or float32 [count]; without
    membranes all is float32."""
    element = i16 if membranes == "int16" else i32
    block = Block(arg_types=[tensor((batch, count), element), tensor((batch, count), f32)])
    x, v = block.args
    scale = ops.Constant(np.array([40 / LEVELS[membranes or "int32"]], np.float32))
    weight = ops.Constant(np.ones((32, count), np.int8), bipolar)
    wide = [ops.Cast(x, i32)] if element == i16 else []
    real = ops.Cast(wide[0].result if wide else x, f32)
    current = ops.Mul(real.result, scale.result)
    threshold = 40.0 if levels is None else levels
    neuron = neurons.lif(current.result, v, decay=decay, threshold=threshold, reset=reset, fire=fire)
    layer = ops.Dense(neuron.outputs[0], weight.result)
    result = ops.Cast(layer.result, f32)
    returned = ReturnOp(result.result, neuron.new_states[0])
    block.add_ops([scale, weight, *wide, real, current, neuron, layer, result, returned])
    types = FunctionType.from_lists([a.type for a in block.args], [a.type for a in returned.arguments])
    main = FuncOp("main", types, Region(block))
    main.attributes[INPUTS] = ArrayAttr([StringAttr("x"), StringAttr("v")])
    main.attributes[OUTPUTS] = ArrayAttr([StringAttr("y"), StringAttr("w")])
    set_states(main, {"v": "w"}, private=True)
    module = ModuleOp([main])
    run_pipeline(module, rounded=Rounded(membranes=membranes))
    return module


def currents(membranes: str | None, steps: int, count: int, seed: int = 0, batch: int = 1) -> np.ndarray:
    """Random [steps, batch, count], from which some of the neurons spike, and some go far below."""
    level = LEVELS[membranes or "int32"]
    dtype = np.int16 if membranes == "int16" else np.int32
    return np.random.default_rng(seed).integers(-level, level, (steps, batch, count)).astype(dtype)


def compiled(module: ModuleOp, target: str, folder: Path) -> Artifact:
    """The network for a target."""
    chosen = targets.load(target)
    program = lower(module, "neurons").program
    kernels = codegen.make_kernels(program, chosen, build)
    program = codegen.with_scratch(program, kernels, {})
    codegen.emit(program, kernels, chosen, folder, codegen.EmitOptions(), build)
    return Artifact(folder)


def instructions(artifact: Artifact, x: np.ndarray) -> int:
    """Of all updates of one step."""
    assert artifact.emulator is not None
    _, layers = artifact.emulator.count([x], layers=True)
    return layers[0]
