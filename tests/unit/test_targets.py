# SPDX-License-Identifier: Apache-2.0
"""Every target file is valid, detection is right, and mistakes are explained."""

from pathlib import Path

import pytest

from bnncc import targets
from bnncc.diagnostics import BnnccError

V2 = frozenset(targets.load("x86-64-v2").cpu_flags)
V3 = frozenset(targets.load("x86-64-v3").cpu_flags)
V4 = frozenset(targets.load("x86-64-v4").cpu_flags)

FACTS = 'kind = "c"\nvector_bits = 32\npopcount = "scalar"\n'


@pytest.mark.parametrize("name", targets.names())
def test_every_target_loads(name: str):
    target = targets.load(name)
    assert target.name == name
    assert target.description
    assert target.vector_bits in (32, 64, 128, 256, 512)
    assert targets.from_facts(name, target.facts(), name) == target


def test_names():
    assert {"native", "c", "x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4"} <= set(targets.names())


@pytest.mark.parametrize(
    ("flags", "mcpu", "vector_bits", "popcount"),
    [
        (V4 | {"avx512_vpopcntdq"}, "x86-64-v4", 512, "vector32"),
        (V4, "x86-64-v4", 512, "bytes"),
        (V3 | {"avx512f"}, "x86-64-v3", 256, "bytes"),
        (V2, "x86-64-v2", 128, "bytes"),
        (frozenset(), "x86-64", 128, "scalar"),
    ],
)
def test_detect_x86(flags: frozenset[str], mcpu: str, vector_bits: int, popcount: str):
    target = targets.detect("x86_64", "linux", flags)
    assert (target.name, target.mcpu, target.vector_bits, target.popcount) == (
        "native",
        mcpu,
        vector_bits,
        popcount,
    )
    assert frozenset(target.cpu_flags) <= flags
    assert (target.features == ("+avx512vpopcntdq",)) == (popcount == "vector32")


def test_detect_elsewhere():
    linux = targets.detect("aarch64", "linux", frozenset())
    assert (linux.name, linux.popcount, linux.triple) == ("native", "bytes", "aarch64-unknown-linux-gnu")
    assert targets.detect("arm64", "darwin", frozenset()).kind == "llvm"


PI_4 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
PI_5 = PI_4.replace("crc32", "aes pmull sha1 sha2 crc32 atomics fphp asimdhp").replace(
    "cpuid", "cpuid asimdrdm lrcpc dcpop asimddp"
)
GRAVITON_3 = PI_5.replace("asimddp", "asimddp sha512 sve asimdfhm dit uscat ilrcpc svei8mm svebf16 i8mm bf16")
"""What /proc/cpuinfo says there."""


@pytest.mark.parametrize(
    ("cpuinfo", "bits", "features", "scalable_bits"),
    [
        (PI_4, 0, (), 0),
        (PI_5, 0, ("+dotprod",), 0),
        (GRAVITON_3, 256, ("+dotprod", "+sve"), 256),
        (GRAVITON_3, 0, ("+dotprod", "+sve"), 128),
    ],
)
def test_detect_arm(cpuinfo: str, bits: int, features: tuple[str, ...], scalable_bits: int):
    flags = targets.flags_of(cpuinfo)
    target = targets.detect("aarch64", "linux", flags, bits)
    assert (target.features, target.scalable_bits) == (features, scalable_bits)
    assert frozenset(target.cpu_flags) <= flags and len(target.cpu_flags) == len(features)
    assert ("-march=armv8.2-a+sve" in target.c_flags) == ("+sve" in features)
    assert target.description.startswith("this machine: aarch64, ")


@pytest.mark.parametrize(
    ("cpuinfo", "runs"), [(PI_4, []), (PI_5, ["cortex-a76"]), (GRAVITON_3, ["cortex-a76", "neoverse-v1"])]
)
def test_what_runs_on_arm(cpuinfo: str, runs: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(targets.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(targets, "cpu_flags", lambda: targets.flags_of(cpuinfo))
    found = {name for name in targets.names() if name != "native" and targets.load(name).runs_here()}
    assert found == {"aarch64", "c", "cortex-a53", "cortex-a72", *runs}


def test_runs_here(monkeypatch: pytest.MonkeyPatch):
    assert targets.native().runs_here()
    assert targets.load("c").runs_here()
    monkeypatch.setattr(targets, "cpu_flags", lambda: V3)
    monkeypatch.setattr(targets.platform, "machine", lambda: "x86_64")
    assert targets.load("x86-64-v3").runs_here()
    assert not targets.load("x86-64-v4").runs_here()
    monkeypatch.setattr(targets.platform, "machine", lambda: "aarch64")
    assert not targets.load("x86-64-v2").runs_here()


def test_unknown_name_lists_the_close_ones():
    with pytest.raises(BnnccError, match=r"unknown target 'x86-64v3'[\s\S]*did you mean x86-64-v3") as caught:
        targets.load("x86-64v3")
    assert "znver4" in caught.value.hint


def test_own_file(tmp_path: Path):
    path = tmp_path / "my-board.toml"
    path.write_text(FACTS)
    assert targets.load(path).name == "my-board"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FACTS + "vector_bit = 3\n", "unknown key 'vector_bit'[\\s\\S]*did you mean 'vector_bits'"),
        (FACTS + "c_flags = '-O2'\n", "'c_flags' must be a list of strings"),
        (FACTS + "mcpu = 3\n", "'mcpu' must be a string"),
        (FACTS + "name = 'x'\n", "no key 'name'"),
        (FACTS.replace("32", "'32'"), "'vector_bits' must be a positive integer, found '32'"),
        (FACTS.replace("32", "true"), "'vector_bits' must be a positive integer"),
        (FACTS.replace("scalar", "quick"), "'popcount' must be one of vector32, bytes, words, scalar, none"),
        (FACTS.replace("kind", "# kind"), "'kind' is missing"),
        ("kind = ", "not valid TOML"),
    ],
)
def test_bad_file(tmp_path: Path, text: str, message: str):
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises(BnnccError, match=message) as caught:
        targets.load(path)
    assert caught.value.location == str(path)


def test_missing_file(tmp_path: Path):
    with pytest.raises(BnnccError, match="cannot be read: No such file"):
        targets.load(tmp_path / "absent.toml")


def test_tables_are_fields_with_their_name_in_front(tmp_path: Path):
    path = tmp_path / "my-board.toml"
    tables = (
        '[serial]\ndriver = "my_uart.c"\naddress = 64\n[flash]\ncommand = ["pyocd", "flash", "{image}"]\n'
    )
    path.write_text(FACTS + tables)
    target = targets.load(path)
    assert target.flash_command == ("pyocd", "flash", "{image}") and target.serial_address == 64
    assert target.serial_driver == str(tmp_path / "my_uart.c")
    path.write_text(f"{FACTS}[flash]\nsize = 3\n")
    with pytest.raises(BnnccError, match="unknown key 'flash_size'"):
        targets.load(path)
