# SPDX-License-Identifier: Apache-2.0
"""What arguments are written like: functions for argparse's `type`, which raise ArgumentTypeError."""

from __future__ import annotations

import argparse
import contextlib

EMITS = ("lib", "so", "c", "selftest", "mlir", "linalg", "transform", "tir")


def positive(text: str) -> int:
    """An integer from 1 on."""
    with contextlib.suppress(ValueError):
        if int(text) > 0:
            return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no positive integer")


def number(text: str) -> float:
    """A real number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None


def bound(text: str) -> float | str:
    """A number, or "threshold"."""
    return text if text == "threshold" else number(text)


def size(text: str) -> int:
    """A size in bytes: 65536, 64k, 1M."""
    units = {"k": 1 << 10, "m": 1 << 20}
    number = text.lower().removesuffix("b")
    factor = units.get(number[-1:], 1)
    with contextlib.suppress(argparse.ArgumentTypeError):
        return positive(number if factor == 1 else number[:-1]) * factor
    raise argparse.ArgumentTypeError(f"'{text}' is no size: 65536, 64k, 1M")


def duration(text: str) -> float:
    """Seconds, from a number with a unit: 90s, 10m, 1h; seconds without one."""
    units = {"s": 1, "m": 60, "h": 3600}
    number = text[:-1] if text[-1:] in units else text
    with contextlib.suppress(ValueError):
        if 0 < float(number) < float("inf"):
            return float(number) * units.get(text[-1:], 1)
    raise argparse.ArgumentTypeError(f"'{text}' is no time: 90s, 10m, 1h")


def dimension(text: str) -> tuple[str, int]:
    """NAME=N: a symbolic dimension and its size."""
    name, equals, size = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=N")
    return name, positive(size)


def state(text: str) -> tuple[str, str]:
    """BEFORE=AFTER: names of an input and an output."""
    before, equals, after = text.partition("=")
    if not (before and equals and after):
        raise argparse.ArgumentTypeError(f"'{text}' is not BEFORE=AFTER")
    return before, after


def backends(text: str) -> tuple[str, ...]:
    """Names of back ends, in the order given, each once."""
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in ("tvm", "mlir"):
            raise argparse.ArgumentTypeError(f"'{name}' is none of tvm, mlir")
    return names


def emits(text: str) -> tuple[str, ...]:
    """What to write, of EMITS, each once."""
    kinds = tuple(dict.fromkeys(text.split(",")))
    for kind in kinds:
        if kind not in EMITS:
            raise argparse.ArgumentTypeError(f"'{kind}' is none of {', '.join(EMITS)}")
    return kinds


def normalization(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """MEAN,...,STD,...: as many means as deviations, of all channels or of each."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers") from None
    half = len(numbers) // 2
    if len(numbers) % 2 or not all(abs(number) < float("inf") for number in numbers) or 0.0 in numbers[half:]:
        raise argparse.ArgumentTypeError(
            f"'{text}': expected as many finite means as deviations, none of these 0"
        )
    return numbers[:half], numbers[half:]
