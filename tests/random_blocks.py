# SPDX-License-Identifier: Apache-2.0
"""Blocks of random networks that join and cut channels, as DenseNets, MeliusNets and ShuffleNets do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.random_networks import Generator, Value

MOST_CHANNELS = 128


def same_extent(g: Generator, x: Value, outputs: int) -> Value:
    """A binary layer that keeps rows and columns."""
    binary = g.binarize(g.batch_norm(x) if g.chance(0.7) else x)
    size = g.pick([1, 3])
    weight = g.binary_weight((outputs, x.shape[1], size, size))
    more = {"pads": [size // 2] * 4, "strides": [1, 1], "dilations": [1, 1], "group": 1}
    return g.node("Conv", [binary, weight], (x.shape[0], outputs, *x.shape[2:]), **more)


def cut(g: Generator, x: Value, start: int, stop: int) -> Value:
    """Some of the channels."""
    bounds = [np.array([number], np.int64) for number in (start, stop, 1)]
    return g.node("Slice", [x, *bounds], (x.shape[0], stop - start, *x.shape[2:]), two_level=x.two_level)


def joined(g: Generator, parts: list[Value]) -> Value:
    """Channels one after the other."""
    channels = sum(part.shape[1] for part in parts)
    shape = (parts[0].shape[0], channels, *parts[0].shape[2:])
    return g.node("Concat", parts, shape, axis=1, two_level=all(part.two_level for part in parts))


def dense_block(g: Generator, x: Value) -> Value:
    """Layers that add channels, by one list or step by step, and some that improve the last ones."""
    if not x.is_image:
        return g.activation(x)
    growth = g.pick([32, 32, 64, g.whole(1, 8)])
    if growth % 32 == 0 and x.shape[1] % 32:
        x = same_extent(g, x, growth)
    features, as_list = [x], g.chance(0.5)
    for _ in range(g.whole(1, 3)):
        x = joined(g, features) if len(features) > 1 else features[0]
        if x.shape[1] + growth > MOST_CHANNELS:
            break
        y = same_extent(g, x, growth)
        if g.chance(0.4) and x.shape[1] > growth:
            better = g.node("Add", [cut(g, x, x.shape[1] - growth, x.shape[1]), y], y.shape)
            features = [cut(g, x, 0, x.shape[1] - growth), better]
        else:
            features = [*features, y] if as_list else [x, y]
        if g.chance(0.2):
            g.values.append(x)
    return joined(g, features) if len(features) > 1 else features[0]


def shuffled(g: Generator, x: Value) -> Value:
    """Channels of groups take turns, or go in any order."""
    n, channels, height, width = x.shape
    groups = g.pick([number for number in range(1, channels + 1) if channels % number == 0])
    if g.chance(0.2):
        order = g.rng.permutation(channels)
        return g.node("Gather", [x, order], x.shape, axis=1, two_level=x.two_level)
    middle = (n, groups, channels // groups, height, width)
    split = g.node("Reshape", [x, np.array(middle)], middle)
    turned = g.node(
        "Transpose", [split], (n, channels // groups, groups, height, width), perm=[0, 2, 1, 3, 4]
    )
    return g.node("Reshape", [turned, np.array(x.shape)], x.shape, two_level=x.two_level)


def split_units(g: Generator, x: Value) -> Value:
    """Half of the channels pass, the others go through a layer, then all are shuffled; up to three times."""
    if not x.is_image:
        return g.activation(x)
    channels = g.pick([64, 64, 128, 2 * g.whole(1, 12)])
    if x.shape[1] % 2 or g.chance(0.4):
        x = same_extent(g, x, channels)
    half = x.shape[1] // 2
    for _ in range(g.whole(1, 3)):
        y = same_extent(g, cut(g, x, half, 2 * half), half)
        y = g.activation(y) if g.chance(0.3) else y
        x = shuffled(g, joined(g, [cut(g, x, 0, half), y]))
    return x
