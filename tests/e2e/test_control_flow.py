# SPDX-License-Identifier: Apache-2.0
"""Loop, Scan and If, written out, compute what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.driver import Options, compile_model
from bnncc.frontend import writing
from bnncc.frontend.onnx import load_onnx
from tests.e2e.commands import Shell

Shape = tuple[int, ...]


def value(name: str, shape: Shape | None = (), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def make(
    nodes: Sequence[NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    opset: int = 17,
    **constants: np.ndarray,
) -> onnx.ModelProto:
    known = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, [value(name, None) for name in outputs], known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def body(
    nodes: Sequence[NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **constants: np.ndarray,
) -> GraphProto:
    known = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return helper.make_graph(nodes, "body", inputs, outputs, known)


def counted_loop() -> onnx.ModelProto:
    """Carries a value, collects another, reads one from outside and an initializer of its own."""
    inner = body(
        [
            helper.make_node("Mul", ["v", "half"], ["scaled"]),
            helper.make_node("Add", ["scaled", "x"], ["v2"]),
            helper.make_node("Cast", ["i"], ["i_real"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["v2", "i_real"], ["collected"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL), value("v", (2, 3))],
        [value("go_on", (), TensorProto.BOOL), value("v2", (2, 3)), value("collected", (2, 3))],
        half=np.array(0.5, np.float32),
    )
    loop = helper.make_node("Loop", ["count", "", "start"], ["last", "all"], body=inner)
    start = helper.make_node("Neg", ["x"], ["start"])
    return make([start, loop], [value("x", (2, 3))], ["last", "all"], count=np.array(4, np.int64))


def loop_that_stops_early() -> onnx.ModelProto:
    """Its condition depends on the iteration only."""
    inner = body(
        [
            helper.make_node("Less", ["i", "most"], ["go_on"]),
            helper.make_node("Add", ["v", "v"], ["v2"]),
        ],
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL), value("v", (3,))],
        [value("go_on", (), TensorProto.BOOL), value("v2", (3,))],
        most=np.array(2, np.int64),
    )
    loop = helper.make_node("Loop", ["count", "yes", "x"], ["y"], body=inner)
    return make([loop], [value("x", (3,))], ["y"], count=np.array(100, np.int64), yes=np.array(True))


def loop_that_never_runs() -> onnx.ModelProto:
    model = loop_that_stops_early()
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(False), "yes"))
    return model


def scan_in_both_directions() -> onnx.ModelProto:
    """Two inputs, one backwards along its second dimension; outputs along other dimensions too."""
    inner = body(
        [
            helper.make_node("Add", ["a", "b"], ["ab"]),
            helper.make_node("Add", ["s", "ab"], ["s2"]),
            helper.make_node("Mul", ["s2", "a"], ["p"]),
            helper.make_node("Neg", ["s2"], ["q"]),
        ],
        [value("s", (3,)), value("a", (3,)), value("b", (3,))],
        [value("s2", (3,)), value("p", (3,)), value("q", (3,))],
    )
    scan = helper.make_node(
        "Scan",
        ["s0", "x", "y"],
        ["s9", "ps", "qs"],
        body=inner,
        num_scan_inputs=2,
        scan_input_axes=[0, 1],
        scan_input_directions=[0, 1],
        scan_output_axes=[-1, 0],
        scan_output_directions=[1, 0],
    )
    return make([scan], [value("s0", (3,)), value("x", (4, 3)), value("y", (3, 4))], ["s9", "ps", "qs"])


def condition_of_the_data(nested: bool = True) -> onnx.ModelProto:
    """Both branches run; one holds an If of its own, which is decided."""
    innermost = body([helper.make_node("Abs", ["x"], ["r"])], [], [value("r", (2, 2))])
    other = body([helper.make_node("Neg", ["x"], ["r"])], [], [value("r", (2, 2))])
    decided = helper.make_node("If", ["yes"], ["t"], then_branch=innermost, else_branch=other)
    then = body([decided], [], [value("t", (2, 2))])
    otherwise = body([helper.make_node("Exp", ["x"], ["e"])], [], [value("e", (2, 2))])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=then, else_branch=otherwise),
    ]
    return make(nodes, [value("x", (2, 2))], ["y"], zero=np.array(0, np.float32), yes=np.array(True))


def branches(then: Sequence[NodeProto], *, results: int = 1, **constants: np.ndarray) -> list[NodeProto]:
    """`If` by "c": x reduced to one number, one way or the other."""
    end = value("a", None)
    other = [helper.make_node("ReduceMax", ["x"], ["a"], keepdims=0)]
    bodies: dict[str, Any] = {
        "then_branch": body(then, [], [end], **constants),
        "else_branch": body(other, [], [end]),
    }
    return [helper.make_node("If", ["c"], [f"y{i}" for i in range(results)], "if", **bodies)]


SUM = helper.make_node("ReduceSum", ["x"], ["a"], keepdims=0)


def vector_as_condition() -> onnx.ModelProto:
    """A condition of one element gives its dimension to no result."""
    first = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
    ]
    return make([*first, *branches([SUM])], [value("x", (4,))], ["y0"], zero=np.array(0, np.float32))


def old_loop() -> onnx.ModelProto:
    """Operator set 11, where Unsqueeze has an attribute."""
    model = counted_loop()
    model.opset_import[0].version = 11
    return model


MODELS: Sequence[Callable[[], onnx.ModelProto]] = [
    counted_loop,
    loop_that_stops_early,
    loop_that_never_runs,
    scan_in_both_directions,
    condition_of_the_data,
    vector_as_condition,
    old_loop,
]


@pytest.mark.parametrize("make_one", MODELS, ids=lambda function: function.__name__)
def test_control_flow_computes_what_onnxruntime_computes(make_one: Callable, tmp_path: Path):
    model = make_one()
    onnx.save(model, tmp_path / "model.onnx")
    artifact = compile_model(tmp_path / "model.onnx", tmp_path / "out", Options(emit=("so",)))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    for sign in (1, -1):
        fed = {
            entry.name: (sign * random.uniform(0.5, 2, entry.shape)).astype(np.float32)
            for entry in session.get_inputs()
        }
        expected = session.run(None, fed)
        got = artifact.run(fed)
        for name, array in zip((entry.name for entry in session.get_outputs()), expected, strict=True):
            assert got[name].shape == np.asarray(array).shape, name
            np.testing.assert_allclose(got[name], np.asarray(array), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("make_one", [loop_that_stops_early, condition_of_the_data], ids=lambda f: f.__name__)
def test_verify_compares_with_the_nodes_as_they_are(make_one: Callable, tmp_path: Path, bnncc: Shell):
    onnx.save(make_one(), tmp_path / "model.onnx")
    report = bnncc.fine("verify", tmp_path / "model.onnx", "--json").json
    assert report["passed"] and report["layers"]


def test_the_names_of_a_body_may_come_again_outside(tmp_path: Path):
    """Two loops with the same body: their values do not meet."""
    model = counted_loop()
    again = model.graph.node.add()
    again.CopyFrom(model.graph.node[1])
    again.input[2] = "last"
    again.output[:] = ["last2", "all2"]
    model.graph.output.append(value("last2", None))
    onnx.save(model, tmp_path / "model.onnx")
    artifact = compile_model(tmp_path / "model.onnx", tmp_path / "out", Options(emit=("so",)))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(["last2"], {"x": x})[0]
    np.testing.assert_allclose(artifact.run({"x": x})["last2"], np.asarray(expected), rtol=1e-6)


def test_a_loop_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writing, "MOST_NODES", 30)
    model = loop_that_stops_early()
    onnx.save(model, tmp_path / "model.onnx")
    load_onnx(tmp_path / "model.onnx")
    model.graph.node[0].attribute[0].g.initializer[0].CopyFrom(
        numpy_helper.from_array(np.array(10**18, np.int64), "most")
    )
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(10**18, np.int64), "count"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BnnccError, match="more than 30 nodes; it cannot be one loop: it runs 10000000000"):
        load_onnx(tmp_path / "model.onnx")


def test_what_a_loop_collects_fits_into_memory(tmp_path: Path):
    model = counted_loop()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(10**9, np.int64), "count"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BnnccError, match="written out, the loops of the model have more than"):
        load_onnx(tmp_path / "model.onnx")


def damaged(kind: str) -> onnx.ModelProto:
    """A model whose subgraph is no subgraph of its node."""
    scanned = [value("s", (4,)), value("r", (4,))]
    adding = body([helper.make_node("Add", ["s", "r"], ["t"])], scanned, [value("t", (4,)), value("t", (4,))])
    x, zero = value("x", (3, 4)), np.zeros(4, np.float32)
    match kind:
        case "missing result":
            end = helper.make_node("Add", ["y0", "y1"], ["z"])
            return make([*branches([SUM], results=2), end], [value("x", (4,))], ["z"], c=np.array(True))
        case "no steps":
            scan = helper.make_node(
                "Scan", ["zero", "none"], ["y", "z"], "if", body=adding, num_scan_inputs=1
            )
            return make([scan], [x], ["y"], zero=zero, none=np.zeros((0, 4), np.float32))
        case "no such axis":
            more: dict[str, Any] = {"num_scan_inputs": 1, "scan_output_axes": [7]}
            scan = helper.make_node("Scan", ["zero", "x"], ["y", "z"], "if", body=adding, **more)
            return make([scan], [value("x", (2, 4))], ["z"], zero=zero)
        case _:
            add = [helper.make_node("Add", ["x", "w"], ["a"])]
            model = make(branches(add, w=zero), [value("x", (4,))], ["y0"], c=np.array(True))
            model.graph.node[0].attribute[1].g.initializer[0].raw_data = b"123"
            return model


@pytest.mark.parametrize("kind", ["missing result", "no steps", "no such axis", "short initializer"])
def test_damaged_subgraphs_are_the_fault_of_the_file(kind: str, tmp_path: Path):
    onnx.save(damaged(kind), tmp_path / "model.onnx")
    with pytest.raises(BnnccError, match=r"^model.onnx:if") as caught:
        load_onnx(tmp_path / "model.onnx")
    assert caught.value.exit_code == ExitCode.USER
