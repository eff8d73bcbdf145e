# SPDX-License-Identifier: Apache-2.0
"""One ONNX node through TVM's Relax importer: to one PrimFunc over buffers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import tvm
from onnx import helper, numpy_helper
from tvm import relax, tirx
from tvm.relax.frontend.onnx import from_onnx

from bnncc.diagnostics import BnnccError
from bnncc.plan.kernel import Argument, Opaque
from bnncc.plan.layout import Element

HINT = "rewrite the model without it, or with other operators"
LONGEST_REASON = 200
IR_VERSION = 10


@dataclass(frozen=True)
class Imported:
    """Parameters of `function`: the fed inputs, the weights, `constants`, the results."""

    function: tirx.PrimFunc
    constants: tuple[np.ndarray, ...]


def import_node(root: Opaque) -> Imported:
    """The node as one function. Raises BnnccError (with no location) where TVM cannot import or lower it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = from_onnx(_model(root), keep_params_in_input=False)
        with tvm.target.Target("c"), tvm.transform.PassContext(opt_level=2):
            module = relax.transform.DecomposeOpsForInference()(module)
            module = relax.transform.LegalizeOps()(module)
        return _one_function(module, root)
    except BnnccError:
        raise
    except Exception as error:
        # The importer raises whatever comes to its mind, of this node only.
        raise refused(root, _reason(error)) from error


def refused(root: Opaque, reason: str) -> BnnccError:
    """The diagnostic for a node that cannot be compiled; the caller knows where it is."""
    return BnnccError("", f"operator {root.operator} is not supported: {reason}", HINT)


def _reason(error: Exception) -> str:
    """What an exception of the importer says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return f"TVM's importer says: {text[:LONGEST_REASON]}"


def _model(root: Opaque) -> onnx.ModelProto:
    """A model of this node alone; what is known of its inputs is an initializer."""
    node = onnx.NodeProto.FromString(root.node)
    inputs = [_value(f"x{slot}", root.argument(slot)) for slot in (*root.fed, *root.weights)]
    known = [
        numpy_helper.from_array(np.frombuffer(a.values, a.element.dtype).reshape(a.shape), f"x{a.slot}")
        for a in root.arguments
        if a.values is not None
    ]
    outputs = [
        helper.make_tensor_value_info(name, _proto_type(element), shape)
        for name, (element, shape) in zip(node.output, root.results, strict=True)
    ]
    graph = helper.make_graph([node], "node", inputs, outputs, known)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(node.domain, root.opset)], ir_version=IR_VERSION
    )


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

    def visit_generic_const_(self, op: tvm.ir.GenericConst) -> relax.Var:
        """One constant."""
        parameter = relax.Var(f"constant{len(self.arrays)}", op.ty)
        self.parameters.append(parameter)
        self.arrays.append(op.value.numpy())
        return parameter


def _one_function(module: tvm.IRModule, root: Opaque) -> Imported:
    """Join the functions that the operators became: what passes from one to the next is a temporary."""
    main = module["main"]
    lift = _Lift(module)
    body = lift.visit_expr(main.body)
    parameters = [*main.params, *lift.parameters]
    joined = relax.Function(parameters, body, main.ret_ty, is_pure=True).with_attr("Primitive", True)
    others = {name: f for name, f in module.functions.items() if name.name_hint != "main"}
    builder = relax.BlockBuilder(tvm.IRModule(others))
    name = builder.add_func(joined, "joined")
    arguments = [relax.Var(parameter.name, parameter.ty) for parameter in parameters]
    with builder.function("main", arguments):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(relax.Call(name, arguments)))
        builder.emit_func_output(result)
    fused = relax.transform.FuseTIR()(builder.get())
    functions = [f for f in fused.functions.values() if isinstance(f, tirx.PrimFunc)]
    if len(functions) != 1 or len(functions[0].params) != len(parameters) + len(root.results):
        raise refused(root, "TVM does not lower it to loops of fixed extents")
    return Imported(functions[0], tuple(lift.arrays))
