# SPDX-License-Identifier: Apache-2.0
"""`bnncc doctor`: is everything there that a compilation needs, and if not, what installs it."""

from __future__ import annotations

import importlib.metadata
import operator
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bnncc import __version__
from bnncc.diagnostics import BnnccError

SECONDS_TO_LOAD = 600
"""TVM loads in 2 to 3 s; a cold disk takes longer."""

OPTIONAL = ("onnxruntime", "torch", "onnxscript")
"""Packages of extras: what `bench` compares with, and what PyTorch modules are exported by."""

HOLDS = {"==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<": operator.lt}
"""What a requirement may say of a version; a test looks for others in pyproject.toml."""

REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?(?P<versions>[^;]*)")


@dataclass(frozen=True)
class Finding:
    """One thing looked at. found: what is there. wrong: what is wrong with it, or "" if it is fine.
    needed: whether a compilation fails without it. mend: the command that mends it, or ""."""

    subject: str
    found: str
    wrong: str = ""
    needed: bool = True
    mend: str = ""


def examine() -> list[Finding]:
    """Look at everything; takes some seconds, as TVM is loaded once in a process of its own."""
    found = [_python(), *(_package(*requirement) for requirement in requirements())]
    found += [_loads("tvm"), *_tools(), _processor(), *_emulators(), _analyser(), _mlir()]
    extras = dict(requirements(of_extras=True))
    return found + [_package(name, extras.get(name, ""), needed=False) for name in OPTIONAL]


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing that is needed is wrong."""
    return not any(finding.wrong and finding.needed for finding in findings)


def render(findings: Sequence[Finding]) -> str:
    """One line for each finding, and what mends it below."""
    width = max(len(finding.subject) for finding in findings)
    lines = [f"bnncc {__version__}"]
    for finding in findings:
        lines.append(f"{_mark(finding):<7}  {finding.subject:<{width}}  {finding.wrong or finding.found}")
        if finding.wrong and finding.mend:
            lines.append(f"{'':9}{'':{width}}  {finding.mend}")
    verdict = "ready" if healthy(findings) else "not ready: something that is needed is missing or wrong"
    return "\n".join((*lines, "", verdict))


def _mark(finding: Finding) -> str:
    if not finding.wrong:
        return "ok"
    if finding.found:
        return "WRONG" if finding.needed else "unfit"
    return "MISSING" if finding.needed else "absent"


def as_dict(findings: Sequence[Finding]) -> dict[str, object]:
    """For `--json`."""
    return {"version": __version__, "ready": healthy(findings), "findings": [asdict(f) for f in findings]}


def requirements(of_extras: bool = False) -> list[tuple[str, str]]:
    """What the package declares that it needs to run: (name, versions), such as ("onnx", "<2,>=1.20"). Or
    what its extras need."""
    try:
        declared = importlib.metadata.requires("bnncc") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    matches = (REQUIREMENT.match(line) for line in declared if ("extra ==" in line) == of_extras)
    return [(match["name"], match["versions"].strip()) for match in matches if match]


def _python() -> Finding:
    return Finding("python", f"{platform.python_version()} at {sys.executable}")


def _package(name: str, versions: str, needed: bool = True) -> Finding:
    mend = f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(name + versions)}"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "", "not installed", needed, mend)
    wrong = "" if fits(version, versions) else f"version {version}, but {versions} is needed"
    return Finding(name, version, wrong, needed, mend)


def fits(version: str, versions: str) -> bool:
    """Whether a version is one of `versions`: conditions joined by commas; "" is any."""
    conditions = [
        re.fullmatch(r"\s*(==|!=|>=|<(?!=))\s*(\S+)\s*", part) for part in versions.split(",") if part
    ]
    return all(HOLDS[c[1]](_release(version), _release(c[2])) for c in conditions if c)


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, of "0.27.0.post1" 0, 27, 0, 1; zeros at the end, a build ("+cpu") and what
    comes before a release ("rc1") do not count."""
    numbers = re.match(r"[\d.]*(?:post\d+)?", version)
    found = [int(number) for number in re.findall(r"\d+", numbers[0] if numbers else "")]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _loads(module: str) -> Finding:
    """Import it in a process of its own: a wrong pair of binaries may crash."""
    subject = f"import {module}"
    mend = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall bnncc"
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_LOAD, check=False)
    except subprocess.TimeoutExpired:
        return Finding(subject, "", f"does not load within {SECONDS_TO_LOAD} s", mend=mend)
    if done.returncode == 0:
        return Finding(subject, "loads")
    lines = done.stderr.strip().splitlines()
    return Finding(subject, "", lines[-1] if lines else f"exit status {done.returncode}", mend=mend)


def _tools() -> list[Finding]:
    from bnncc.targets import native
    from bnncc.toolchain import c_compiler

    try:
        tools = c_compiler.find(native())
        compiler = Finding("C compiler", f"{shlex.join(tools.compiler)}: {tools.version()}")
    except BnnccError as error:
        return [Finding("C compiler", "", error.message, mend=error.hint)]
    return [compiler, Finding("archiver", shlex.join(tools.archiver))]


def _emulators() -> list[Finding]:
    """What runs libraries for other processors; compilation does not need them."""
    from bnncc import targets
    from bnncc.execution.boards import PACKAGES

    programs = {target.emulator[0] for target in map(targets.load, targets.names()) if target.emulator}
    findings = []
    for program in sorted(programs):
        path = shutil.which(program)
        mend = f"apt-get install {PACKAGES.get(program, 'qemu-user')}"
        findings.append(Finding(program, path or "", "" if path else "not installed", False, mend))
    return findings


def _analyser() -> Finding:
    """What `bnncc bench` names cycles with."""
    from bnncc.toolchain import llvm, mca

    mend = "apt-get install llvm"
    path = llvm.tool("llvm-mca") if mca.has_tools() else ""
    return Finding("llvm-mca", path, "" if path else "not installed", False, mend)


def _mlir() -> Finding:
    """What `--backend mlir` drives."""
    from bnncc.codegen import mlir
    from bnncc.toolchain import llvm

    found = llvm.tools(mlir.NAMES, mlir.OLDEST)
    wrong = "" if found else f"{', '.join(mlir.NAMES)} of LLVM {mlir.OLDEST} or newer are not all installed"
    what = f"LLVM {llvm.version_of(found[0])}: {', '.join(found)}" if found else ""
    return Finding("mlir-opt", what, wrong, False, mlir.INSTALL_HINT)


def _processor() -> Finding:
    from bnncc.targets import native

    target = native()
    return Finding("processor", f"{target.description}, {target.vector_bits}-bit vectors")
