# SPDX-License-Identifier: Apache-2.0
"""Spiking networks whose steps are a Loop or a Scan, with what they read, carry and collect in every way that
exporters write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
INPUTS, NEURONS = 6, 5


def value(name: str, shape: Sequence[int | str] | None = (), kind: int = FLOAT) -> ValueInfoProto:
    """A typed value."""
    return helper.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    **constants: Any,
) -> GraphProto:
    """A graph or a subgraph."""
    known = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return helper.make_graph(nodes, "g", inputs, outputs, known)


def model(main: GraphProto, opset: int = 17) -> onnx.ModelProto:
    """A model around a graph."""
    return helper.make_model(main, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Of a dense layer, and the numbers of a leaky neuron; sums of products are exact."""
    rng = np.random.default_rng(seed)
    w = np.rint(rng.normal(0, 0.8, (INPUTS, NEURONS)) * 64) / 64
    return {
        "w": w.astype(np.float32),
        "beta": np.array(0.875, np.float32),
        "threshold": np.array(1.0, np.float32),
    }


def leaky(x: str, before: str, after: str, spike: str) -> list[NodeProto]:
    """after = beta before + x w - [before > threshold] threshold; spike = [after > threshold]."""
    node = helper.make_node
    return [
        node("MatMul", [x, "w"], ["current"]),
        node("Greater", [before, "threshold"], ["was_above"]),
        node("Cast", ["was_above"], ["reset"], to=FLOAT),
        node("Mul", ["beta", before], ["decayed"]),
        node("Add", ["decayed", "current"], ["charged"]),
        node("Mul", ["reset", "threshold"], ["taken"]),
        node("Sub", ["charged", "taken"], [after]),
        node("Greater", [after, "threshold"], ["above"]),
        node("Cast", ["above"], [spike], to=FLOAT),
    ]


SPIKES = value("s", (1, NEURONS))
MEMBRANE = value("v2", (1, NEURONS))
HEAD = [value("i", (), INT64), value("go", (), BOOL)]
KEEP_GOING = helper.make_node("Identity", ["go"], ["go_on"])
START = np.zeros((1, NEURONS), np.float32)


def counted(
    steps: int | None, most: int | str = "T", collect: str = "scan", opset: int = 17, total: bool = False
) -> onnx.ModelProto:
    """A Loop that reads x[i] of x [most, 1, INPUTS]; `steps` None: the input "steps" says how often it runs.

    collect: "scan" outputs of the Loop, a "sequence" that it carries, or "nothing"."""
    node = helper.make_node
    nodes = [node("Gather", ["x", "i"], ["xi"], axis=0), *leaky("xi", "v", "v2", "s"), KEEP_GOING]
    carried, results, after = ["start"], ["v"], ["last"]
    inputs, outputs = [*HEAD, value("v", (1, NEURONS))], [value("go_on", (), BOOL), MEMBRANE]
    before = []
    if collect == "sequence":
        before = [node("SequenceEmpty", [], ["none"])]
        nodes.append(node("SequenceInsert", ["list", "s"], ["list2"]))
        inputs.append(helper.make_tensor_sequence_value_info("list", FLOAT, None))
        outputs.append(helper.make_tensor_sequence_value_info("list2", FLOAT, None))
        carried, after = [*carried, "none"], [*after, "lists"]
    elif collect == "scan":
        outputs.append(SPIKES)
        after = [*after, "spikes"]
    loop = node("Loop", ["steps", "yes", *carried], after, "time", body=graph(nodes, inputs, outputs))
    nodes = [*before, loop]
    if collect == "sequence":
        nodes.append(node("ConcatFromSequence", ["lists"], ["spikes"], axis=0, new_axis=1))
    results = ["last"] if collect == "nothing" else ["last", "spikes"]
    if total:
        nodes.append(node("ReduceSum", ["spikes"], ["total"], keepdims=0))
        results = [*results, "total"]
    constants = weights() | {"yes": np.array(True), "start": START}
    given = [value("x", (most, 1, INPUTS))]
    if steps is None:
        given.append(value("steps", (), INT64))
    else:
        constants["steps"] = np.array(steps, np.int64)
    main = graph(nodes, given, [value(name, None) for name in results], **constants)
    return model(main, opset)


def scanned(
    steps: int, opset: int = 17, axis: int = 0, backwards: bool = False, to: int = 0
) -> onnx.ModelProto:
    """A Scan over x, [steps, 1, INPUTS] with the dimension of the steps moved to `axis`; its membranes are
    stacked along `to`; both from the end on, where `backwards`."""
    node = helper.make_node
    body = graph(
        [*leaky("xi", "v", "v2", "s"), node("Neg", ["v2"], ["negative"])],
        [value("v", (1, NEURONS)), value("xi", (1, INPUTS))],
        [MEMBRANE, SPIKES, value("negative", (1, NEURONS))],
    )
    scan = node(
        "Scan",
        ["start", "x"],
        ["last", "spikes", "negatives"],
        "time",
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_input_directions=[int(backwards)],
        scan_output_axes=[0, to],
        scan_output_directions=[0, int(backwards)],
    )
    shape = [1, INPUTS]
    shape.insert(axis % 3, steps)
    results = [value(name, None) for name in ("last", "spikes", "negatives")]
    return model(graph([scan], [value("x", shape)], results, **weights(), start=START), opset)


def spikes(steps: int, seed: int = 0) -> np.ndarray:
    """[steps, 1, INPUTS] of zeros and ones."""
    return (np.random.default_rng(seed).random((steps, 1, INPUTS)) < 0.4).astype(np.float32)
