# SPDX-License-Identifier: Apache-2.0
"""Finding and calling the C compiler and the archiver."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from bnncc import targets
from bnncc.codegen import mlir
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution import artifact
from bnncc.toolchain import c_compiler, elf
from tests import tiny
from tests.conditions import wait_until

NATIVE = targets.native()


def nothing_on_path(name: str) -> None:
    del name


def test_order(monkeypatch: pytest.MonkeyPatch):
    there = {"gcc": "/bin/gcc", "clang": "/bin/clang", "ar": "/bin/ar", "mycc": "/opt/mycc"}
    monkeypatch.setattr(shutil, "which", there.get)
    assert c_compiler.find(NATIVE, None, {}).compiler == ("/bin/gcc",)
    assert c_compiler.find(NATIVE, None, {"CC": "mycc -m32"}).compiler == ("mycc", "-m32")
    assert c_compiler.find(NATIVE, "clang -v", {"CC": "mycc"}).compiler == ("clang", "-v")


def test_ziglang_is_the_last_resort(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", nothing_on_path)
    found = c_compiler.find(NATIVE, None, {})
    assert found.compiler == (sys.executable, "-m", "ziglang", "cc")
    assert found.archiver == (sys.executable, "-m", "ziglang", "ar")


def test_another_architecture_takes_ziglang():
    foreign = replace(NATIVE, architecture="riscv64", triple="riscv64-unknown-linux-gnu")
    assert c_compiler.find(foreign, None, {}).compiler[-3:] == ("cc", "-target", "riscv64-linux-gnu")


def test_a_cross_compiler_brings_its_archiver(monkeypatch: pytest.MonkeyPatch):
    there = {name: f"/bin/{name}" for name in ("arm-none-eabi-gcc", "arm-none-eabi-ar", "ar")}
    monkeypatch.setattr(shutil, "which", there.get)
    assert c_compiler.find(NATIVE, "arm-none-eabi-gcc", {}).archiver == ("/bin/arm-none-eabi-ar",)


@pytest.mark.parametrize(
    ("name", "is_hard"),
    [
        ("cortex-m4", False),
        ("cortex-m4f", True),
        ("cortex-m7", True),
        ("cortex-m33", True),
        ("cortex-m55", True),
    ],
)
def test_hard_float_targets_multiply_in_their_fpu(name: str, is_hard: bool, tmp_path: Path):
    source, code = tmp_path / "product.c", tmp_path / "product.o"
    source.write_text("float product(float a, float b) { return a * b; }\n")
    c_compiler.find(targets.load(name), None, {}).compile(source, code)
    called = elf.undefined_symbols(code.read_bytes())
    assert ("__aeabi_fmul" in called) is not is_hard


def test_nothing_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", nothing_on_path)
    monkeypatch.setattr(c_compiler, "_has_ziglang", lambda: False)
    with pytest.raises(BnnccError, match=r"no C compiler was found[\s\S]*pip install ziglang") as caught:
        c_compiler.find(NATIVE, None, {})
    assert caught.value.exit_code == ExitCode.FAILURE
    monkeypatch.setattr(shutil, "which", {"gcc": "/bin/gcc"}.get)
    with pytest.raises(BnnccError, match=r"no archiver"):
        c_compiler.find(NATIVE, None, {})


@pytest.mark.parametrize("environment", [{}, {"CC": "absent-cc -O2"}])
def test_a_named_compiler_must_exist(environment: dict[str, str]):
    with pytest.raises(BnnccError, match="'absent-cc -O2' was not found") as caught:
        c_compiler.find(NATIVE, None if environment else "absent-cc -O2", environment)
    assert caught.value.location == ("CC" if environment else "--cc")


def test_code_for_another_processor_is_refused(tmp_path: Path):
    """It would be in one archive with the kernels'. CC alone, often this machine's compiler, is left out."""
    bare = targets.load("cortex-m0plus")
    assert "ziglang" in c_compiler.find(bare, None, {"CC": "cc"}).compiler
    (tmp_path / "a.c").write_text("int a;\n")
    with pytest.raises(BnnccError, match=r"cc makes code for \w+, the target is arm\n.*--cc"):
        c_compiler.find(bare, "cc", {}).compile(tmp_path / "a.c", tmp_path / "a.o")
    cross = f"{sys.executable} -m ziglang cc -target thumb-freestanding-eabi"
    for tools in (c_compiler.find(bare, cross, {}), c_compiler.find(bare, None, {"CC": cross})):
        assert tools.compiler[-1] == "thumb-freestanding-eabi"
        tools.compile(tmp_path / "a.c", tmp_path / "a.o")


def test_a_cortex_m_wants_thumb_code(tmp_path: Path):
    """Arm's GCC makes A32 code where no processor is named, which a board would fault at."""
    (tmp_path / "a.c").write_text("int a(void) { return 1; }\n")
    for instructions in ("thumb", "arm"):
        cross = f"{sys.executable} -m ziglang cc -target {instructions}-freestanding-eabi"
        tools = c_compiler.find(targets.load("cortex-m3"), cross, {})
        if instructions == "thumb":
            tools.compile(tmp_path / "a.c", tmp_path / "a.o")
            continue
        with pytest.raises(BnnccError, match=r"makes A32 code.*\n.*-mcpu=cortex-m4"):
            tools.compile(tmp_path / "a.c", tmp_path / "a.o")


@pytest.mark.parametrize(
    ("machine", "is_refused"),
    [("amd64", False), ("x86_64", False), ("", False), ("sparc64", False), ("armv7l", True), ("i686", True)],
)
@pytest.mark.skipif(NATIVE.architecture != "x86_64", reason="the compiler makes other code")
def test_architectures_have_several_names(machine: str, is_refused: bool, tmp_path: Path):
    (tmp_path / "a.c").write_text("int a;\n")
    tools = replace(c_compiler.find(NATIVE, None, {}), architecture=machine)
    if not is_refused:
        tools.compile(tmp_path / "a.c", tmp_path / "a.o")
        return
    with pytest.raises(BnnccError, match="makes code for x86_64"):
        tools.compile(tmp_path / "a.c", tmp_path / "a.o")


def test_a_command_with_an_open_quote_is_told():
    with pytest.raises(BnnccError, match="is no command: no closing quotation"):
        c_compiler.find(NATIVE, 'gcc "', {})


def test_a_relative_path_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Compilers are called in folders of ours."""
    (tmp_path / "mycc").write_text('#!/bin/sh\nexec cc "$@"\n')
    (tmp_path / "mycc").chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.c").write_text("int a;\n")
    monkeypatch.chdir(tmp_path)
    c_compiler.find(NATIVE, "./mycc -O1", {}).compile(tmp_path / "work" / "a.c", tmp_path / "work" / "a.o")


@pytest.mark.parametrize("name", ["cortex-m4", "rv32imc"])
def test_firmware_has_nothing_to_unwind_its_stack_with(name: str, tmp_path: Path):
    source, code = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text("int f(int); int g(int x) { return f(x) + 1; }\n")
    c_compiler.find(targets.load(name), None, {}).compile(source, code)
    assert b".eh_frame" not in code.read_bytes() and elf.undefined_symbols(code.read_bytes()) == {"f"}


def test_a_failing_command_is_shown(tmp_path: Path):
    source = tmp_path / "wrong.c"
    source.write_text("int f(void) { return undeclared; }\n")
    with pytest.raises(BnnccError, match=r"exit status \d+: .* -c wrong\.c[\s\S]*undeclared") as caught:
        c_compiler.find(NATIVE).compile(source, tmp_path / "wrong.o")
    assert caught.value.exit_code == ExitCode.FAILURE


def test_a_command_that_cannot_run(tmp_path: Path):
    program = tmp_path / "cc"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(BnnccError, match="cannot be run"):
        c_compiler.Toolchain((str(program),), ("ar",)).version()


def hanging(program: Path) -> Path:
    """A program that waits for one that it starts, whose number it writes beside itself."""
    program.write_text(f'#!/bin/sh\nsleep 1000 &\necho $! > "{program.parent}/child"\nwait\n')
    program.chmod(0o755)
    return program


def wait_for_the_end_of_the_child(folder: Path):
    child = int((folder / "child").read_text())
    wait_until(lambda: not is_running(child), "the program's child is still there")


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = hanging(tmp_path / "cc")
    monkeypatch.setattr(c_compiler, "SECONDS", 3)
    with pytest.raises(BnnccError, match=r"has not ended after 0 minutes: .*/cc --version") as caught:
        c_compiler.Toolchain((str(program),), ("ar",)).version()
    assert caught.value.exit_code == ExitCode.FAILURE and "--cc" in caught.value.hint
    wait_for_the_end_of_the_child(tmp_path)


def test_a_tool_of_llvm_that_hangs_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = hanging(tmp_path / "mlir-opt")
    monkeypatch.setattr(mlir, "SECONDS", 3)
    with pytest.raises(BnnccError, match="mlir-opt has not ended after 0 minutes") as caught:
        mlir.run((str(program), "--help"), "module {}")
    assert caught.value.exit_code == ExitCode.FAILURE and "--backend tvm" in caught.value.hint
    wait_for_the_end_of_the_child(tmp_path)


def test_a_tool_of_llvm_that_cannot_run(tmp_path: Path):
    program = tmp_path / "mlir-opt"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(BnnccError, match="mlir-opt cannot be run"):
        mlir.run((str(program),), "module {}")


@pytest.mark.parametrize("text", ["", "module {}\n" * (1 << 16)])
def test_a_tool_of_llvm_is_given_its_text(text: str):
    assert mlir.run(("cat",), text) == text


def is_running(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("system", "triple", "apple"),
    [
        ("darwin", "", True),
        ("darwin", "aarch64-unknown-linux-gnu", False),
        ("linux", "arm64-apple-darwin", True),
    ],
)
def test_shared_libraries_are_those_of_the_target(
    system: str, triple: str, apple: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not those of the machine that links them."""
    commands: list[str] = []
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(c_compiler.Toolchain, "_run", lambda self, command, folder: commands.extend(command))
    tools = c_compiler.find(replace(NATIVE, triple=triple), "cc", {})
    tools.link_shared([tmp_path / "a.o"], tmp_path / "a.so", ["run"])
    found = [word for word in commands if "exported" in word]
    assert found == [
        "-Wl,-exported_symbols_list,exported.txt" if apple else "-Wl,--version-script=exported.map"
    ]


@pytest.mark.parametrize("target", ["native", "c"])
def test_ziglang_makes_whole_artifacts(tmp_path: Path, target: str):
    compiler = f"{sys.executable} -m ziglang cc"
    directory = tiny.emit(tmp_path / "out", target, emit=("lib", "so"), compiler=compiler)
    x = np.ones((tiny.BATCH, tiny.CHANNELS), np.float32)
    np.testing.assert_array_equal(artifact.load(directory).run({"input.1": x})["3.logits"], tiny.expected(x))


def test_ziglang_compiles_archives_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import ctypes

    monkeypatch.setattr(shutil, "which", nothing_on_path)
    tools = c_compiler.find(NATIVE, None, {})
    monkeypatch.undo()
    source, compiled = tmp_path / "two.c", tmp_path / "two.o"
    source.write_text("int two(void) { return 2; }\nint hidden(void) { return 3; }\n")
    tools.compile(source, compiled)
    tools.archive([compiled], tmp_path / "libtwo.a")
    assert (tmp_path / "libtwo.a").read_bytes().startswith(b"!<arch>")
    tools.link_shared([compiled], tmp_path / "two.so", ["two"])
    library = ctypes.CDLL(str(tmp_path / "two.so"))
    assert library.two() == 2
    assert not hasattr(library, "hidden")
