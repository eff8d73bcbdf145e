# SPDX-License-Identifier: Apache-2.0
"""Which tile parameters are worth measuring for a layer, and what identifies it in a tuning database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from bnncc.kernels import choice
from bnncc.kernels.binary import along as binary_along
from bnncc.kernels.binary import conv as binary_conv
from bnncc.kernels.binary import rows as binary_rows
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.isa import Isa, TargetFacts
from bnncc.kernels.kernel import TileParameters
from bnncc.kernels.naming import layer_name, spec_digest
from bnncc.kernels.nest import Pixels
from bnncc.kernels.real import conv as real_conv
from bnncc.kernels.spike import conv as spike_conv
from bnncc.plan.budget import Goal
from bnncc.plan.kernel import BinaryConv, ByteConv, KernelSpec, Map, Pool, RealConv, SpikeConv

TEMPLATES_VERSION = 3
"""To be raised when a template changes what its parameters mean or cost: older records are not used then."""

VECTORS = (1, 2, 4, 8)
"""Vectors of channels side by side, where that is all there is to choose."""


def candidates(spec: KernelSpec, target: TargetFacts, goal: Goal = None) -> list[TileParameters]:
    """Tile parameters of `spec`'s template without repetition, those of the default kernel first. One only
    where there is nothing to choose."""
    isa = replace(Isa.of(target), goal=goal)
    found: list[TileParameters] = []
    for parameters in _candidates(spec, isa):
        if dict(parameters) not in found:
            found.append(dict(parameters))
    return found


def _candidates(spec: KernelSpec, isa: Isa) -> Iterator[TileParameters]:
    match spec.root:
        case BinaryConv():
            yield from _binary(spec, isa)
        case ByteConv():
            yield from byte_conv.candidates(spec, isa)
        case RealConv():
            yield from (schedule.parameters() for schedule in real_conv.candidates(spec, isa))
        case SpikeConv():
            yield from spike_conv.candidates(spec, isa)
        case Pool() | Map() if not isa.is_scalar and not spec.is_recurrent:
            default = 4 if isinstance(spec.root, Pool) else 2
            yield from ({"vectors": count} for count in sorted(VECTORS, key=lambda n: n != default))
        case _:
            yield {}


def _binary(spec: KernelSpec, isa: Isa) -> Iterator[TileParameters]:
    """Of the template that `choice.make` takes."""
    assert isinstance(spec.root, BinaryConv)
    if choice.takes_micro_kernel(spec, isa):
        plan = BinaryPlan.of(spec, "uint32", binary_along.LANES)
        yield binary_rows.default(plan, Pixels.of(spec, spec.root.window))
    elif choice.takes_carry_save(spec, isa):
        best = choice.best_turn(spec, isa)
        turns = [words for words, _ in choice.candidates(BinaryPlan.of(spec, "uint32", 1), isa)]
        yield from ({"words": words} for words in (best, *turns))
    else:
        for template in choice.FASTER:
            if choice.takes(template, spec, isa):
                yield from template.candidates(spec, isa)
        if spec.root.input.form != "plain":
            return
        yield from (schedule.parameters() for schedule in binary_conv.candidates(spec, isa))


def layer_key(spec: KernelSpec, target: TargetFacts) -> dict[str, object]:
    """What a tuning record is for, as plain data: operation, domains, epilogue, shapes, the processor's
    features, the templates' version, and a digest of all that code depends on but its tile."""
    isa = Isa.of(target)
    name = layer_name(spec)
    return {
        "operation": name[0],
        "activation": name[1],
        "weight": name[2],
        "epilogue": name[3],
        "inputs": [list(layout.shape) for layout in spec.inputs],
        "output": list(spec.shape),
        "isa": {key: value for key, value in asdict(isa).items() if value and key != "goal"},
        "templates": TEMPLATES_VERSION,
        "digest": spec_digest(spec, isa),
    }
