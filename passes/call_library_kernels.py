# SPDX-License-Identifier: Apache-2.0
"""Contractions of upstream MLIR as calls of functions that others link.

Runs on buffers, as `one-shot-bufferize` makes them of what convert-bnn-to-linalg wrote. A linalg.generic
whose `library_call` is wanted becomes a call of an external function. Its name says what the kernel has to
know, `binary_conv2d_1x10x10x2_3x3x2x64_to_1x8x8x64` for instance: the tensors that are read (images,
weights), then the sums; steps of windows, or distances of their taps, that are not 1 follow as `_step2x2`,
`_apart2x2`.
In C, where `convert-func-to-llvm` makes bare pointers (`use-bare-ptr-memref-call-conv`):

    void binary_conv2d_1x10x10x2_3x3x2x64_to_1x8x8x64(const int32_t *x, const int32_t *w, int32_t *sums);

The layer's sums are added to those that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import MemRefType, ModuleOp, NoneAttr
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from bnncc.diagnostics import BnnccError, did_you_mean
from bnncc.dialect.sources import location_text


@dataclass(frozen=True)
class CallLibraryKernelsPass(ModulePass):
    """`names`: the values of `library_call` that there are kernels for."""

    name = "call-library-kernels"
    names: tuple[str, ...]

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Replace the contractions and declare the functions.

        Raises BnnccError for a name that no contraction has, and for operands that a bare pointer does not
        describe."""
        contractions = [each for each in op.walk() if isinstance(each, GenericOp) and each.library_call]
        self._check({_library_call(each) for each in contractions})
        declared: set[str] = set()
        for contraction in contractions:
            if _library_call(contraction) not in self.names:
                continue
            symbol = kernel_name(contraction)
            arguments = [*contraction.inputs, *contraction.outputs]
            if symbol not in declared:
                declared.add(symbol)
                op.body.block.add_op(func.FuncOp.external(symbol, [value.type for value in arguments], []))
            call = func.CallOp(symbol, arguments, [])
            call.location = contraction.location
            Rewriter.replace_op(contraction, call)

    def _check(self, present: set[str]) -> None:
        for name in self.names:
            if name not in present:
                hint = did_you_mean(name, sorted(present)) or f"there are {', '.join(sorted(present))}"
                raise BnnccError(self.name, f"no contraction has the library_call '{name}'", hint)


def kernel_name(contraction: GenericOp) -> str:
    """The C name of the function that a contraction calls."""
    where = location_text(contraction)
    read = [_extents(value, where) for value in contraction.inputs]
    written = [_extents(value, where) for value in contraction.outputs]
    parts = [_library_call(contraction), *read, "to", *written, *_window(contraction)]
    return "_".join(parts)


def _library_call(contraction: GenericOp) -> str:
    assert contraction.library_call is not None
    return contraction.library_call.data


def _extents(value: SSAValue, where: str) -> str:
    """As in "3x3x2x64". Raises BnnccError where the memory is not all of a buffer, row by row."""
    type_ = value.type
    if isinstance(type_, MemRefType) and isinstance(type_.layout, NoneAttr):
        return "x".join(map(str, type_.get_shape()))
    what = "is a part of a buffer" if isinstance(type_, MemRefType) else "is no buffer"
    hint = "run one-shot-bufferize before, with function-boundary-type-conversion=identity-layout-map"
    raise BnnccError(where, f"an operand of type {type_} {what}: a kernel takes pointers", hint)


def _window(contraction: GenericOp) -> Iterator[str]:
    """Steps of the window that moves over the images, and distances of its taps, where they are not 1."""
    steps, distances = [], []
    image = contraction.indexing_maps.data[0].data
    kinds = [kind.data for kind in contraction.iterator_types]
    for place in image.results:
        factors = [
            place.eval([int(i == d) for i in range(image.num_dims)], []) for d in range(image.num_dims)
        ]
        moving = [
            factor for factor, kind in zip(factors, kinds, strict=True) if kind is IteratorType.PARALLEL
        ]
        within = [
            factor for factor, kind in zip(factors, kinds, strict=True) if kind is IteratorType.REDUCTION
        ]
        if any(moving) and any(within):
            steps.append(max(moving))
            distances.append(max(within))
    for word, numbers in (("step", steps), ("apart", distances)):
        if any(number != 1 for number in numbers):
            yield word + "x".join(map(str, numbers))
