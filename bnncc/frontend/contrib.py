# SPDX-License-Identifier: Apache-2.0
"""Operators that ONNX Runtime's optimiser fuses (domain com.microsoft), written out as those of ONNX.

FusedConv(x, w, b, z) = act(Conv(x, w, b) + z), FusedGemm = act(Gemm), FusedMatMul = alpha * a' b', and the
approximations of Gelu; operators on bytes are those of `contrib_quantized`. What optimised files hold beyond
these is made for ONNX Runtime's own kernels. Those of ONNX itself that are written out, too, are in
`compositions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bnncc.frontend.checks import Node
from bnncc.frontend.compositions import COMPOSED
from bnncc.frontend.contrib_quantized import QUANTISED
from bnncc.frontend.shapes import attribute
from bnncc.frontend.signatures import FUSED_DOMAIN, problem_with

ACTIVATION = "activation"
"""How the attributes begin that say what is fused at the end."""


class Expansion:
    """The nodes that one fused node becomes."""

    def __init__(self, node: Node, opset: int):
        self.proto = node.proto
        self.location = node.location
        self.opset = opset
        self.nodes: list[Node] = []

    def given(self, slot: int) -> str:
        """The name of an input, "" where it is left out."""
        return self.proto.input[slot] if slot < len(self.proto.input) else ""

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; the name of its result."""
        whole = next(filter(None, self.proto.output))
        name = f"{whole}/{operator}_{len(self.nodes)}"
        proto = helper.make_node(operator, list(inputs), [name], self.proto.name, **attributes)
        self.nodes.append(Node(proto, self.location, self.opset))
        return name

    def like(self, operator: str, *inputs: str) -> str:
        """Append a node with those of the fused node's attributes that are not about the activation."""
        name = self.add(operator, *inputs)
        own = [a for a in self.proto.attribute if not a.name.startswith(ACTIVATION)]
        self.nodes[-1].proto.attribute.extend(own)
        return name

    def number(self, value: float) -> str:
        """Append a float32 constant."""
        return self.add("Constant", value=numpy_helper.from_array(np.asarray(value, np.float32)))

    def activated(self, value: str, parameters: Sequence[float]) -> str:
        """What the fused activation makes of a value; raises ValueError for one that is unknown."""
        kind = attribute(self.proto, ACTIVATION, b"").decode()
        names = ACTIVATIONS.get(kind)
        if names is None:
            raise ValueError(kind)
        given = dict(zip(names, parameters, strict=False))
        if kind == "Clip" and self.opset >= 11:
            return self.add(kind, value, *(self.number(v) for v in given.values()))
        return self.add(kind, value, **given) if kind else value

    def finish(self, *values: str) -> list[Node]:
        """The nodes, of which those that make `values` are named after the results of the one node."""
        names = {value: result for value, result in zip(values, self.proto.output, strict=False) if result}
        for node in self.nodes:
            for ends in (node.proto.input, node.proto.output):
                ends[:] = [names.get(name, name) for name in ends]
        return self.nodes


ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "": (),
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}
"""What may be fused, and its parameters in order."""


def fused_conv(e: Expansion) -> str:
    """FusedConv."""
    y = e.like("Conv", *(name for slot in range(3) if (name := e.given(slot)) or slot < 2))
    if e.given(3):
        y = e.add("Add", y, e.given(3))
    return e.activated(y, attribute(e.proto, "activation_params", []))


def fused_gemm(e: Expansion) -> str:
    """FusedGemm."""
    y = e.like("Gemm", *(name for name in e.proto.input if name))
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    return e.activated(y, [v for name in names if (v := attribute(e.proto, name, None)) is not None])


def fused_matmul(e: Expansion, ranks: Mapping[str, int]) -> str:
    """FusedMatMul, of factors as they are or whose rank is known; raises ValueError for others."""
    factors = []
    for slot, flag in enumerate(("transA", "transB")):
        name = e.given(slot)
        if attribute(e.proto, flag, 0):
            if name not in ranks:
                raise ValueError(f"{flag} of what is computed at run time")
            order = list(range(ranks[name]))
            name = e.add("Transpose", name, perm=[*order[:-2], order[-1], order[-2]])
        factors.append(name)
    if attribute(e.proto, "transBatchA", 0) or attribute(e.proto, "transBatchB", 0):
        raise ValueError("transposed batches")
    y = e.add("MatMul", *factors)
    alpha = attribute(e.proto, "alpha", 1.0)
    return y if alpha == 1 else e.add("Mul", y, e.number(alpha))


def gelu(e: Expansion) -> str:
    """Gelu(x) and BiasGelu(x, b) = Gelu(x + b): x / 2 * (1 + erf(x / sqrt 2))."""
    x = e.add("Add", e.given(0), e.given(1)) if e.given(1) else e.given(0)
    curve = e.add("Erf", e.add("Mul", x, e.number(math.sqrt(0.5))))
    return e.add("Mul", e.add("Mul", x, e.number(0.5)), e.add("Add", curve, e.number(1.0)))


def fast_gelu(e: Expansion) -> str:
    """FastGelu(x, b): z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 z^3))), z = x + b."""
    x = e.add("Add", e.given(0), e.given(1)) if e.given(1) else e.given(0)
    cube = e.add("Mul", e.add("Mul", e.add("Mul", x, x), x), e.number(0.044715))
    curve = e.add("Tanh", e.add("Mul", e.add("Add", x, cube), e.number(math.sqrt(2 / math.pi))))
    return e.add("Mul", e.add("Mul", x, e.number(0.5)), e.add("Add", curve, e.number(1.0)))


def quick_gelu(e: Expansion) -> str:
    """QuickGelu(x): x * sigmoid(alpha * x)."""
    x = e.given(0)
    scaled = e.add("Mul", x, e.number(attribute(e.proto, "alpha", 1.702)))
    return e.add("Mul", x, e.add("Sigmoid", scaled))


WRITTEN_OUT: dict[str, Callable[[Expansion], str]] = {
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "Gelu": gelu,
    "BiasGelu": gelu,
    "FastGelu": fast_gelu,
    "QuickGelu": quick_gelu,
    **QUANTISED,
}


def write_out(nodes: Sequence[Node], opset: int, initializers: Iterable[onnx.TensorProto]) -> list[Node]:
    """The same nodes, the fused ones replaced by what they stand for, operators of version `opset`; those
    that cannot be are left as they are, to be told as unknown."""
    ranks = {tensor.name: len(tensor.dims) for tensor in initializers}
    result: list[Node] = []
    for node in nodes:
        composed = COMPOSED.get(node.operator)
        is_known = composed is not None or node.domain == FUSED_DOMAIN
        if not is_known or problem_with(node.proto, node.opset) is not None:
            result.append(node)
            continue
        expansion = Expansion(node, opset)
        try:
            values = composed(expansion) if composed else (_expanded(expansion, ranks),)
            result += expansion.finish(*values)
        except (KeyError, ValueError):
            result.append(node)
    return result


def _expanded(expansion: Expansion, ranks: Mapping[str, int]) -> str:
    operator = expansion.proto.op_type
    if operator in ("FusedMatMul", "TransposeMatMul"):
        return fused_matmul(expansion, ranks)
    return WRITTEN_OUT[operator](expansion)
