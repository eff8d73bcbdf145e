# SPDX-License-Identifier: Apache-2.0
"""IREE as a peer: modules that it compiles for this processor, called on this thread."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from bnncc.diagnostics import BnnccError
from tests.bench.timing import Call

FLAGS = ("--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3")
CHANNELS_LAST = (
    "--iree-preprocessing-pass-pipeline="
    "builtin.module(util.func(iree-preprocessing-convert-conv-to-channels-last))"
)
"""Without it float networks take thirty times as long."""


def iree_call(text: str, inputs: Sequence[np.ndarray], flags: Sequence[str] = ()) -> Call:
    """@main of a module, which calls no other thread. Raises BnnccError where IREE does not compile it."""
    from iree import compiler, runtime

    try:
        code = compiler.compile_str(text, target_backends=["llvm-cpu"], extra_args=[*FLAGS, *flags])
    except compiler.CompilerToolError as error:
        raise BnnccError("iree-compile", first_error(str(error))) from error
    config = runtime.Config("local-sync")
    module = runtime.VmModule.copy_buffer(config.vm_instance, code)
    context = runtime.SystemContext(config=config)
    context.add_vm_module(module)
    main = module.lookup_function("main")
    assert main is not None, "what is compiled has a main"
    arrays = [runtime.asdevicearray(config.device, array) for array in inputs]
    arguments = runtime.VmVariantList(len(arrays))
    for array in arrays:
        arguments.push_ref(array._buffer_view)  # type: ignore[arg-type]  # its stub says VmRef

    def call(held: object = (context, arrays)) -> None:
        context.vm_context.invoke(main, arguments, runtime.VmVariantList(1))

    return call


def imported_onnx(model: Path, batch: int) -> str:
    """The float graph of an ONNX file as IREE's importer writes it. Raises BnnccError."""
    with tempfile.TemporaryDirectory() as folder:
        fixed, text = Path(folder) / "fixed.onnx", Path(folder) / "model.mlir"
        onnx.save(with_batch(onnx.load(model), batch), fixed)
        command = [sys.executable, "-m", "iree.compiler.tools.import_onnx", fixed, "-o", text]
        done = subprocess.run(
            [*command, "--opset-version", "17"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BnnccError("iree-import-onnx", first_error(done.stderr))
        return text.read_text()


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The model with a number in place of dimensions that are open. Function `main` is what IREE calls it."""
    model.graph.name = "main"
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = batch
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = batch
    return model


def first_error(text: str) -> str:
    """The line that says what is wrong."""
    lines = text.strip().splitlines()
    said = [line.partition("error: ")[2] for line in lines if "error: " in line]
    return next(iter([*said, *lines[-1:]]), "")[:150]
