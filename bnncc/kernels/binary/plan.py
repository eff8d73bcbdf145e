# SPDX-License-Identifier: Apache-2.0
"""Planning of a binary convolution: its reduction, its constants, and the threshold it may end in.

Activations are x = step * q + lowest with bits q_b of the level q in planes, weights w = sum_c 2^c * t_c with
t_c in {-1, 0, +1}. The kernel counts mismatches over all taps of the window, those in the halo included:
m_bc = number of taps with t_c != 0 whose bit q_b differs from that of t_c (1 for +1). As q_b * t_c summed is
P_c - m_bc, where P_c is the number of taps with t_c = +1, the value of the convolution follows from one sum
of counts by a table:

    m = sum_{b,c} 2^(b+c) * m_bc
    value = base[case][o] - step * m

where the case says which taps lie outside the image (see `borders`). With S[o] the sum of the weights,
S[case][o] their sum over the outside taps, h the value that the halo holds and p the value that padding
counts as:

    base[case][o] = lowest * S[o] + step * (2^planes - 1) * sum_c 2^c * P_c[o] + (p - h) * S[case][o]

For one bipolar plane and weights of {-1, 0, +1} the first two terms are the number of non-zero weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bnncc.kernels.interleave import interleave, merge_groups, merged_groups, pack_channels, pad_lanes
from bnncc.kernels.nest import Channels, Level, Levels, count_steps, fuse
from bnncc.plan.borders import Borders
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS


@dataclass(frozen=True)
class BinaryPlan:
    """Facts of a binary convolution in items of `dtype` ("uint32" or "uint8") along the channels.

    joined: groups merged into one of the kernel's groups, `channels.groups` of which are left. masked: the
    weights have a second plane, 1 where they are not zero. items: items of a group per tap. levels: the walk
    over the items of the window.
    """

    spec: KernelSpec
    root: BinaryConv
    channels: Channels
    borders: Borders
    dtype: str
    joined: int
    masked: bool
    items: int
    levels: Levels

    @staticmethod
    def of(spec: KernelSpec, dtype: str, lanes: int) -> BinaryPlan:
        """Plan for vectors of `lanes` output channels."""
        root = spec.root
        assert isinstance(root, BinaryConv)
        _, height, width, depth = root.input.shape
        outputs = spec.shape[3]
        unit = max(lanes, WORD_BITS) if spec.writes_bits else lanes
        joined = merged_groups(root.groups, depth // root.groups, outputs // root.groups, WORD_BITS, unit)
        groups = root.groups // joined
        bits = 8 if dtype == "uint8" else WORD_BITS
        items = -(-depth // groups // bits)
        per_word, window, strides = WORD_BITS // bits, root.window, root.input.strides
        levels = (
            Level(window.height, window.dilation_y * strides[1] * per_word),
            Level(window.width, window.dilation_x * strides[2] * per_word),
            Level(items, 1),
        )
        return BinaryPlan(
            spec,
            root,
            Channels(groups, outputs // groups, lanes, unit, narrowest=8),
            Borders.of(root.window, (height, width), spec.shape[1:3]),
            dtype,
            joined,
            root.ternary_weight or joined > 1,
            items,
            fuse(levels),
        )

    @property
    def items_per_word(self) -> int:
        """Items of the kernel in one stored word of the activations."""
        return 4 if self.dtype == "uint8" else 1

    @property
    def steps(self) -> int:
        """Items of one window."""
        return count_steps(self.levels)

    @property
    def planes(self) -> int:
        """Stored planes of the weights: for each plane signs, and where masked also which are not zero."""
        return self.root.weight_planes * self.planes_each

    @property
    def planes_each(self) -> int:
        """Stored planes of one plane of the weights."""
        return 2 if self.masked else 1

    @property
    def max_count(self) -> int:
        """No sum of mismatches exceeds this."""
        weights, inputs = (1 << self.root.weight_planes) - 1, (1 << self.root.grid.planes) - 1
        return self.steps * (8 if self.dtype == "uint8" else WORD_BITS) * weights * inputs

    @property
    def halo_value(self) -> int:
        """What the bits of the halo stand for."""
        return self.root.grid.value(self.root.halo_level)

    def exponents(self) -> Iterator[list[tuple[int, int]]]:
        """The pairs (plane of the activations, plane of the weights) whose counts have one weight 2^e, from
        the largest e down to 0: Horner's rule doubles the sum between them."""
        inputs, weights = self.root.grid.planes, self.root.weight_planes
        for e in reversed(range(inputs + weights - 1)):
            yield [(b, e - b) for b in range(inputs) if 0 <= e - b < weights]

    @property
    def counted_pairs(self) -> int:
        """How many pairs of planes are counted."""
        return self.root.grid.planes * self.root.weight_planes

    @property
    def cases(self) -> int:
        """Border cases that the table tells apart."""
        return self.borders.count if self.has_cases else 1

    @property
    def has_cases(self) -> bool:
        """Whether taps outside the image must be corrected for, and differ by pixel."""
        corrected = self.root.pad_value != self.halo_value and not self.root.ternary_input
        return corrected and self.borders.count > 1

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C/groups] to [vectors][steps][planes][lanes], flat."""
        return interleave(self.weight_items(weight), self.channels)

    def weight_items(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C/groups] to items [O, steps, planes]."""
        weight = merge_groups(weight, self.root.groups, self.joined)
        planes = [bits for pair in self.weight_bits(weight) for bits in pair[: self.planes_each]]
        packed = np.stack([pack_channels(plane, self.dtype) for plane in planes], axis=-1)
        return packed.reshape(len(weight), self.steps, self.planes)

    def weight_bits(self, weight: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each plane t_c of the weights the booleans t_c = +1 and t_c != 0.

        Odd weights are sums of -2^c and +2^c; others have the sign on every bit of their magnitude."""
        wide, count = weight.astype(np.int64), self.root.weight_planes
        bits = np.abs(wide) if self.root.ternary_weight else (wide + (1 << count) - 1) // 2
        planes = [(bits >> c) & 1 != 0 for c in range(count)]
        if self.root.ternary_weight:
            return [(plane & (wide > 0), plane) for plane in planes]
        return [(plane & (wide != 0), wide != 0) for plane in planes]

    def base(self, weight: np.ndarray) -> np.ndarray:
        """int64 [cases, O]: the value where nothing mismatches."""
        grid = self.root.grid
        positive = sum(
            (plane.sum(axis=(1, 2, 3), dtype=np.int64) << c)
            for c, (plane, _) in enumerate(self.weight_bits(weight))
        )
        all_ones = grid.step * ((1 << grid.planes) - 1) * positive
        inside = grid.lowest * weight.sum(axis=(1, 2, 3), dtype=np.int64) + all_ones
        if self.root.pad_value == self.halo_value:
            return inside[None]
        per_tap = weight.sum(axis=3, dtype=np.int64)
        outside = np.einsum("okl,ckl->co", per_tap, self.borders.outside_taps().astype(np.int64))
        return inside + (self.root.pad_value - self.halo_value) * outside

    def pack_base(self, weight: np.ndarray) -> np.ndarray:
        """`base` as the kernel reads it: int32 [cases][stored], flat."""
        return pad_lanes(self.base(weight), self.channels).astype(np.int32).reshape(-1)

    def pack_limits(self, weight: np.ndarray, thresholds: np.ndarray, dtype: str) -> np.ndarray:
        """[cases][stored], flat: value >= thresholds[o] is m <= limit[case][o]; -1 is never."""
        limits = np.clip((self.base(weight) - thresholds) // self.root.grid.step, -1, self.max_count)
        return pad_lanes(limits, self.channels, -1).astype(dtype).reshape(-1)
