# SPDX-License-Identifier: Apache-2.0
"""Modules are verified after every pass that did something to them; bnncc-opt runs passes one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, StringAttr, f32, i64
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from bnncc import opt
from bnncc.dialect import operations as ops
from bnncc.dialect.network import main_function
from bnncc.dialect.parsing import parse_module
from bnncc.dialect.types import tensor
from bnncc.passes import pipeline

Kind = TypeVar("Kind", bound=Operation)

TEXT = """
func.func @main(%x: tensor<1x4xf32>, %y: tensor<1x4xf32>) -> tensor<1x4xf32>
    attributes {bnn.inputs = ["x", "y"], bnn.outputs = ["z"]} {
  %a = bnn.sub %x, %y : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  %b = bnn.transpose %a {permutation = array<i64: 0, 1>} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  func.return %b : tensor<1x4xf32>
}
"""


def found(module: ModuleOp, kind: type[Kind]) -> Kind:
    """The only operation of this kind."""
    (op,) = (op for op in module.walk() if isinstance(op, kind))
    return op


def insert(module: ModuleOp) -> None:
    block = main_function(module).body.block
    relu = ops.Relu(block.args[0])
    block.insert_op_before(relu, found(module, ops.Sub))


def swap_operands(module: ModuleOp) -> None:
    sub = found(module, ops.Sub)
    sub.operands = [sub.right, sub.left]


def set_property(module: ModuleOp) -> None:
    found(module, ops.Transpose).properties["permutation"] = DenseArrayBase.from_list(i64, [0, 0])


def set_attribute(module: ModuleOp) -> None:
    found(module, ops.Sub).attributes["note"] = StringAttr("other")


def retype(module: ModuleOp) -> None:
    Rewriter.replace_value_with_new_type(found(module, ops.Sub).result, tensor((1, 5), f32))


def retype_argument(module: ModuleOp) -> None:
    Rewriter.replace_value_with_new_type(main_function(module).body.block.args[1], tensor((4,), f32))


def reorder(module: ModuleOp) -> None:
    sub, transpose = found(module, ops.Sub), found(module, ops.Transpose)
    block = main_function(module).body.block
    sub.detach()
    block.insert_op_after(sub, transpose)


CHANGES = (insert, swap_operands, set_property, set_attribute, retype, retype_argument, reorder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_snapshot_sees(change: Callable[[ModuleOp], None]) -> None:
    module = parse_module(TEXT)
    before = pipeline.snapshot(module)
    assert pipeline.snapshot(module) == before
    change(module)
    assert pipeline.snapshot(module) != before


@pytest.mark.parametrize("change", [set_property, retype, retype_argument])
def test_a_pass_that_does_harm_is_named(
    change: Callable[[ModuleOp], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Harmless(ModulePass):
        name = "harmless"

        def apply(self, ctx: Context, op: ModuleOp) -> None: ...

    class Harmful(ModulePass):
        name = "harmful"

        def apply(self, ctx: Context, op: ModuleOp) -> None:
            change(op)

    verified: list[str] = []
    honest = pipeline.verify
    monkeypatch.setattr(
        pipeline, "verify", lambda module, name: (verified.append(name), honest(module, name))
    )
    monkeypatch.setattr(pipeline, "PIPELINE", ((Harmless, ""), (Harmless, ""), (Harmful, ""), (Harmless, "")))
    with pytest.raises(AssertionError, match="after harmful: "):
        pipeline.run_pipeline(parse_module(TEXT))
    assert verified == ["harmless", "harmful"], "what changed nothing is not verified again"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.mlir"], "No such file"),
        (["-p", "fold-everything"], "fold-everything"),
        (["-p", "hoist-time{lane=8}"], "lane"),
    ],
    ids=["file", "pass", "option"],
)
def test_bnncc_opt_tells_what_is_wrong(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.mlir"
    path.write_text(TEXT)
    passes = "hoist-time{lanes=8 memory=4096},tabulate-counts{largest=128}"
    assert opt.main([str(path), "-p", passes]) == 0, "options of passes by name"
    assert opt.main(arguments if "nowhere.mlir" in arguments else [str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error
