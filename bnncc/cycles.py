# SPDX-License-Identifier: Apache-2.0
"""Cycles of directed graphs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def strongly_connected(nodes: Sequence[T], successors: Callable[[T], Sequence[T]]) -> list[list[T]]:
    """Groups of nodes that reach each other, each before those that it reaches (Kosaraju and Sharir)."""
    following = {node: list(dict.fromkeys(successors(node))) for node in nodes}
    preceding: dict[T, list[T]] = {node: [] for node in nodes}
    for node, others in following.items():
        for other in others:
            preceding[other].append(node)
    seen: set[T] = set()
    finished = [node for start in nodes for node in _left(start, following, seen)]
    seen = set()
    groups = [_left(node, preceding, seen) for node in reversed(finished)]
    return [group for group in groups if group]


def _left(start: T, edges: Mapping[T, Sequence[T]], seen: set[T]) -> list[T]:
    """What is reached from a node and was not seen, in the order in which a search by depth leaves it."""
    if start in seen:
        return []
    seen.add(start)
    stack = [(start, iter(edges[start]))]
    found: list[T] = []
    while stack:
        node, others = stack[-1]
        for other in others:
            if other not in seen:
                seen.add(other)
                stack.append((other, iter(edges[other])))
                break
        else:
            found.append(node)
            stack.pop()
    return found
