# SPDX-License-Identifier: Apache-2.0
"""Kernels of ONNX nodes that have no template: TVM's own loops for them."""

from __future__ import annotations

import numpy as np

from bnncc.kernels import emit, half
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.opaque import computed
from bnncc.kernels.opaque.flat import flatten
from bnncc.plan.kernel import KernelSpec, Opaque


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Opaque. Raises BnnccError where TVM cannot make one."""
    root = spec.root
    assert isinstance(root, Opaque)
    if (cast := half.make_cast(spec, root, isa)) is not None:
        return cast
    symbol = kernel_symbol(spec, isa, {})
    read = [emit.input_parameter(f"x{slot}", x) for slot, x in zip(root.fed, spec.inputs, strict=True)]
    read += [
        _constant(f"x{slot}", root.argument(slot).element.dtype, root.argument(slot).shape)
        for slot in root.weights
    ]
    written = [
        emit.layout_parameter(f"y{i}", output.layout, is_const=False) for i, output in enumerate(spec.outputs)
    ]
    body = computed.body(root)
    if body is not None:
        function = emit.function(symbol, [*read, *written], body)
        return Kernel(
            symbol, spec, function, (*read, *written), _stored_all, {}, f"{root.operator}, one by one"
        )
    return _imported(spec, root, isa, read, written)


def _imported(
    spec: KernelSpec, root: Opaque, isa: Isa, read: list[Parameter], written: list[Parameter]
) -> Kernel:
    from bnncc.kernels.opaque import relax  # loads the importer, which few networks need

    symbol = kernel_symbol(spec, isa, {})
    imported = relax.import_node(root)
    flat = flatten(imported.function, symbol, isa.is_scalar)
    known = tuple(_stored(array) for array in imported.constants)
    read += [_constant(f"constant{i}", array.dtype.name, array.shape) for i, array in enumerate(known)]
    if flat.scratch_bytes:
        doc = "memory for intermediate results"
        written.append(Parameter("scratch", "uint8", flat.scratch_bytes, False, "uint8_t", doc))

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (*_stored_all(constants), *known)

    description = f"{root.operator} by TVM's own loops"
    return Kernel(symbol, spec, flat.function, (*read, *written), pack, {}, description, flat.scratch_bytes)


def _constant(name: str, dtype: str, shape: tuple[int, ...]) -> Parameter:
    return emit.constant_parameter(name, dtype, int(np.prod(shape)), f"{dtype} {list(shape)}")


def _stored_all(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(_stored(array) for array in constants)


def _stored(array: np.ndarray) -> np.ndarray:
    """Booleans as bytes, half precision as its bits: types that C has."""
    array = np.ascontiguousarray(array)
    replaced = {"bool": np.uint8, "float16": np.uint16}.get(array.dtype.name)
    return array if replaced is None else array.view(replaced)
