# SPDX-License-Identifier: Apache-2.0
"""What bnncc adds to xDSL's tools (entry point group `xdsl.universe`): the dialect and the passes.

Everything is made when it is asked for, so that listing costs no import.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from xdsl.ir import Dialect
from xdsl.passes import ModulePass
from xdsl.universe import Universe

PASSES = (
    "assume-sign-zero",
    "call-library-kernels",
    "commute-pool",
    "compare-directly",
    "convert-bnn-to-linalg",
    "convert-onnx",
    "crop-unread",
    "eliminate-common-subexpressions",
    "fixed-membranes",
    "fold-batch-norm",
    "fold-constants",
    "fold-shuffle",
    "fold-thresholds",
    "fuse-epilogues",
    "hoist-time",
    "infer-domains",
    "inline-neurons",
    "merge-dimensions",
    "place-pads",
    "quantize-real",
    "quantize-weights",
    "recognize-binarize",
    "recognize-levels",
    "recognize-neurons",
    "recognize-shuffle",
    "recognize-spikes",
    "reject-unknown",
    "roll-time",
    "settle-integers",
    "simplify-layout",
    "sink-concat",
    "split-affine",
    "straighten-time",
    "suggest-states",
    "tabulate-counts",
)
"""The names of all passes; a name gives its module and its class."""


def _dialect() -> Dialect:
    from bnncc.dialect import BNN

    return BNN


def pass_factory(name: str) -> Callable[[], type[ModulePass]]:
    """A function that imports a pass: fold-thresholds is bnncc.passes.fold_thresholds.FoldThresholdsPass."""

    def load() -> type[ModulePass]:
        module = import_module(f"bnncc.passes.{name.replace('-', '_')}")
        title = "".join(part.capitalize() for part in name.split("-"))
        return getattr(module, f"{title}Pass")

    return load


UNIVERSE = Universe(
    all_dialects={"bnn": _dialect},
    all_passes={name: pass_factory(name) for name in PASSES},
)
