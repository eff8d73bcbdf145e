# SPDX-License-Identifier: Apache-2.0
"""The nodes of a NIR graph: their parameters in one form, checked as far as one node tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache

import numpy as np

from bnncc.diagnostics import BnnccError, did_you_mean, joined
from bnncc.frontend.kinds import LARGEST_TENSOR
from bnncc.frontend.nir.file import FileNode, Value

Shape = tuple[int, ...]

SPIKING = frozenset({"IF", "LIF", "CubaLIF"})
NEURONS = SPIKING | {"I", "LI", "CubaLI"}
"""Nodes whose output follows from a membrane that they keep."""

MOST_DIMENSIONS = 3
"""Of one sample: [channels, height, width]."""

LARGEST_DELAY = 1 << 24
"""Steps times elements that one Delay may hold."""


@dataclass(frozen=True)
class Window:
    """What slides over [.., h, w]; in one dimension the height is 1. pads: top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int] = (1, 1)

    def result(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width that an image of this height and width gives; below 1 where it is too small."""
        top, left, bottom, right = self.pads
        height, width = (
            (size[i] + total - (self.kernel[i] - 1) * self.dilations[i] - 1) // self.strides[i] + 1
            for i, total in enumerate((top + bottom, left + right))
        )
        return height, width


@dataclass(frozen=True)
class Node:
    """A node of the flat graph.

    name: with the graphs around it, "block1.lif". location: "model.nir:block1.lif". kind: its type in NIR, or
    "Relay" for an Input or Output of an inner graph, which hands on what it is given.
    arrays: weight and bias float32; parameters of neurons, Scale, Threshold and Delay float64, in the
    file's shapes. shape: of an Input or Output, and what a Flatten or a convolution says about its own input
    (None: nothing). dimensions: first and last that a Flatten joins."""

    name: str
    location: str
    kind: str
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    shape: Shape | None = None
    window: Window | None = None
    groups: int = 1
    dimensions: tuple[int, int] = (0, -1)

    @property
    def waits(self) -> bool:
        """Whether its output follows from its input of the same step."""
        return self.kind != "Delay" or bool((self.arrays["delay"] == 0).any())

    @property
    def keeps(self) -> bool:
        """Whether it holds something from one step to the next, wherever a value passes."""
        return self.kind in NEURONS or not self.waits

    @property
    def bias(self) -> np.ndarray | None:
        """The bias, float32, or None."""
        return self.arrays.get("bias")

    def problem(self, message: str, hint: str = "") -> BnnccError:
        """A mistake in this node."""
        return BnnccError(self.location, f"{self.kind}: {message}", hint)


def check_node(name: str, location: str, stored: FileNode) -> Node:
    """The node, checked by itself. Raises BnnccError, for all that is wrong with it at once."""
    maker = MAKERS.get(stored.type)
    if maker is None:
        hint = f"{did_you_mean(stored.type, MAKERS)}known are {', '.join(sorted(MAKERS))}, NIRGraph"
        raise BnnccError(location, f"the type of node '{stored.type}' is unknown", hint)
    _check_names(location, stored)
    return maker(_Values(name, location, stored))


def _check_names(location: str, stored: FileNode) -> None:
    """The parameters are those that the type has."""
    required, optional = parameter_names(stored.type)
    known = (*required, *optional)
    problems = [
        BnnccError(location, f"{stored.type}: its parameter '{name}' is missing", "export the file again")
        for name in required
        if name not in stored.values
    ] + [
        BnnccError(
            location, f"{stored.type}: there is no parameter '{name}'", f"known are {', '.join(known)}"
        )
        for name in stored.values
        if name not in known
    ]
    if problems:
        raise joined(problems)


@cache
def parameter_names(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a node of this type must have and may have in a file: the fields of its class in `nir`."""
    import nir

    if kind in ("Input", "Output"):
        return ("shape",), ()
    names = [entry.name for entry in fields(getattr(nir, kind)) if entry.name not in HIDDEN]
    required = tuple(name for name in names if name not in OPTIONAL)
    optional = [name for name in names if name in OPTIONAL]
    return required, (*optional, *(["input_type"] if kind == "Flatten" else []))


HIDDEN = frozenset({"metadata", "input_type", "output_type"})
OPTIONAL = frozenset({"v_reset", "w_in", "input_shape", "bias", "start_dim", "end_dim"})
"""Left out by older versions and by some tools: v_reset is 0, w_in 1, bias 0."""


class _Values:
    """The values of one node, taken out one by one with checks."""

    def __init__(self, name: str, location: str, stored: FileNode):
        self.name, self.location, self.kind, self.values = name, location, stored.type, stored.values

    def problem(self, message: str, hint: str = "") -> BnnccError:
        """A mistake in this node."""
        return BnnccError(self.location, f"{self.kind}: {message}", hint)

    def node(self, **parts: object) -> Node:
        """The node with these parts."""
        return Node(self.name, self.location, self.kind, **parts)  # type: ignore[arg-type]

    def numbers(self, key: str, dtype: type[np.floating]) -> np.ndarray:
        """An array of finite numbers in this type."""
        value = self.values[key]
        if isinstance(value, str):
            raise self.problem(f"its {key} is the text '{value}', not numbers")
        if not value.size:
            raise self.problem(f"its {key} is empty, shape {list(value.shape)}")
        with np.errstate(over="ignore"):
            array = value.astype(dtype)
            bad = int((~np.isfinite(array.astype(np.float32))).sum())
        if bad:
            raise self.problem(
                f"its {key} holds NaN or infinite values, {bad} of {array.size}",
                "the training diverged; train or export again",
            )
        return array

    def integers(self, key: str) -> np.ndarray:
        """An array of integers, flat."""
        value = self.values[key]
        if isinstance(value, str) or value.ndim > 1 or not value.size:
            raise self.problem(f"its {key} is {_shown(value)}, not integers")
        flat = value.reshape(-1)
        if not np.isfinite(flat).all() or (flat != np.rint(flat)).any() or (np.abs(flat) >= 2**31).any():
            raise self.problem(f"its {key} is {_shown(value)}, not integers")
        return flat.astype(np.int64)

    def integer(self, key: str, lowest: int) -> int:
        """One integer, not below `lowest`."""
        found = self.integers(key)
        if len(found) != 1 or found[0] < lowest:
            raise self.problem(f"its {key} is {_shown(found)}, expected an integer of at least {lowest}")
        return int(found[0])

    def pair(self, key: str, lowest: int) -> tuple[int, int]:
        """One or two integers, as two."""
        found = self.integers(key)
        if len(found) > 2 or (found < lowest).any():
            raise self.problem(
                f"its {key} is {_shown(found)}, expected one or two integers of at least {lowest}"
            )
        return int(found[0]), int(found[-1])

    def shape(self, key: str) -> Shape:
        """The shape of a sample: at least one element, at most MOST_DIMENSIONS dimensions."""
        value = self.values[key]
        sizes = () if not isinstance(value, str) and not value.size else tuple(self.integers(key).tolist())
        return checked_shape(self.problem, f"its {key}", sizes)


def checked_shape(problem: Callable[..., BnnccError], what: str, sizes: Iterable[int]) -> Shape:
    """A shape that is no mistake; a number alone is a vector of one."""
    shape = tuple(int(size) for size in sizes) or (1,)
    if min(shape) < 1:
        raise problem(f"{what} is {list(shape)}, which holds no values", "the input is too small, or wrong")
    if len(shape) > MOST_DIMENSIONS:
        hint = "a sample is a vector, [channels, length] or [channels, height, width], without time or batch"
        raise problem(f"{what} is {list(shape)}, of more than {MOST_DIMENSIONS} dimensions", hint)
    if 4 * math.prod(shape) > LARGEST_TENSOR:
        raise problem(f"{what} is {list(shape)}, more than {LARGEST_TENSOR >> 20} MiB", "it must be wrong")
    return shape


def _shown(value: Value) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    return str(value.tolist()) if value.size <= 8 else f"an array of shape {list(value.shape)}"


def _port(values: _Values) -> Node:
    return values.node(shape=values.shape("shape"))


def _neuron(values: _Values) -> Node:
    required, optional = parameter_names(values.kind)
    present = [key for key in (*required, *optional) if key in values.values]
    problems: list[BnnccError] = []
    arrays: dict[str, np.ndarray] = {}
    for key in present:
        try:
            arrays[key] = values.numbers(key, np.float64)
            if key.startswith("tau"):
                _check_tau(values, key, arrays[key])
        except BnnccError as problem:
            problems.append(problem)
    if problems:
        raise joined(problems)
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        listed = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items())
        raise values.problem(f"its parameters are of shapes that do not fit: {listed}") from None
    if values.kind in SPIKING:
        arrays.setdefault("v_reset", np.zeros(()))
    return values.node(arrays=arrays)


def _check_tau(values: _Values, key: str, tau: np.ndarray) -> None:
    bad = int((tau <= 0).sum())
    if bad:
        worst = tau.min()
        hint = "a time constant is a positive time; a neuron without a leak is IF or I"
        raise values.problem(f"its {key} must be positive, but is {worst:g} in {bad} of {tau.size}", hint)


def _parameter(key: str) -> Callable[[_Values], Node]:
    def make(values: _Values) -> Node:
        return values.node(arrays={key: values.numbers(key, np.float64)})

    return make


def _delay(values: _Values) -> Node:
    delay = values.numbers("delay", np.float64)
    if (delay < 0).any():
        raise values.problem(f"its delay is {delay.min():g}, but no output comes before its input")
    return values.node(arrays={"delay": delay})


def _affine(values: _Values) -> Node:
    weight = values.numbers("weight", np.float32)
    if weight.ndim not in (2, 3):
        raise values.problem(
            f"its weight is of shape {list(weight.shape)}, expected [outputs, inputs], or one such for each "
            "of a number of rows"
        )
    arrays = {"weight": weight}
    if "bias" in values.values:
        arrays["bias"] = values.numbers("bias", np.float32)
        if arrays["bias"].shape not in (weight.shape[-2:-1], weight.shape[:-1]):
            raise values.problem(
                f"its bias is of shape {list(arrays['bias'].shape)}, expected [{weight.shape[-2]}]"
            )
    return values.node(arrays=arrays)


def _conv(values: _Values) -> Node:
    rank = 1 if values.kind == "Conv1d" else 2
    weight = values.numbers("weight", np.float32)
    if weight.ndim != rank + 2:
        sizes = "[outputs, channels, length]" if rank == 1 else "[outputs, channels, height, width]"
        raise values.problem(f"its weight is of shape {list(weight.shape)}, expected {sizes}")
    groups = values.integer("groups", 1)
    if weight.shape[0] % groups:
        raise values.problem(f"its {weight.shape[0]} outputs do not divide into {groups} groups")
    kernel = (1, weight.shape[2]) if rank == 1 else (weight.shape[2], weight.shape[3])
    strides, dilations = _sizes(values, "stride", rank, 1), _sizes(values, "dilation", rank, 1)
    window = Window(kernel, strides, _conv_pads(values, rank, kernel, strides, dilations), dilations)
    arrays = {"weight": weight}
    if "bias" in values.values:
        arrays["bias"] = values.numbers("bias", np.float32)
        if arrays["bias"].shape != weight.shape[:1]:
            raise values.problem(
                f"its bias is of shape {list(arrays['bias'].shape)}, expected [{weight.shape[0]}]"
            )
    return values.node(arrays=arrays, window=window, groups=groups, shape=_declared(values, rank))


def _declared(values: _Values, rank: int) -> Shape | None:
    """What a convolution says of the height and width of its input."""
    if "input_shape" not in values.values:
        return None
    sizes = values.integers("input_shape")
    if len(sizes) not in (1, rank):
        raise values.problem(f"its input_shape is {_shown(sizes)}, expected {rank} sizes")
    return (int(sizes[0]),) if rank == 1 else (int(sizes[0]), int(sizes[-1]))


def _sizes(values: _Values, key: str, rank: int, lowest: int) -> tuple[int, int]:
    """A size along height and width; along one dimension the height is 1 (0 for pads)."""
    if rank == 1:
        return lowest, values.integer(key, lowest)
    return values.pair(key, lowest)


def _conv_pads(
    values: _Values, rank: int, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, int, int, int]:
    padding = values.values["padding"]
    if not isinstance(padding, str):
        top, left = _sizes(values, "padding", rank, 0)
        return top, left, top, left
    if padding == "valid":
        return 0, 0, 0, 0
    if padding != "same":
        raise values.problem(f"its padding is '{padding}'", "it must be 'same', 'valid' or sizes")
    if tuple(strides) != (1, 1):
        raise values.problem("its padding is 'same' with a stride, which has no meaning", "give sizes")
    totals = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
    top, left = (total // 2 for total in totals)
    return top, left, totals[0] - top, totals[1] - left


def _pool(values: _Values) -> Node:
    kernel, strides = values.pair("kernel_size", 1), values.pair("stride", 1)
    top, left = values.pair("padding", 0)
    if top >= kernel[0] or left >= kernel[1]:
        raise values.problem(f"its padding [{top}, {left}] is not smaller than its kernel {list(kernel)}")
    return values.node(window=Window(kernel, strides, (top, left, top, left)))


def _flatten(values: _Values) -> Node:
    first, last = (
        int(values.integers(key)[0]) if key in values.values else default
        for key, default in (("start_dim", 1), ("end_dim", -1))
    )
    declared = None
    if "input_type" in values.values:
        sizes = values.integers("input_type")
        declared = tuple(int(size) for size in sizes) if (sizes > 0).all() else None
    return values.node(dimensions=(first, last), shape=declared)


MAKERS: Mapping[str, Callable[[_Values], Node]] = {
    "Input": _port,
    "Output": _port,
    **dict.fromkeys(sorted(NEURONS), _neuron),
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "AvgPool2d": _pool,
    "SumPool2d": _pool,
    "Flatten": _flatten,
    "Scale": _parameter("scale"),
    "Threshold": _parameter("threshold"),
    "Delay": _delay,
}
"""What makes a node of each type that is known, besides NIRGraph."""
