# SPDX-License-Identifier: Apache-2.0
"""The two back ends side by side: `python -m tests.bench.upstream` prints a table.

3x3 layers (zero padding, threshold, packing included) and whole networks, one thread, in turns on one core;
ratios are the medians of the turns' ratios.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region

from bnncc import driver
from bnncc.artifact import Artifact
from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS
from bnncc.dialect.types import bipolar, tensor
from bnncc.driver import Options
from bnncc.report.table import table
from tests.bench.networks import onnxruntime_call
from tests.bench.timing import Call, measure, pin_to_one_core, processor
from tests.cases import load_case

LAYERS = ((56, 64), (28, 128), (14, 256), (7, 512))
"""Extent of the image, channels."""

NETWORKS = ("larq_quicknetsmall_full", "digits_bnn_bop_legacy")

BACKENDS = ("tvm", "mlir")


def layer_module(extent: int, channels: int) -> ModuleOp:
    """A 3x3 layer on bits: they are made of numbers before it, and a small layer reads them after it."""
    rng = np.random.default_rng(7)

    def signs(*shape: int) -> ops.Constant:
        return ops.Constant(rng.choice([-1, 1], shape).astype(np.int8), bipolar)

    x = tensor((1, extent, extent, channels), f32)
    block = Block(arg_types=[x])
    made: list[Operation] = [
        binarize := ops.Binarize(block.args[0], -1),
        weight := signs(channels, 3, 3, channels),
        conv := ops.Conv2d(binarize.result, weight.result, pads=(1, 1, 1, 1)),
        bits := ops.Threshold(conv.result, rng.integers(-20, 20, channels), np.ones(channels, int)),
        last := signs(8, 1, 1, channels),
        sums := ops.Conv2d(bits.result, last.result),
        y := ops.Cast(sums.result, f32),
    ]
    block.add_ops([*made, ReturnOp(y.result)])
    main = FuncOp("main", FunctionType.from_lists([x], [y.result.type]), Region(block))
    main.attributes |= {INPUTS: ArrayAttr([StringAttr("x")]), OUTPUTS: ArrayAttr([StringAttr("y")])}
    return ModuleOp([main])


def compiled_layer(extent: int, channels: int, backend: driver.Road) -> tuple[Artifact, int]:
    """A library of the layer, and which of its steps the layer is."""
    options = Options(backend=backend)
    module = layer_module(extent, channels)
    driver.run_pipeline(module)
    artifact = driver.build(driver.lower_module(module, "layer", options), "layer.mlir", None, options)
    names = [step["operation"] for step in artifact.manifest["steps"]]
    return artifact, next(i for i, name in enumerate(names) if name.startswith("conv2d 3x3"))


def layer_call(artifact: Artifact, index: int) -> Call:
    """Runs one step on whatever the arena holds."""
    x, y = ([np.zeros(p["shape"], p["dtype"]) for p in artifact.manifest[k]] for k in ("inputs", "outputs"))
    return artifact.bind_layer(index, artifact.arena(), x, y)


def layer_row(extent: int, channels: int, turns: int) -> list[str]:
    """One line of the table of layers, in microseconds."""
    libraries = {backend: compiled_layer(extent, channels, backend) for backend in BACKENDS}
    times = measure({backend: layer_call(*library) for backend, library in libraries.items()}, turns)
    cells = [f"{1e6 * times.median(backend):.1f}" for backend in BACKENDS]
    return [f"3x3 {extent}x{extent}x{channels}", *cells, f"{times.ratio('mlir', 'tvm'):.2f}"]


def network_row(name: str, turns: int) -> list[str]:
    """One line of the table of networks, in milliseconds."""
    case = load_case(name)
    inputs = {key: np.ascontiguousarray(array[:1]) for key, array in case.inputs.items()}
    calls: dict[str, Call] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = case.write_model(Path(folder))
        for backend in BACKENDS:
            artifact = driver.compile_model(model, None, Options(backend=backend))
            outputs = [np.zeros(port["shape"], port["dtype"]) for port in artifact.manifest["outputs"]]
            calls[backend] = artifact.bind(artifact.arena(), list(inputs.values()), outputs, None)
        call = onnxruntime_call(model, inputs)
        if call is not None:
            calls["onnxruntime"] = call
        times = measure(calls, turns)
    cells = [f"{1e3 * times.median(c):.3f}" if c in calls else "" for c in (*BACKENDS, "onnxruntime")]
    ratios = [
        f"{times.ratio(*pair):.2f}" if pair[1] in calls and pair[0] in calls else ""
        for pair in (("mlir", "tvm"), ("onnxruntime", "mlir"))
    ]
    return [name, *cells, *ratios]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--layers-only", action="store_true")
    turns = parser.parse_args().turns
    pin_to_one_core()
    print(processor())
    rows = [layer_row(*layer, turns) for layer in LAYERS]
    print(table(("microseconds", "tvm", "mlir", "mlir / tvm"), rows, right=(1, 2, 3)))
    if parser.parse_args().layers_only:
        return
    rows = [network_row(name, turns) for name in NETWORKS]
    header = ("milliseconds", *BACKENDS, "onnxruntime", "mlir / tvm", "onnxruntime / mlir")
    print(table(header, rows, right=(1, 2, 3, 4, 5)))


if __name__ == "__main__":
    main()
