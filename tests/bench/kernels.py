# SPDX-License-Identifier: Apache-2.0
"""Kernels of single layers, timed: `python -m tests.bench.kernels` prints tables, two for each target.

Times are medians in microseconds of one run in which all variants take turns on one core; ratios are medians
of the turns' ratios. A call costs some 0.5 microseconds on top of the kernel. Columns:

- ours: the default schedule. limit: the time that the processor takes to count the bits of as many 512-bit
  vectors and do nothing else. An exclusive-or and an addition go with each count, so a processor that starts
  two vector operations a cycle, but one count, cannot get below 1.5 times the limit.
- bound: what a layer takes at least: see `bound.py`.
- With AVX-512 VPOPCNTDQ, 3x3 layers read and write bits in the form that networks have between such layers.
- plain, best: prototypes of the folder that the environment variable BNNCC_PROTOTYPES names, where they have
  the layer: `binary_conv.py` (AVX-512) or `binary_conv_bytes.py`, and the fastest, `three_word_avx512.py` or
  `pair_lookup.py`, which read activations in the form they want and end in a threshold.
- onnxruntime: the same layer in float32, one thread, if it is installed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bnncc import targets
from bnncc.kernels import choice
from bnncc.kernels import map as map_kernels
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.real import conv as real_conv
from bnncc.lowering.stored_forms import reads_three_words
from bnncc.plan.expression import (
    Accumulator,
    Binary,
    BitOf,
    Channel,
    Compare,
    Expression,
    Operand,
    Scalar,
    ToFloat,
    ToLevel,
    Unary,
)
from bnncc.plan.kernel import BinaryConv, ByteConv, Grid, KernelSpec, Map, Output, RealConv, Window
from bnncc.plan.layout import Element, Layout
from bnncc.plan.simulate import allocate, random_buffer
from bnncc.targets import Target
from tests.bench.bound import Bound
from tests.bench.by_hand import layer_by_hand
from tests.bench.prototypes import prototypes
from tests.bench.timing import (
    VECTORS_COUNTED,
    Call,
    Times,
    measure,
    pin_to_one_core,
    popcount_loop,
    processor,
)
from tests.kernels.contractions import Shape, binary_spec, byte_spec, dense, pointwise, real_spec
from tests.kernels.library import Library, aligned

FLOAT = ((Element.F32, Binary("add", Binary("mul", ToFloat(Accumulator()), Channel(1)), Channel(2))),)
ROUNDED = Unary("round", Binary("min", Binary("max", FLOAT[0][1], Scalar(0.0)), Scalar(3.0)))
LEVELS = tuple((Element.BIT, BitOf(ToLevel(ROUNDED), plane)) for plane in range(2))
RELU = ((Element.F32, Unary("relu", Binary("add", Accumulator(), Channel(1)))),)
TWO = (Element.F32, Element.F32)
GROUPED = ((112, 32, 32, 4), (112, 32, 64, 8), (56, 128, 128, 32), (56, 64, 64, 32), (56, 64, 32, 32))
"""Extent, channels in and out, and groups of layers in groups; the first two are MeliusNet22's."""


@dataclass(frozen=True)
class Layer:
    """A line of the table; prototype: the epilogue of the prototypes to compare with, if any has it."""

    name: str
    spec: KernelSpec
    prototype: str | None = None


def square(size: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Shape:
    """A square image, padded so that stride 1 keeps its size."""
    pad = kernel // 2
    return Shape(
        (1, size, size, inputs), outputs, (kernel, kernel), (stride, stride), pads=(pad, pad, pad, pad)
    )


def residual_spec(shape: Shape) -> KernelSpec:
    """QuickNet's epilogue: ReLU, scale, bias, residual; the stream and its signs."""
    scaled = Binary("add", Binary("mul", Unary("relu", ToFloat(Accumulator())), Channel(1)), Channel(2))
    stream = Binary("add", scaled, Operand(0))
    epilogue = ((Element.F32, stream), (Element.BIT, Compare("ge", stream, Scalar(0.0))))
    return binary_spec(shape, epilogue, TWO, (Layout.packed(Element.F32, shape.output),), pad_value=1)


def in_place(spec: KernelSpec) -> KernelSpec:
    """The first output written over the operand, as the compiler has it where nothing else reads that."""
    return replace(spec, in_place=((0, 0),))


def as_between_layers(spec: KernelSpec) -> KernelSpec:
    """The layer as it stands between others that read three words at once: its bits in that form."""
    if not reads_three_words(spec.root):
        return spec
    root: BinaryConv = spec.root  # type: ignore[assignment]
    source = Layout.three_word(root.input.shape, root.input.halo, int(root.pad_value == root.grid.value(1)))
    target = Layout.three_word(spec.shape, root.input.halo, int(source.stores_complements))
    outputs = tuple(
        replace(output, layout=target) if output.layout.element is Element.BIT else output
        for output in spec.outputs
    )
    root = replace(root, input=source, halo_level=int(source.stores_complements))
    return replace(spec, root=root, outputs=outputs)


def binary_layers() -> list[Layer]:
    """The four layers of equal work in three forms, then others."""
    layers = []
    for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        shape, name = square(size, channels, channels), f"{size}x{size}x{channels} 3x3"
        layers += [
            Layer(f"{name} threshold", binary_spec(shape, pad_value=1), "one-pad"),
            Layer(f"{name} threshold, zero padding", binary_spec(shape), "zero-pad"),
            Layer(f"{name} scale and bias", binary_spec(shape, FLOAT, TWO, pad_value=1), "one-pad"),
            Layer(f"{name} residual, two outputs", residual_spec(shape), "one-pad"),
            Layer(f"{name} residual, in place", in_place(residual_spec(shape)), "one-pad"),
        ]
    for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        shape, name = pointwise(size, channels, channels), f"{size}x{size}x{channels} 1x1"
        layers += [
            Layer(f"{name} threshold", binary_spec(shape)),
            Layer(f"{name} scale and bias", binary_spec(shape, FLOAT, TWO)),
            Layer(f"{name} residual, two outputs", residual_spec(shape)),
            Layer(f"{name} residual, in place", in_place(residual_spec(shape))),
        ]
    return [
        *layers,
        Layer("56x56x32 3x3 residual, two outputs", residual_spec(square(56, 32, 32))),
        Layer("56x56x64 3x3 stride 2 threshold", binary_spec(square(56, 64, 64, stride=2))),
        Layer("dense 1024->1024 threshold", binary_spec(dense(1, 1024, 1024))),
        Layer("dense 8 x 1024->1024 threshold", binary_spec(dense(8, 1024, 1024))),
    ]


def real_layers() -> list[Layer]:
    """Stems, pointwise, dense, depthwise, in groups."""

    def layer(name: str, shape: Shape, channels_first: bool = False) -> Layer:
        return Layer(name, real_spec(shape, RELU, (Element.F32,), channels_first=channels_first))

    depthwise = Shape((1, 56, 56, 64), 64, stride=(2, 2), groups=64)
    unpadded = Shape((1, 225, 225, 3), 16, stride=(2, 2), pads=(0, 0, 0, 0))
    return [
        layer("stem 7x7/2 224x224x3->64", square(224, 3, 64, 7, 2)),
        layer("stem 3x3/2 224x224x3->16", square(224, 3, 16, 3, 2)),
        layer("stem 3x3/2 225x225x3->16, channels first", unpadded, True),
        layer("stem 3x3/2 224x224x3->8", square(224, 3, 8, 3, 2)),
        layer("1x1 56x56 64->128", pointwise(56, 64, 128)),
        layer("1x1 28x28 64->128", pointwise(28, 64, 128)),
        layer("1x1 14x14 256->256", pointwise(14, 256, 256)),
        layer("3x3 56x56 64->64", square(56, 64, 64)),
        layer("dense 512->1000", dense(1, 512, 1000)),
        layer("depthwise 3x3/2 56x56x64", depthwise),
        *(
            layer(f"3x3 {size}x{size} {inputs}->{outputs} in {groups} groups", replace(shape, groups=groups))
            for size, inputs, outputs, groups in GROUPED
            for shape in [square(size, inputs, outputs)]
        ),
    ]


def level_layers() -> list[tuple[str, KernelSpec, KernelSpec, KernelSpec]]:
    """Layers of a few bits: (name, the layer, the same with bits on both sides, the same in float32)."""
    shapes = {"3x3 56x56 64->64": square(56, 64, 64), "3x3 14x14 256->256": square(14, 256, 256)}
    kinds: dict[str, dict] = {
        "spike x bipolar": {"grid": Grid(1, 1, 0)},
        "u2 x bipolar": {"grid": Grid(2, 1, 0)},
        "u2 x ternary": {"grid": Grid(2, 1, 0), "ternary_weight": True},
        "u2 x s2 (odd)": {"grid": Grid(2, 1, 0), "weight_planes": 2},
        "u4 x bipolar": {"grid": Grid(4, 1, 0)},
        "u8 x bipolar": {"grid": Grid(8, 1, 0)},
    }
    layers = []
    for place, shape in shapes.items():
        bits, real = binary_spec(shape), real_spec(shape, RELU, (Element.F32,))
        layers += [
            (f"{kind}, {place}", binary_spec(shape, halo_level=0, **options), bits, real)
            for kind, options in kinds.items()
        ]
        levels = binary_spec(shape, LEVELS, (Element.F32, Element.F32), grid=Grid(2, 1, 0), halo_level=0)
        layers.append((f"u2 x bipolar to u2, {place}", levels, bits, real))
    return layers


def first_layers() -> dict[str, dict[str, tuple[KernelSpec, KernelSpec]]]:
    """First layers, which see 8-bit pixels: name -> how -> (conversion of the pixels, the layer).

    As bytes, as eight planes of bits, in float32. The sums are below 2^24, so all give the same numbers."""
    shapes = {
        "3x3 32x32x3->64": square(32, 3, 64),
        "7x7/2 224x224x3->64": square(224, 3, 64, 7, 2),
        "dense 784->256": dense(1, 784, 256),
    }
    two = (Element.F32, Element.F32)
    return {
        place: {
            "bytes": (converted(shape, Element.U8), byte_spec(shape, FLOAT, two)),
            "planes": (
                converted(shape, Element.BIT),
                binary_spec(shape, FLOAT, two, grid=Grid(8, 1, 0), halo_level=0),
            ),
            "float": (converted(shape, Element.F32), real_spec(shape, RELU, (Element.F32,))),
        }
        for place, shape in shapes.items()
    }


def converted(shape: Shape, element: Element) -> KernelSpec:
    """8-bit pixels as a layer wants them, in the middle of a halo."""
    pixels, target = Layout.packed(Element.U8, shape.image), Layout.packed(element, shape.image, shape.halo)
    expressions: list[Expression] = [ToFloat(Operand(0)) if element is Element.F32 else Operand(0)]
    if element is Element.BIT:
        expressions = [BitOf(Operand(0), plane) for plane in range(8)]
    return KernelSpec(Map(), (pixels,), (), tuple(Output(target, expression) for expression in expressions))


def call_ours(kernel: Kernel, library: Library, rng: np.random.Generator) -> Call:
    """A call of a kernel on random numbers."""
    spec = kernel.spec
    halo = spec.root.halo_level if isinstance(spec.root, BinaryConv) else 0
    reads = [aligned(random_buffer(layout, rng, halo)) for layout in (*spec.inputs, *spec.operands)]
    packed = [aligned(array) for array in kernel.pack(random_constants(spec, rng))]
    lent = [aligned(np.zeros(kernel.scratch_bytes, np.uint8))] if kernel.scratch_bytes else []
    writes = [aligned(allocate(output.layout)) for output in spec.outputs]
    for operand, output in spec.in_place:
        writes[output] = reads[len(spec.inputs) + operand]
    return library.bind(kernel, *reads, *packed, *writes, *lent)


def random_constants(spec: KernelSpec, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Signs, floats, and thresholds near zero."""
    arrays = []
    for constant in spec.constants:
        match constant.element:
            case Element.I8:
                arrays.append(rng.choice(np.array([-1, 1], np.int8), constant.shape))
            case Element.I32:
                arrays.append(rng.integers(-40, 40, constant.shape).astype(np.int32))
            case _:
                arrays.append(rng.uniform(-1, 1, constant.shape).astype(np.float32))
    return tuple(arrays)


# --- Peers ---------------------------------------------------------------------------------------


def onnxruntime_call(spec: KernelSpec, rng: np.random.Generator) -> Call | None:
    """The layer in ONNX Runtime, float32, one thread, input and output bound; None if it is not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return None
    window, image = spec.root.window, spec.inputs[0].shape  # type: ignore[union-attr]
    n, h, w, c = image
    _, oh, ow, outputs = spec.shape
    bottom = (oh - 1) * window.stride_y + window.height - window.top - h
    right = (ow - 1) * window.stride_x + window.width - window.left - w
    weight = rng.standard_normal(spec.constants[0].shape, np.float32).transpose(0, 3, 1, 2)
    initial = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(weight), "w"),
        onnx.numpy_helper.from_array(rng.standard_normal(outputs, np.float32), "b"),
    ]
    make_node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    convolution = make_node(
        "Conv",
        ["x", "w", "b"],
        ["sum"],
        strides=[window.stride_y, window.stride_x],
        pads=[window.top, window.left, max(0, bottom), max(0, right)],
        group=spec.root.groups,  # type: ignore[union-attr]
    )
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [convolution, make_node("Relu", ["sum"], ["y"])],
        "layer",
        [info("x", kind, (n, c, h, w))],
        [info("y", kind, None)],
        initial,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    binding = session.io_binding()
    x = onnxruntime.OrtValue.ortvalue_from_numpy(rng.standard_normal((n, c, h, w), np.float32))
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


# --- Tables ----------------------------------------------------------------------------------------------


Prototypes = Callable[[Target, int, int, str], dict[str, Call]]


def table(title: str, layers: list[Layer], target: Target, turns: int, make_prototypes: Prototypes) -> None:
    """Measure and print."""
    isa, rng = Isa.of(target), np.random.default_rng(1)
    if target.popcount == "vector32":
        layers = [replace(layer, spec=as_between_layers(layer.spec)) for layer in layers]
    is_binary = isinstance(layers[0].spec.root, BinaryConv)
    template = choice if is_binary else real_conv
    kernels = [template.make(layer.spec, isa) for layer in layers]
    library = Library(kernels, target)
    counting = popcount_loop() if is_binary and target.popcount == "vector32" else None
    columns = ["ours", "onnxruntime", "ours/onnxruntime"]
    if is_binary:
        columns[1:1] = ["plain", "ours/plain", "best", "ours/best"]
        columns += ["limit", "ours/limit", "bound", "ours/bound"]
    print(f"\n{title}, {target.name}: microseconds")
    print(f"{'':44}" + "".join(f"{column:>17}" for column in columns))
    for layer, kernel in zip(layers, kernels, strict=True):
        calls = {"ours": call_ours(kernel, library, rng)}
        if layer.prototype:
            _, size, _, channels = layer.spec.shape
            calls |= make_prototypes(target, size, channels, layer.prototype)
        peer = onnxruntime_call(layer.spec, rng)
        calls |= {"onnxruntime": peer} if peer else {}
        if counting:
            calls["limit"] = counting
            calls |= call_by_hand(layer)
        times = with_limits(measure(calls, turns), layer.spec)
        values = {name: times.median(name) * 1e6 for name in times.turns}
        values |= {f"ours/{name}": times.ratio("ours", name) for name in times.turns if name != "ours"}
        cells = (f"{values[column]:.2f}" if column in values else "" for column in columns)
        print(f"{layer.name:44}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


def call_by_hand(layer: Layer) -> dict[str, Call]:
    """The bound of a 3x3 layer that ends in numbers; none of others."""
    has_numbers = any(output.layout.element is Element.F32 for output in layer.spec.outputs)
    return {"bound": layer_by_hand(layer.spec)} if layer.prototype and has_numbers else {}


def with_limits(times: Times, spec: KernelSpec) -> Times:
    """The times, the limit being that of this layer, and its bound."""
    if "limit" not in times.turns:
        return times
    turns = dict(times.turns)
    cycle = [seconds / VECTORS_COUNTED for seconds in turns["limit"]]
    turns["limit"] = [_bits(spec) / 512 * each for each in cycle]
    if spec.root.window == Window(1, 1):  # type: ignore[union-attr]
        turns["bound"] = [Bound.of(spec).cycles * each for each in cycle]
    return Times(turns)


def level_table(target: Target, turns: int) -> None:
    """Measure layers of a few bits beside one bit and float32, and print."""
    isa, rng, layers = Isa.of(target), np.random.default_rng(1), level_layers()
    columns = ["ours", "one bit", "float", "ours/one bit", "ours/float"]
    print(f"\nLayers of a few bits, {target.name}: microseconds")
    print(f"{'':44}" + "".join(f"{column:>17}" for column in columns))
    for name, *specs in layers:
        templates = (choice, choice, real_conv)
        kernels = [template.make(spec, isa) for template, spec in zip(templates, specs, strict=True)]
        library = Library(kernels, target)
        calls = {key: call_ours(k, library, rng) for key, k in zip(columns, kernels, strict=False)}
        times = measure(calls, turns)
        cells = [f"{times.median(key) * 1e6:.2f}" for key in calls]
        cells += [f"{times.ratio('ours', key):.2f}" for key in ("one bit", "float")]
        print(f"{name:44}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


def first_layer_table(target: Target, turns: int) -> None:
    """Measure layers of 8-bit pixels and binary weights, the conversion of the pixels included, and print."""
    isa, rng = Isa.of(target), np.random.default_rng(1)
    templates = {ByteConv: byte_conv, BinaryConv: choice, RealConv: real_conv, Map: map_kernels}
    columns = ["bytes", "planes", "float", "bytes/float", "planes/float"]
    print(
        f"\n8-bit pixels and binary weights, {target.name}: microseconds, with the conversion of the pixels"
    )
    print(f"{'':44}" + "".join(f"{column:>17}" for column in columns))
    for name, ways in first_layers().items():
        kernels = {way: [templates[type(s.root)].make(s, isa) for s in specs] for way, specs in ways.items()}
        library = Library([kernel for pair in kernels.values() for kernel in pair], target)
        calls: dict[str, Call] = {}
        for way, pair in kernels.items():
            convert, layer = (call_ours(kernel, library, rng) for kernel in pair)
            calls[way] = lambda convert=convert, layer=layer: (convert(), layer())
        times = measure(calls, turns)
        cells = [f"{times.median(way) * 1e6:.2f}" for way in calls]
        cells += [f"{times.ratio(way, 'float'):.2f}" for way in ("bytes", "planes")]
        print(f"{name:44}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


def _bits(spec: KernelSpec) -> int:
    """Bit positions compared."""
    outputs, *window = spec.constants[0].shape
    return int(np.prod(spec.shape[:3])) * outputs * int(np.prod(window))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", help="default: native and x86-64-v3, if they run here")
    parser.add_argument("--turns", type=int, default=41)
    parser.add_argument("--binary", action="store_true", help="the table of binary layers only")
    arguments = parser.parse_args()
    folder = os.environ.get("BNNCC_PROTOTYPES")
    print(f"{processor()}, core {pin_to_one_core()}")
    if folder is None:
        print("BNNCC_PROTOTYPES names no folder: no column of prototypes")
    make_prototypes = prototypes(folder)
    for name in arguments.target or ["native", "x86-64-v3"]:
        target = targets.load(name)
        if not target.runs_here():
            print(f"\n{name}: skipped, this machine does not run it")
            continue
        table("Binary layers", binary_layers(), target, arguments.turns, make_prototypes)
        if arguments.binary:
            continue
        table("Real layers", real_layers(), target, arguments.turns, make_prototypes)
        level_table(target, arguments.turns)
        first_layer_table(target, arguments.turns)


if __name__ == "__main__":
    main()
