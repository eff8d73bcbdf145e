# SPDX-License-Identifier: Apache-2.0
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Larq Compute Engine, in a Python of its own (3.10 to 3.12), which knows nothing of bnncc.

    pip install larq-compute-engine==0.16.0 tensorflow==2.16.1 tf-keras==2.16.0 larq==0.13.3 numpy==1.26.4
    pip install zookeeper==1.4.0; pip install --no-deps larq-zoo==2.4.0
    python larq_worker.py --make FOLDER    # random weights: QuickNets, and chains of binary layers

Without --make it answers lines on standard input: `load FILE.tflite` with "ok", `time N` with the seconds
that N inferences took of its thread's time. One thread, with the engine's fastest kernels for x86: indirect
ones for binary layers, XNNPACK for the rest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LAYERS = ((56, 64), (28, 128), (14, 256), (7, 512))
"""Extent of the image, channels."""

CHAINS = (1, 11)
"""Layers: a tenth of the difference is one layer, from bits to bits."""


def make(folder: Path) -> None:
    """Write all models that are not there yet."""
    import larq_compute_engine as engine
    import larq_zoo.sota as sota

    folder.mkdir(parents=True, exist_ok=True)
    for extent, channels in LAYERS:
        for count in CHAINS:
            name = f"bconv_chain{count}_{extent}x{extent}x{channels}"
            write(folder / f"{name}.tflite", engine, lambda: chain(extent, channels, count))  # noqa: B023
    for name in ("QuickNetSmall", "QuickNet"):
        write(folder / f"{name}.tflite", engine, lambda: getattr(sota, name)(weights=None))  # noqa: B023


def write(path: Path, engine: Any, build: Callable[[], Any]) -> None:
    """Convert a model, if its file is not there."""
    if not path.exists():
        path.write_bytes(engine.convert_keras_model(build()))


def chain(extent: int, channels: int, count: int) -> Any:
    """So many 3x3 layers with batch normalisation between them."""
    import larq
    import tensorflow as tf

    layers = [tf.keras.layers.InputLayer((extent, extent, channels))]
    for _ in range(count):
        layers.append(
            larq.layers.QuantConv2D(
                channels,
                3,
                padding="same",
                pad_values=1,
                use_bias=False,
                input_quantizer="ste_sign",
                kernel_quantizer="ste_sign",
            )
        )
        layers.append(tf.keras.layers.BatchNormalization())
    return tf.keras.Sequential(layers)


def serve() -> None:
    """Answer until the input ends."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import numpy as np
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter: Any = None
    inputs: list[Any] = []
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "load":
            interpreter = Interpreter(
                Path(argument).read_bytes(), num_threads=1, use_indirect_bgemm=True, use_xnnpack=True
            )
            rng = np.random.default_rng(0)
            inputs = [rng.standard_normal(shape).astype(np.float32) for shape in interpreter.input_shapes]
            answer = "ok"
        else:
            start = time.thread_time()
            for _ in range(int(argument)):
                interpreter.interpreter.predict(inputs)
            answer = repr(time.thread_time() - start)
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]))
    else:
        serve()
