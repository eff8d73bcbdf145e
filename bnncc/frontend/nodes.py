# SPDX-License-Identifier: Apache-2.0
"""From a `bnn.onnx` operation back to the ONNX node that it stands for."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from bnncc.dialect.operations import Onnx, unpack
from bnncc.dialect.parameters import plain_parameters


def to_node_proto(op: Onnx) -> NodeProto:
    """The node, its inputs named x0, x1... by their slots ("" where an optional one is absent) and its
    outputs y0, y1..."""
    slots = set(unpack(op.slots))
    inputs = [f"x{i}" if i in slots else "" for i in range(max(slots, default=-1) + 1)]
    outputs = [f"y{i}" for i in range(len(op.outputs))]
    node = helper.make_node(op.operator.data, inputs, outputs, domain=op.domain.data)
    for name, value in plain_parameters(op).items():
        proto = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        node.attribute.append(helper.make_attribute(name, proto))
    return node
