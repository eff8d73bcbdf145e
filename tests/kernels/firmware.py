# SPDX-License-Identifier: Apache-2.0
"""One layer of packed bits, of bytes or of float32 as a network of its own, so that an emulator can run it
and count its instructions.

Steps: a copy into the padded buffer, as the producer of the activations would write it; the halo, where there
is one; the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bnncc import codegen
from bnncc.execution.artifact import Artifact
from bnncc.kernels import build
from bnncc.kernels.kernel import Kernel
from bnncc.plan import simulate
from bnncc.plan.expression import Expression, Operand
from bnncc.plan.kernel import BinaryConv, ByteConv, FillHalo, KernelSpec, Map, Output, RealConv, SpikeConv
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.memory import ALIGNMENT
from bnncc.plan.program import Buffer, Port, Program, Step
from bnncc.targets import Target


def layer_program(
    spec: KernelSpec,
    constants: Sequence[np.ndarray],
    name: str = "layer",
    rounding: Expression | None = None,
) -> Program:
    """A network of a convolution of bits, bytes or float32, without operands: words, bytes or numbers in, its
    first output out. rounding: float32 in, of which this makes what the convolution reads."""
    root, output = spec.root, spec.outputs[0].layout
    assert (
        isinstance(root, BinaryConv | ByteConv | RealConv | SpikeConv)
        and not spec.operands
        and len(spec.outputs) == 1
    )
    plain = Layout.packed(Element.F32 if rounding else root.input.element, root.input.shape)
    copy = KernelSpec(
        Map(), (plain,), (), (Output(replace(root.input, halo=Halo()), rounding or Operand(0)),)
    )
    halo = KernelSpec(FillHalo(root.input, _filling(root)), (), (), ())
    steps = [Step("copy", copy, (0,), (1,), operation="copy")]
    if root.input.halo:
        steps.append(Step("halo", halo, (), (1,), operation="halo"))
    macs = int(np.prod(spec.shape)) * int(np.prod(spec.constants[0].shape[1:]))
    steps.append(Step("layer", spec, (1,), (2,), tuple(constants), operation="layer", macs=macs))
    arena = -(-root.input.bytes // ALIGNMENT) * ALIGNMENT
    return Program(
        name=name,
        inputs=(Port("x", "x", (1, plain.extent), plain.element.dtype, 0),),
        outputs=(Port("y", "y", (1, output.extent), output.element.dtype, 2),),
        buffers=(
            Buffer("x", plain.bytes, "input"),
            Buffer("padded", root.input.bytes, "arena"),
            Buffer("y", output.bytes, "output"),
        ),
        steps=tuple(steps),
        offsets={1: 0},
        arena_bytes=arena,
        arena_lower_bound=arena,
    )


def build_layer(
    spec: KernelSpec,
    constants: Sequence[np.ndarray],
    target: Target,
    directory: Path,
    kernel: Kernel | None = None,
    rounding: Expression | None = None,
    **options,
) -> Artifact:
    """The layer compiled for a target; `kernel` in the place of the one that would be chosen; rounding: as in
    `layer_program`; options: of codegen.EmitOptions."""
    program = layer_program(spec, constants, rounding=rounding)
    kernels = dict(codegen.make_kernels(program, target, build))
    if kernel is not None:
        kernels[spec] = kernel
    program = codegen.with_scratch(program, kernels)
    codegen.emit(program, kernels, target, directory, codegen.EmitOptions(**options), build)
    return Artifact(directory)


def expected_output(spec: KernelSpec, constants: Sequence[np.ndarray], words: np.ndarray) -> np.ndarray:
    """What the layer makes of packed words [1, n], by `simulate`: [1, extent]."""
    root, output = spec.root, spec.outputs[0].layout
    assert isinstance(root, BinaryConv | ByteConv | RealConv | SpikeConv)
    padded = simulate.allocate(root.input)
    around = simulate.with_halo(root.input)
    simulate.store(around, padded, np.full(around.shape, _outside(root)))
    plain = Layout.packed(root.input.element, root.input.shape)
    simulate.store(root.input, padded, simulate.load(plain, words.reshape(-1)))
    result = simulate.allocate(output)
    simulate.run_step(spec, [padded], constants, [result])
    return result.reshape(1, -1)


def _filling(root: BinaryConv | ByteConv | RealConv | SpikeConv) -> int:
    """What fills the halo: a number, or one whose sign is that of the bits."""
    if isinstance(root, ByteConv | RealConv):
        return _outside(root)
    return 1 if _outside(root) else -1


def _outside(root: BinaryConv | ByteConv | RealConv | SpikeConv) -> int:
    """The bits or numbers around the image."""
    if isinstance(root, ByteConv):
        return -root.lowest
    return int(isinstance(root, BinaryConv) and bool(root.halo_level))


def random_words(spec: KernelSpec, rng: np.random.Generator, density: float = 0.5) -> np.ndarray:
    """Random activations of the layer [1, n]; bits as packed words, of which this part is set, and those
    beyond the channels are 0."""
    root = spec.root
    assert isinstance(root, BinaryConv | ByteConv | RealConv | SpikeConv)
    plain = Layout.packed(root.input.element, root.input.shape)
    if isinstance(root, ByteConv):
        return rng.integers(0, 256, (1, plain.extent)).astype(np.uint8)
    if isinstance(root, RealConv):
        return rng.standard_normal((1, plain.extent)).astype(np.float32)
    words = simulate.allocate(plain)
    simulate.store(plain, words, rng.random(plain.shape) < density)
    return words.reshape(1, -1)
