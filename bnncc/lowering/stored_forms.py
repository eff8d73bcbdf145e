# SPDX-License-Identifier: Apache-2.0
"""Which bits are stored in another form than the plain one: that which their readers count fastest.

Where the processor has a popcount of vectors, convolutions whose windows are three columns wide read the
three-word form (see `plan.layout`). Producers that end in a threshold write it if nobody else reads the bits.
Elsewhere the plain form is kept, and each such convolution makes the other one for itself, a row at a time:
that costs it one or two per cent. The sums are written 16 channels of a pixel at a time. That costs a
threshold of 128 channels or more as much, one of fewer channels more, and a real-valued epilogue 5 to 10 %
(QuickNet with its residual connections, Zen 4, busy machine: 131 microseconds with plain bits and 145
so for 28x28x128; 147 and 161 for 7x7x512).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnncc.lowering.lower import Lowered
from bnncc.lowering.storage import Plane
from bnncc.plan.arena import all_reads, planned
from bnncc.plan.kernel import BinaryConv, FillHalo, KernelSpec, Output
from bnncc.plan.layout import WORD_BITS, Element, Layout
from bnncc.plan.program import Buffer, Program, Step, whole
from bnncc.plan.threshold import Threshold

TAPS = 3
"""Columns of a window that reads the three-word form."""

LEAST_CHANNELS = 128
"""Of a layer that writes it."""


def reads_three_words(root: object) -> bool:
    """Whether a contraction can read three taps of a row at once: side by side at stride 1, one bit on both
    sides, no zeros among weights and activations, one group."""
    if not isinstance(root, BinaryConv) or root.groups > 1 or root.ternary_input or root.ternary_weight:
        return False
    window = root.window
    if (window.width, window.stride_x, window.dilation_x) != (TAPS, 1, 1):
        return False
    return root.grid.planes == root.weight_planes == 1


def with_three_words(lowered: Lowered) -> Lowered:
    """The same network, its bits in three-word form where all that read them can."""
    program = lowered.program
    chosen = _chosen(program)
    if not chosen:
        return lowered
    buffers = [
        replace(buffer, bytes=chosen[index].bytes) if index in chosen else buffer
        for index, buffer in enumerate(program.buffers)
    ]
    steps = tuple(_step(step, chosen) for step in program.steps)
    arena, offsets = planned(steps, buffers, program.loops)
    program = replace(
        program,
        buffers=tuple(buffers),
        steps=steps,
        offsets=offsets,
        arena_bytes=arena.bytes,
        arena_lower_bound=arena.lower_bound,
    )
    placements = {
        value: tuple(
            Plane(plane.buffer, chosen[plane.buffer]) if plane.buffer in chosen else plane for plane in planes
        )
        for value, planes in lowered.placements.items()
    }
    return replace(lowered, program=program, placements=placements)


def _chosen(program: Program) -> dict[int, Layout]:
    """The new layouts, by buffer; none in loops, where the halo would have to be cleared on every trip."""
    if program.loops:
        return {}
    owners = {whole(program.buffers, i) for i, buffer in enumerate(program.buffers) if buffer.place == "part"}
    found = {}
    for index, buffer in enumerate(program.buffers):
        if buffer.place == "arena" and index not in owners:
            layout = _layout(program.steps, index, buffer)
            if layout is not None:
                found[index] = layout
    return found


def _layout(steps: Sequence[Step], index: int, buffer: Buffer) -> Layout | None:
    """The three-word layout for a buffer; None where a step could not write or read it."""
    readers = [step for step in steps if index in all_reads(step)]
    writers = [step for step in steps if index in step.writes]
    seen = {layout for step in readers for layout in _read_layouts(step, index)}
    seen |= {layout for step in writers for layout in _written_layouts(step, index)}
    if len(seen) != 1 or not readers or len(writers) < 2:
        return None
    (layout,) = seen
    if layout is None or layout != Layout.packed(Element.BIT, layout.shape, layout.halo):
        return None
    _, _, width, channels = layout.shape
    if layout.bytes != buffer.bytes or not layout.halo.left or width < 2 or channels % WORD_BITS:
        return None
    return Layout.three_word(layout.shape, layout.halo)


def _read_layouts(step: Step, index: int) -> set[Layout | None]:
    """How a step reads a buffer; None among them where it could not read the three-word form."""
    root = step.kernel.root
    is_input = step.reads[0] == index and step.reads.count(index) == 1 and step.when_zero is None
    if not is_input or not isinstance(root, BinaryConv) or not reads_three_words(root):
        return {None}
    return {root.input}


def _written_layouts(step: Step, index: int) -> set[Layout | None]:
    """How a step writes a buffer; None among them where it could not write the three-word form."""
    if isinstance(step.kernel.root, FillHalo):
        return {step.kernel.root.target}
    if step.writes.count(index) != 1 or step.when_zero is not None or not _writes_rows(step.kernel):
        return {None}
    return {step.kernel.outputs[step.writes.index(index)].layout}


def _writes_rows(spec: KernelSpec) -> bool:
    """Whether the three-word form costs the kernel no more than the plain one costs its reader."""
    if not isinstance(spec.root, BinaryConv) or spec.root.ternary_input:
        return False
    return spec.shape[3] >= LEAST_CHANNELS and Threshold.of(spec) is not None


def _step(step: Step, chosen: dict[int, Layout]) -> Step:
    """The step with the new layouts."""
    spec = step.kernel
    if isinstance(spec.root, FillHalo):
        if step.writes[0] not in chosen:
            return step
        return replace(step, kernel=replace(spec, root=FillHalo(chosen[step.writes[0]], 0)))
    outputs = tuple(
        Output(chosen[index], output.expression) if index in chosen else output
        for index, output in zip(step.writes, spec.outputs, strict=True)
    )
    if outputs != spec.outputs:
        spec = replace(spec, outputs=outputs)
    if step.reads and step.reads[0] in chosen:
        assert isinstance(spec.root, BinaryConv)
        spec = replace(spec, root=replace(spec.root, input=chosen[step.reads[0]], halo_level=0))
    return step if spec is step.kernel else replace(step, kernel=spec)
