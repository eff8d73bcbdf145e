# SPDX-License-Identifier: Apache-2.0
"""One ONNX node through TVM's Relax importer: to one PrimFunc over buffers."""

from __future__ import annotations

import gc
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tvm
from onnx import helper, numpy_helper
from tvm import relax, tirx, topi
from tvm.relax.frontend.onnx import from_onnx

from bnncc.diagnostics import BnnccError
from bnncc.kernels.opaque.computed import known
from bnncc.kernels.opaque.expansion import NotExpressible, expand
from bnncc.plan.kernel import Argument, Opaque
from bnncc.plan.layout import Element

HINT = "rewrite the model without it, or with other operators"
LONGEST_REASON = 200
STDERR = 2
"""The descriptor that C++ writes to."""

IR_VERSION = 10

EXPANSION_OPSET = 13
"""The operator set that expansions are written in, at least."""


@dataclass(frozen=True)
class Imported:
    """Parameters of `function`: the fed inputs, the weights, `constants`, the results."""

    function: tirx.PrimFunc
    constants: tuple[np.ndarray, ...]


def import_node(root: Opaque) -> Imported:
    """The node as one function. Raises BnnccError (with no location) where TVM cannot import or lower it."""
    try:
        model: Any = _model(root)  # the importer's annotation says GraphProto
    except NotExpressible as why:
        raise refused(root, str(why)) from None
    reason = ""
    with _without_noise():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module: Any = from_onnx(model, keep_params_in_input=False)
            with tvm.target.Target("c"), tvm.transform.PassContext(opt_level=2):
                module = _with_bounds(_with_calls(module))
                module = relax.transform.DecomposeOpsForInference()(module)
                module = relax.transform.LegalizeOps()(module)
                # The shape of a constant that nothing reads once it is known is no loop.
                module = relax.transform.DeadCodeElimination()(module)
            return _one_function(module, root)
        except BnnccError:
            raise
        except Exception as error:
            # The importer raises whatever comes to its mind, of this node only.
            reason = _reason(error)
        gc.collect()  # TVM complains of what it left half done when that is freed: before it may speak again
    raise refused(root, reason)


@contextmanager
def _without_noise() -> Iterator[None]:
    """What the importer prints, and TVM's C++ code writes to standard error, goes nowhere."""
    sys.stderr.flush()
    kept = os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)


@relax.expr_functor.mutator
class _Bound(relax.PyExprMutator):
    """Indices beyond a dimension are taken for its last one: no input makes the library read elsewhere."""

    def visit_call_(self, op: Any) -> relax.Expr:
        """One call."""
        call = super().visit_call_(op)
        # The importer finds a dimension from the end by "wrap", which stays inside.
        if op.op != tvm.ir.Op.get("relax.take") or op.attrs.mode == "wrap":
            return call
        axis = op.attrs.axis
        return relax.op.take(*op.args, axis=None if axis is None else int(axis), mode="clip")


def _with_bounds(module: Any) -> tvm.IRModule:
    functions = dict(module.functions.items())
    visitor = _Bound(module)
    for name, function in functions.items():
        if isinstance(function, relax.Function):
            bounded: Any = visitor.visit_expr(function)
            visitor.builder_.update_func(name, bounded)
    return visitor.builder_.get()


def _with_calls(module: Any) -> tvm.IRModule:
    """A result that is an input or a constant, unchanged, becomes a copy: loops that write it."""
    main = module["main"]
    bindings = {b.var: b.value for block in main.body.blocks for b in block.bindings}

    def is_unchanged(value: relax.Expr) -> bool:
        while value in bindings:
            value = bindings[value]
        return value in set(main.params) or isinstance(value, tvm.ir.GenericConst)

    last = bindings.get(main.body.body, main.body.body)
    results = list(last.fields) if isinstance(last, relax.Tuple) else [main.body.body]
    if not any(map(is_unchanged, results)):
        return module
    builder = relax.BlockBuilder(_without_main(module))
    with builder.function("main", main.params):
        with builder.dataflow():
            for block in main.body.blocks:
                for binding in block.bindings:
                    builder.emit_normalized(relax.VarBinding(binding.var, binding.value))
            copies = [builder.emit_te(topi.identity, r) if is_unchanged(r) else r for r in results]
            output = builder.emit_output(copies[0] if len(copies) == 1 else relax.Tuple(copies))
        builder.emit_func_output(output)
    return builder.get()


def refused(root: Opaque, reason: str) -> BnnccError:
    """The diagnostic for a node that cannot be compiled; the caller knows where it is."""
    return BnnccError("", f"operator {root.operator} is not supported: {reason}", HINT)


def _reason(error: Exception) -> str:
    """What an exception of the importer says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return f"TVM's importer says: {text[:LONGEST_REASON]}"


def _model(root: Opaque) -> onnx.ModelProto:
    """A model of this node alone (expanded, where the importer lacks it). Known inputs are initializers."""
    nodes = expand(root)
    inputs = [_value(f"x{slot}", root.argument(slot)) for slot in (*root.fed, *root.weights)]
    arrays = {f"x{a.slot}": known(root, a.slot) for a in root.arguments}
    initializers = [
        numpy_helper.from_array(array, name) for name, array in arrays.items() if array is not None
    ]
    results = [f"y{index}" for index in range(len(root.results))]
    outputs = [
        helper.make_tensor_value_info(name, _proto_type(element), shape)
        for name, (element, shape) in zip(results, root.results, strict=True)
    ]
    graph = helper.make_graph(nodes, "node", inputs, outputs, initializers)
    opset = root.opset if len(nodes) == 1 else max(root.opset, EXPANSION_OPSET)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def _value(name: str, argument: Argument) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _proto_type(argument.element), argument.shape)


def _proto_type(element: Element) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(element.dtype))


@relax.expr_functor.mutator
class _Lift(relax.PyExprMutator):
    """Turns the constants of a function into parameters."""

    def __init__(self, module: tvm.IRModule):
        super().__init__(module)
        self.parameters: list[relax.Var] = []
        self.arrays: list[np.ndarray] = []

    def visit_generic_const_(self, op: Any) -> relax.Var:
        """One constant."""
        parameter = relax.Var(f"constant{len(self.arrays)}", op.ty)
        self.parameters.append(parameter)
        self.arrays.append(op.value.numpy())
        return parameter


def _without_main(module: Any) -> tvm.IRModule:
    return tvm.IRModule({name: f for name, f in module.functions.items() if name.name_hint != "main"})


def _one_function(module: Any, root: Opaque) -> Imported:
    """Join the functions that the operators became: what passes from one to the next is a temporary."""
    main = module["main"]
    lift = _Lift(module)
    body = lift.visit_expr(main.body)
    parameters = [*main.params, *lift.parameters]
    joined = relax.Function(parameters, body, main.ret_ty, is_pure=True).with_attr("Primitive", True)
    builder = relax.BlockBuilder(_without_main(module))
    name = builder.add_func(joined, "joined")
    arguments: list[Any] = [relax.Var(parameter.name, parameter.ty) for parameter in parameters]
    with builder.function("main", arguments):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(relax.Call(name, arguments)))
        builder.emit_func_output(result)
    fused = relax.transform.FuseTIR()(builder.get())
    functions: list[Any] = [f for f in fused.functions.values() if isinstance(f, tirx.PrimFunc)]
    if len(functions) != 1 or len(functions[0].params) != len(parameters) + len(root.results):
        raise refused(root, "TVM does not lower it to loops of fixed extents")
    _check_results(functions[0], root)
    return Imported(functions[0], tuple(lift.arrays))


def _check_results(function: Any, root: Opaque) -> None:
    """Types and shapes are those of the memory that the results are given; raises BnnccError otherwise."""
    buffers: list[Any] = list(function.params)[-len(root.results) :]
    for buffer, (element, shape) in zip(buffers, root.results, strict=True):
        found = (str(buffer.dtype), tuple(map(int, buffer.shape)))
        if found != (element.dtype, tuple(shape)):
            what = f"{found[0]}{list(found[1])} instead of {element.dtype}{list(shape)}"
            raise refused(root, f"TVM's importer makes {what} of it")
