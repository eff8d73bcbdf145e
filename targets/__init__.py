# SPDX-License-Identifier: Apache-2.0
"""Targets: facts about processors, one TOML file each; decisions are code elsewhere.

`native` has no file: it is what this machine turns out to be.
"""

from __future__ import annotations

import difflib
import platform
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bnncc.diagnostics import BnnccError

FOLDER = Path(__file__).resolve().parent

Kind = Literal["llvm", "c"]
Popcount = Literal["vector32", "bytes", "words", "scalar", "none"]
System = Literal["", "linux", "cortex_m", "riscv"]

CHOICES = {
    "kind": ("llvm", "c"),
    "popcount": ("vector32", "bytes", "words", "scalar", "none"),
    "system": ("", "linux", "cortex_m", "riscv"),
    "floats": ("fpu", "software"),
}
MAY_BE_ZERO = (
    "flash_address",
    "flash_bytes",
    "ram_address",
    "ram_bytes",
    "scalable_bits",
    "serial_address",
    "serial_clock",
)
ARM_FEATURES = {"asimddp": "+dotprod", "sve": "+sve"}
"""What kernels for 64-bit Arm use beyond NEON, in LLVM's spelling, by Linux's."""

LEAST_SCALABLE_BITS = 128
"""Of SVE's vectors: every processor has as many."""

TABLES = ("flash", "serial")
"""Tables of a file, whose keys are fields that begin with the table's name."""

FOR_TUNING = ("serial_driver", "serial_address", "serial_clock", "flash_command")
"""Fields that say how a board is reached, and nothing of what is compiled for it."""


@dataclass(frozen=True)
class Target:
    """One processor as the compiler sees it; a TOML file holds every field but `name`.

    kind: how code is made, "llvm" (objects by LLVM) or "c" (portable C99 source).
    architecture: what `uname -m` says there (x86_64, aarch64), or "" if any will do.
    triple: LLVM's target triple, or "" for that of the machine that compiles.
    mcpu, features: LLVM's processor name and features on top of it ("+avx512vpopcntdq"); where C is made,
    what its kernels may use: "+dsp" (Arm's USADA8), "+mve" (vectors of four words), "+v" and "+zvbb"
    (RISC-V's vectors).
    vector_bits: the widest vector register, in bits. scalable_bits: where vectors may have any length (Arm's
    SVE), the length that kernels are chosen for; they run on all.
    popcount: "vector32" counts the bits of 32-bit lanes in one instruction (AVX-512 VPOPCNTDQ), "bytes"
    of bytes (NEON) or by a table look-up within bytes (AVX2), "words" of a register (Zbb), "none" has no
    instruction for it, "scalar" leaves open what one word takes.
    floats: whether the processor computes with float32, or a library does.
    cpu_flags: what /proc/cpuinfo must list for code of this target to run.
    c_flags: what the C compiler needs to know beyond its defaults.
    system: what libraries run on: "linux", no operating system ("cortex_m", "riscv": whose start-up code an
    emulated board needs), or "" for that of the machine that compiles.
    zig_target, zig_cpu: the processor as `python -m ziglang cc` spells it.
    emulator: the command that runs a program of this target elsewhere, without the program.
    flash_address, flash_bytes, ram_address, ram_bytes: the memory of the emulated board, where there is no
    operating system; without flash, code lies in RAM.
    serial_driver, serial_address, serial_clock: for the agent of `bnncc tune --device serial:...`: how the
    board's serial port works (`runtime/bsp/uart_<driver>.c`, or a C file of the user's), where its registers
    lie, and the hertz of core and port.
    flash_command: what writes a program to the board; {image} is its ELF file, {port} the serial port.

    In a file the last ones may stand in tables: `[serial] driver = ...`, `[flash] command = [...]`.
    """

    name: str
    kind: Kind
    vector_bits: int
    popcount: Popcount
    description: str = ""
    architecture: str = ""
    triple: str = ""
    mcpu: str = ""
    features: tuple[str, ...] = ()
    cpu_flags: tuple[str, ...] = ()
    c_flags: tuple[str, ...] = ()
    system: System = ""
    zig_target: str = ""
    zig_cpu: str = ""
    emulator: tuple[str, ...] = ()
    flash_address: int = 0
    flash_bytes: int = 0
    ram_address: int = 0
    ram_bytes: int = 0
    scalable_bits: int = 0
    floats: Literal["fpu", "software"] = "fpu"
    serial_driver: str = ""
    serial_address: int = 0
    serial_clock: int = 0
    flash_command: tuple[str, ...] = ()

    @property
    def is_bare(self) -> bool:
        """Whether there is no operating system, and no C library either."""
        return self.system in ("cortex_m", "riscv")

    @property
    def is_apple(self) -> bool:
        """Whether libraries are in Apple's format; without a triple they are for this machine."""
        return "apple" in self.triple if self.triple else not self.is_bare and sys.platform == "darwin"

    @property
    def is_foreign(self) -> bool:
        """Whether programs for it must be made by a cross compiler."""
        return self.is_bare or self.architecture not in ("", platform.machine())

    def runs_here(self) -> bool:
        """Whether this machine can execute what is compiled for the target."""
        if self.is_foreign:
            return False
        return frozenset(self.cpu_flags) <= cpu_flags()

    def facts(self) -> dict[str, Any]:
        """The fields but the name as plain data, for the manifest; `from_facts` is the inverse."""
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        del values["name"]
        return values


def names() -> tuple[str, ...]:
    """What `--target` accepts besides a path: `native` and every file of this folder."""
    return ("native", *sorted(path.stem for path in FOLDER.glob("*.toml")))


def load(name_or_path: str | Path) -> Target:
    """The target of that name, or of that TOML file (a path ends in .toml or has a slash)."""
    text = str(name_or_path)
    if text == "native":
        return native()
    if text.endswith(".toml") or "/" in text:
        return _read(Path(text))
    if text in names():
        return _read(FOLDER / f"{text}.toml")
    close = difflib.get_close_matches(text, names(), n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    raise BnnccError(
        "--target",
        f"unknown target '{text}'",
        f"{guess}known targets: {', '.join(names())}; or a TOML file of your own (./my-board.toml)",
    )


def native() -> Target:
    """The machine that runs this, named `native`."""
    return detect(platform.machine(), sys.platform, cpu_flags(), _scalable_bits())


def detect(machine: str, system: str, flags: frozenset[str], scalable_bits: int = 0) -> Target:
    """The target that suits a processor.

    machine: as `uname -m` says; system: as `sys.platform` says; flags: as /proc/cpuinfo lists them
    (empty if unknown: then the target is generic); scalable_bits: of SVE's vectors there, 0 if unknown."""
    if machine == "x86_64" and system == "linux":
        return _detect_x86_64(flags)
    if machine == "aarch64" and system == "linux":
        return _detect_aarch64(flags, scalable_bits)
    return Target(
        name="native",
        kind="llvm",
        vector_bits=128,
        popcount="bytes" if machine in ("aarch64", "arm64") else "scalar",
        description=f"this machine: {machine}, generic",
        architecture=machine,
    )


def _detect_aarch64(flags: frozenset[str], scalable_bits: int) -> Target:
    """NEON, and what kernels use beyond it; the rest of a processor does not change what is compiled."""
    facts = load("aarch64").facts()
    found = [flag for flag in ARM_FEATURES if flag in flags]
    facts["description"] = f"this machine: aarch64{''.join(f', {flag}' for flag in found) or ', generic'}"
    facts["features"] = [ARM_FEATURES[flag] for flag in found]
    facts["cpu_flags"] = found
    if "sve" in found:
        facts["scalable_bits"] = scalable_bits or LEAST_SCALABLE_BITS
        facts["c_flags"] = ["-march=armv8.2-a+sve"]
    return from_facts("native", facts, "native")


def _detect_x86_64(flags: frozenset[str]) -> Target:
    for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2"):
        facts = load(name).facts()
        if not frozenset(facts["cpu_flags"]) <= flags:
            continue
        facts["description"] = f"this machine: {name}"
        if name == "x86-64-v4" and "avx512_vpopcntdq" in flags:
            facts["description"] += " and VPOPCNTDQ"
            facts["features"] = ["+avx512vpopcntdq"]
            facts["cpu_flags"] += ["avx512_vpopcntdq"]
            facts["popcount"] = "vector32"
            if "avx512_vnni" in flags:
                facts["features"].append("+avx512vnni")
                facts["cpu_flags"].append("avx512_vnni")
        return from_facts("native", facts, "native")
    return Target(
        name="native",
        kind="llvm",
        vector_bits=128,
        popcount="scalar",
        description="this machine: x86-64 without SSE4.2",
        architecture="x86_64",
        triple="x86_64-unknown-linux-gnu",
        mcpu="x86-64",
    )


def cpu_flags() -> frozenset[str]:
    """The feature flags of this machine's first processor, as Linux names them; empty elsewhere."""
    try:
        return flags_of(Path("/proc/cpuinfo").read_text())
    except OSError:
        return frozenset()


def _scalable_bits() -> int:
    """The length of vectors that Linux gives programs which use SVE; 0 where it does not say."""
    try:
        return 8 * int(Path("/proc/sys/abi/sve_default_vector_length").read_text())
    except (OSError, ValueError):
        return 0


def flags_of(cpuinfo: str) -> frozenset[str]:
    """The feature flags of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def from_facts(name: str, facts: Mapping[str, Any], location: str) -> Target:
    """Check plain data against the fields of Target: no unknown key, none missing, every type right.

    location: where the data comes from, for the error."""
    known = {field.name: field for field in fields(Target)}
    given = {**facts, "name": name}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(sorted(known))}"
        raise BnnccError(location, f"unknown key '{unknown[0]}' in a target", hint)
    for key in ("kind", "vector_bits", "popcount"):
        if key not in given:
            raise BnnccError(location, f"the key '{key}' is missing from the target")
    checked = {key: _checked(key, str(known[key].type), value, location) for key, value in given.items()}
    return Target(**checked)


def _checked(key: str, annotation: str, value: Any, location: str) -> Any:
    """`value` if it has the type that the field is annotated with; a list becomes a tuple."""
    if annotation == "tuple[str, ...]":
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise BnnccError(location, f"'{key}' must be a list of strings, found {value!r}")
    if annotation == "int":
        least = 0 if key in MAY_BE_ZERO else 1
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise BnnccError(location, f"'{key}' must be a positive integer, found {value!r}")
    if not isinstance(value, str):
        raise BnnccError(location, f"'{key}' must be a string, found {value!r}")
    choices = CHOICES.get(key, (value,))
    if value not in choices:
        raise BnnccError(location, f"'{key}' must be one of {', '.join(choices)}, found '{value}'")
    return value


def _read(path: Path) -> Target:
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BnnccError(str(path), f"the target file cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BnnccError(str(path), f"the target file is not valid TOML: {error}") from error
    if "name" in facts:
        raise BnnccError(str(path), "a target has no key 'name': the file's name is its name")
    for table in TABLES:
        if isinstance(keys := facts.get(table), dict):
            del facts[table]
            facts |= {f"{table}_{key}": value for key, value in keys.items()}
    driver = facts.get("serial_driver")
    if isinstance(driver, str) and driver.endswith(".c"):
        facts["serial_driver"] = str(path.absolute().parent / driver)
    return from_facts(path.stem, facts, str(path))
