# SPDX-License-Identifier: Apache-2.0
"""Small networks of bytes: quantised by ONNX Runtime's own tool, or written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from tests.models import make_model, write

node = helper.make_node

IMAGE = (1, 3, 12, 11)


def real_network(folder: Path) -> Path:
    """A stem of 3 channels, pointwise, 3x3 and depthwise convolutions, a residual, pools, a classifier."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {}

    def parameters(name: str, *shape: int) -> list[str]:
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        constants[f"{name}_w"] = (rng.standard_normal(shape) * scale).astype(np.float32)
        constants[f"{name}_b"] = (rng.standard_normal(shape[0]) * 0.1).astype(np.float32)
        return [f"{name}_w", f"{name}_b"]

    pads = [1, 1, 1, 1]
    nodes = [
        node("Conv", ["x", *parameters("stem", 16, 3, 3, 3)], ["s"], "stem", pads=pads, strides=[2, 2]),
        node("Relu", ["s"], ["r"], "relu"),
        node("Conv", ["r", *parameters("wide", 24, 16, 1, 1)], ["p"], "pointwise"),
        node("Conv", ["p", *parameters("deep", 24, 24, 3, 3)], ["c"], "conv", pads=pads),
        node("Add", ["p", "c"], ["a"], "add"),
        node("Relu", ["a"], ["q"], "relu2"),
        node("MaxPool", ["q"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m", *parameters("by_channel", 24, 1, 3, 3)], ["d"], "depthwise", pads=pads, group=24),
        node("GlobalAveragePool", ["d"], ["g"], "mean"),
        node("Flatten", ["g"], ["f"], "flatten"),
        node("Gemm", ["f", *parameters("classes", 10, 24)], ["y"], "classes", transB=1),
    ]
    model = make_model(nodes, {"x": IMAGE}, ["y"], constants)
    model.graph.output[0].type.tensor_type.elem_type = 1
    return write(folder, model, "real.onnx")


def images(count: int, seed: int = 1, shape: tuple[int, ...] = IMAGE) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of `real_network`."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {"x": rng.standard_normal(shape).astype(np.float32)}


def quantised(folder: Path, form: str, activation: str, by_channel: bool, weight: str = "QInt8") -> Path:
    """`real_network` as onnxruntime.quantization writes it; form: "QDQ" or "QOperator"."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """The samples that ranges are taken from."""

        def __init__(self) -> None:
            self.batches = images(8)

        def get_next(self) -> dict | None:  # type: ignore[override]
            return next(self.batches, None)

    path = folder / f"{form}_{activation}_{by_channel}_{weight}.onnx"
    quantize_static(
        str(real_network(folder)),
        str(path),
        Reader(),
        quant_format=getattr(QuantFormat, form),
        per_channel=by_channel,
        activation_type=getattr(QuantType, activation),
        weight_type=getattr(QuantType, weight),
    )
    return path


def quantised_conv(
    scale: float = 2.0**-5,
    zero: int = 100,
    groups: int = 1,
    by_channel: bool = True,
    element: type[np.generic] = np.uint8,
    largest: int = 127,
) -> ModelProto:
    """Quantise, convolve with padding, quantise again: all scales powers of two, so that float32 is exact."""
    rng = np.random.default_rng(7)
    outputs, inputs = 12, 8
    weight = rng.integers(-largest - 1, largest + 1, (outputs, inputs // groups, 3, 3)).astype(np.int8)
    weight[:, 0, 0, 0] = -largest - 1
    bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
    exponents = rng.integers(-9, -6, outputs) if by_channel else np.asarray(-8)
    scales = (2.0**exponents).astype(np.float32)
    constants = {
        "sx": np.float32(scale),
        "zx": np.asarray(zero, element),
        "w": weight,
        "sw": scales,
        "zw": np.zeros(scales.shape, np.int8),
        "b": bias,
        "sb": (scales * np.float32(scale)).astype(np.float32),
        "zb": np.zeros(scales.shape, np.int32),
        "sy": np.float32(1 / 4),
        "zy": np.asarray(zero + 7, element),
    }
    axis: dict[str, Any] = {"axis": 0} if by_channel else {}
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["qx"], "quantize"),
        node("DequantizeLinear", ["qx", "sx", "zx"], ["dx"], "dequantize"),
        node("DequantizeLinear", ["w", "sw", "zw"], ["dw"], "weight", **axis),
        node("DequantizeLinear", ["b", "sb", "zb"], ["db"], "bias", **axis),
        node("Conv", ["dx", "dw", "db"], ["c"], "conv", pads=[1, 2, 0, 1], strides=[2, 1], group=groups),
        node("QuantizeLinear", ["c", "sy", "zy"], ["qy"], "requantize"),
        node("DequantizeLinear", ["qy", "sy", "zy"], ["y"], "back"),
    ]
    return make_model(nodes, {"x": [1, inputs, 7, 9]}, ["y", "qy"], constants)
