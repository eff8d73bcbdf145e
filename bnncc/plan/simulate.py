# SPDX-License-Identifier: Apache-2.0
"""The NumPy meaning of a KernelSpec on real buffers: the oracle of the kernel tests.

A buffer is a flat array of the stored type of its Layout. Values are [n, h, w, c] arrays; packed bits are
bool. Real values are float32 after each operation; sums of a contraction or a mean are rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnncc.plan.bits import pack_words
from bnncc.plan.expression import (
    Accumulator,
    Binary,
    BitOf,
    Channel,
    Compare,
    Expression,
    Flip,
    FromBit,
    Integer,
    Lookup,
    MulShift,
    Operand,
    Scalar,
    Select,
    ToFloat,
    ToInteger,
    ToLevel,
    Unary,
)
from bnncc.plan.kernel import (
    BinaryConv,
    ByteConv,
    ChannelMean,
    FillHalo,
    KernelSpec,
    Map,
    Pool,
    RealConv,
    Softmax,
    SpikeConv,
    Window,
)
from bnncc.plan.layout import WORD_BITS, Element, Layout


def allocate(layout: Layout, fill: int = 0) -> np.ndarray:
    """A buffer for `layout` whose every byte is `fill`."""
    return np.full(layout.bytes, fill, np.uint8).view(layout.element.dtype)


def load(layout: Layout, buffer: np.ndarray) -> np.ndarray:
    """The values [n, h, w, c] of a buffer (a copy); packed bits as bool."""
    if layout.form != "plain":
        return _load_sums(layout, buffer)
    stored = _view(layout, buffer)
    if layout.element is not Element.BIT:
        return stored.copy()
    shifts = np.arange(WORD_BITS, dtype=np.uint32)
    bits = (stored[..., None] >> shifts) & 1
    return bits.reshape(*stored.shape[:3], -1)[..., : layout.shape[3]].astype(bool)


def store(layout: Layout, buffer: np.ndarray, values: np.ndarray) -> None:
    """Write [n, h, w, c]; bits beyond the channels become 0, what lies between and around stays. In
    three-word form the sums on the left of a row that its first pixels are part of are written, too."""
    if layout.form != "plain":
        _store_sums(layout, buffer, values)
        return
    stored = _view(layout, buffer)
    if layout.element is not Element.BIT:
        stored[...] = values
        return
    stored[...] = pack_words(np.broadcast_to(values, layout.shape))


def _load_sums(layout: Layout, buffer: np.ndarray) -> np.ndarray:
    """The bits of a tensor in three-word form: pixel x + 1 is u[x] ^ pixel x, from the halo's zeros on."""
    assert layout.halo.left > 0
    before = replace(layout, offset=layout.offset - layout.strides[2], form="plain")
    bits = load(before, buffer)
    return np.logical_xor.accumulate(bits, axis=2) ^ layout.stores_complements


def _store_sums(layout: Layout, buffer: np.ndarray, values: np.ndarray) -> None:
    """Write the two sums of every pixel, and of those on its left that it is part of."""
    left = min(2, layout.halo.left)
    n, h, w, c = layout.shape
    row = np.zeros((n, h, left + w + 2, c), bool)
    row[:, :, left : left + w] = values ^ layout.stores_complements
    u = row[:, :, :-1] ^ row[:, :, 1:]
    s = u[:, :, :-1] ^ row[:, :, 2:]
    first = layout.offset - left * layout.strides[2]
    wide = replace(layout, shape=(n, h, left + w, c), offset=first, form="plain")
    store(wide, buffer, u[:, :, : left + w])
    store(replace(wide, offset=first + layout.sums_apart), buffer, s[:, :, : left + w])


def with_halo(layout: Layout) -> Layout:
    """The same memory with the halo as part of the image."""
    n, h, w, c = layout.shape
    halo = layout.halo
    offset = layout.offset - halo.top * layout.strides[1] - halo.left * layout.strides[2]
    shape = (n, h + halo.top + halo.bottom, w + halo.left + halo.right, c)
    return Layout(layout.element, shape, layout.strides, offset, form=layout.form)


def random_buffer(layout: Layout, rng: np.random.Generator, halo: float = 0) -> np.ndarray:
    """A buffer for `layout` with random contents; `halo` is what its halo holds (a bit for packed bits)."""
    return buffer_of(layout, random_values(layout, rng), halo)


def buffer_of(layout: Layout, values: np.ndarray, halo: float = 0) -> np.ndarray:
    """A buffer for `layout` that holds values [n, h, w, c], and `halo` around them."""
    buffer = allocate(layout)
    around = with_halo(layout)
    store(around, buffer, np.full(around.shape, halo, bool if layout.element is Element.BIT else float))
    store(layout, buffer, values)
    return buffer


def random_spikes(root: SpikeConv, rng: np.random.Generator) -> list[np.ndarray]:
    """Buffers of the planes that events are read from, with as many spikes as are expected."""
    share = min(1.0, root.density / len(root.planes))
    return [buffer_of(layout, rng.random(layout.shape) < share) for layout in root.planes]


def random_values(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Values [n, h, w, c] that fit the element."""
    match layout.element:
        case Element.BIT:
            return rng.integers(0, 2, layout.shape).astype(bool)
        case Element.U8:
            # Both ends are likely: sums are largest there.
            return rng.choice([0, 255, *range(0, 256, 5)], layout.shape)
        case Element.F32:
            return rng.standard_normal(layout.shape).astype(np.float32)
        case _:
            return rng.integers(0, 9, layout.shape)


def random_reads(spec: KernelSpec, rng: np.random.Generator) -> list[np.ndarray]:
    """Buffers that a Step of `spec` may read: its inputs, then its operands."""
    root = spec.root
    if isinstance(root, ByteConv):
        reads = [random_buffer(root.input, rng, -root.lowest)]
    elif isinstance(root, BinaryConv):
        planes = enumerate((root.input, *root.more))
        reads = [random_buffer(layout, rng, root.halo_level >> bit & 1) for bit, layout in planes]
        if root.mask is not None:
            reads.append(random_buffer(root.mask, rng, 0))
    elif isinstance(root, SpikeConv):
        reads = random_spikes(root, rng)
    else:
        reads = [random_buffer(layout, rng) for layout in spec.inputs]
    return reads + [random_buffer(layout, rng) for layout in spec.operands]


def run_step(
    spec: KernelSpec,
    reads: Sequence[np.ndarray],
    constants: Sequence[np.ndarray],
    writes: Sequence[np.ndarray],
) -> None:
    """Compute `spec`: reads are the buffers of its inputs and operands, writes those of its outputs (of the
    target for FillHalo)."""
    if isinstance(spec.root, FillHalo):
        _fill_halo(spec.root, writes[0])
        return
    inputs, operands = reads[: len(spec.inputs)], reads[len(spec.inputs) :]
    if spec.is_recurrent:
        _run_in_order(spec, accumulate(spec, inputs, constants), operands, constants, writes)
        return
    evaluation = Evaluation(
        [load(layout, buffer) for layout, buffer in zip(spec.operands, operands, strict=True)],
        constants,
        accumulate(spec, inputs, constants),
    )
    results = [evaluation.value(output.expression) for output in spec.outputs]
    for output, buffer, result in zip(spec.outputs, writes, results, strict=True):
        store(output.layout, buffer, np.broadcast_to(result, output.layout.shape))


def _run_in_order(
    spec: KernelSpec,
    accumulator: np.ndarray | None,
    operands: Sequence[np.ndarray],
    constants: Sequence[np.ndarray],
    writes: Sequence[np.ndarray],
) -> None:
    """Image by image; the outputs in place of operands are these operands' buffers."""
    for n in range(spec.shape[0]):
        loaded = [
            load(_image(layout, n), buffer) for layout, buffer in zip(spec.operands, operands, strict=True)
        ]
        sums = None if accumulator is None else accumulator[n : n + 1]
        evaluation = Evaluation(loaded, constants, sums)
        results = [evaluation.value(output.expression) for output in spec.outputs]
        for output, buffer, result in zip(spec.outputs, writes, results, strict=True):
            layout = _image(output.layout, n)
            store(layout, buffer, np.broadcast_to(result, layout.shape))


def _image(layout: Layout, n: int) -> Layout:
    """One image of a tensor."""
    if layout.shape[0] == 1:
        return layout
    return replace(layout, shape=(1, *layout.shape[1:]), offset=layout.offset + n * layout.strides[0])


def accumulate(
    spec: KernelSpec, inputs: Sequence[np.ndarray], constants: Sequence[np.ndarray]
) -> np.ndarray | None:
    """What Accumulator stands for, [n, h, w, c]; None for a Map."""
    match spec.root:
        case Map() | FillHalo():
            return None
        case Pool() as root:
            return _pool(root, load(root.input, inputs[0]), spec.shape)
        case ChannelMean() as root:
            x = load(root.input, inputs[0]).astype(np.float64)
            return x.mean(axis=3, keepdims=True).astype(np.float32)
        case Softmax() as root:
            x = load(root.input, inputs[0]).astype(np.float64)
            e = np.exp(x - x.max(axis=3, keepdims=True))
            return (e / e.sum(axis=3, keepdims=True)).astype(np.float32)
        case RealConv() as root:
            x = load(root.input, inputs[0]).astype(np.float64)
            return _convolve(x, root.window, root.groups, constants[0], 0.0, spec.shape).astype(np.float32)
        case SpikeConv() as root:
            counts = [load(layout, inputs[b]) * 2.0**b for b, layout in enumerate(root.planes)]
            dtype = np.float32 if root.weight is Element.F32 else np.int32
            total = np.sum(counts, axis=0)
            return _convolve(total, root.window, root.groups, constants[0], 0.0, spec.shape).astype(dtype)
        case ByteConv() as root:
            x = load(root.input, inputs[0]).astype(np.float64) + root.lowest
            return _convolve(x, root.window, root.groups, constants[0], 0.0, spec.shape).astype(np.int32)
        case BinaryConv() as root:
            planes = [load(layout, inputs[b]) * 2.0**b for b, layout in enumerate((root.input, *root.more))]
            levels = np.sum(planes, axis=0)
            x = root.grid.step * levels + root.grid.lowest
            if root.ternary_input:
                assert root.mask is not None
                x = x * load(root.mask, inputs[1])
            pad = float(root.pad_value)
            return _convolve(x, root.window, root.groups, constants[0], pad, spec.shape).astype(np.int32)


class Evaluation:
    """Evaluates expressions over whole tensors; an expression object is computed once."""

    def __init__(
        self,
        operands: Sequence[np.ndarray],
        constants: Sequence[np.ndarray],
        accumulator: np.ndarray | None = None,
    ):
        """operands: values [n, h, w, c]; constants: the canonical form of the Step."""
        self.operands = [
            x.astype(np.int32) if x.dtype in (np.uint8, np.int8, np.int16) else x for x in operands
        ]
        self.constants = constants
        self.accumulator = accumulator
        self._known: dict[int, np.ndarray] = {}

    def value(self, expression: Expression) -> np.ndarray:
        """Float32, int32 or bool, of a shape that broadcasts to the outputs'."""
        key = id(expression)
        if key not in self._known:
            with np.errstate(all="ignore"):
                self._known[key] = np.asarray(self._evaluate(expression))
        return self._known[key]

    def _evaluate(self, expression: Expression) -> np.ndarray:
        match expression:
            case Accumulator():
                assert self.accumulator is not None, "this kernel has no root"
                return self.accumulator
            case Operand(index):
                return self.operands[index]
            case Channel(index):
                return self.constants[index]
            case Scalar(value):
                return np.array(value, np.float32)
            case Integer(value):
                return np.array(value, np.int32)
            case ToFloat(value):
                return self.value(value).astype(np.float32)
            case ToLevel(value):
                x = self.value(value)
                return np.where(x > 0, x, 0).astype(np.int32)
            case ToInteger(value):
                return self.value(value).astype(np.int32)
            case MulShift(left, right, shift):
                product = self.value(left).astype(np.int64) * self.value(right)
                return ((product + (1 << shift - 1)) >> shift).astype(np.int32)
            case Lookup(place, index):
                return self.constants[index].reshape(-1)[self.value(place)]
            case BitOf(value, plane):
                return self.value(value) >> plane & 1 != 0
            case FromBit(value, low, high):
                return np.where(self.value(value), np.float32(high), np.float32(low))
            case Unary(kind, value):
                return unary(kind, self.value(value).astype(np.float32))
            case Binary(kind, left, right):
                return BINARY[kind](*alike(self.value(left), self.value(right)))
            case Compare(kind, left, right):
                return COMPARE[kind](*alike(self.value(left), self.value(right)))
            case Select(condition, then, otherwise):
                then, otherwise = self.value(then), self.value(otherwise)
                if then.dtype != np.bool_:
                    then, otherwise = alike(then, otherwise)
                return np.where(self.value(condition), then, otherwise)
            case Flip(value, index):
                return self.value(value) ^ (self.constants[index] != 0)
        raise AssertionError(f"no meaning for {expression}")


def alike(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32 unless both are int32."""
    if left.dtype == np.int32 and right.dtype == np.int32:
        return left, right
    return left.astype(np.float32), right.astype(np.float32)


def unary(kind: str, x: np.ndarray) -> np.ndarray:
    """A unary function of float32, rounded once."""
    wide = x.astype(np.float64)
    match kind:
        case "neg":
            return -x
        case "relu":
            return np.maximum(x, np.float32(0))
        case "sigmoid":
            result = 1 / (1 + np.exp(-wide))
        case "round":
            result = np.rint(wide)
        case "erf":
            result = np.vectorize(math.erf, otypes=[np.float64])(wide)
        case _:
            result = getattr(np, kind)(wide)
    return np.asarray(result).astype(np.float32)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
}
COMPARE = {
    "ge": np.greater_equal,
    "gt": np.greater,
    "ne": np.not_equal,
    "le": np.less_equal,
    "lt": np.less,
    "eq": np.equal,
}


def _view(layout: Layout, buffer: np.ndarray) -> np.ndarray:
    """The stored elements [n, h, w, depth] of a flat buffer, not a copy."""
    assert buffer.dtype == layout.element.dtype and buffer.size >= layout.extent, (
        "the buffer is no such tensor"
    )
    size = layout.element.bytes
    return np.lib.stride_tricks.as_strided(
        buffer[layout.offset :],
        (*layout.shape[:3], layout.depth),
        tuple(stride * size for stride in layout.strides),
    )


def _taps(window: Window, image: tuple[int, ...], shape: tuple[int, ...]):
    """For each tap (ky, kx): output rows and columns whose tap lies inside, and the input rows and
    columns."""
    for ky in range(window.height):
        for kx in range(window.width):
            y = np.arange(shape[1]) * window.stride_y + ky * window.dilation_y - window.top
            x = np.arange(shape[2]) * window.stride_x + kx * window.dilation_x - window.left
            rows, columns = (y >= 0) & (y < image[1]), (x >= 0) & (x < image[2])
            yield (ky, kx), np.ix_(rows, columns), np.ix_(y[rows], x[columns])


def _convolve(
    x: np.ndarray,
    window: Window,
    groups: int,
    weight: np.ndarray,
    outside: float,
    shape: tuple[int, int, int, int],
) -> np.ndarray:
    """sum over taps and channels in float64; what lies outside the image counts as `outside`."""
    n, h, w, out = shape
    depth, per_group = weight.shape[3], out // groups
    result = np.zeros(shape, np.float64)
    wide = weight.astype(np.float64)
    for (ky, kx), (to_y, to_x), (from_y, from_x) in _taps(window, x.shape, shape):
        values = np.full((n, h, w, x.shape[3]), outside)
        values[:, to_y, to_x] = x[:, from_y, from_x]
        for g in range(groups):
            filters = slice(g * per_group, (g + 1) * per_group)
            result[..., filters] += values[..., g * depth : (g + 1) * depth] @ wide[filters, ky, kx].T
    return result


def _pool(root: Pool, x: np.ndarray, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Booleans of bits, int32 of the maximum of int32 or bytes, float32 otherwise."""
    lowest = np.float64(-np.inf)
    total = np.full(shape, lowest if root.kind == "max" else 0.0)
    count = np.zeros((1, shape[1], shape[2], 1))
    for _, (to_y, to_x), (from_y, from_x) in _taps(root.window, x.shape, shape):
        part = x[:, from_y, from_x].astype(np.float64) + root.lowest
        old = total[:, to_y, to_x]
        total[:, to_y, to_x] = np.maximum(old, part) if root.kind == "max" else old + part
        count[:, to_y, to_x] += 1
    if root.kind == "count":
        return total.astype(np.int32)
    if root.kind == "max":
        dtype = np.dtype(np.int32) if x.dtype == np.uint8 else x.dtype
        return total > 0 if x.dtype == np.bool_ else total.astype(dtype)
    return (total / (root.window.height * root.window.width if root.count_outside else count)).astype(
        np.float32
    )


def _fill_halo(root: FillHalo, buffer: np.ndarray) -> None:
    if root.target.form != "plain":
        u = replace(root.target, form="plain")
        for plane in (u, replace(u, offset=u.offset + root.target.sums_apart)):
            _fill_halo(replace(root, target=plane), buffer)
        return
    target, around = root.target, with_halo(root.target)
    inside = _view(target, buffer).copy()
    value = root.value > 0 if target.element is Element.BIT else root.value
    store(around, buffer, np.full(around.shape, value))
    _view(target, buffer)[...] = inside
