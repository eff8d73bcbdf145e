# SPDX-License-Identifier: Apache-2.0
"""Layers of bytes and int8 weights, timed: `python -m tests.bench.int8`, a table for each target.

Times are medians in microseconds of one run in which all variants take turns on one core; ratios are medians
of the turns' ratios. Columns:

- int8: this compiler's kernel from bytes to bytes (activations with a zero point, a scale and a bias for
  every channel, ReLU, requantised). float: its float32 kernel of the same layer, with bias and ReLU.
- ort int8, ort float: ONNX Runtime's QLinearConv and Conv, one thread, input and output bound, where it is
  installed. It computes in whatever it finds on this processor, so beside `x86-64-v3` it is no fair peer.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from bnncc import targets
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.isa import Isa
from bnncc.kernels.real import conv as real_conv
from bnncc.plan.expression import Accumulator, Binary, Channel, Expression, Scalar, ToFloat, ToLevel, Unary
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import Element
from bnncc.targets import Target
from tests.bench.kernels import RELU, TWO, call_ours, onnxruntime_call, square
from tests.bench.timing import Call, measure, pin_to_one_core, processor
from tests.kernels.contractions import Shape, byte_spec, dense, pointwise, real_spec

ZERO = 128
"""The zero point of activations."""


def requantized() -> Expression:
    """relu(sum * scale[o] + bias[o]) / step, rounded and cut off, as bytes."""
    real = Binary("add", Binary("mul", ToFloat(Accumulator()), Channel(1)), Channel(2))
    rounded = Unary("round", Binary("div", Unary("relu", real), Scalar(0.37)))
    return ToLevel(Binary("min", Binary("max", rounded, Scalar(0.0)), Scalar(255.0)))


@dataclass(frozen=True)
class Layer:
    """A line of the table."""

    name: str
    shape: Shape

    @property
    def of_bytes(self) -> KernelSpec:
        """In integers."""
        epilogue = ((Element.U8, requantized()),)
        return byte_spec(self.shape, epilogue, TWO, lowest=-ZERO, weight_planes=8)

    @property
    def real(self) -> KernelSpec:
        """In float32."""
        return real_spec(self.shape, RELU, (Element.F32,))


def by_channel(size: int, channels: int, stride: int = 1) -> Shape:
    """A depthwise 3x3 convolution."""
    return Shape((1, size, size, channels), channels, stride=(stride, stride), groups=channels)


def by_two(size: int, channels: int) -> Shape:
    """A 3x3 convolution in groups of two channels."""
    return Shape((1, size, size, channels), channels, groups=channels // 2)


LAYERS = (
    Layer("stem 7x7/2 224x224x3->64", square(224, 3, 64, 7, 2)),
    Layer("stem 3x3/2 224x224x3->32", square(224, 3, 32, 3, 2)),
    Layer("3x3 56x56x64", square(56, 64, 64)),
    Layer("3x3 28x28x128", square(28, 128, 128)),
    Layer("3x3 14x14x256", square(14, 256, 256)),
    Layer("1x1 56x56x64->128", pointwise(56, 64, 128)),
    Layer("1x1 28x28x128->256", pointwise(28, 128, 256)),
    Layer("1x1 14x14x256->512", pointwise(14, 256, 512)),
    Layer("depthwise 3x3 112x112x64", by_channel(112, 64)),
    Layer("depthwise 3x3/2 56x56x128", by_channel(56, 128, 2)),
    Layer("groups of two 3x3 56x56x64", by_two(56, 64)),
    Layer("groups of two 3x3 28x28x128", by_two(28, 128)),
    Layer("dense 512->1000", dense(1, 512, 1000)),
)


def quantised_call(shape: Shape, rng: np.random.Generator) -> Call | None:
    """ONNX Runtime's QLinearConv of uint8 by int8, one thread; None if it is not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return None
    n, h, w, c = shape.image
    weight = rng.integers(-127, 128, shape.weight).astype(np.int8).transpose(0, 3, 1, 2)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(ZERO),
        "w": np.ascontiguousarray(weight),
        "ws": rng.uniform(1e-4, 1e-3, shape.outputs).astype(np.float32),
        "wz": np.zeros(shape.outputs, np.int8),
        "ys": np.float32(0.37),
        "yz": np.uint8(0),
        "b": rng.integers(-999, 999, shape.outputs).astype(np.int32),
    }
    helper, kind = onnx.helper, onnx.TensorProto.UINT8
    attributes = {"strides": list(shape.stride), "pads": list(shape.pads), "group": shape.groups}
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], **attributes)  # type: ignore[arg-type]
    info = helper.make_tensor_value_info
    initial = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        [node], "layer", [info("x", kind, (n, c, h, w))], [info("y", kind, None)], initial
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    binding = session.io_binding()
    x = rng.integers(0, 256, (n, c, h, w)).astype(np.uint8)
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


COLUMNS = ("int8", "float", "ort int8", "ort float", "int8/float", "int8/ort int8", "int8/ort float")


def table(target: Target, turns: int, layers: tuple[Layer, ...]) -> None:
    """Measure and print."""
    from tests.kernels.library import Library

    isa, rng = Isa.of(target), np.random.default_rng(1)
    print(f"\nLayers of bytes, {target.name}: microseconds")
    print(f"{'':28}" + "".join(f"{column:>16}" for column in COLUMNS))
    for layer in layers:
        kernels = (byte_conv.make(layer.of_bytes, isa), real_conv.make(layer.real, isa))
        library = Library(list(kernels), target)
        calls = {
            name: call_ours(kernel, library, rng) for name, kernel in zip(COLUMNS, kernels, strict=False)
        }
        peers = {
            "ort int8": quantised_call(layer.shape, rng),
            "ort float": onnxruntime_call(layer.real, rng),
        }
        calls |= {name: call for name, call in peers.items() if call}
        times = measure(calls, turns)
        values = {name: f"{times.median(name) * 1e6:.1f}" for name in calls}
        values |= {f"int8/{name}": f"{times.ratio('int8', name):.2f}" for name in calls if name != "int8"}
        print(f"{layer.name:28}" + "".join(f"{values.get(column, ''):>16}" for column in COLUMNS), flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", help="default: native and x86-64-v3, if they run here")
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--layers", default="", help="those whose name contains this")
    arguments = parser.parse_args()
    print(f"{processor()}, core {pin_to_one_core()}")
    layers = tuple(layer for layer in LAYERS if arguments.layers in layer.name)
    for name in arguments.target or ["native", "x86-64-v3"]:
        target = targets.load(name)
        if not target.runs_here():
            print(f"\n{name}: skipped, this machine does not run it")
            continue
        table(target, arguments.turns, layers)


if __name__ == "__main__":
    main()
