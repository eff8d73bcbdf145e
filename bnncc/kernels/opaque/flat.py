# SPDX-License-Identifier: Apache-2.0
"""From a PrimFunc over buffers, as TVM's operators come, to one over raw pointers as our templates write it.

TVM turns temporaries above a kilobyte into calls of its runtime, which a freestanding library does not have:
they move into scratch memory that the caller provides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import PointerType, PrimType, Var
from tvm.tirx.buffer import buffer_data_pointer_type

from bnncc.kernels.functions import exact_in_c
from bnncc.kernels.isa import PORTABLE

ON_STACK = 256
"""Bytes; a smaller temporary stays on the stack."""

ALIGNMENT = 64
"""Of every temporary within the scratch memory."""

# The runtime's calling convention, and two passes that insist on running after it.
SKIPPED = frozenset({"tirx.MakePackedAPI", "tirx.FP8StorageLegalize", "tirx.BF16StorageLegalize"})


@tvm.instrument.pass_instrument
class _WithoutPackedApi:
    """Makes a pass context leave out the passes in SKIPPED."""

    def should_run(self, _module: tvm.IRModule, info: Any) -> bool:
        return info.name not in SKIPPED


@dataclass(frozen=True)
class Flat:
    """A function `void f(pointers...)`; with `scratch_bytes` its last pointer is that much memory, aligned to
    ALIGNMENT."""

    function: tirx.PrimFunc
    scratch_bytes: int


def flatten(function: tirx.PrimFunc, symbol: str, is_c: bool) -> Flat:
    """Lower a PrimFunc whose parameters are buffers to loops over pointers, for every target the same.

    is_c: they will be printed as C, which must not round numbers."""
    target = PORTABLE.tvm_target()
    module = tvm.IRModule({symbol: function.with_attr("global_symbol", symbol)})
    with tvm.transform.PassContext(opt_level=2, instruments=[_WithoutPackedApi()]):
        module = tirx.transform.BindTarget(target.with_host(target))(module)
        passes: Any = tirx.get_tir_pipeline("s_tir")
        lowered = passes[0](module)[symbol]
    return _lift(lowered, symbol, is_c)


def _serial(loop: tirx.For) -> tirx.For:
    """Parallel loops would ask the runtime for threads."""
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)


def _lift(function: Any, symbol: str, is_c: bool) -> Flat:
    """Buffers become pointers, large temporaries parts of the scratch memory."""
    scratch = Var("scratch", PointerType(PrimType("uint8"), "global"))
    used = 0

    def place(statement: tirx.AllocBuffer) -> tirx.Stmt:
        nonlocal used
        buffer: Any = statement.buffer
        item = tvm.DataType(str(buffer.dtype)).itemsize
        size = math.prod(int(extent) for extent in buffer.shape) * item
        if size < ON_STACK:
            return statement
        address = tirx.handle_add_byte_offset(scratch, used)
        used += -(-size // ALIGNMENT) * ALIGNMENT
        return tirx.DeclBuffer(buffer, data=tirx.reinterpret(buffer_data_pointer_type(buffer), address))

    rules: list[Any] = [(tirx.AllocBuffer, place), (tirx.For, _serial)]
    if is_c:
        rules.append((tirx.FloatImm, exact_in_c))
    body = tvm_ffi.structural_map(function.body, rules, order="pre")
    pointers, declarations = [], []
    for parameter in function.params:
        pointer = Var(f"{parameter.name}_data", buffer_data_pointer_type(parameter))
        declarations.append(tirx.DeclBuffer(parameter, data=pointer))
        pointers.append(pointer)
    if used:
        pointers.append(scratch)
    flat: Any = tirx.PrimFunc(pointers, tirx.SeqStmt([*declarations, body]), function.ret_type)
    for name, value in {"global_symbol": symbol, "tirx.noalias": True, "calling_conv": 1}.items():
        flat = flat.with_attr(name, value)
    return Flat(flat, used)
