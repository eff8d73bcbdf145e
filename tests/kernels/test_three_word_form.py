# SPDX-License-Identifier: Apache-2.0
"""Bits in three-word form: what simulation, halos, epilogues and convolutions make of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.build import make_kernel
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.parts import ALL, divided
from bnncc.plan.expression import Accumulator, Compare, Scalar, ToFloat
from bnncc.plan.kernel import BinaryConv, FillHalo, KernelSpec, Output
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, load, random_buffer, random_reads, run_step, store
from tests.kernels.contractions import Shape, binary_spec, dense, pointwise
from tests.kernels.library import Library, aligned
from tests.kernels.test_binary_conv import FLIPPED, INTEGERS, case_numbers, with_residual

SIGNS = ((Element.BIT, Compare("ge", ToFloat(Accumulator()), Scalar(0.5))),)
AROUND = Halo(1, 1, 1, 1)
WIDE = Halo(2, 3, 1, 2)


def _writes(spec: KernelSpec, halo: Halo = AROUND, halo_bit: int = 0) -> KernelSpec:
    """The same kernel, its bits written in three-word form."""
    outputs = [
        Output(Layout.three_word(o.layout.shape, halo, halo_bit), o.expression)
        if o.layout.element is Element.BIT
        else o
        for o in spec.outputs
    ]
    return replace(spec, outputs=tuple(outputs))


def _reads(spec: KernelSpec) -> KernelSpec:
    """The same convolution, reading the three-word form, of complements if the halo stands for ones."""
    root = spec.root
    assert isinstance(root, BinaryConv)
    halo = root.input.halo.union(Halo(left=1))
    source = Layout.three_word(root.input.shape, halo, root.halo_level)
    return replace(spec, root=replace(root, input=source))


PLAIN = Shape((1, 5, 9, 64), 64)
READERS = {
    "reads": _reads(binary_spec(PLAIN)),
    "reads-plus-one": _reads(binary_spec(PLAIN, pad_value=1)),
    "reads-zeros": _reads(binary_spec(PLAIN, halo_level=0)),
    "reads-zeros-plus-one": _reads(binary_spec(PLAIN, INTEGERS, pad_value=1, halo_level=0)),
    "reads-i32": _reads(binary_spec(Shape((2, 4, 14, 96), 32), INTEGERS)),
    "reads-two-wide": _reads(binary_spec(Shape((3, 2, 2, 32), 32), INTEGERS)),
    "reads-unpadded": _reads(binary_spec(Shape((1, 5, 9, 64), 64, pads=(0, 0, 0, 0)), INTEGERS)),
    "reads-padded-left": _reads(binary_spec(Shape((1, 5, 9, 64), 64, pads=(0, 2, 0, 0)), INTEGERS)),
    "reads-wide-halo": _reads(binary_spec(PLAIN, INTEGERS, halo=WIDE)),
    "reads-rows-at-stride-two": _reads(binary_spec(Shape((1, 8, 9, 64), 64, stride=(2, 1)), INTEGERS)),
}
WRITERS = {
    "threshold": _writes(binary_spec(PLAIN)),
    "threshold-strided": _writes(binary_spec(Shape((2, 9, 15, 64), 96, stride=(2, 2)))),
    "threshold-wide-halo": _writes(binary_spec(PLAIN), WIDE),
    "threshold-pointwise": _writes(binary_spec(pointwise(7, 64, 64))),
    "two-wide": _writes(binary_spec(Shape((3, 2, 2, 32), 32))),
    "both": _writes(_reads(binary_spec(Shape((2, 6, 14, 64), 64)))),
    "rest-of-a-row": _writes(binary_spec(Shape((1, 3, 17, 64), 64))),
    "threshold-complement": _writes(binary_spec(Shape((1, 3, 17, 64), 64)), AROUND, 1),
    "real": _writes(with_residual(PLAIN)),
    "real-complement": _writes(with_residual(PLAIN), WIDE, 1),
    "real-pointwise": _writes(with_residual(pointwise(7, 64, 64))),
    "real-rows-of-a-tile": _writes(with_residual(Shape((2, 6, 3, 32), 96))),
    "real-both": _writes(_reads(with_residual(Shape((1, 3, 17, 64), 64)))),
    "many-rows": _writes(_reads(binary_spec(Shape((2, 17, 14, 64), 96)))),
    "real-many-rows": _writes(_reads(with_residual(Shape((2, 16, 21, 64), 64)))),
    "real-ternary": _writes(binary_spec(PLAIN, SIGNS, ternary_input=True)),
    "flipped": _writes(binary_spec(PLAIN, FLIPPED, (Element.I32, Element.I32))),
}
HALOS = {
    f"halo-{i}": KernelSpec(FillHalo(Layout.three_word((2, 3, 4, 96), halo), 0), (), (), ())
    for i, halo in enumerate((AROUND, WIDE))
}
CASES = {**READERS, **WRITERS, **HALOS}


@cache
def _library() -> tuple[dict[str, Kernel], Library]:
    target = targets.native()
    if target.popcount != "vector32":
        pytest.skip("this machine has no AVX-512 VPOPCNTDQ")
    kernels = {name: make_kernel(spec, target) for name, spec in CASES.items()}
    return kernels, Library(list(kernels.values()), target)


def _numbers(spec: KernelSpec) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    if isinstance(spec.root, BinaryConv):
        return case_numbers(spec, seed=3)
    rng = np.random.default_rng(3)
    arrays = tuple(rng.standard_normal(constant.shape).astype(np.float32) for constant in spec.constants)
    return random_reads(spec, rng), arrays


def _sums(layout: Layout, buffer: np.ndarray) -> list[np.ndarray]:
    """u and s of what a convolution may read: of all columns with two neighbours on their right."""
    halo, (n, h, w, c) = layout.halo, layout.shape
    count = w + halo.left + halo.right - 2
    first = layout.offset - halo.left * layout.strides[2]
    u = replace(layout, shape=(n, h, count + 1, c), offset=first, form="plain")
    s = replace(u, shape=(n, h, count, c), offset=first + layout.sums_apart)
    return [load(u, buffer), load(s, buffer)]


@pytest.mark.parametrize("name", [*READERS, *WRITERS])
def test_equals_simulation(name: str):
    kernels, library = _library()
    spec = CASES[name]
    reads, constants = _numbers(spec)
    expected, actual = ([allocate(output.layout) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    library.run(kernels[name], reads, constants, actual)
    for output, want, have in zip(spec.outputs, expected, actual, strict=True):
        if output.layout.form == "plain":
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
            continue
        assert load(output.layout, want).any() and not load(output.layout, want).all()
        for one, other in zip(_sums(output.layout, want), _sums(output.layout, have), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", HALOS)
def test_halos(name: str):
    """All around the image becomes zero; the image's own words stay."""
    kernels, library = _library()
    layout = CASES[name].root.target  # type: ignore[union-attr]
    expected, actual = (np.full(layout.extent, 0xABABABAB, np.uint32) for _ in range(2))
    run_step(CASES[name], [], (), [expected])
    library.run(kernels[name], [], (), [actual])
    np.testing.assert_array_equal(actual, expected)
    pixels = 2 * 2 * 3 * 4 * layout.depth
    assert np.count_nonzero(expected == 0xABABABAB) == pixels


@pytest.mark.parametrize("halo_bit", [0, 1])
@pytest.mark.parametrize("halo", [AROUND, WIDE, Halo(0, 1, 0, 0)])
def test_what_is_stored(halo: Halo, halo_bit: int):
    """The definition: sums of neighbours, zeros outside; and back."""
    layout, rng = Layout.three_word((2, 3, 5, 32), halo, halo_bit), np.random.default_rng(1)
    buffer = random_buffer(layout, rng, halo_bit)
    bits = load(layout, buffer) ^ bool(halo_bit)
    padded = np.pad(bits, ((0, 0), (0, 0), (halo.left, halo.right), (0, 0)))
    u, s = _sums(layout, buffer)
    np.testing.assert_array_equal(u, padded[:, :, :-1] ^ padded[:, :, 1:])
    np.testing.assert_array_equal(s, padded[:, :, :-2] ^ padded[:, :, 1:-1] ^ padded[:, :, 2:])
    store(layout, buffer, bits)
    np.testing.assert_array_equal(load(layout, buffer), bits)


@cache
def _shared() -> tuple[dict[str, Kernel], Library]:
    kernels, _ = _library()
    shared = {name: divided(kernels[name], 2) for name in WRITERS}
    return shared, Library(list(shared.values()), targets.native())


@pytest.mark.parametrize("name", WRITERS)
def test_threads_share_rows_and_channels(name: str):
    """A row of an image is written from left to right, by one thread, or channel by channel: never in pieces.
    So the order of the pieces does not matter."""
    kernels, library = _library()
    shared, pieces_library = _shared()
    spec, kernel, count = CASES[name], shared[name], 7
    assert kernel.pieces > 1
    reads, constants = _numbers(spec)
    expected, actual = ([allocate(output.layout) for output in spec.outputs] for _ in range(2))
    library.run(kernels[name], reads, constants, expected)
    packed = [*map(aligned, kernel.pack(constants))]
    lent = [aligned(np.zeros(kernel.scratch_bytes, np.uint8))] if kernel.scratch_bytes else []
    buffers = (*map(aligned, reads), *packed, *actual, *lent)
    for stage in range(2 - kernel.stages, 2):
        for first in reversed(range(count)):
            pieces_library.bind(kernel, *buffers, pieces=(first, first + 1, count, stage))()
    for want, have in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(have, want)


def test_shares_are_even():
    """Of 14 rows four threads cannot have as many each, but of the 28 tiles in them; three have 9 or 10."""
    _library()
    target, spec = targets.native(), binary_spec(Shape((1, 14, 14, 64), 64), INTEGERS)
    kernel = divided(make_kernel(spec, target), 4)
    library = Library([kernel], target)
    reads, constants = _numbers(spec)
    outputs = [np.full(output.layout.extent, 1 << 30, np.int32) for output in spec.outputs]
    lent = aligned(np.zeros(kernel.scratch_bytes, np.uint8))
    buffers = (*map(aligned, reads), *map(aligned, kernel.pack(constants)), *outputs, lent)
    for threads, tiles in ((4, (7, 7, 7, 7)), (3, (9, 9, 10))):
        outputs[0].fill(1 << 30)
        written = [0]
        for first in range(threads):
            library.bind(kernel, *buffers, pieces=(first, first + 1, threads, ALL))()
            written.append(int(np.count_nonzero(outputs[0] != 1 << 30)))
        np.testing.assert_array_equal(np.diff(written), [7 * 64 * count for count in tiles])


def test_columns_are_not_shared():
    """Near miss: an image of one row, of one channel block, whose plain bits several threads may write."""
    target = targets.load("znver4")
    plain = binary_spec(Shape((1, 1, 96, 64), 16))
    assert divided(make_kernel(plain, target), 2).pieces > 1
    for halo_bit in (0, 1):
        (output,) = plain.outputs
        layout = Layout.three_word(output.layout.shape, AROUND, halo_bit)
        kernel = make_kernel(replace(plain, outputs=(replace(output, layout=layout),)), target)
        assert divided(kernel, 2) is kernel


def test_a_dense_layer_has_no_such_form():
    with pytest.raises(AssertionError):
        Layout.three_word(dense(1, 64, 64).output, Halo())


def test_a_wrong_bit_is_noticed():
    """One bit of one pixel is part of two of the sums u, and of three of s."""
    layout = Layout.three_word((1, 3, 7, 32), AROUND)
    buffer = random_buffer(layout, np.random.default_rng(2))
    bits = load(layout, buffer)
    before = _sums(layout, buffer)
    bits[0, 1, 3, 5] ^= True
    store(layout, buffer, bits)
    changed = [np.count_nonzero(a != b) for a, b in zip(before, _sums(layout, buffer), strict=True)]
    assert changed == [2, 3]
