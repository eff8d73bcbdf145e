# SPDX-License-Identifier: Apache-2.0
"""Kernels of ONNX nodes that have no template: TVM's own loops for them."""

from __future__ import annotations

import numpy as np

from bnncc.kernels import emit
from bnncc.kernels.flat import flatten
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.plan.kernel import KernelSpec, Opaque


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Opaque. Raises BnnccError where TVM cannot make one."""
    from bnncc.kernels import relax  # loads the importer, which few networks need

    root = spec.root
    assert isinstance(root, Opaque)
    symbol = kernel_symbol(spec, isa, {})
    imported = relax.import_node(root)
    flat = flatten(imported.function, symbol)
    known = tuple(_stored(array) for array in imported.constants)
    parameters = [emit.input_parameter(f"x{slot}", x) for slot, x in zip(root.fed, spec.inputs, strict=True)]
    parameters += [
        _constant(f"x{slot}", root.argument(slot).element.dtype, root.argument(slot).shape)
        for slot in root.weights
    ]
    parameters += [_constant(f"constant{i}", array.dtype.name, array.shape) for i, array in enumerate(known)]
    parameters += [
        emit.layout_parameter(f"y{i}", output.layout, is_const=False) for i, output in enumerate(spec.outputs)
    ]
    if flat.scratch_bytes:
        doc = "memory for intermediate results"
        parameters.append(Parameter("scratch", "uint8", flat.scratch_bytes, False, "uint8_t", doc))

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (*(_stored(array) for array in constants), *known)

    description = f"{root.operator} by TVM's own loops"
    return Kernel(symbol, spec, flat.function, tuple(parameters), pack, {}, description, flat.scratch_bytes)


def _constant(name: str, dtype: str, shape: tuple[int, ...]) -> Parameter:
    return emit.constant_parameter(name, dtype, int(np.prod(shape)), f"{dtype} {list(shape)}")


def _stored(array: np.ndarray) -> np.ndarray:
    """Booleans as bytes, half precision as its bits: types that C has."""
    array = np.ascontiguousarray(array)
    replaced = {"bool": np.uint8, "float16": np.uint16}.get(array.dtype.name)
    return array if replaced is None else array.view(replaced)
