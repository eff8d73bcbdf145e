# SPDX-License-Identifier: Apache-2.0
"""A network of two steps made by hand, with kernels in plain C: codegen without front end and TVM.

`x` float32 [2, 40] -> sign bits and mask -> dense 40 -> 3 with {-1, +1} weights, plus a bias -> `3.logits`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bnncc import codegen, targets
from bnncc.plan import expression as ex
from bnncc.plan.kernel import BinaryConv, Constant, KernelSpec, Map, Output, Window
from bnncc.plan.layout import Element, Layout
from bnncc.plan.program import Alternative, Buffer, Port, Program, Step
from bnncc.targets import Target
from bnncc.toolchain import c_compiler

BATCH, CHANNELS, CLASSES = 2, 40, 3
X = Layout.packed(Element.F32, (BATCH, 1, 1, CHANNELS))
BITS = Layout.packed(Element.BIT, (BATCH, 1, 1, CHANNELS))
LOGITS = Layout.packed(Element.F32, (BATCH, 1, 1, CLASSES))
BIAS = Layout.packed(Element.F32, (1, 1, 1, CLASSES))

SIGN = KernelSpec(
    Map(),
    (X,),
    (),
    (
        Output(BITS, ex.Compare("gt", ex.Operand(0), ex.Scalar(0.0))),
        Output(BITS, ex.Compare("ne", ex.Operand(0), ex.Scalar(0.0))),
    ),
)
WEIGHT = Constant(Element.I8, (CLASSES, 1, 1, CHANNELS))
SUM = Output(LOGITS, ex.Binary("add", ex.ToFloat(ex.Accumulator()), ex.Operand(0)))
DENSE = KernelSpec(BinaryConv(BITS, Window(1, 1), 1, 0, 0), (BIAS,), (WEIGHT,), (SUM,))
MASKED = KernelSpec(
    BinaryConv(BITS, Window(1, 1), 1, 0, 0, ternary_input=True, mask=BITS), (BIAS,), (WEIGHT,), (SUM,)
)


def weight(seed: int) -> np.ndarray:
    """int8 [classes, 1, 1, channels] of {-1, +1}."""
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (CLASSES, 1, 1, CHANNELS))


def bias(seed: int) -> np.ndarray:
    """float32 [1, 1, 1, classes]."""
    return np.random.default_rng(seed + 1000).standard_normal((1, 1, 1, CLASSES)).astype(np.float32)


def expected(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """The outputs for float32 [n, channels]."""
    return (np.sign(x) @ weight(seed).reshape(CLASSES, CHANNELS).T + bias(seed).reshape(-1)).astype(
        np.float32
    )


def program(
    name: str = "tiny", seed: int = 0, input_name: str = "input.1", c_name: str = "input_1"
) -> Program:
    """The network; `seed` chooses its weights."""
    return Program(
        name=name,
        inputs=(Port(input_name, c_name, (BATCH, CHANNELS), "float32", 0),),
        outputs=(Port("3.logits", "logits", (BATCH, CLASSES), "float32", 3),),
        buffers=(
            Buffer(input_name, X.bytes, "input"),
            Buffer("bits", BITS.bytes, "arena"),
            Buffer("mask", BITS.bytes, "arena"),
            Buffer("logits", LOGITS.bytes, "output"),
            Buffer("bias", BIAS.bytes, "constant", data=bias(seed)),
        ),
        steps=(
            Step("Sign_0", SIGN, (0,), (1, 2), location="net.onnx:/sign/Sign", operation="binarize"),
            Step(
                "MatMul_1",
                DENSE,
                (1, 4),
                (3,),
                (weight(seed),),
                Alternative(MASKED, (1, 2, 4), 2, BITS),
                location="net.onnx:/fc/*MatMul*/",
                operation="dense",
                domains="bipolar x bipolar",
                macs=BATCH * CHANNELS * CLASSES,
            ),
        ),
        offsets={1: 0, 2: 64},
        arena_bytes=128,
        arena_lower_bound=128,
    )


@dataclass(frozen=True)
class Parameter:
    """Of a kernel of this file."""

    name: str
    c_type: str
    is_const: bool
    doc: str = "as the test says"

    @property
    def declaration(self) -> str:
        """As in a C prototype."""
        return f"{'const ' if self.is_const else ''}{self.c_type} *{self.name}"


@dataclass(frozen=True)
class Kernel:
    """A C function `body` over `parameters`."""

    symbol: str
    parameters: tuple[Parameter, ...]
    body: str
    description: str = "plain C"
    function: str = "function"
    schedule: Mapping[str, int] = field(default_factory=dict)
    scratch_bytes: int = 0
    pieces: int = 1
    stages: int = 1

    def pack(self, constants: tuple[np.ndarray, ...], /) -> tuple[np.ndarray, ...]:
        """Signs to words."""
        return tuple(pack_bits(array.reshape(CLASSES, CHANNELS) > 0) for array in constants)

    def source(self, prefix: str, head: str = "") -> str:
        """The definition."""
        parameters = ", ".join(parameter.declaration for parameter in self.parameters)
        return f"{head}void {prefix}_{self.symbol}({parameters})\n{{\n{self.body}}}\n"


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """bool [rows, channels] to uint32 [rows, words]."""
    padded = np.zeros((bits.shape[0], -(-bits.shape[1] // 32) * 32), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u4")


F32_IN, BITS_IN, MASK_IN, BIAS_IN, WORDS_IN = (
    Parameter("x", "float", True),
    Parameter("bits", "uint32_t", True),
    Parameter("mask", "uint32_t", True),
    Parameter("bias", "float", True),
    Parameter("weight", "uint32_t", True),
)
OUT = Parameter("out", "float", False)

SIGN_BODY = """\
    int n, c;
    for (n = 0; n < 4; ++n)
        bits[n] = mask[n] = 0;
    for (n = 0; n < 2; ++n)
        for (c = 0; c < 40; ++c) {
            bits[2 * n + c / 32] |= (uint32_t)(x[40 * n + c] > 0.0f) << c % 32;
            mask[2 * n + c / 32] |= (uint32_t)(x[40 * n + c] != 0.0f) << c % 32;
        }
"""
DENSE_BODY = """\
    int n, o, c;
    for (n = 0; n < 2; ++n)
        for (o = 0; o < 3; ++o) {
            int sum = 0;
            for (c = 0; c < 40; ++c) {
                const uint32_t differ = bits[2 * n + c / 32] ^ weight[2 * o + c / 32];
                if (USE >> c % 32 & 1u)
                    sum += (differ >> c % 32 & 1u) ? -1 : 1;
            }
            out[3 * n + o] = (float)sum + bias[o];
        }
"""

KERNELS = {
    SIGN: Kernel(
        "sign",
        (F32_IN, Parameter("bits", "uint32_t", False), Parameter("mask", "uint32_t", False)),
        SIGN_BODY,
    ),
    DENSE: Kernel("dense", (BITS_IN, BIAS_IN, WORDS_IN, OUT), DENSE_BODY.replace("USE", "0xffffffffu")),
    MASKED: Kernel(
        "dense_masked",
        (BITS_IN, MASK_IN, BIAS_IN, WORDS_IN, OUT),
        DENSE_BODY.replace("USE", "mask[2 * n + c / 32]"),
    ),
}


class TinyBackend:
    """Makes kernels by looking them up, and objects with the C compiler."""

    def make_kernel(
        self, spec: KernelSpec, target: Target, schedule=None, *, goal: str | None = None
    ) -> Kernel:
        """The kernel above."""
        del target, goal
        return KERNELS[spec]

    def divided(self, kernel: Kernel, threads: int) -> Kernel:
        """As it is."""
        del threads
        return kernel

    def micro_kernel_source(self, code: bytes, prefix: str) -> str:
        return ""

    def compile_object(self, kernels: tuple, prefix: str, target: Target) -> bytes:
        """Through the C compiler."""
        with tempfile.TemporaryDirectory() as folder:
            source, compiled = Path(folder) / "kernels.c", Path(folder) / "kernels.o"
            source.write_text(
                "#include <stdint.h>\n" + "\n".join(kernel.source(prefix) for kernel in kernels)
            )
            c_compiler.find(target).compile(source, compiled)
            return compiled.read_bytes()

    def compile_c(self, kernels: tuple, prefix: str, target: Target) -> str:
        """Static functions."""
        del target
        return "\n".join(kernel.source(prefix, "static ") for kernel in kernels)


def emit(directory: Path, target: str = "native", network: Program | None = None, **options) -> Path:
    """Write the artifact of `network` (default: the one above); the directory."""
    chosen = network or program()
    backend, facts = TinyBackend(), targets.load(target)
    kernels = codegen.make_kernels(chosen, facts, backend)
    codegen.emit(chosen, kernels, facts, directory, codegen.EmitOptions(**options), backend)
    return directory
