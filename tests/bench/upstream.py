# SPDX-License-Identifier: Apache-2.0
"""The back ends and IREE side by side: `python -m tests.bench.upstream` prints a table.

3x3 layers (zero padding, threshold, packing included) and whole networks, one thread, in turns on one core;
ratios are the medians of the turns' ratios. IREE runs what `--emit linalg` writes with convolutions as matrix
products, and the float graph of the ONNX file, as ONNX Runtime does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from bnncc import driver
from bnncc.codegen.upstream import UpstreamBackend
from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of
from bnncc.dialect.parsing import module_text
from bnncc.dialect.types import bipolar, tensor
from bnncc.driver import Options
from bnncc.execution.artifact import Artifact
from bnncc.kernels import choice
from bnncc.linalg.convert import convert_module
from bnncc.report.table import table
from tests.bench.networks import onnxruntime_call
from tests.bench.peers import CHANNELS_LAST, imported_onnx, iree_call
from tests.bench.timing import Call, measure, pin_to_one_core, processor
from tests.cases import load_case

LAYERS = ((56, 64), (28, 128), (14, 256), (7, 512))
"""Extent of the image, channels."""

NETWORKS = (
    "larq_quicknetsmall_full",
    "torch_reactnet_block_legacy",
    "torch_bsnn_scan_dynamo",
    "digits_bnn_bop_legacy",
    "brevitas_lfc_1w1a_qonnx_legacy",
)

BACKENDS = ("tvm", "mlir", "unscheduled")
"""The last: mlir without its schedule."""

LAYER_BACKENDS = ("tvm", "plain", "mlir", "unscheduled")
"""plain: TVM's first template, which takes the image as it is, where others are faster on this processor."""

PEERS = ("iree", "iree, float", "onnxruntime")
COLUMNS = (*BACKENDS, *PEERS)
LAYER_COMPARED = ("tvm", "mlir", "unscheduled", "iree")


def layer_module(extent: int, channels: int) -> ModuleOp:
    """A 3x3 layer on bits: they are made of numbers before it, and a small layer reads them after it."""
    x = tensor((1, extent, extent, channels), f32)
    block = Block(arg_types=[x])
    binarize = ops.Binarize(block.args[0], -1)
    layer = layer_operations(binarize.result, channels)
    last = ops.Constant(signs(8, 1, 1, channels), bipolar)
    sums = ops.Conv2d(layer[-1].results[0], last.result)
    y = ops.Cast(sums.result, f32)
    block.add_ops([binarize, *layer, last, sums, y, ReturnOp(y.result)])
    return ModuleOp([main_of(block, y.result.type)])


def bare_module(extent: int, channels: int) -> ModuleOp:
    """The layer alone, from bits to bits."""
    x = tensor((1, extent, extent, channels), bipolar)
    block = Block(arg_types=[x])
    layer = layer_operations(block.args[0], channels)
    block.add_ops([*layer, ReturnOp(layer[-1])])
    return ModuleOp([main_of(block, layer[-1].results[0].type)])


def layer_operations(x: SSAValue, channels: int) -> list[Operation]:
    """A 3x3 convolution with zeros around the image, and a threshold."""
    limits = np.random.default_rng(7).integers(-20, 20, channels)
    weight = ops.Constant(signs(channels, 3, 3, channels), bipolar)
    conv = ops.Conv2d(x, weight.result, pads=(1, 1, 1, 1))
    return [weight, conv, ops.Threshold(conv.result, limits, np.ones(channels, int))]


def signs(*shape: int) -> np.ndarray:
    """Random weights."""
    return np.random.default_rng(7).choice([-1, 1], shape).astype(np.int8)


def main_of(block: Block, result: Attribute) -> FuncOp:
    """The function @main."""
    kinds = FunctionType.from_lists([value.type for value in block.args], [result])
    main = FuncOp("main", kinds, Region(block))
    main.attributes |= {INPUTS: ArrayAttr([StringAttr("x")]), OUTPUTS: ArrayAttr([StringAttr("y")])}
    return main


@contextmanager
def backend_options(name: str) -> Iterator[Options]:
    """Options of one of LAYER_BACKENDS."""
    with ExitStack() as patches:
        if name == "plain":
            patches.enter_context(patch.object(choice, "FASTER", ()))
            patches.enter_context(patch.object(driver, "with_three_words", lambda lowered: lowered))
        if name == "unscheduled":
            patches.enter_context(patch.object(UpstreamBackend, "_schedule", lambda *_: ""))
        yield Options(backend="tvm" if name in ("tvm", "plain") else "mlir")


def compiled_layer(extent: int, channels: int, backend: str) -> tuple[Artifact, int]:
    """A library of the layer, and which of its steps the layer is."""
    module = layer_module(extent, channels)
    driver.run_pipeline(module)
    with backend_options(backend) as options:
        artifact = driver.build(driver.lower_module(module, "layer", options), "layer.mlir", None, options)
    names = [step["operation"] for step in artifact.manifest["steps"]]
    return artifact, next(i for i, name in enumerate(names) if name.startswith("conv2d 3x3"))


def layer_call(artifact: Artifact, index: int) -> Call:
    """Runs one step on whatever the arena holds."""
    x, y = ([np.zeros(p["shape"], p["dtype"]) for p in artifact.manifest[k]] for k in ("inputs", "outputs"))
    return artifact.bind_layer(index, artifact.arena(), x, y)


def iree_layer(extent: int, channels: int) -> Call:
    """The layer alone by IREE."""
    text = module_text(convert_module(bare_module(extent, channels), "im2col"))
    return iree_call(text, [np.zeros((1, extent, extent, channels // 32), np.int32)])


def layer_row(extent: int, channels: int, turns: int) -> list[str]:
    """One line of the table of layers, in microseconds."""
    libraries = {backend: compiled_layer(extent, channels, backend) for backend in LAYER_BACKENDS}
    calls = {backend: layer_call(*library) for backend, library in libraries.items()}
    times = measure(calls | {"iree": iree_layer(extent, channels)}, turns)
    cells = [f"{1e6 * times.median(name):.1f}" for name in (*LAYER_BACKENDS, "iree")]
    ratios = [f"{times.ratio(name, 'plain'):.2f}" for name in LAYER_COMPARED]
    return [f"3x3 {extent}x{extent}x{channels}", *cells, *ratios]


def network_calls(name: str, folder: Path, refused: dict[str, str]) -> dict[str, Call]:
    """Every way to run a network that there is; into `refused`, why others are not."""
    case = load_case(name).first(1)
    model = case.write_model(folder)
    module = driver.front(model, Options())
    inputs = [np.ascontiguousarray(case.inputs[key]) for key in names_of(main_function(module), INPUTS)]
    calls: dict[str, Call] = {}
    for backend in BACKENDS:
        with backend_options(backend) as options:
            artifact = driver.compile_model(model, None, options)
        outputs = [np.zeros(port["shape"], port["dtype"]) for port in artifact.manifest["outputs"]]
        calls[backend] = artifact.bind(artifact.arena(), inputs, outputs, None)
    text = module_text(convert_module(module, "im2col"))
    for peer, make in (
        ("iree", lambda: iree_call(text, inputs)),
        ("iree, float", lambda: iree_call(imported_onnx(model, 1), inputs, [CHANNELS_LAST])),
    ):
        try:
            calls[peer] = make()
        except BnnccError as error:
            refused[f"{name}, {peer}"] = error.message
    call = onnxruntime_call(model, dict(case.inputs))
    return calls if call is None else calls | {"onnxruntime": call}


def network_row(name: str, turns: int, refused: dict[str, str]) -> list[str]:
    """One line of the table of networks, in milliseconds; then by how much slower than TVM's each is."""
    with tempfile.TemporaryDirectory() as folder:
        calls = network_calls(name, Path(folder), refused)
        times = measure(calls, turns)
    cells = [f"{1e3 * times.median(column):.3f}" if column in calls else "-" for column in COLUMNS]
    others = [f"{times.ratio(c, 'tvm'):.2f}" if c in calls else "-" for c in COLUMNS[1:]]
    return [name, *cells, *others]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--layers-only", action="store_true")
    chosen = parser.parse_args()
    core = pin_to_one_core()
    print(f"{processor()}, core {core}, {chosen.turns} turns")
    compared = [f"{name} / plain" for name in LAYER_COMPARED]
    header = ("microseconds", *LAYER_BACKENDS, "iree", *compared)
    rows = [layer_row(*layer, chosen.turns) for layer in LAYERS]
    print(table(header, rows, right=range(1, len(header))))
    if chosen.layers_only:
        return
    refused: dict[str, str] = {}
    header = ("milliseconds", *COLUMNS, *(f"{name} / tvm" for name in COLUMNS[1:]))
    rows = [network_row(name, chosen.turns, refused) for name in chosen.networks]
    print(table(header, rows, right=range(1, len(header))))
    print("\n".join(f"{what}: {why}" for what, why in refused.items()))


if __name__ == "__main__":
    main()
