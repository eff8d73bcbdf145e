# SPDX-License-Identifier: Apache-2.0
"""bnncc and other engines on the same layers and networks: `python -m tests.bench.versus` prints two tables
(`--only layers`, `--only networks`: one of them; names of networks: those).

One thread; all take turns on one core; medians, and ratios as the medians of the turns' ratios. Engines that
are not there, or refuse a network, leave "-".

- layers: 3x3, bits to bits (zero padding, threshold, packing), in microseconds. limit: counting the bits
  alone. int8: ONNX Runtime's QLinearConv on bytes. TVM: Relax's schedules without tuning, float32.
  bit-serial: topi's convolution, packing inside. larq: Larq Compute Engine, from bits to bits, a tenth of
  what 11 layers take more than one. IREE: what `--emit linalg` writes.
- networks: in milliseconds; float, int8 (static quantisation, QDQ), IREE and TVM run the ONNX file. limit:
  counting the bits of binary layers, 512 in an instruction, and multiplying and adding for real ones, 16
  float32 in an instruction, alone.

IREE's and TVM's networks take so long that they are measured in few turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bnncc import driver
from bnncc.data.arrays import random_input
from bnncc.diagnostics import BnnccError
from bnncc.driver import Options
from bnncc.execution.artifact import Artifact
from tests.bench import larq, peers, peers_onnx
from tests.bench.architectures import architectures, exported
from tests.bench.networks import onnxruntime_call
from tests.bench.output import add_markdown, show
from tests.bench.timing import (
    VECTORS_COUNTED,
    Call,
    Times,
    measure,
    multiply_loop,
    pin_to_one_core,
    popcount_loop,
    processor,
)
from tests.bench.upstream import LAYERS, compiled_layer, iree_layer, layer_call
from tests.cases import load_case

SELDOM = 3
"""Turns of what takes long."""

NETWORKS = ("larq_quicknetsmall_full", "larq_quicknet_full", "bi_realnet18", "reactnet_a")
LARQ_NAMES = {"larq_quicknetsmall_full": "QuickNetSmall", "larq_quicknet_full": "QuickNet"}

ENGINES = ("ONNX Runtime float32", "ONNX Runtime int8", "Larq Compute Engine", "IREE")
LAYER_HEADER = ("us", "bnncc", "of the limit", *ENGINES, "TVM bit-serial", "TVM Relax float32")
NETWORK_HEADER = ("ms", "bnncc", "of the limit", *ENGINES, "TVM Relax float32")

Maker = Callable[[], Call | None]


def calls_of(makers: Mapping[str, Maker]) -> dict[str, Call]:
    """Those that can be made; why others cannot is printed."""
    made: dict[str, Call] = {}
    for name, make in makers.items():
        try:
            call = make()
        except (BnnccError, ImportError, OSError, EOFError) as error:
            print(f"{name}: {error}")
            continue
        if call is not None:
            made[name] = call
    return made


def larq_maker(name: str) -> Maker:
    """Of a model of Larq's by name."""

    def make() -> Call | None:
        path = larq.model(name)
        return None if path is None else larq.LarqCall(path)

    return make


def layer_row(extent: int, channels: int, turns: int, folder: Path) -> list[str]:
    """One line of the table of layers."""
    shape = f"{extent}x{extent}x{channels}"
    model = peers_onnx.layer_model(extent, channels, folder)
    x = {"x": np.random.default_rng(3).standard_normal((1, channels, extent, extent)).astype(np.float32)}
    calls = calls_of(
        {
            "bnncc": lambda: layer_call(*compiled_layer(extent, channels, "tvm")),
            "limit": popcount_loop,
            "float": lambda: onnxruntime_call(model, x),
            "int8": lambda: peers_onnx.int8_layer_call(extent, channels, folder),
            "larq 1": larq_maker(f"bconv_chain1_{shape}"),
            "larq 11": larq_maker(f"bconv_chain11_{shape}"),
            "IREE": lambda: iree_layer(extent, channels),
            "bit-serial": lambda: peers_onnx.bit_serial_call(extent, channels),
            "TVM": lambda: peers_onnx.tvm_call(model, x),
        }
    )
    times = measure(calls, turns)
    close(calls)
    micro = {name: 1e6 * times.median(name) for name in calls}
    ratios = {name: times.ratio(name, "bnncc") for name in calls}
    for values in (micro, ratios):
        if "larq 11" in values and "larq 1" in values:
            values["larq"] = (values["larq 11"] - values["larq 1"]) / 10
    vectors = extent * extent * 9 * channels * channels / 512
    share = f"{ratios['limit'] * vectors / VECTORS_COUNTED:.0%}" if "limit" in calls else "-"
    columns = ("float", "int8", "larq", "IREE", "bit-serial", "TVM")
    cells = [f"{micro[c]:.0f} ({how_many(ratios[c])})" if c in micro else "-" for c in columns]
    return [f"3x3 {shape}", f"{micro['bnncc']:.1f}", share, *cells]


def network_row(name: str, turns: int, folder: Path) -> list[str]:
    """One line of the table of networks."""
    model = exported(name) if name in architectures() else load_case(name).write_model(folder)
    artifact = driver.compile_model(model, None, Options())
    ports = artifact.manifest["inputs"]
    inputs = {p["name"]: random_input(np.random.default_rng(3), p) for p in ports}
    outputs = [np.zeros(port["shape"], port["dtype"]) for port in artifact.manifest["outputs"]]
    quantized = folder / model.name
    quantized.write_bytes(model.read_bytes())
    ours = artifact.bind(artifact.arena(), list(inputs.values()), outputs)
    calls = calls_of(
        {
            "bnncc": lambda: ours,
            "counting": popcount_loop,
            "multiplying": multiply_loop,
            "float": lambda: onnxruntime_call(model, inputs),
            "int8": lambda: peers_onnx.quantized_call(quantized, inputs),
            "larq": larq_maker(LARQ_NAMES.get(name, "")),
        }
    )
    times = measure(calls, turns)
    close(calls)
    slow = calls_of(
        {
            "bnncc": lambda: ours,
            "IREE": lambda: iree_network(model, list(inputs.values())),
            "TVM": lambda: peers_onnx.tvm_call(model, inputs),
        }
    )
    seldom = measure(slow, SELDOM)
    cells = [cell(times, c) if c in calls else "-" for c in ("float", "int8", "larq")]
    cells += [cell(seldom, c) if c in slow else "-" for c in ("IREE", "TVM")]
    share = f"{limit(artifact, times):.0%}" if "counting" in calls else "-"
    return [LARQ_NAMES.get(name, name), f"{1e3 * times.median('bnncc'):.2f}", share, *cells]


def limit(artifact: Artifact, times: Times) -> float:
    """What counting and multiplying alone take, as a share of bnncc's time."""
    share = 0.0
    for step in artifact.manifest["steps"]:
        is_binary = step["domains"].count("bipolar") == 2
        work, in_one = ("counting", 512) if is_binary else ("multiplying", 16)
        share += step["macs"] / in_one * times.ratio(work, "bnncc") / VECTORS_COUNTED
    return share


def iree_network(model: Path, inputs: list[np.ndarray]) -> Call:
    """The float graph by IREE."""
    return peers.iree_call(peers.imported_onnx(model, 1), inputs, [peers.CHANNELS_LAST])


def cell(times: Times, name: str) -> str:
    """Milliseconds, and how many times bnncc's."""
    return f"{1e3 * times.median(name):.1f} ({how_many(times.ratio(name, 'bnncc'))})"


def how_many(ratio: float) -> str:
    """Times bnncc's, three digits or so."""
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x"


def close(calls: Mapping[str, Call]) -> None:
    """End the processes of peers."""
    for call in calls.values():
        if isinstance(call, larq.LarqCall):
            call.close()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--only", choices=("layers", "networks"))
    parser.add_argument("--turns", type=int, default=15)
    add_markdown(parser)
    chosen = parser.parse_args()
    if unknown := set(chosen.networks) - set(NETWORKS):
        parser.error(f"no network: {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    core = pin_to_one_core()
    print(f"{processor()}, core {core}, {chosen.turns} turns")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.only != "networks":
            rows = [layer_row(*layer, chosen.turns, folder) for layer in LAYERS]
            show(LAYER_HEADER, rows, chosen.markdown)
        if chosen.only != "layers":
            rows = [network_row(network, chosen.turns, folder) for network in chosen.networks]
            show(NETWORK_HEADER, rows, chosen.markdown)


if __name__ == "__main__":
    main()
