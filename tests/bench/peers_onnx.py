# SPDX-License-Identifier: Apache-2.0
"""What runs an ONNX file, or the same layer, on one thread: ONNX Runtime in float and int8, TVM's default
schedules, TVM's bit-serial convolution."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bench.networks import onnxruntime_call
from tests.bench.peers import with_batch
from tests.bench.timing import Call

OPSET = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 9}


def layer_model(extent: int, channels: int, folder: Path) -> Path:
    """A 3x3 convolution with weights of -1 and +1, in float32."""
    shape = [1, channels, extent, extent]
    weight = np.random.default_rng(7).choice(np.array([-1, 1], np.float32), (channels, channels, 3, 3))
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1] * 4)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / f"layer_{extent}_{channels}.onnx"
    onnx.save(helper.make_model(graph, **OPSET), path)
    return path


def int8_layer_call(extent: int, channels: int, folder: Path) -> Call | None:
    """The same on bytes, from bytes to bytes: QLinearConv in ONNX Runtime."""
    shape = [1, channels, extent, extent]
    weight = np.random.default_rng(7).choice(np.array([-1, 1], np.int8), (channels, channels, 3, 3))
    scalars = {"one": np.float32(1), "out": np.float32(20), "middle": np.uint8(128), "zero": np.int8(0)}
    initializers = [numpy_helper.from_array(np.array(value), name) for name, value in scalars.items()]
    names = ["x", "one", "middle", "w", "one", "zero", "out", "middle"]
    node = helper.make_node("QLinearConv", names, ["y"], kernel_shape=[3, 3], pads=[1] * 4)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, shape)],
        [*initializers, numpy_helper.from_array(weight, "w")],
    )
    path = folder / f"int8_{extent}_{channels}.onnx"
    onnx.save(helper.make_model(graph, **OPSET), path)
    x = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    return onnxruntime_call(path, {"x": x})


def quantized_call(model: Path, inputs: Mapping[str, np.ndarray]) -> Call | None:
    """A float network whose convolutions and dense layers ONNX Runtime's static quantisation (QDQ, weights by
    channel) has made int8, calibrated on these inputs; None where that cannot be had."""
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    except ImportError:
        return None

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Mapping[str, np.ndarray]] = iter([inputs])

        def get_next(self) -> Mapping[str, np.ndarray] | None:  # type: ignore[override]
            return next(self.left, None)

    path = model.with_suffix(".int8.onnx")
    logging.disable(logging.WARNING)
    quantize_static(
        model,
        path,
        Samples(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )
    logging.disable(logging.NOTSET)
    return onnxruntime_call(path, dict(inputs))


def tvm_call(model: Path, inputs: Mapping[str, np.ndarray]) -> Call:
    """The float graph by TVM's Relax with the schedules that it has without tuning, one thread."""
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    graph: Any = with_batch(onnx.load(model), 1)
    processor: Any = tvm.cpu()
    module = from_onnx(graph, keep_params_in_input=False)
    machine = relax.VirtualMachine(tvm.compile(module, target=host()), processor)
    arguments = [tvm.runtime.tensor(array) for array in inputs.values()]
    return lambda: machine["main"](*arguments)


def bit_serial_call(extent: int, channels: int) -> Call:
    """A binary 3x3 layer by `topi.nn.bitserial_conv2d_nchw` (packs inside, int16 out) without a schedule."""
    import tvm
    from tvm import te, topi

    data = te.placeholder((1, channels, extent, extent), "uint32")
    weight = te.placeholder((channels, channels, 3, 3), "uint32")
    sums: Any = topi.nn.bitserial_conv2d_nchw(data, weight, 1, 1, 1, 1, "uint32", "int16", False)
    function = te.create_prim_func([data, weight, sums])
    library = tvm.compile(tvm.IRModule({"main": function}), target=host())
    rng = np.random.default_rng(7)
    arrays = [rng.integers(0, 2, [int(e) for e in t.shape]).astype(np.uint32) for t in (data, weight)]
    arguments = [tvm.runtime.tensor(array) for array in arrays]
    arguments.append(tvm.runtime.tensor(np.zeros([int(e) for e in sums.shape], np.int16)))
    return lambda: library["main"](*arguments)


def host() -> Any:
    """This processor, as bnncc compiles for it."""
    from bnncc import targets
    from bnncc.kernels.isa import Isa

    return Isa.of(targets.native()).tvm_target()
