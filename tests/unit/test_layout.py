# SPDX-License-Identifier: Apache-2.0
"""Layouts: strides, halos, views."""

from __future__ import annotations

from bnncc.lowering.geometry import broadcast, canonical, channel_slice, reshaped, transposed
from bnncc.plan.kernel import Window
from bnncc.plan.layout import Element, Halo, Layout


def test_packed_with_a_halo() -> None:
    layout = Layout.packed(Element.F32, (2, 4, 5, 3), Halo(1, 2, 3, 4))
    assert layout.strides == (8 * 11 * 3, 11 * 3, 3, 1)
    assert layout.offset == 11 * 3 + 2 * 3
    assert layout.extent == 2 * 8 * 11 * 3
    assert not layout.is_contiguous


def test_bits_are_packed_in_words_along_the_channels() -> None:
    layout = Layout.packed(Element.BIT, (1, 2, 3, 33))
    assert layout.depth == 2 and layout.strides == (12, 6, 2, 1) and layout.bytes == 48
    assert layout.is_contiguous


def test_ranks_become_four() -> None:
    assert canonical(()) == (1, 1, 1, 1)
    assert canonical((7,)) == (1, 1, 1, 7)
    assert canonical((2, 7)) == (2, 1, 1, 7)
    assert canonical((2, 5, 7)) == (2, 1, 5, 7)


def test_operands_align_at_the_right() -> None:
    matrix = Layout.packed(Element.F32, canonical((5, 7)))
    operand = broadcast(matrix, 2, 4)
    assert operand.shape == (1, 1, 5, 7) and operand.strides[2] == 7
    image = broadcast(Layout.packed(Element.F32, (2, 4, 5, 1)), 4, 4)
    assert image.shape == (2, 4, 5, 1)


def test_transposed_views_keep_the_memory() -> None:
    layout = Layout.packed(Element.F32, (1, 3, 4, 5))
    view = transposed(layout, 4, (0, 2, 3, 1))
    assert view.shape == (1, 4, 5, 3) and view.strides == (60, 5, 1, 20)
    assert transposed(view, 4, (0, 3, 1, 2)) == layout


def test_reshaped_views() -> None:
    layout = Layout.packed(Element.F32, (1, 2, 3, 4))
    assert reshaped(layout, (1, 24)) == Layout.packed(Element.F32, (1, 1, 1, 24))
    assert reshaped(transposed(layout, 4, (0, 3, 1, 2)), (1, 24)) is None
    assert reshaped(Layout.packed(Element.F32, (1, 2, 3, 4), Halo(1, 1, 1, 1)), (1, 24)) is None
    pixel = transposed(Layout.packed(Element.F32, (1, 1, 1, 9)), 4, (0, 3, 1, 2))
    assert reshaped(pixel, (1, 9)) == Layout.packed(Element.F32, (1, 1, 1, 9))


def test_packed_bits_are_reshaped_only_at_whole_words() -> None:
    assert reshaped(Layout.packed(Element.BIT, (1, 2, 2, 64)), (1, 256)) is not None
    assert reshaped(Layout.packed(Element.BIT, (1, 2, 2, 48)), (1, 192)) is None


def test_slices_of_packed_channels() -> None:
    bits = Layout.packed(Element.BIT, (1, 2, 2, 96))
    assert channel_slice(bits, 3, 32, 64) is not None
    assert channel_slice(bits, 3, 16, 64) is None
    assert channel_slice(bits, 3, 32, 20) is None
    row = channel_slice(Layout.packed(Element.F32, (1, 4, 2, 3)), 1, 2, 2)
    assert row is not None and row.offset == 12 and row.shape == (1, 2, 2, 3)


def test_a_window_knows_its_valid_taps() -> None:
    window = Window(3, 3, stride_y=2, stride_x=2, top=1, left=1)
    assert window.valid_rows(0, 4) == (False, True, True)
    assert window.valid_rows(1, 4) == (True, True, True)
    assert window.valid_columns(1, 3) == (True, True, False)
