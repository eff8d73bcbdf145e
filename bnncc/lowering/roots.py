# SPDX-License-Identifier: Apache-2.0
"""What the root of a fused region is, in the plan's terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.ir import Attribute, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import Level, Spike, Ternary, domain_name, element_of, is_number, shape_of
from bnncc.lowering.geometry import canonical
from bnncc.plan.kernel import BIPOLAR, Grid, Window
from bnncc.plan.layout import Halo


@dataclass(frozen=True)
class Contraction:
    """A conv2d or a dense (a conv2d over images of one pixel) with its constant weight [o, kh, kw, c]."""

    input: SSAValue
    weight: np.ndarray
    window: Window
    groups: int
    pad_value: int
    halo: Halo
    """How far the window reaches outside the image."""
    is_binary: bool
    input_is_ternary: bool
    weight_is_ternary: bool
    """Whether the weights have planes of {-1, 0, +1}."""
    grid: Grid
    """Which integers the bits of the activation are."""
    weight_planes: int


def contraction(op: ops.Conv2d | ops.Dense) -> Contraction:
    """Read a contraction; its weight is a constant inside the region."""
    constant = op.weight.owner
    assert isinstance(constant, ops.Constant), "the weight of a contraction is a constant"
    binary = not is_number(element_of(op.weight))
    common = {
        "input": op.input,
        "is_binary": binary,
        "input_is_ternary": isinstance(element_of(op.input), Ternary),
        "weight_is_ternary": binary and not (constant.array & 1).all(),
        "grid": grid_of(element_of(op.input)),
        "weight_planes": int(np.abs(constant.array.astype(int)).max()).bit_length() if binary else 1,
    }
    if isinstance(op, ops.Dense):
        weight = constant.array[:, None, None, :]
        return Contraction(weight=weight, window=Window(1, 1), groups=1, pad_value=0, halo=Halo(), **common)
    window = window_of(op, constant.array.shape[1], constant.array.shape[2])
    return Contraction(
        weight=constant.array,
        window=window,
        groups=op.groups.value.data,
        pad_value=op.pad_value.value.data,
        halo=reach(window, canonical(shape_of(op.input)), canonical(shape_of(op.result))),
        **common,
    )


def grid_of(element: Attribute) -> Grid:
    """Which integers the planes of a domain are; the mask of a ternary value is none of them."""
    match element:
        case Level():
            return Grid(element.planes, 1, element.lowest)
        case Spike():
            return Grid(1, 1, 0)
        case _:
            return BIPOLAR


def window_of(op: ops.Conv2d | ops.MaxPool | ops.MeanPool, height: int, width: int) -> Window:
    """The sliding window of an operation that has one."""
    stride_y, stride_x = ops.unpack(op.strides)
    dilation_y, dilation_x = ops.unpack(op.dilations)
    top, left, _, _ = ops.unpack(op.pads)
    return Window(height, width, stride_y, stride_x, dilation_y, dilation_x, top, left)


def reach(window: Window, image: tuple[int, ...], result: tuple[int, ...]) -> Halo:
    """How many rows and columns outside the image the window really reads."""
    last_row = (result[1] - 1) * window.stride_y + (window.height - 1) * window.dilation_y - window.top
    last_column = (result[2] - 1) * window.stride_x + (window.width - 1) * window.dilation_x - window.left
    return Halo(window.top, window.left, max(0, last_row - image[1] + 1), max(0, last_column - image[2] + 1))


def macs(op: Operation) -> int:
    """Multiply-accumulates of one inference, or 0 for an operation that has none."""
    if isinstance(op, ops.Onnx):
        return _node_macs(op)
    if not isinstance(op, ops.CONTRACTIONS):
        return 0
    per_output = int(np.prod(shape_of(op.weight)[1:]))
    return int(np.prod(shape_of(op.result))) * per_output


def _node_macs(op: ops.Onnx) -> int:
    """The same for an ONNX node that stayed one."""
    given = dict(zip(ops.unpack(op.slots), op.inputs, strict=True))
    results = int(np.prod(shape_of(op.outputs[0])))
    match op.operator.data:
        case "Conv" | "ConvInteger":
            return results * int(np.prod(shape_of(given[1])[1:]))
        case "QLinearConv":
            return results * int(np.prod(shape_of(given[3])[1:]))
        case "ConvTranspose":
            return int(np.prod(shape_of(given[0]))) * int(np.prod(shape_of(given[1])[1:]))
        case "MatMul" | "MatMulInteger" | "QLinearMatMul":
            return results * shape_of(given[0])[-1]
        case "Gemm":
            rows = shape_of(op.outputs[0])[0]
            return results * int(np.prod(shape_of(given[0]))) // rows
    return 0


def domains(op: Operation) -> str:
    """activation x weight, as people write it. A ternary activation is a bipolar one that may hold an exact
    zero (sign(0) = 0); the step's note says so."""
    if not isinstance(op, ops.CONTRACTIONS):
        return ""
    names = [domain_name(element_of(value)) for value in (op.input, op.weight)]
    if names[0] == "ternary":
        names[0] = "bipolar"
    return " x ".join(names)


def describe(op: Operation) -> str:
    """One short phrase: "conv2d 3x3 /2 64->128", "max_pool 2x2 /2"."""
    name = op.name.removeprefix("bnn.")
    match op:
        case ops.Conv2d():
            o, kh, kw, _ = shape_of(op.weight)
            c, groups = shape_of(op.input)[3], op.groups.value.data
            stride = ops.unpack(op.strides)
            kind = "depthwise" if groups == c == o and groups > 1 else name
            group = f" in {groups} groups" if groups > 1 and kind == name else ""
            return f"{kind} {kh}x{kw}{_stride(stride)} {c}->{o}{group}"
        case ops.Dense():
            o, k = shape_of(op.weight)
            return f"dense {k}->{o}"
        case ops.MaxPool() | ops.MeanPool() | ops.CountPool():
            kh, kw = ops.unpack(op.kernel)
            return f"{name} {kh}x{kw}{_stride(ops.unpack(op.strides))}"
        case _:
            return name


def _stride(stride: tuple[int, ...]) -> str:
    if stride == (1, 1):
        return ""
    return f" /{stride[0]}" if stride[0] == stride[1] else f" /{stride[0]}x{stride[1]}"
