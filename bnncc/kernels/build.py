# SPDX-License-Identifier: Apache-2.0
"""From KernelSpecs to code: the template of a spec, one object file or C text for many kernels."""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tvm
from tvm import tirx
from tvm.tirx.op import register_intrin_lowering

from bnncc.diagnostics import BnnccError
from bnncc.kernels import choice, fixed_neurons, half, halo, map, parts, pool, reduce
from bnncc.kernels.binary import micro_kernels
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.byte import rows as byte_rows
from bnncc.kernels.byte import vectors as byte_vectors
from bnncc.kernels.c_helpers import FOUR_LANES, FOUR_LANES_MACRO, POPCOUNT, VECTOR, helpers
from bnncc.kernels.functions import LITERAL, LONG_LITERAL
from bnncc.kernels.isa import Isa, TargetFacts
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.opaque import convert
from bnncc.kernels.opaque import node as opaque
from bnncc.kernels.real import conv as real_conv
from bnncc.kernels.spike import conv as spike_conv
from bnncc.plan.budget import Goal
from bnncc.plan.c_values import float_literal
from bnncc.plan.kernel import (
    BinaryConv,
    ByteConv,
    ChannelMean,
    Convert,
    FillHalo,
    KernelSpec,
    Map,
    Opaque,
    Pool,
    RealConv,
    Root,
    Softmax,
    SpikeConv,
)
from bnncc.toolchain import elf

Template = Callable[[KernelSpec, Isa, TileParameters | None], Kernel]

TEMPLATES: dict[type[Root], Template] = {
    BinaryConv: choice.make,
    ByteConv: byte_conv.make,
    RealConv: real_conv.make,
    SpikeConv: spike_conv.make,
    Pool: pool.make,
    ChannelMean: reduce.make_channel_mean,
    Softmax: reduce.make_softmax,
    Map: map.make,
    FillHalo: halo.make,
    Convert: convert.make,
    Opaque: opaque.make,
}
"""What makes the kernels with each root."""

MATHEMATICS = frozenset(
    name + suffix
    for name in """acos acosh asin asinh atan atan2 atanh ceil cos cosh erf exp exp2 fabs floor fmod log log10
    log1p log2 nearbyint pow rint round sin sinh sqrt tan tanh trunc""".split()
    for suffix in ("", "f")
)
"""Functions of C99's libm. Templates need those in LIBM; loops that TVM makes for a node, any."""

LARGEST_TENSOR = 2**31 - 1
"""Bytes."""

ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "sincos", "sincosf", *MATHEMATICS})
"""What an object may expect from elsewhere: what compilers call by themselves (`sincos` too, on Linux) and
libm."""

register_intrin_lowering(
    "tirx.popcount", "c", level=11, f=lambda call: tirx.call_pure_extern(call.ty, POPCOUNT, *call.args)
)
register_intrin_lowering(
    "tirx.fabs",
    "c",
    level=11,
    f=lambda call: tirx.call_pure_extern(
        call.ty, "fabsf" if "32" in str(call.ty.dtype) else "fabs", *call.args
    ),
)


def make_kernel(
    spec: KernelSpec, target: TargetFacts, schedule: TileParameters | None = None, goal: Goal = None
) -> Kernel:
    """The kernel of `spec` for `target`, by the schedule given or a good default; goal: what matters most.

    Raises BnnccError, with no location, for an ONNX node that cannot be compiled for it, and for tensors that
    kernels do not reach the end of."""
    _check_sizes(spec)
    isa = replace(Isa.of(target), goal=goal)
    kernel = TEMPLATES[type(spec.root)](spec, isa, schedule)
    if isa.is_scalar:
        half.check(kernel)
    return kernel


def _check_sizes(spec: KernelSpec) -> None:
    """Raise BnnccError for what a kernel's int32 does not count through; a word may be taken byte by byte."""
    layouts = (*spec.inputs, *spec.operands, *(output.layout for output in spec.outputs))
    sizes = [(layout.bytes, layout.shape) for layout in layouts]
    sizes += [(math.prod(c.shape) * c.element.bytes, c.shape) for c in spec.constants]
    size, shape = max(sizes, default=(0, ()))
    if size > LARGEST_TENSOR:
        raise BnnccError(
            "",
            f"a tensor {list(shape)} takes {size:,} bytes; kernels reach {LARGEST_TENSOR:,}",
            "a smaller batch or image (--dim)",
        )


def divided(kernel: Kernel, threads: int) -> Kernel:
    """The kernel so that so many threads can share it, where that is possible (`parts`)."""
    return parts.divided(kernel, threads)


def compile_object(kernels: Sequence[Kernel], prefix: str, target: TargetFacts) -> bytes:
    """One relocatable, position-independent ELF object with a function `<prefix>_<symbol>` for each kernel.

    The functions are hidden: other objects of the same library see them, programs that link it do not.
    Kernels of equal symbols are compiled once. Equal arguments give equal bytes.
    """
    isa = Isa.of(target)
    module = _lower(kernels, prefix, isa)
    compiled = tvm.get_global_func("target.build.llvm")(module, isa.tvm_target())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        compiled.write_to_file(str(path), "o")
        code = elf.hide_symbols(elf.without_debugging(path.read_bytes()))
    called = {symbol for symbol in elf.undefined_symbols(code) if micro_kernels.is_called(symbol)}
    unexpected = elf.undefined_symbols(code) - ALLOWED_SYMBOLS - called
    if unexpected:
        raise _missing(unexpected, kernels)
    return elf.prefix_symbols(code, prefix, called)


def micro_kernel_source(code: bytes, prefix: str) -> str:
    """C text of the functions that an object of `compile_object` calls besides those of a C library; empty,
    if none. Compiled, its symbols want the prefix, too (`elf.prefix_symbols`)."""
    return micro_kernels.object_source({s.removeprefix(f"{prefix}_") for s in elf.undefined_symbols(code)})


def _missing(symbols: set[str], kernels: Sequence[Kernel]) -> BnnccError:
    """The diagnostic where compiled code calls what no C library has, as conversions of odd types. Only loops
    of TVM's may."""
    operators = sorted({k.spec.root.operator for k in kernels if isinstance(k.spec.root, Opaque)})
    assert operators, f"kernels refer to {sorted(symbols)}"
    calls = ", ".join(sorted(symbols))
    return BnnccError(
        "",
        f"{' or '.join(operators)} cannot be compiled for this target: it would call {calls}",
        "use float32 instead of float16 or float64 there, or another --target",
    )


def compile_c(kernels: Sequence[Kernel], prefix: str, target: TargetFacts) -> str:
    """C99 text with a `static void <prefix>_<symbol>(...)` for each kernel, and what these need.

    It compiles without warnings where every function is called. Equal arguments give equal text.
    """
    isa = Isa.of(target)
    source = tvm.get_global_func("target.build.c")(
        _lower(kernels, prefix, isa), isa.tvm_target()
    ).inspect_source()
    bodies = _bodies(source)
    functions = [_c_function(kernel, f"{prefix}_{kernel.symbol}", bodies) for kernel in _distinct(kernels)]
    text = "\n".join(functions)
    headers = [
        name for name, used in (("math.h", _MATH), ("stdbool.h", r"\bbool\b")) if re.search(used, text)
    ]
    includes = "".join(f"#include <{name}>\n" for name in (*headers, "stdint.h"))
    called = [*helpers(text), *micro_kernels.sources(text)]
    called += [*fixed_neurons.sources(text), *byte_rows.sources(text), *byte_vectors.sources(text)]
    return "\n".join([includes, *called, text])


def _distinct(kernels: Sequence[Kernel]) -> list[Kernel]:
    """One kernel of each symbol, in order of first appearance."""
    return list({kernel.symbol: kernel for kernel in kernels}.values())


def _lower(kernels: Sequence[Kernel], prefix: str, isa: Isa) -> tvm.IRModule:
    """The functions under their final names, ready for code generation.

    Only the passes that our functions need: templates emit final loops, name shared values themselves and
    take raw pointers, so vectorisation, common subexpressions and the packed calling convention have
    nothing to do.
    """
    named = {}
    for kernel in _distinct(kernels):
        name = f"{prefix}_{kernel.symbol}"
        named[name] = kernel.function.with_attr("global_symbol", name)
    transform = tirx.transform
    passes = [
        transform.BindTarget(isa.tvm_target().with_host(isa.tvm_target())),
        transform.UnrollLoop(),
        transform.LowerTVMBuiltin(),
        transform.LowerIntrin(),
    ]
    return tvm.ir.transform.Sequential(passes)(tvm.IRModule(named))


# --- Portable C -------------------------------------------------------------------------------------------

_MATH = r"\bINFINITY\b|\bNAN\b|\b(?:" + "|".join(sorted(MATHEMATICS)) + r")\("
_DEFINITION = re.compile(r"^TVM_DLL void (\w+)\(([^)]*)\) \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)


def _bodies(source: str) -> dict[str, tuple[list[str], str]]:
    """Of TVM's C text, by function: the names of the parameters and the statements."""
    return {
        name: ([parameter.split()[-1] for parameter in parameters.split(", ")], body)
        for name, parameters, body in _DEFINITION.findall(source)
    }


def _c_function(kernel: Kernel, name: str, bodies: dict[str, tuple[list[str], str]]) -> str:
    """The definition of one kernel, with a comment on its parameters."""
    names, body = bodies[name]
    body = _without_unused(body).replace("uint32_t4", VECTOR)
    body = re.sub(r"^ *#pragma unroll.*\n", "", body, flags=re.MULTILINE)
    body = body.replace(f"{FOUR_LANES}();", FOUR_LANES_MACRO)
    body = re.sub(LITERAL + r"([0-9a-f]{8})\(\)", lambda match: _literal(int(match[1], 16)), body)
    body = re.sub(LONG_LITERAL + r"([0-9a-f]{16})\(\)", lambda match: _long_literal(int(match[1], 16)), body)
    first_operand = len(kernel.spec.inputs)
    first_output = len(kernel.parameters) - len(kernel.spec.outputs) - bool(kernel.scratch_bytes)
    pairs = ((first_operand + operand, first_output + output) for operand, output in kernel.spec.in_place)
    in_place = {index for pair in pairs for index in pair}
    parameters = [
        f"{parameter.declaration.rpartition('*')[0]}*{'' if index in in_place else 'restrict '}{c_name}"
        for index, (parameter, c_name) in enumerate(zip(kernel.parameters, names, strict=False))
    ]
    parameters += [f"int32_t {c_name}" for c_name in names[len(kernel.parameters) :]]
    comment = [f"/* {kernel.symbol}: {kernel.description}"]
    comment += [f" * {p.name}: {p.doc}" for p in kernel.parameters]
    unused = [f"  (void){c_name};" for c_name in names if not re.search(rf"\b{c_name}\b", body)]
    lines = ["\n".join(comment) + " */", f"static void {name}({', '.join(parameters)}) {{", *unused]
    return "\n".join(lines) + "\n" + body + "}\n"


def _without_unused(body: str) -> str:
    """The statements without variables that nothing reads: simplification leaves some behind."""
    while True:
        names = re.findall(r"^ *\w+ (\w+) = .*;$", body, re.MULTILINE)
        uses = Counter(re.findall(r"\w+", body))
        unused = [name for name in names if uses[name] == 1]
        if not unused:
            return body
        body = re.sub(rf"^ *\w+ (?:{'|'.join(unused)}) = .*;\n", "", body, flags=re.MULTILINE)


def _long_literal(bits: int) -> str:
    """The same of a double."""
    value = np.uint64(bits).view(np.float64)
    if not np.isfinite(value):
        return _literal(int(np.float32(value).view(np.uint32)))
    return f"({float(value)!r})"


def _literal(bits: int) -> str:
    """The C literal of a float given by its bits, as an operand: negative ones in parentheses."""
    text = float_literal(float(np.uint32(bits).view(np.float32)))
    return f"({text})" if text.startswith("-") else text
