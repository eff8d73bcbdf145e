# SPDX-License-Identifier: Apache-2.0
"""Where the arena's buffers lie: offsets such that buffers alive at the same time do not overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes; the arena itself must be aligned so, too."""


@dataclass(frozen=True)
class Request:
    """`bytes` are needed from step `first` to step `last`, both included."""

    bytes: int
    first: int
    last: int

    def overlaps(self, other: Request) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets in bytes by buffer, the total, and a bound that no plan can beat."""

    offsets: dict[int, int]
    bytes: int
    lower_bound: int


def plan_arena(requests: Mapping[int, Request]) -> ArenaPlan:
    """Place every request; the best of a few greedy orders (first fit at the lowest free offset).

    The lower bound is the largest sum of aligned sizes alive at one step."""
    sizes = {key: aligned(request.bytes) for key, request in requests.items()}
    orders: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda key: (-sizes[key], requests[key].first),
        lambda key: (requests[key].first, -sizes[key]),
        lambda key: (requests[key].first - requests[key].last, -sizes[key]),
    )
    plans = [_first_fit(sorted(requests, key=order), sizes, requests) for order in orders]
    offsets = min(plans, key=lambda plan: _total(plan, sizes))
    return ArenaPlan(offsets, _total(offsets, sizes), _lower_bound(sizes, requests))


def _first_fit(order: list[int], sizes: Mapping[int, int], requests: Mapping[int, Request]) -> dict[int, int]:
    offsets: dict[int, int] = {}
    for key in order:
        taken = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if requests[key].overlaps(requests[other])
        )
        place = 0
        for start, end in taken:
            if start - place >= sizes[key]:
                break
            place = max(place, end)
        offsets[key] = place
    return offsets


def _total(offsets: Mapping[int, int], sizes: Mapping[int, int]) -> int:
    return max((offset + sizes[key] for key, offset in offsets.items()), default=0)


def _lower_bound(sizes: Mapping[int, int], requests: Mapping[int, Request]) -> int:
    moments = {request.first for request in requests.values()}
    return max(
        (sum(sizes[k] for k, r in requests.items() if r.first <= moment <= r.last) for moment in moments),
        default=0,
    )


def aligned(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT
