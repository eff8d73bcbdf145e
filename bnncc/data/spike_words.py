# SPDX-License-Identifier: Apache-2.0
"""Spikes as the library takes them: packed words, made of dense values or of the events of a camera."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bnncc.diagnostics import BnnccError
from bnncc.plan.bits import pack_words

Facts = Mapping[str, Any]

EVENT = np.dtype([("t", "<u4"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")], align=True)
"""`struct <name>_event` of the generated header."""

FIELDS = {"t": ("t", "timestamp", "ts"), "x": ("x",), "y": ("y",), "p": ("p", "polarity", "pol")}
"""How files of events spell their columns."""


def packed(spikes: np.ndarray) -> np.ndarray:
    """uint32 [..., words] of spikes [..., channels], set where they are not 0; channel c is bit c % 32 of
    word c // 32, bits beyond the channels are 0."""
    return pack_words(spikes != 0)


def unpacked(words: np.ndarray, channels: int) -> np.ndarray:
    """int8 [..., channels] of 0 and 1: the reverse of `packed`."""
    stored = np.ascontiguousarray(words.astype("<u4")).view(np.uint8)
    return np.unpackbits(stored, axis=-1, bitorder="little")[..., :channels].astype(np.int8)


def random_words(rng: np.random.Generator, shape: tuple[int, ...], channels: int) -> np.ndarray:
    """Packed words of this shape, an eighth of their spikes set."""
    return packed(rng.random((*shape[:-1], channels)) < 0.125)


def as_words(port: Facts, array: np.ndarray) -> np.ndarray:
    """An array for an input of packed spikes: words as they are; dense values of the model's own shape, with
    any dimensions in front, packed. What fits neither is left for its checks."""
    dense = port["spikes"]["shape"]
    if not isinstance(array, np.ndarray) or array.dtype == np.uint32 or array.ndim < len(dense):
        return array
    if list(array.shape[array.ndim - len(dense) + 1 :]) != list(dense[1:]):
        return array
    return packed(np.moveaxis(array, -3, -1) if len(dense) == 4 else array)


def read_events(arrays: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Events [count] of EVENT from the columns of a file: t, x, y and p (or polarity; 0 and 1, or -1 and 1),
    in order of time, or one structured array of such fields. Raises BnnccError."""
    columns = dict(arrays)
    if len(columns) == 1 and (only := next(iter(columns.values()))).dtype.names:
        columns = {name: only[name] for name in only.dtype.names}
    found: dict[str, np.ndarray] = {}
    for field, names in FIELDS.items():
        known = [columns[name] for name in names if name in columns]
        if len(known) != 1 or known[0].ndim != 1 or known[0].dtype.kind not in "iubf":
            hint = f"its arrays are {', '.join(columns) or 'none'}; expected t, x, y and p, of one length"
            raise BnnccError(where, f"the events have no column of numbers '{field}'", hint)
        found[field] = known[0]
    if len({len(column) for column in found.values()}) != 1:
        raise BnnccError(where, "the columns of the events have different lengths")
    if np.isin(found["p"], (-1, 1)).all():
        found["p"] = found["p"] > 0
    events = np.zeros(len(found["t"]), EVENT)
    for field, column in found.items():
        limits = np.iinfo(EVENT[field])
        if column.size and not (column.min() >= limits.min and column.max() <= limits.max):
            text = f"{field} must be in {limits.min} to {limits.max}, found {column.min()} to {column.max()}"
            raise BnnccError(where, f"an event is out of range: {text}", "subtract the first t, for instance")
        events[field] = column
    return events


def binned(
    port: Facts, events: np.ndarray, step_length: int, steps: int | None = None, start: int | None = None
) -> np.ndarray:
    """Packed words [steps, 1, ...] of events: step k holds those of start + k step_length <= t < start +
    (k + 1) step_length, as often as they come. start: by default the first event's t; steps: by default up to
    the last event. The same as `<name>_run_events` sees. Raises BnnccError for events outside the image or
    out of order."""
    name = port["name"]
    if step_length < 1:
        raise BnnccError("--step-length", f"expected 1 or more, got {step_length}")
    channels, shape = port["spikes"]["channels"], port["shape"]
    width, height = (1, 1) if len(shape) == 2 else (shape[2], shape[1])
    limits = {"x": channels, "y": 1, "p": 1} if len(shape) == 2 else {"x": width, "y": height, "p": channels}
    for field, limit in limits.items():
        if events.size and events[field].max() >= limit:
            number = int(np.argmax(events[field] >= limit))
            message = f"event {number} has {field} = {events[field][number]}, the input has {limit}"
            raise BnnccError(f"input '{name}'", message)
    if start is None:
        start = int(events["t"][0]) if events.size else 0
    after = events["t"] - np.uint32(start)
    if (np.diff(after.astype(np.int64)) < 0).any():
        raise BnnccError(f"input '{name}'", "the events are not in order of time", "sort them by t")
    step = after // np.uint32(step_length)
    if steps is None:
        steps = int(step[-1]) + 1 if events.size else 1
    kept, step = events[step < steps], step[step < steps].astype(np.int64)
    bit = kept["x"] if len(shape) == 2 else kept["p"]
    pixel = np.zeros(len(kept), int) if len(shape) == 2 else kept["y"].astype(int) * width + kept["x"]
    words = np.zeros((steps, height * width, shape[-1]), np.uint32)
    np.bitwise_or.at(words, (step, pixel, bit // 32), np.uint32(1) << (bit % 32).astype(np.uint32))
    return words.reshape(steps, *shape)
