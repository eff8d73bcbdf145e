# SPDX-License-Identifier: Apache-2.0
"""Which bits are stored in another form than the plain one: that which their readers count fastest.

Where the processor has a popcount of vectors, convolutions whose windows are three columns wide read the
three-word form (see `plan.layout`), of complements where padding is with ones. Binary convolutions write it
if nobody else reads the bits. Elsewhere the plain form is kept, and each such convolution makes the other one
for itself, a row at a time.

Times in microseconds of layers of QuickNet, in the network (Zen 4): what is read and written.

                                                          plain to plain   sums to sums   sums to plain
    3x3 56x56x64, residual connection, numbers and bits            101.9          101.8           100.2
    28x28x128                                                       94.2           93.9            93.9
    14x14x256                                                       91.0           90.3            89.4
    7x7x512                                                         88.8           88.8            88.4

A real-valued convolution that writes sums takes 2 to 10 microseconds longer (1x1, 56x56 pixels: 73 for 63;
its pixels are no longer one row), and its reader one less; pools and maps write whole words, not rows.

The form that lookups of pairs of nibbles read (`kernels.pair_lookup`) is made by its readers everywhere: it
takes four times the memory of the bits, and they are at most 5 % slower than a prototype that finds it ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnncc.lowering.lower import Lowered
from bnncc.lowering.storage import Plane
from bnncc.plan.arena import all_reads, planned
from bnncc.plan.kernel import BinaryConv, FillHalo, Output
from bnncc.plan.layout import WORD_BITS, Element, Layout
from bnncc.plan.program import Buffer, Program, Step, whole

TAPS = 3
"""Columns of a window that reads the three-word form."""


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
        value: tuple(_plane(plane, chosen) for plane in planes)
        for value, planes in lowered.placements.items()
    }
    return replace(lowered, program=program, placements=placements)


def _plane(plane: Plane, chosen: dict[int, Layout]) -> Plane:
    """The plane with the new layout."""
    layout = chosen.get(plane.buffer)
    return plane if layout is None else Plane(plane.buffer, layout, int(layout.stores_complements))


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
    root = readers[0].kernel.root
    assert isinstance(root, BinaryConv)
    return Layout.three_word(layout.shape, layout.halo, int(root.pad_value == root.grid.value(1)))


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
    if step.writes.count(index) != 1 or step.when_zero is not None:
        return {None}
    if not isinstance(step.kernel.root, BinaryConv):
        return {None}
    return {step.kernel.outputs[step.writes.index(index)].layout}


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
        layout = chosen[step.reads[0]]
        root = replace(spec.root, input=layout, halo_level=int(layout.stores_complements))
        spec = replace(spec, root=root)
    return step if spec is step.kernel else replace(step, kernel=spec)
