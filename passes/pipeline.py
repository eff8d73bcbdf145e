# SPDX-License-Identifier: Apache-2.0
"""The order of the passes, with the reason for each place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from bnncc.dialect.network import verify_network
from bnncc.dialect.parsing import make_context
from bnncc.passes.assume_sign_zero import AssumeSignZeroPass
from bnncc.passes.commute_pool import CommutePoolPass
from bnncc.passes.compare_directly import CompareDirectlyPass
from bnncc.passes.convert_onnx import ConvertOnnxPass
from bnncc.passes.crop_unread import CropUnreadPass
from bnncc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressionsPass
from bnncc.passes.fixed_membranes import FixedMembranesPass
from bnncc.passes.fold_batch_norm import FoldBatchNormPass
from bnncc.passes.fold_constants import FoldConstantsPass
from bnncc.passes.fold_shuffle import FoldShufflePass
from bnncc.passes.fold_thresholds import FoldThresholdsPass
from bnncc.passes.fuse_epilogues import FuseEpiloguesPass
from bnncc.passes.hoist_time import HoistTimePass
from bnncc.passes.infer_domains import InferDomainsPass
from bnncc.passes.inline_neurons import InlineNeuronsPass
from bnncc.passes.merge_dimensions import MergeDimensionsPass
from bnncc.passes.place_pads import PlacePadsPass
from bnncc.passes.quantize_real import QuantizeRealPass, Ranges
from bnncc.passes.quantize_weights import QuantizeWeightsPass
from bnncc.passes.recognize_binarize import RecognizeBinarizePass
from bnncc.passes.recognize_levels import RecognizeLevelsPass
from bnncc.passes.recognize_neurons import RecognizeNeuronsPass
from bnncc.passes.recognize_shuffle import RecognizeShufflePass
from bnncc.passes.recognize_spikes import Rates, RecognizeSpikesPass
from bnncc.passes.reject_unknown import RejectUnknownPass
from bnncc.passes.roll_time import RollTimePass
from bnncc.passes.settle_integers import SettleIntegersPass
from bnncc.passes.simplify_layout import SimplifyLayoutPass
from bnncc.passes.sink_concat import SinkConcatPass
from bnncc.passes.split_affine import SplitAffinePass
from bnncc.passes.straighten_time import StraightenTimePass
from bnncc.passes.suggest_states import SuggestStatesPass
from bnncc.passes.tabulate_counts import LARGEST_TABLE, TabulateCountsPass
from bnncc.passes.time.obstacles import note_one_step
from bnncc.plan.byte_costs import Shares


@dataclass(frozen=True)
class Rounded:
    """What becomes integers although answers change: weights "int8"; membranes "int16" or "int32"; real
    layers "int8", by the ranges of what they read, where that is worth its while (`byte_costs`)."""

    weights: str | None = None
    membranes: str | None = None
    real: str | None = None
    ranges: Ranges | None = None
    shares: Shares = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(kind is not None for kind in (self.weights, self.membranes, self.real))


After = Callable[[str, ModuleOp], None]
"""Told of every pass, by name, once it has run."""

PIPELINE: tuple[tuple[type[ModulePass], str], ...] = (
    (RollTimePass, "while the nodes stand as the exporter wrote them, one time step after the other"),
    (RecognizeShufflePass, "of three nodes, before their transpose moves away from the reshapes"),
    (ConvertOnnxPass, "everything after it looks at one dialect only, not at operator sets"),
    (InlineNeuronsPass, "their arithmetic is simplified and fused like any other"),
    (FoldConstantsPass, "patterns look for scalars, which exporters write as whole tensors"),
    (EliminateCommonSubexpressionsPass, "a straight-through estimator's two polynomials become one value"),
    (RecognizeBinarizePass, "before layouts move, while the idioms are as they were written"),
    (FoldConstantsPass, "recognised binarizes leave multiplications by 1"),
    (SettleIntegersPass, "between two layers of bytes nothing but casts is left that layouts move through"),
    (SimplifyLayoutPass, "transposes stand between activations and the contractions that want their domain"),
    (EliminateCommonSubexpressionsPass, "branches of one value turned the same way share the transpose"),
    (FoldShufflePass, "images are [n, h, w, c], weights still numbers"),
    (RejectUnknownPass, "dead nodes are gone; what is left has to be compiled"),
    (AssumeSignZeroPass, "decides domains, so before they are inferred; only where the user asks for it"),
    (SplitAffinePass, "levels that are not symmetric become signs, which domains are inferred of"),
    (InferDomainsPass, "finds the integer accumulators that thresholds are folded on"),
    (SettleIntegersPass, "scales have moved behind pools, where the next quantiser undoes them"),
    (RecognizeLevelsPass, "of what signs did not explain: a plane of bits less where they do"),
    (InferDomainsPass, "the same for activations of a few bits"),
    (RecognizeSpikesPass, "of what no integers explained: weights that are real"),
    (QuantizeWeightsPass, "those that spikes meet; only where the user asks for it"),
    (QuantizeRealPass, "what is real still; only where the user asks for it"),
    (SinkConcatPass, "domains are known, and thresholds fold on each part by itself"),
    (
        FoldConstantsPass,
        "scales that are the same for every channel become scalars before chains are evaluated",
    ),
    (FoldThresholdsPass, "while batch normalisation is still in the order that the model computes it"),
    (PlacePadsPass, "it is known by now which values may be 0"),
    (CommutePoolPass, "thresholds stand behind the pools now"),
    (FoldThresholdsPass, "of signs that went in front of a pool, behind a layer's normalisation"),
    (FoldBatchNormPass, "what no threshold took is real-valued: multiply and add"),
    (MergeDimensionsPass, "nothing moves reshapes any more"),
    (EliminateCommonSubexpressionsPass, "equal constants and casts are shared before regions are cut"),
    (CompareDirectlyPass, "thresholds are found; subtractions have become additions"),
    (StraightenTimePass, "both sides of what it compares are as simple as they will be"),
    (SuggestStatesPass, "the arithmetic of neurons is final, and not wrapped yet"),
    (RecognizeNeuronsPass, "the arithmetic is final, and one neuron goes into one region"),
    (FixedMembranesPass, "of the neurons that were recognised; only where the user asks for it"),
    (
        HoistTimePass,
        "neurons are known by now, which stay in loops; only where there is memory for all steps",
    ),
    (CropUnreadPass, "what pools drop of images of all steps"),
    (TabulateCountsPass, "of what is left for neurons to read: nothing looks into tables"),
    (FuseEpiloguesPass, "last: regions are what the lowering turns into kernels"),
)
"""Every pass in order, and why it stands there."""


def run_pipeline(
    module: ModuleOp,
    after: After | None = None,
    assume_sign_zero: int | None = None,
    rates: Rates | None = None,
    layer_by_layer: bool = True,
    rounded: Rounded = Rounded(),
    largest_table: int = LARGEST_TABLE,
) -> None:
    """Bring a module of the front end into fused regions, in place.

    after: called after each pass. assume_sign_zero: +1 or -1 to give up exact sign(0) = 0. rates: how many
    neurons spike, and on what target. layer_by_layer: whether there is memory to run each layer over all time
    steps (hoist-time). rounded: what may be rounded to integers. largest_table: bytes (tabulate-counts).
    Raises BnnccError for nodes that cannot be compiled; a module that does not verify is our own fault."""
    context = make_context()
    known: list[object] = []
    for kind, _ in PIPELINE:
        if kind is AssumeSignZeroPass:
            if assume_sign_zero is None:
                continue
            instance: ModulePass = AssumeSignZeroPass(assume_sign_zero)
        elif kind is HoistTimePass and not layer_by_layer:
            note_one_step(module)
            continue
        elif kind is HoistTimePass and rates is not None:
            instance = HoistTimePass(rates.costs.lanes)
        elif kind is RecognizeSpikesPass:
            instance = RecognizeSpikesPass(rates)
        elif kind is QuantizeWeightsPass:
            instance = QuantizeWeightsPass(rounded.weights)
        elif kind is QuantizeRealPass:
            instance = QuantizeRealPass(rounded.ranges, rounded.shares)
        elif kind is FixedMembranesPass:
            instance = FixedMembranesPass(rounded.membranes)
        elif kind is TabulateCountsPass:
            instance = TabulateCountsPass(largest_table)
        else:
            instance = kind()
        instance.apply(context, module)
        known, before = snapshot(module), known
        if known != before:
            verify(module, kind.name)
        if after is not None:
            after(kind.name, module)


def snapshot(module: ModuleOp) -> list[object]:
    """All that verifiers look at. Equal ones are of a module that nothing was done to in between, as most
    passes do nothing to most networks; to verify it again would take half of the passes' time."""
    return [
        (
            op,
            op.parent,
            tuple(op.operands),
            [result.type for result in op.results],
            dict(op.properties),
            dict(op.attributes),
            [(block, [argument.type for argument in block.args]) for r in op.regions for block in r.blocks],
        )
        for op in module.walk()
    ]


def verify(module: ModuleOp, name: str) -> None:
    """Assert that a pass left the module valid."""
    try:
        verify_network(module)
    except VerifyException as problem:
        raise AssertionError(f"after {name}: {problem}") from problem
