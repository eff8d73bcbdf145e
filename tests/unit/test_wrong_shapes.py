# SPDX-License-Identifier: Apache-2.0
"""An array of the wrong shape: what would make it fit is said, where something would."""

from __future__ import annotations

import pytest

from bnncc.execution.inputs import wrong_shape

IMAGES = ("N", 3, 8, 8)


@pytest.mark.parametrize(
    ("wanted", "shape", "hint"),
    [
        (IMAGES, (3, 8, 8), "put the axes that it lacks in front: array[None]"),
        (("T", "N", 40), (40,), "put the axes that it lacks in front: array[None, None]"),
        (IMAGES, (5, 8, 8, 3), "turn its axes: array.transpose(0, 3, 1, 2); or compile with --input-layout"),
        (("N", 8, 8, 3), (5, 3, 8, 8), "turn its axes: array.transpose(0, 2, 3, 1)"),
        (IMAGES, (5, 8, 8, 4), ""),
        (IMAGES, (8, 8), ""),
        (("N", 40), (2, 39), ""),
    ],
)
def test_hint(wanted: tuple[int | str, ...], shape: tuple[int, ...], hint: str):
    error = wrong_shape("input 'x'", wanted, shape)
    assert error.hint.startswith(hint) and bool(error.hint) == bool(hint)
    assert error.message.startswith("expected the shape [") and error.message.endswith(f"got {list(shape)}")
