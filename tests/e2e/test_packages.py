# SPDX-License-Identifier: Apache-2.0
"""Folders for build systems: CMake builds projects with one, the others hold what is asked of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bnncc
from bnncc import runtime, targets
from bnncc.codegen import PACKAGES
from bnncc.codegen.ecosystems import Parts, package_files
from bnncc.execution.boards import BARE_OPTIONS, memory_map
from bnncc.toolchain import c_compiler
from tests.cases import load_case
from tests.e2e.commands import Shell
from tests.host import CC

PROJECT = """\
cmake_minimum_required(VERSION 3.13)
project(outside C)
add_subdirectory(digits)
add_executable(check main.c digits/examples/digits_selftest.c)
target_link_libraries(check PRIVATE digits)
"""

MAIN = """\
#include "digits.h"

int main(void)
{
    static DIGITS_ALIGNED unsigned char arena[DIGITS_ARENA_BYTES];
    return digits_selftest(arena);
}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load_case("digits_bnn_bop_legacy").write_model(tmp_path_factory.mktemp("digits"))


def package(digits: Path, output: Path, kind: str, target: str = "native", threads: int = 1) -> Path:
    bnncc.compile(digits, name="digits", target=target, output=output, package=kind, threads=threads)
    return output / kind / "digits"


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def cmake(folder: Path, *options: str) -> None:
    program = Path(sys.executable).with_name("cmake")
    command = str(program) if program.exists() else shutil.which("cmake")
    assert command, "the tests want cmake: pip install cmake"
    for arguments in (("-S", ".", "-B", "build", *options), ("--build", "build")):
        done = run(folder, command, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("target", "threads"), [("native", 1), ("c", 1), ("native", 2), ("c", 2)])
def test_an_outside_project_of_cmake(target: str, threads: int, digits: Path, tmp_path: Path):
    project = tmp_path / "project"
    shutil.copytree(package(digits, tmp_path / "out", "cmake", target, threads), project / "digits")
    has_threads = "Threads::Threads" in (project / "digits" / "CMakeLists.txt").read_text()
    assert has_threads == (threads > 1)
    assert (project / "digits" / "lib").exists() == (target == "native")
    (project / "CMakeLists.txt").write_text(PROJECT)
    (project / "main.c").write_text(MAIN)
    cmake(project)
    assert run(project, project / "build" / "check").returncode == 0


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m0plus", "rv32imc"])
def test_a_firmware_of_cmake_passes_its_self_test_on_an_emulated_board(
    name: str, digits: Path, tmp_path: Path
):
    target = targets.load(name)
    project = tmp_path / "project"
    shutil.copytree(package(digits, tmp_path / "out", "cmake", name), project / "digits")
    start = f"{target.system}.c"
    for file in (start, f"{target.system}.ld", "semihosting.h", "board.h"):
        shutil.copy(runtime.BOARDS / file, project)
    (project / "CMakeLists.txt").write_text(
        PROJECT.replace("check main.c", f"check main.c {start}")
        + "target_link_options(check PRIVATE -Tmemory.ld -Wl,--entry=Reset_Handler)\n"
    )
    (project / "main.c").write_text(MAIN)
    (project / "build").mkdir()
    for folder in (project, project / "build"):
        (folder / "memory.ld").write_text(memory_map(target))
        shutil.copy(runtime.BOARDS / f"{target.system}.ld", folder)
    tools = c_compiler.find(target)
    for script, command in (("cc.sh", (*tools.compiler, *tools.c_flags)), ("ar.sh", tools.archiver)):
        words = " ".join(f'"{word}"' for word in command)
        (project / script).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (project / script).chmod(0o755)
    cmake(
        project,
        "-DCMAKE_SYSTEM_NAME=Generic",
        f"-DCMAKE_C_COMPILER={project / 'cc.sh'}",
        f"-DCMAKE_AR={project / 'ar.sh'}",
        "-DCMAKE_RANLIB=/bin/true",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
    )
    (image,) = (path for path in (project / "build").glob("check*") if path.is_file())
    done = run(project, *target.emulator, *BARE_OPTIONS, "-kernel", image)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", PACKAGES)
def test_every_package_holds_sources_that_compile_alone(kind: str, digits: Path, tmp_path: Path):
    folder = package(digits, tmp_path / "out", kind, "c")
    (selftest,) = folder.rglob("digits_selftest.c")
    (tmp_path / "main.c").write_text(MAIN)
    command = [*CC, "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{folder / 'src'}"]
    sources = [tmp_path / "main.c", folder / "src" / "digits.c", selftest]
    done = run(tmp_path, *command, *sources, "-lm", "-o", "check")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path, tmp_path / "check").returncode == 0


def test_descriptions(digits: Path, tmp_path: Path):
    """As the build systems' documentation asks: Arduino's library specification 1.5, PlatformIO's
    library.json, Zephyr's module.yml, the component manager of ESP-IDF."""
    arduino = (package(digits, tmp_path / "a", "arduino", "c") / "library.properties").read_text()
    properties = dict(line.split("=", 1) for line in arduino.splitlines())
    wanted = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"}
    assert wanted <= properties.keys() and properties["architectures"] == "*"
    library = json.loads((package(digits, tmp_path / "p", "platformio", "c") / "library.json").read_text())
    assert {"name", "version", "description"} <= library.keys()
    zephyr = package(digits, tmp_path / "z", "zephyr", "c")
    assert "cmake: ." in (zephyr / "zephyr" / "module.yml").read_text()
    assert "CONFIG_BNNCC_DIGITS" in (zephyr / "CMakeLists.txt").read_text()
    assert (zephyr / "Kconfig").read_text().count("\tbool ") == 1
    component = package(digits, tmp_path / "e", "esp-idf", "c")
    assert 'idf_component_register(SRCS "src/digits.c"' in (component / "CMakeLists.txt").read_text()
    assert (component / "idf_component.yml").read_text().startswith('version: "')


@pytest.mark.parametrize("kind", PACKAGES)
def test_names_of_models_are_text_and_nothing_else(kind: str):
    """Kconfig would run what `$(shell,...)` says."""
    source = '$(shell,rm x)"*/\n??/\\.onnx'
    parts = Parts(name="net", version="1", source=source, header="", code="", selftest="")
    files = package_files(kind, parts)
    lines = [(path, line) for path, text in files.items() for line in text.splitlines() if "rm x" in line]
    assert all("The neural network" in line for _, line in lines)
    assert not any("$" in line for path, line in lines if path.endswith(("Kconfig", ".yml")))
    if kind == "platformio":
        assert json.loads(files["library.json"])["name"] == "net"


def test_an_unknown_package_is_refused(digits: Path, tmp_path: Path, bnncc: Shell):
    answer = bnncc("compile", digits, "-o", tmp_path / "out", "--package", "makefile")
    assert answer.code == 2 and "invalid choice: 'makefile'" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_package_is_replaced_and_a_users_file_in_it_stays(digits: Path, tmp_path: Path):
    folder = package(digits, tmp_path / "out", "arduino", "c")
    (folder / "notes.txt").write_text("mine")
    package(digits, tmp_path / "out", "cmake", "c")
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "library.properties").exists()
