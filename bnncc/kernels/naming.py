# SPDX-License-Identifier: Apache-2.0
"""Names of kernels: `<op>_<act>x<wgt>_<epilogue>__<isa>_<tile>_<hash>`, made and parsed here.

conv3x3_bitxbit_getobit__v512p_lanes16rows1pixels7_5d41402a is a 3x3 binary convolution that ends in a
comparison whose packed bits are stored, for 512-bit vectors with a popcount, in tiles of 16 lanes and 7
pixels of one row. The hash is of all that the code depends on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bnncc.kernels.isa import Isa
from bnncc.plan.expression import (
    Binary,
    Compare,
    Expression,
    Flip,
    FromBit,
    Lookup,
    Select,
    ToFloat,
    ToLevel,
    Unary,
)
from bnncc.plan.graph import Graph
from bnncc.plan.kernel import (
    BinaryConv,
    ByteConv,
    ChannelMean,
    Convert,
    FillHalo,
    KernelSpec,
    Map,
    Opaque,
    Pool,
    RealConv,
    Root,
    Softmax,
    SpikeConv,
    Upstream,
)

GRAMMAR = re.compile(
    r"(?P<operation>[a-z][a-z0-9]*)_(?P<activation>[a-z0-9]+)x(?P<weight>[a-z0-9]+)_(?P<epilogue>[a-z0-9]+)"
    r"__(?P<isa>[a-z0-9]+)_(?P<tile>(?:[a-z]+[0-9]+)+|plain)_(?P<hash>[0-9a-f]{8})"
)

MOST_WORDS = 4
"""Operations that an epilogue's name lists; more are counted."""


@dataclass(frozen=True)
class Name:
    """The parts of a kernel's symbol."""

    operation: str
    activation: str
    weight: str
    epilogue: str
    isa: str
    tile: str
    hash: str

    def __str__(self) -> str:
        what = f"{self.operation}_{self.activation}x{self.weight}_{self.epilogue}"
        return f"{what}__{self.isa}_{self.tile}_{self.hash}"


def parse(symbol: str) -> Name:
    """The parts of a symbol; ValueError if it is none."""
    match = GRAMMAR.fullmatch(symbol)
    if match is None:
        raise ValueError(f"'{symbol}' is no name of a kernel")
    return Name(**match.groupdict())


def kernel_symbol(spec: KernelSpec, isa: Isa, tile: Mapping[str, int]) -> str:
    """The name of the kernel of `spec` for `isa` with these tile parameters. Equal arguments, equal names."""
    parts = (f"{re.sub('[^a-z]', '', name)}{value}" for name, value in tile.items())
    tile_name = "".join(parts) or "plain"
    operation, activation, weight = _operation(spec)
    return str(
        Name(operation, activation, weight, _epilogue(spec), isa.name, tile_name, _digest(spec, isa, tile))
    )


def root_name(root: Root) -> str:
    """What the root is called."""
    match root:
        case BinaryConv(window=window) | RealConv(window=window) | ByteConv(window=window):
            if (window.height, window.width) == root.input.shape[1:3] == (1, 1):
                return "dense"
            kind = "depthwise" if 1 < root.groups == root.input.shape[3] else "conv"
            return f"{kind}{window.height}x{window.width}"
        case SpikeConv(window=window):
            is_dense = (window.height, window.width) == root.input.shape[1:3] == (1, 1)
            return "dense" if is_dense else f"conv{window.height}x{window.width}"
        case Pool(kind=kind, window=window):
            return f"{kind}pool{window.height}x{window.width}"
        case ChannelMean():
            return "channelmean"
        case Softmax():
            return "softmax"
        case FillHalo():
            return "fillhalo"
        case Map():
            return "map"
        case Convert():
            return "convert"
        case Opaque(operator=operator):
            return f"onnx{re.sub('[^a-z0-9]', '', operator.lower())}"
        case Upstream(operation=operation):
            return re.sub("[^a-z0-9]", "", operation)


def _operation(spec: KernelSpec) -> tuple[str, str, str]:
    match spec.root:
        case BinaryConv() as root:
            activation = "ternary" if root.ternary_input else _planes("bit", root.grid.planes)
            weight = _planes("ternary" if root.ternary_weight else "bit", root.weight_planes)
            return root_name(root), activation, weight
        case RealConv() as root:
            return root_name(root), str(root.input.element), "f32"
        case ByteConv() as root:
            return root_name(root), str(root.input.element), "i8"
        case SpikeConv() as root:
            return root_name(root), _planes("spike", len(root.planes)), str(root.weight)
        case FillHalo() as root:
            return root_name(root), str(root.target.element), "none"
        case root:
            layouts = (*spec.inputs, *spec.operands)
            return root_name(root), str(layouts[0].element) if layouts else "none", "none"


def _planes(name: str, count: int) -> str:
    return name if count == 1 else f"{count}{name}s"


def _epilogue(spec: KernelSpec) -> str:
    words: list[str] = []
    for node in Graph.of([output.expression for output in spec.outputs]).nodes:
        word = _word(node.expression)
        if word and word not in words:
            words.append(word)
    text = "".join(words[:MOST_WORDS]) + (f"and{len(words) - MOST_WORDS}" if len(words) > MOST_WORDS else "")
    stored = "".join(str(output.layout.element) for output in spec.outputs)
    return f"{text}to{stored}" if text else stored or "none"


def _word(expression: Expression) -> str:
    match expression:
        case Unary(kind=kind) | Binary(kind=kind) | Compare(kind=kind):
            return kind
        case Select():
            return "select"
        case Flip():
            return "flip"
        case Lookup():
            return "lookup"
        case FromBit():
            return "bits"
        case ToFloat():
            return "float"
        case ToLevel():
            return "level"
        case _:
            return ""


def layer_name(spec: KernelSpec) -> tuple[str, str, str, str]:
    """Operation, activation, weight and epilogue, as in the names of its kernels."""
    return (*_operation(spec), _epilogue(spec))


def spec_digest(spec: KernelSpec, isa: Isa) -> str:
    """Of everything that the code depends on but its tile and what it was chosen for."""
    return _digest(spec, replace(isa, goal=None), {})


def _digest(spec: KernelSpec, isa: Isa, tile: Mapping[str, int]) -> str:
    """Of everything that the code depends on; expressions as a graph, as their text may grow
    exponentially."""
    graph = Graph.of([output.expression for output in spec.outputs])
    layouts = [output.layout for output in spec.outputs]
    bare = replace(spec, outputs=())
    text = repr((bare, layouts, graph.key(), isa, sorted(tile.items())))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
