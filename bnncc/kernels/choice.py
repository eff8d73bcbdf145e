# SPDX-License-Identifier: Apache-2.0
"""Which kernel computes a binary layer, decided by what it costs.

Where vectors of run-time length have a micro-kernel, `binary.rows` calls it. Where no instruction counts
bits, or one those of a word, `carry_save` is shorter and faster than the plain loops of `binary.conv`, from a
single word on; what is left to choose is how many words its straight-line code takes in one turn. Long turns
execute fewer instructions and take more flash. Harley-Seal (carry-save over 8 plain words, one popcount for
them) is no better, and not among the candidates:

    Cortex-M4, 3x3, 8x8x128 -> 128             turn of 36 words     18     9   Harley-Seal   binary_conv
    instructions for each 32 MACs                           7.5    8.6   9.1          12.2          14.2
    bytes of code, with a copy and a halo's filling       1,528  1,036   830           850         1,016
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from bnncc.kernels.binary import carry_save, pair_lookup, three_word
from bnncc.kernels.binary import conv as binary_conv
from bnncc.kernels.binary import rows as binary_rows
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.binary.word_counts import Words
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.planes import Emitter, count_differences
from bnncc.plan.kernel import KernelSpec

TURNS = (9, 18, 27, 36, 54, 72)
"""Words of a turn that are worth a look: whole blocks of nine. Beyond 72 nothing is gained."""

CODE_SHARE = 4
"""Without the user's word, code may take a quarter of the flash that the layer's weights take, or
LEAST_CODE."""

LEAST_CODE = 1536
"""Bytes."""


FASTER = (three_word, pair_lookup)
"""Templates for some instruction sets that are faster than `binary.conv` wherever they can be taken."""


@dataclass(frozen=True)
class Cost:
    """Estimates of a kernel: instructions of one output pixel, and bytes of its code."""

    instructions: float
    code_bytes: float


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a BinaryConv; schedule: tile parameters of the template."""
    if takes_micro_kernel(spec, isa):
        return binary_rows.make(spec, isa, schedule)
    if takes_carry_save(spec, isa):
        return carry_save.make(spec, isa, schedule or {"words": best_turn(spec, isa)})
    for template in FASTER:
        if takes(template, spec, isa, schedule):
            return template.make(spec, isa, schedule)
    assert all(layout.form == "plain" for layout in spec.inputs), "only the template above reads other forms"
    return binary_conv.make(spec, isa, schedule)


def takes(template: ModuleType, spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> bool:
    """Whether a template makes a kernel that `binary.conv` could make as well: where it can, and the schedule
    is one of its own, or none."""
    return template.supports(spec, isa) and (not schedule or template.MARK in schedule)


def takes_micro_kernel(spec: KernelSpec, isa: Isa) -> bool:
    """Whether `binary.rows` makes the kernel."""
    return binary_rows.supports(spec, isa) and _micro_kernel_pays(spec, isa)


def takes_carry_save(spec: KernelSpec, isa: Isa) -> bool:
    """Whether `carry_save` makes it, where `binary.rows` does not."""
    return isa.popcount in ("none", "words") and carry_save.supports(spec)


def best_turn(spec: KernelSpec, isa: Isa) -> int:
    """Words of a turn: for size the least code, for speed the fewest instructions; else the fewest within a
    share of the flash that the weights take."""
    plan = BinaryPlan.of(spec, "uint32", 1)
    costs = dict(candidates(plan, isa))
    if isa.goal == "size":
        return min(costs, key=lambda words: costs[words].code_bytes)
    if isa.goal != "speed":
        most = max(LEAST_CODE, 4 * plan.steps * spec.shape[3] / CODE_SHARE)
        costs = {words: cost for words, cost in costs.items() if cost.code_bytes <= most} or dict(
            [*costs.items()][:1]
        )
    return min(costs, key=lambda words: costs[words].instructions)


def candidates(plan: BinaryPlan, isa: Isa) -> Iterator[tuple[int, Cost]]:
    """Turns that differ for this layer, the shortest first, with their costs."""
    seen = set()
    for most in TURNS:
        words = Words.of(plan.steps, most)
        if words not in seen:
            seen.add(words)
            yield most, cost(plan, isa, words)


def cost(plan: BinaryPlan, isa: Isa, words: Words) -> Cost:
    """Every operation is an instruction, every word two loads; a turn and an output cost some more.
    Instructions are 3 to 4 bytes long, and the transformation of the window has three for each word."""
    turn = 2 * words.size + (3 * words.size if isa.popcount == "words" else operations(words.size))
    vectors = -(-plan.spec.shape[3] // isa.word_lanes)
    each_vector = 10 + words.turns * (turn + 6 * (words.turns > 1))
    transform = 3 * words.stored + (4 * words.count if words.turns > 1 else 0)
    return Cost(vectors * each_vector + transform, 3.5 * (turn + 3 * words.size + 40))


def operations(words: int) -> int:
    """Operations that count the differing bits of so many words by carry-save addition, exclusive-ors
    included."""
    names: list[None] = []

    def bind(value: int) -> int:
        names.append(None)
        return value

    emitter = Emitter(bind, lambda number: number)
    count_differences(emitter, lambda _: emitter(0), words)
    return len(names)


MICRO_KERNEL_SHARE = 0.7
"""A micro-kernel on longer vectors must take this share of the instructions. Neoverse V1 starts four vector
operations of 128 bits a cycle or two of 256: llvm-mca has both loops at 0.76 cycles for 128 bits, so what
longer vectors save is other instructions, and what they cost is one sum of lanes for each output."""


def _micro_kernel_pays(spec: KernelSpec, isa: Isa) -> bool:
    """Portable C has nothing better."""
    if isa.is_scalar:
        return True
    return binary_rows.instructions(spec, isa) < MICRO_KERNEL_SHARE * binary_conv.instructions(spec)
