# SPDX-License-Identifier: Apache-2.0
"""Where sums of bytes are faster than those of float32: shares of time that were measured.

On a Zen 4 the layers of `tests.bench.int8`, kernels from bytes to bytes against kernels from float32 to
float32: medians of turns, the mean of the layers of a kind, the rounding of an image in front of a stem
counted in. Between two turns other layers go through the caches, as in a network: a depthwise layer whose
input is still there would take up to 1.4 times as long in bytes.

On NEON by instructions under QEMU and llvm-mca; on Cortex-M55 and RV64GCV by instructions under QEMU
(`python -m tests.bench.int8_instructions --shares`). Processors that are missing were not measured: there
bytes are taken everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

LayerKind = Literal["stem", "spatial", "pointwise", "depthwise", "narrow", "dense"]
"""A window over at most FEW_CHANNELS; over more; of one pixel; channel by channel; in groups of NARROW
channels; no image."""

FEW_CHANNELS = 4

NARROW = 2
"""Channels of a group, beside which the sums of bytes have zeros; those of float32 have none."""

WORTHWHILE = 0.95
"""Bytes pay where they take at most this share of the time of float32."""

Shares = Mapping[LayerKind, float]
"""Time in bytes by that in float32."""

SHARES: dict[str, Shares] = {
    "vnni": {
        "stem": 0.50,
        "spatial": 0.26,
        "pointwise": 0.32,
        "depthwise": 0.53,
        "narrow": 1.30,
        "dense": 0.29,
    },
    "avx512": {
        "stem": 0.98,
        "spatial": 0.70,
        "pointwise": 0.76,
        "depthwise": 0.80,
        "narrow": 3.30,
        "dense": 0.54,
    },
    "avx2": {
        "stem": 0.97,
        "spatial": 0.74,
        "pointwise": 0.83,
        "depthwise": 0.59,
        "narrow": 2.31,
        "dense": 0.53,
    },
    "sse": {
        "stem": 0.79,
        "spatial": 0.60,
        "pointwise": 0.62,
        "depthwise": 0.93,
        "narrow": 1.11,
        "dense": 0.53,
    },
    "neon dot": {"stem": 0.55, "spatial": 0.17, "pointwise": 0.29, "depthwise": 0.8, "dense": 0.22},
    "mve": {"stem": 0.48, "spatial": 0.12, "pointwise": 0.27, "depthwise": 0.81, "dense": 0.09},
    "rvv": {"stem": 0.44, "spatial": 0.13, "pointwise": 0.20, "depthwise": 0.44, "dense": 0.13},
    "neon": {"stem": 0.75, "spatial": 0.50, "pointwise": 0.60, "depthwise": 0.8, "dense": 0.60},
}
"""By what multiplies."""


class Processor(Protocol):
    """What is asked of a target."""

    @property
    def architecture(self) -> str:
        """As `uname -m` says."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """Of LLVM."""
        ...

    @property
    def vector_bits(self) -> int:
        """Of a register."""
        ...


def shares(target: Processor) -> Shares:
    """Those of a processor; empty where none were measured."""
    return SHARES.get(_multiplier(target), {})


def _multiplier(target: Processor) -> str:
    if "+avx512vnni" in target.features:
        return "vnni"
    if target.architecture == "x86_64":
        return {512: "avx512", 256: "avx2", 128: "sse"}.get(target.vector_bits, "")
    if target.architecture == "aarch64":
        return "neon dot" if "+dotprod" in target.features else "neon"
    return "mve" if "+mve" in target.features else "rvv" if "+v" in target.features else ""
