# SPDX-License-Identifier: Apache-2.0
"""Hidden layers of networks with spikes and binary weights: bits are counted, and nothing multiplies floats,
from the input's bits to the neuron's spikes, as the emitted code shows."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

from bnncc import driver, targets
from bnncc.kernels.build import compile_c, compile_object, make_kernel
from bnncc.kernels.c_helpers import POPCOUNT
from bnncc.options import Goal
from bnncc.plan.kernel import BinaryConv, KernelSpec, Map, RealConv, SpikeConv
from bnncc.plan.program import Step
from bnncc.toolchain import c_compiler, llvm
from tests import cases

PREFIX = "layer"
NETWORKS = {
    "torch_bsnn_if_T16_legacy": (3, {"spike x bipolar", "u3 x bipolar"}),
    "torch_bsnn_scan_dynamo": (3, {"spike x bipolar", "u3 x bipolar"}),
    "torch_bann_vgg16_hoyer_cw_binw_where_legacy": (12, {"spike x bipolar"}),
}
"""Case: hidden layers of one time step at least, and their domains."""


def steps_of(name: str, folder: Path, target: str, optimize: Goal = None) -> list[Step]:
    """What a network has become for a target."""
    if not cases.case_names(name):
        pytest.skip(f"no case {name}")
    path = cases.load_case(name).write_model(folder)
    return list(driver.lower_model(path, driver.Options(target=target, optimize=optimize)).program.steps)


def hidden_layers(steps: list[Step]) -> list[Step]:
    """The contractions but those of the network's input and those that make its output."""
    layers = [step for step in steps if isinstance(step.kernel.root, BinaryConv | RealConv | SpikeConv)]
    return [step for step in layers if step.domains != "f32 x f32" and not step.domains.endswith("x f32")]


def between(steps: list[Step]) -> list[Step]:
    """The hidden layers and everything that is computed after the first of them and before the last layer of
    the network: pools, neurons in kernels of their own."""
    hidden = hidden_layers(steps)
    first, last = steps.index(hidden[0]), steps.index(hidden[-1])
    neurons = [step for step in steps[last:] if isinstance(step.kernel.root, Map) and ", " in step.operation]
    return [*steps[first : last + 1], *neurons]


def float_products(spec: KernelSpec, target_name: str, folder: Path) -> list[str]:
    """The instructions of a kernel, compiled for a target, that multiply floats. C is compiled for this
    machine without optimisation: every product of the text is one instruction."""
    target = targets.load(target_name)
    if target.kind == "llvm":
        objdump = llvm.tool("llvm-objdump")
        assert objdump, "the tests want llvm-objdump: python -m tests.install"
        path = folder / "kernel.o"
        path.write_bytes(compile_object([make_kernel(spec, target)], PREFIX, target))
        text = subprocess.run([objdump, "-d", str(path)], capture_output=True, text=True, check=True).stdout
    else:
        source, path = folder / "kernel.c", folder / "kernel.o"
        source.write_text(
            compile_c([make_kernel(spec, target)], PREFIX, target).replace("static void", "void")
        )
        compiler = c_compiler.find(target)
        compiler.compile(source, path, ["-O0"])
        text = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    assert PREFIX in text
    return re.findall(r"\bv?(?:mul|fmadd|fmsub|fnmadd|fnmsub)\d*[sp][sd]\b", text)


def tap_loops(code: str) -> list[str]:
    """The innermost text of every loop over the taps of a window."""
    lines, found = code.split("\n"), []
    for start, line in enumerate(lines):
        if not re.match(r" *for \(int32_t (tap|words?)(_\w+)? = 0;", line):
            continue
        indent = len(line) - len(line.lstrip())
        end = next(i for i in range(start + 1, len(lines)) if lines[i] == " " * indent + "}")
        found.append("\n".join(lines[start:end]))
    return found


def check_counts_bits(spec: KernelSpec) -> None:
    """The C text of a layer sums in integers, and counts bits to do so."""
    target = targets.load("c")
    code = compile_c([make_kernel(spec, target)], PREFIX, target)
    loops = tap_loops(code.partition(f"static void {PREFIX}")[2])
    assert loops and any(POPCOUNT in loop for loop in loops)
    for loop in loops:
        assert "float" not in loop and not re.search(r"\d\.\d|constant\d", loop), loop


@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_layers_count_bits(name: str, tmp_path: Path) -> None:
    count, domains = NETWORKS[name]
    layers = hidden_layers(steps_of(name, tmp_path, "c"))
    assert len(layers) >= count
    assert {step.domains for step in layers} == domains
    for spec in {step.kernel for step in layers}:
        assert isinstance(spec.root, BinaryConv)
        check_counts_bits(spec)


def test_products_of_floats_would_be_seen(tmp_path: Path) -> None:
    """The same look at a layer of real weights finds them."""
    from tests.kernels.contractions import Shape, real_spec

    target = targets.load("c")
    spec = real_spec(Shape((1, 8, 8, 16), 32))
    code = compile_c([make_kernel(spec, target)], PREFIX, target)
    loops = tap_loops(code.partition(f"static void {PREFIX}")[2])
    assert any("float" in loop for loop in loops)


X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads instructions of x86-64")


@X86
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("torch_bsnn_if_T16_legacy", "c"),
        ("torch_bsnn_if_T16_legacy", "x86-64-v3"),
        ("torch_bsnn_if_T16_legacy", "x86-64-v4"),
        ("torch_bsnn_scan_dynamo", "x86-64-v4"),
        ("torch_bann_vgg16_hoyer_cw_binw_where_legacy", "c"),
        pytest.param("torch_bann_vgg16_hoyer_cw_binw_where_legacy", "x86-64-v4", marks=pytest.mark.slow),
    ],
)
def test_nothing_multiplies_floats(name: str, target: str, tmp_path: Path) -> None:
    """Not the sums, not their scales, not batch normalisation, not the neurons."""
    steps = between(steps_of(name, tmp_path, target))
    assert len(steps) >= NETWORKS[name][0]
    for spec in {step.kernel for step in steps}:
        assert float_products(spec, target, tmp_path) == []


@X86
@pytest.mark.parametrize("target", ["c", "x86-64-v3"])
def test_a_product_would_be_seen(target: str, tmp_path: Path) -> None:
    """In the first layer, whose input is real, and in hidden ones that keep the scale of their weights
    because speed, or small code, was asked for."""
    optimize = "size" if target == "c" else "speed"
    steps = steps_of("torch_bsnn_if_T16_legacy", tmp_path, target, optimize)
    first = next(step for step in steps if isinstance(step.kernel.root, RealConv))
    for step in (first, *hidden_layers(steps)):
        assert float_products(step.kernel, target, tmp_path)
