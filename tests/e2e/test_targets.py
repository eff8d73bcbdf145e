# SPDX-License-Identifier: Apache-2.0
"""Networks for other processors, run by their emulators: the answers are those of the framework, layer by
layer those of the reference, and a damaged library is found out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import bnncc
from bnncc import targets
from bnncc.bench import count_artifact
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution.artifact import Artifact
from bnncc.toolchain import llvm
from tests.cases import load_case
from tests.e2e.commands import Shell

NOT_EMULATED = "rv64gcv_zvbb"
"""A processor that QEMU knows since 8.1."""
EMULATED = [name for name in targets.names() if targets.load(name).emulator and name != NOT_EMULATED]
PORTS = {"x": (1, 512, 5, 6), "y": (1, 40, 5, 6)}

FAMILIES = ["cortex-m4", "rv32imc", "aarch64", "rv64gc", "rv64gcv"]
"""A target for each kind of kernels and of start-up code."""
SMALL = ["torch_reactnet_block_legacy", "larq_quicknet_blocks", "brevitas_lfc_1w1a_qonnx_legacy"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load_case("digits_bnn_bop_legacy").write_model(tmp_path_factory.mktemp("digits"))


@pytest.mark.parametrize("target", EMULATED)
def test_digits_on_every_processor(target: str, digits: Path):
    case = load_case("digits_bnn_bop_legacy").first(12)
    outputs = bnncc.compile(digits, target=target).run(dict(case.inputs))
    assert case.differences(outputs) == []


def test_a_processor_that_the_emulator_may_not_know(digits: Path, tmp_path: Path):
    """An older QEMU says so; a newer one gives the answers."""
    case = load_case("digits_bnn_bop_legacy").first(4)
    artifact = bnncc.compile(digits, target=NOT_EMULATED, output=tmp_path / "digits")
    try:
        assert case.differences(artifact.run(dict(case.inputs))) == []
    except BnnccError as error:
        assert "does not know the processor" in error.hint and "QEMU emulator version" not in error.message


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((SMALL[0], target) for target in ("cortex-m4", "aarch64")),
        *((SMALL[1], target) for target in ("rv32imc", "rv64gc", "rv64gcv")),
        *((SMALL[2], target) for target in FAMILIES),
    ],
)
def test_every_layer_agrees_on_an_emulated_processor(name: str, target: str, tmp_path: Path, bnncc: Shell):
    path = load_case(name).write_model(tmp_path)
    report = bnncc.fine("verify", path, "--target", target, "--samples", "1", "--json").json
    assert report["passed"] and len(report["layers"]) > 4


@pytest.mark.slow
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize(
    "name", [*SMALL, "brevitas_tfc_1w2a_qonnx_legacy", "digits_bnn_bop_legacy", "larq_binarynet_cifar"]
)
def test_every_network_on_every_processor(name: str, target: str, tmp_path: Path, bnncc: Shell):
    path = load_case(name).write_model(tmp_path)
    assert bnncc.fine("verify", path, "--target", target, "--samples", "1", "--json").json["passed"]


def test_scalable_vectors_in_a_library(tmp_path: Path):
    """Sums long enough for SVE: the micro-kernel is in the archive under the library's name."""
    rng = np.random.default_rng(0)
    weight = rng.choice(np.array([-1, 1], np.float32), (40, 512, 3, 3))
    nodes = [
        onnx.helper.make_node("Sign", ["x"], ["signs"]),
        onnx.helper.make_node("Conv", ["signs", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    ports = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in PORTS.items()]
    graph = onnx.helper.make_graph(
        nodes, "deep", ports[:1], ports[1:], [onnx.numpy_helper.from_array(weight, "w")]
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]),
        tmp_path / "long.onnx",
    )
    artifact = bnncc.compile(tmp_path / "long.onnx", target="neoverse-v1", output=tmp_path / "library")
    (archive,) = (tmp_path / "library").glob("lib*_layers.a")
    assert f"{artifact.name}_bnncc_arm_sve_4".encode() in archive.read_bytes()
    x = rng.standard_normal(PORTS["x"], np.float32)
    padded = np.pad(np.sign(x), [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    expected = np.einsum("nchwkl,ockl->nohw", windows, weight)
    np.testing.assert_array_equal(artifact.run({"x": x})["y"], expected)


@pytest.mark.parametrize("target", ["cortex-m4", "aarch64", "rv64gcv"])
def test_a_damaged_library_gives_other_answers(target: str, digits: Path, tmp_path: Path):
    case = load_case("digits_bnn_bop_legacy").first(4)
    bnncc.compile(digits, target=target, output=tmp_path / "digits")
    archive = tmp_path / "digits" / "libmodel_layers.a"
    code = bytearray(archive.read_bytes())
    weights = code.index(b"\x7fELF", code.index(b"model_weights.o/"))
    for at in range(
        weights + 2048, weights + 2560
    ):  # Behind the header, which is followed by 11 KB of weights.
        code[at] ^= 0xFF
    archive.write_bytes(code)
    assert case.differences(Artifact(tmp_path / "digits").run(dict(case.inputs))) != []


def instructions_beyond_armv6m(library: Path) -> list[str]:
    """Lines of the disassembly of what Armv6-M does not have."""
    objdump = llvm.tool("llvm-objdump")
    assert objdump, "the tests want llvm-objdump: python -m tests.install"
    command = [objdump, "-d", "--triple=thumbv6m-none-eabi", "--mcpu=cortex-m0plus", library]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert listing.count("\n") > 200
    return [line for line in listing.splitlines() if "<unknown>" in line]


@pytest.mark.parametrize("name", ["digits_bnn_bop_legacy", "torch_reactnet_block_legacy"])
def test_a_cortex_m0_finds_nothing_but_its_own_instructions(name: str, tmp_path: Path):
    """QEMU runs Armv6-M code on a Cortex-M3, which would take others as well."""
    path = load_case(name).write_model(tmp_path)
    for target, is_clean in (("cortex-m0plus", True), ("cortex-m4", False)):  # the second: negative control
        library = bnncc.compile(path, name="net", target=target, output=tmp_path / target).directory
        assert bool(instructions_beyond_armv6m(library / "libnet.a")) != is_clean


def test_instructions_are_counted_alike_each_time(digits: Path):
    artifact = bnncc.compile(digits, target="rv32imc")
    first, second = (count_artifact(artifact, layers=True) for _ in range(2))
    assert first == second
    layers = [layer.instructions for layer in first.layers]
    assert 0.95 < sum(layers) / first.instructions < 1.05
    convolution = max(first.layers, key=lambda layer: layer.macs)
    assert convolution.macs / 32 < convolution.instructions < convolution.macs


def test_bench_says_that_instructions_are_not_cycles(digits: Path, bnncc: Shell):
    text = bnncc.fine("bench", digits, "--target", "cortex-m4", "--layers").out
    assert "instructions, not cycles" in text and "bytes of code" in text
    result = bnncc.fine("bench", digits, "--target", "cortex-m4", "--json").json
    assert result["emulator"] == "qemu-system-arm" and result["instructions"] > 1000


def test_without_an_emulator_a_message_says_what_installs_it(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    artifact = bnncc.compile(digits, target="cortex-m4", output=tmp_path / "digits")
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "qemu" in name else found(name))
    inputs = dict(load_case("digits_bnn_bop_legacy").first(1).inputs)
    with pytest.raises(BnnccError, match="qemu-system-arm is not installed") as caught:
        artifact.run(inputs)
    assert "apt-get install qemu-system-arm" in caught.value.hint
    assert caught.value.exit_code == ExitCode.FAILURE


def test_a_network_too_large_for_the_board(digits: Path, tmp_path: Path):
    board = tmp_path / "tiny-board.toml"
    text = (targets.FOLDER / "cortex-m4.toml").read_text()
    board.write_text(text.replace("ram_bytes = 0x400000", "ram_bytes = 0x200"))
    artifact = bnncc.compile(digits, target=str(board), output=tmp_path / "digits")
    with pytest.raises(BnnccError, match="RAM"):
        artifact.run({name: array[:1] for name, array in load_case("digits_bnn_bop_legacy").inputs.items()})


def test_an_own_board_keeps_its_memory_in_the_manifest(digits: Path, tmp_path: Path):
    bnncc.compile(digits, target="cortex-m4", output=tmp_path / "digits")
    facts = json.loads((tmp_path / "digits" / "manifest.json").read_text())["target"]
    assert facts["system"] == "cortex_m" and facts["ram_bytes"] == 0x400000
    assert np.asarray(facts["emulator"]).tolist() == ["qemu-system-arm", "-M", "mps2-an386"]


def test_budgets_are_kept_or_the_layer_is_named(digits: Path, tmp_path: Path, bnncc: Shell):
    library = tmp_path / "library"
    compile_it = ("compile", digits, "--target", "cortex-m4", "-o", library)
    answer = bnncc(*compile_it, "--ram", "1k")
    assert answer.code == ExitCode.DIFFERS and not library.exists()
    assert "needs 1,256 bytes of RAM, 232 more than 1,024" in answer.err
    assert "/Conv (conv2d 3x3 32->64" in answer.err and "--input-type u8" in answer.err
    answer = bnncc(*compile_it, "--flash", "8k")
    assert answer.code == ExitCode.DIFFERS and not library.exists()
    assert "bytes of flash" in answer.err and "/Conv_1 (conv2d 3x3 64->64" in answer.err
    bnncc.fine(*compile_it, "--ram", "1256", "--flash", "64k")
    manifest = json.loads((library / "manifest.json").read_text())
    assert 0 < manifest["code_bytes"] < 64 << 10
    assert bnncc(*compile_it, "--ram", "lots").code == ExitCode.USER


def test_digits_on_a_microbit(digits: Path, tmp_path: Path, bnncc: Shell):
    """A real Cortex-M0, which faults at whatever Armv6-M lacks, with 256 KB of flash and 16 KB of RAM."""
    board = tmp_path / "microbit.toml"
    text = (targets.FOLDER / "cortex-m0plus.toml").read_text().replace("mps2-an385", "microbit")
    text = text.replace("ram_bytes = 0x400000", "ram_bytes = 0x4000")
    board.write_text(text.replace("flash_bytes = 0x400000", "flash_bytes = 0x40000"))
    library = tmp_path / "library"
    bnncc.fine("compile", digits, "--target", board, "--flash", "24k", "--ram", "4k", "-o", library)
    case = load_case("digits_bnn_bop_legacy").first(12)
    assert case.differences(Artifact(library).run(dict(case.inputs))) == []


def test_size_or_speed(digits: Path, tmp_path: Path, bnncc: Shell):
    """The default lies between; of a budget of flash, the fastest kernels that keep it."""

    def code_bytes(name: str, *options: str) -> int:
        library = tmp_path / name
        bnncc.fine("compile", digits, "--target", "cortex-m4", "-o", library, *options)
        return json.loads((library / "manifest.json").read_text())["code_bytes"]

    size, speed = code_bytes("size", "--optimize", "size"), code_bytes("speed", "--optimize", "speed")
    assert size <= code_bytes("default") <= speed and size < speed
    refused = bnncc("compile", digits, "--target", "cortex-m4", "-o", tmp_path / "no", "--flash", "1")
    least = re.search(r"takes ([0-9,]+) bytes of flash", refused.err)
    assert least and code_bytes("tight", "--flash", least[1].replace(",", "")) == size
    assert code_bytes("roomy", "--flash", "1m") == speed
