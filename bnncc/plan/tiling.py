# SPDX-License-Identifier: Apache-2.0
"""How contractions in upstream MLIR are cut into tiles and vectorised: the transform-dialect schedule for it.

A tile is some output pixels of a row by some output channels, which stay in vector registers while the loops
over the window and the input channels run outside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OP, VALUE, NUMBER = "!transform.any_op", "!transform.any_value", "!transform.param<i64>"
MOST_PIXELS = 8
SMALLEST_LANES = 4
"""Vectors of fewer numbers are not worth it."""


@dataclass(frozen=True)
class Machine:
    """lanes: 32-bit numbers in a vector. registers: how many vectors there are."""

    lanes: int
    registers: int

    @staticmethod
    def of(architecture: str, vector_bits: int) -> Machine:
        """Of a processor. x86-64 has 32 registers with AVX-512 only; all others of ours have as many."""
        few = architecture == "x86_64" and vector_bits < 512
        return Machine(vector_bits // 32, 16 if few else 32)

    @property
    def has_vectors(self) -> bool:
        """Whether a schedule is worth it."""
        return self.lanes >= SMALLEST_LANES


@dataclass(frozen=True)
class Contraction:
    """A linalg.generic with a `library_call`: its types as MLIR writes them; the extents of its parallel
    loops (the last one over output channels) and how many loops reduce; the number of the loop along a row,
    if that reads neighbouring pixels side by side."""

    call: str
    operands: tuple[str, ...]
    result: str
    parallel: tuple[int, ...]
    reductions: int
    row: int | None
    element: str

    def tile(self, machine: Machine) -> tuple[int, ...]:
        """Extents of a tile by parallel loop."""
        sizes = [1] * len(self.parallel)
        vectors = 2 if self.row is not None else 4
        sizes[-1] = _divisor(self.parallel[-1], vectors * machine.lanes)
        if self.row is not None:
            width = -(-sizes[-1] // machine.lanes)
            # Accumulators take half of the registers.
            most = min(MOST_PIXELS, max(1, machine.registers // (2 * width)))
            sizes[self.row] = _divisor(self.parallel[self.row], most)
        return tuple(sizes)


def _divisor(extent: int, most: int) -> int:
    """The largest divisor that is at most `most`."""
    return max(d for d in range(1, most + 1) if extent % d == 0)


@dataclass(frozen=True)
class Packing:
    """A linalg.generic that makes words of bits, once what makes the bits is fused into it: the type of its
    result and how many loops it has, the last over the bits of a word."""

    result: str
    loops: int


def schedule_text(parts: Sequence[Contraction | Packing], machine: Machine) -> str:
    """A module with the transform sequence @__transform_main for modules that hold these operations."""
    contractions = list(dict.fromkeys(part for part in parts if isinstance(part, Contraction)))
    packings = list(dict.fromkeys(part for part in parts if isinstance(part, Packing)))
    lines = [line for i, c in enumerate(contractions) for line in _contraction(c, machine, f"c{i}")]
    lines += [
        f'%f = transform.structured.match ops{{["func.func"]}} in %m : ({OP}) -> {OP}',
        *_pass("%f", "linalg-fuse-elementwise-ops", "%fused"),
    ]
    lines += [line for i, p in enumerate(packings) for line in _packing(p, f"p{i}")]
    lines += [
        f'%all = transform.structured.match ops{{["func.func"]}} in %m : ({OP}) -> {OP}',
        "transform.apply_patterns to %all {",
        "  transform.apply_patterns.tensor.fold_tensor_subset_ops_into_vector_transfers",
        f"  transform.apply_patterns.canonicalization }} : {OP}",
        f'%loops = transform.structured.match ops{{["scf.for"]}} in %m : ({OP}) -> {OP}',
        f"transform.loop.hoist_loop_invariant_subsets %loops : {OP}",
        "transform.yield",
    ]
    body = _indented(lines, 4)
    packing = "".join(_packing_sequences(loops) for loops in dict.fromkeys(p.loops for p in packings))
    return (
        f"module attributes {{transform.with_named_sequence}} {{\n{packing}"
        f"  transform.named_sequence @__transform_main(%m: {OP} {{transform.readonly}}) {{\n{body}  }}\n}}\n"
    )


def _pass(target: str, name: str, result: str) -> list[str]:
    return [f'{result} = transform.apply_registered_pass "{name}" to {target} : ({OP}) -> {OP}']


def _contraction(c: Contraction, machine: Machine, name: str) -> list[str]:
    """Tiles, then what is in the innermost loop as vectors."""
    sizes = c.tile(machine)
    first = ", ".join(map(str, (*sizes, *[0] * c.reductions)))
    second = ", ".join(map(str, (*[0] * len(sizes), *[1] * c.reductions)))
    return [
        f"// {c.call}: tiles of {'x'.join(map(str, sizes))}",
        f'%{name} = transform.structured.match ops{{["linalg.generic"]}}',
        f'  attributes {{library_call = "{c.call}"}} filter_result_type = {c.result}',
        f"  filter_operand_types = [{', '.join(c.operands)}]",
        f"  in %m : ({OP}) -> {OP}",
        f"transform.foreach %{name} : {OP} {{",
        f"^each(%op: {OP}):",
        f"  %tile, %outer:{len(sizes)} = transform.structured.tile_using_for %op",
        f"    tile_sizes [{first}] : ({OP}) -> ({', '.join([OP] * (len(sizes) + 1))})",
        f"  %part, %inner:{c.reductions} = transform.structured.tile_using_for %tile",
        f"    tile_sizes [{second}] : ({OP}) -> ({', '.join([OP] * (c.reductions + 1))})",
        *_vectorised("parallel", _tile_type(c, machine)),
        "}",
    ]


def _packing(p: Packing, name: str) -> list[str]:
    kinds = ["#linalg.iterator_type<parallel>"] * (p.loops - 1) + ["#linalg.iterator_type<reduction>"]
    return [
        "// words of bits",
        f'%{name} = transform.structured.match ops{{["linalg.generic"]}}',
        f"  attributes {{iterator_types = [{', '.join(kinds)}]}}",
        f"  filter_result_type = {p.result} in %m : ({OP}) -> {OP}",
        f"transform.foreach %{name} : {OP} {{",
        f"^each(%op: {OP}):",
        f"  transform.include @pack_if_possible_{p.loops} failures(suppress) (%op) : ({OP}) -> ()",
        "}",
    ]


def _packing_sequences(loops: int) -> str:
    """Word by word, where no input is booleans: in memory they are bytes, but vectors of them are read as
    packed bits. The first sequence is left where the question fails, the second goes on then."""
    return f"""\
  transform.named_sequence @pack_{loops}(%op: {OP} {{transform.consumed}}) {{
    %inputs = transform.match.structured failures(propagate) %op : ({OP}) -> {VALUE} {{
    ^at(%it: {OP}):
      %all = transform.match.structured.input %it[all] : ({OP}) -> {VALUE}
      transform.match.structured.yield %all : {VALUE}
    }}
    transform.foreach %inputs : {VALUE} {{
    ^each(%input: {VALUE}):
      %bits = transform.match.structured.elemental_bitwidth %input : ({VALUE}) -> {NUMBER}
      %one = transform.param.constant 1 : i64 -> {NUMBER}
      transform.match.param.cmpi gt %bits, %one : {NUMBER}
    }}
    %tile, %outer:{loops - 1} = transform.structured.tile_using_for %op
      tile_sizes [{", ".join(["1"] * (loops - 1) + ["0"])}] : ({OP}) -> ({", ".join([OP] * loops)})
{_indented(_vectorised("reduction", "tensor<i32>"), 2)}\
    transform.yield
  }}
  transform.named_sequence @pack_if_possible_{loops}(%op: {OP} {{transform.consumed}}) {{
    transform.include @pack_{loops} failures(propagate) (%op) : ({OP}) -> ()
    transform.yield
  }}
"""


def _indented(lines: Sequence[str], by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in lines)


def _vectorised(kind: str, tile: str) -> list[str]:
    """Fold the loops of one step inside %outer, then vectorise the operation on a tile of this type."""
    count = max(1, tile.count("x")) if kind == "parallel" else 1
    kinds = ", ".join([f"#linalg.iterator_type<{kind}>"] * count)
    return [
        "  transform.apply_patterns to %outer#0 {",
        "    transform.apply_patterns.linalg.fold_unit_extent_dims_via_slices",
        f"    transform.apply_patterns.canonicalization }} : {OP}",
        '  %inside = transform.structured.match ops{["linalg.generic"]}',
        f"    attributes {{iterator_types = [{kinds}]}} filter_result_type = {tile}",
        f"    in %outer#0 : ({OP}) -> {OP}",
        f"  transform.structured.vectorize %inside : {OP}",
    ]


def _tile_type(c: Contraction, machine: Machine) -> str:
    """What the result of a tile is once loops of one step are gone."""
    extents = [size for size in c.tile(machine) if size > 1]
    return f"tensor<{''.join(f'{e}x' for e in extents)}{c.element}>"
