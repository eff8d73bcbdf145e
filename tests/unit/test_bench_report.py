# SPDX-License-Identifier: Apache-2.0
"""What `bnncc bench` says of its own numbers."""

from __future__ import annotations

import pytest

from bnncc.bench import LayerTime, Result


@pytest.mark.parametrize(("each", "note"), [(1.0, "adds about 0.5 us to each"), (0.5, "")])
def test_layers_that_take_more_one_by_one_are_explained(each: float, note: str):
    layers = tuple(LayerTime(f"node{i}", "conv", each, 1000) for i in range(2))
    text = Result("net", "a processor", 0.001, 0.001, 20, layers, 1, "processor time").render()
    assert note in text and ("one by one" in text) == bool(note)
