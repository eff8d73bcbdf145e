# SPDX-License-Identifier: Apache-2.0
"""Inputs as a camera gives them: bytes, channels last, not normalised yet.

The network's own arithmetic is untouched: y = (x - mean) / std and a transposition go in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import FunctionType, ModuleOp, NameLoc, NoneAttr, StringAttr, f32
from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, main_function, names_of, states_of
from bnncc.dialect.sources import set_source
from bnncc.dialect.types import element_of, shape_of, spike, tensor, ui8

NCHW_TO_NHWC = (0, 2, 3, 1)
NHWC_TO_NCHW = (0, 3, 1, 2)
FEW_CHANNELS = 4


@dataclass(frozen=True)
class CameraInput:
    """type: "u8", or "spikes" or "events" (packed bits of spikes, channels last), or None (float32). layout:
    "nhwc", "nchw" or None (as the model). mean, std: one number for all channels or one for each, in units of
    the stored values (0..255 for u8)."""

    type: str | None = None
    layout: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.type or self.layout or self.mean)

    @property
    def is_packed(self) -> bool:
        """Whether inputs are bits of spikes."""
        return self.type in ("spikes", "events")

    def chosen(self) -> dict[str, str]:
        """The options that say so."""
        normalize = ",".join(f"{number:g}" for number in (*self.mean, *self.std))
        facts = {"input-type": self.type, "input-layout": self.layout, "normalize": normalize}
        return {key: value for key, value in facts.items() if value}


def adapt_inputs(module: ModuleOp, camera: CameraInput, file: str) -> None:
    """Change every float32 input of the module to what the camera gives; what that takes is located at the
    input of the file (its name without folders).

    Raises BnnccError where an input is no image or the numbers do not fit its channels."""
    if not camera:
        return
    main = main_function(module)
    names = names_of(main, INPUTS)
    if camera.is_packed:
        _check_packed(camera, [name for name in names if name not in states_of(main)], bool(states_of(main)))
    for argument, name in zip(main.body.block.args, names, strict=True):
        if element_of(argument) == f32 and name not in states_of(main):
            if camera.is_packed:
                chain = _adapt_spikes(argument, name, camera)
            else:
                chain = _adapt(argument, name, camera)
            for op in chain:
                op.location = NameLoc(StringAttr(f"{file}:{name}"), NoneAttr())
    inputs = [argument.type for argument in main.body.block.args]
    main.function_type = FunctionType.from_lists(inputs, list(main.function_type.outputs))


def _adapt(argument: BlockArgument, name: str, camera: CameraInput) -> list[Operation]:
    """The operations that were put between the new input and the network."""
    shape = shape_of(argument)
    if len(shape) != 4:
        message = f"the input has shape {shape}, which is no image [n, c, h, w] or [n, h, w, c]"
        raise BnnccError(name, message, "--input-type, --input-layout and --normalize are for images")
    model = _layout_of(argument)
    stored = camera.layout or model
    users = list(argument.uses)
    turn = {("nhwc", "nchw"): NHWC_TO_NCHW, ("nchw", "nhwc"): NCHW_TO_NHWC}.get((stored, model))
    if turn is not None:
        shape = tuple(shape[i] for i in np.argsort(turn))
    new_type = tensor(shape, ui8 if camera.type == "u8" else f32)
    block = argument.owner
    adapted = block.insert_arg(new_type, argument.index)
    adapted.name_hint = argument.name_hint
    chain = _prologue(adapted, camera, shape, 3 if stored == "nhwc" else 1, name)
    if turn is not None:
        chain.append(ops.Transpose(chain[-1].results[0] if chain else adapted, turn))
    last = chain[-1].results[0] if chain else adapted
    _insert(block, chain)
    for use in users:
        use.operation.operands[use.index] = last
    if chain:
        set_source(chain[-1], name, range(4))
    block.erase_arg(argument)
    return chain


def _check_packed(camera: CameraInput, inputs: list[str], has_states: bool) -> None:
    """What other options and the network must be for inputs of spikes."""
    option = f"--input-type {camera.type}"
    if camera.layout or camera.mean:
        hint = "leave --input-layout and --normalize out"
        raise BnnccError(option, "spikes are bits, channels last: nothing is normalised", hint)
    if camera.type == "events" and not has_states:
        hint = "--state BEFORE=AFTER makes one of a graph of one time step; --input-type spikes needs none"
        raise BnnccError(option, "events are for a network that runs step by step, with states", hint)
    if camera.type == "events" and len(inputs) != 1:
        raise BnnccError(option, f"events are for one input, the network has {', '.join(inputs)}")


def _adapt_spikes(argument: BlockArgument, name: str, camera: CameraInput) -> list[Operation]:
    """Packed bits, channels last, become the numbers 0 and 1 that the model wants: by these operations."""
    shape, users, block = shape_of(argument), list(argument.uses), argument.owner
    if len(shape) not in (2, 4):
        message = f"the input has shape {shape}, which is no image [n, c, h, w] and no row [n, c]"
        raise BnnccError(name, message, f"--input-type {camera.type} is for networks of one time step")
    if camera.type == "events" and shape[0] != 1:
        raise BnnccError(name, f"events are for one sample at a time, a step takes {shape[0]}")
    stored = tuple(shape[axis] for axis in NCHW_TO_NHWC) if len(shape) == 4 else shape
    adapted = block.insert_arg(tensor(stored, spike), argument.index)
    adapted.name_hint = argument.name_hint
    chain: list[Operation] = [ops.Cast(adapted, f32)]
    if len(shape) == 4:
        chain.append(ops.Transpose(chain[-1].results[0], NHWC_TO_NCHW))
    _insert(block, chain)
    for use in users:
        use.operation.operands[use.index] = chain[-1].results[0]
    set_source(chain[-1], name, range(len(shape)))
    block.erase_arg(argument)
    return chain


def _insert(block: Block, chain: list[Operation]) -> None:
    """Put operations in front of all others."""
    for op in reversed(chain):
        first = block.first_op
        assert first is not None
        block.insert_op_before(op, first)


def _prologue(
    value: SSAValue, camera: CameraInput, shape: tuple[int, ...], channel_axis: int, name: str
) -> list[Operation]:
    """Cast to float32, subtract the mean, divide by the standard deviation: the operations needed."""
    chain: list[Operation] = []
    if camera.type == "u8":
        chain.append(ops.Cast(value))
    for numbers, operation in ((camera.mean, ops.Sub), (camera.std, ops.Div)):
        if not numbers:
            continue
        channels = shape[channel_axis]
        if len(numbers) not in (1, channels):
            message = f"--normalize gives {len(numbers)} values for {channels} channels"
            raise BnnccError(name, message, "give one value, or one for each channel")
        along = [1, 1, 1, 1]
        along[channel_axis] = len(numbers)
        constant = ops.Constant(np.array(numbers, np.float32).reshape(along))
        chain += [constant, operation(chain[-1].results[0] if chain else value, constant.result)]
    return chain


def _layout_of(argument: BlockArgument) -> str:
    """Whether the model takes channels first or last, by the small dimension and by what it does first."""
    _, second, _, last = shape_of(argument)
    if second <= FEW_CHANNELS < last:
        return "nchw"
    if last <= FEW_CHANNELS < second:
        return "nhwc"
    return "nhwc" if all(_makes_channels_first(use.operation) for use in argument.uses) else "nchw"


def _makes_channels_first(op: Operation) -> bool:
    if isinstance(op, ops.Transpose):
        return ops.unpack(op.permutation) == NHWC_TO_NCHW
    if isinstance(op, ops.Onnx) and op.operator.data == "Transpose":
        return str(op.parameters.data.get("perm")) == str(ops.ints(NHWC_TO_NCHW))
    return False
