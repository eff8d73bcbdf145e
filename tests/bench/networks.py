# SPDX-License-Identifier: Apache-2.0
"""Whole networks, timed: `python -m tests.bench.networks` prints a table.

Medians in milliseconds of one run in which bnncc and ONNX Runtime (the same ONNX file, one thread, its
default optimisations) take turns on one core; the ratio is the median of the turns' ratios. Compile time is
that of `bnncc.compile`, everything included but the imports.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from bnncc import targets
from bnncc.driver import Options, compile_model
from bnncc.report.table import table
from tests.bench.timing import Call, measure, pin_to_one_core, processor
from tests.cases import Case, load_case

NETWORKS = (
    "larq_quicknetsmall_full",
    "larq_quicknet_full",
    "larq_zoo_birealnet_64px",
    "torch_birealnet18_w16_legacy",
    "torch_reactnet_block_legacy",
    "torch_xnornet_kmap_legacy",
    "larq_binarynet_cifar",
    "brevitas_cnv_1w1a_qonnx_dynamo",
    "brevitas_lfc_1w1a_qonnx_legacy",
    "digits_bnn_bop_legacy",
)
TARGETS = ("native", "x86-64-v3", "x86-64-v2", "c")


def onnxruntime_call(model: Path, inputs: dict[str, np.ndarray]) -> Call | None:
    """The same file in ONNX Runtime, or None where it is not installed or refuses the model's operators."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception:  # QONNX operators: onnxruntime has several exception types of its own for "unknown"
        return None
    return lambda: session.run(None, inputs)


def row(case: Case, chosen: tuple[str, ...], turns: int) -> list[str]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        model = case.write_model(Path(folder))
        calls: dict[str, Call] = {}
        seconds = 0.0
        inputs: dict[str, np.ndarray] = {}
        for name in chosen:
            start = time.perf_counter()
            artifact = compile_model(model, Path(folder) / name, Options(target=name))
            seconds = max(seconds, time.perf_counter() - start)
            ports = artifact.manifest["inputs"]
            inputs = {p["name"]: np.ascontiguousarray(case.inputs[p["name"]][: p["shape"][0]]) for p in ports}
            outputs = [np.zeros(port["shape"], port["dtype"]) for port in artifact.manifest["outputs"]]
            calls[name] = artifact.bind(artifact.arena(), list(inputs.values()), outputs)
        peer = onnxruntime_call(model, inputs)
        if peer is not None:
            calls["onnxruntime"] = peer
        times = measure(calls, turns)
        cells = [f"{times.median(name) * 1000:.4f}" for name in chosen]
        if peer is None:
            return [case.name, *cells, "-", *("-" for _ in chosen), f"{seconds:.1f}"]
        ratios = [f"{times.ratio('onnxruntime', name):.1f}x" for name in chosen]
        return [case.name, *cells, f"{times.median('onnxruntime') * 1000:.3f}", *ratios, f"{seconds:.1f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--targets", default=",".join(TARGETS[:2]), help=f"of {','.join(TARGETS)}")
    parser.add_argument("--turns", type=int, default=31)
    arguments = parser.parse_args()
    chosen = tuple(name for name in arguments.targets.split(",") if targets.load(name).runs_here())
    core = pin_to_one_core()
    print(f"{processor()}, core {core}, {arguments.turns} turns; milliseconds; ratios of times")
    faster = tuple(f"by {name}" for name in chosen)
    header = ("network", *chosen, "onnxruntime", *faster, "compile s")
    rows = [row(load_case(name), chosen, arguments.turns) for name in arguments.networks]
    print(table(header, rows, right=range(1, len(header))))


if __name__ == "__main__":
    main()
