# SPDX-License-Identifier: Apache-2.0
"""What a user does with an artifact: include the header, link the library, call it."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bnncc
from tests import tiny
from tests.cases import load_case
from tests.host import CC

WARNINGS = (
    *("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wstrict-prototypes", "-Wmissing-prototypes"),
    *("-Wconversion", "-Wshadow", "-Wredundant-decls", "-Wcast-qual"),
)
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")

TRAINED = "torch_reactnet_block_legacy"

RUNTIME = {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}
"""What compilers may call by themselves."""

MAIN = """\
#include <stdio.h>
#include "tiny.h"

int main(void)
{
    static TINY_ALIGNED unsigned char arena[TINY_ARENA_BYTES];
    float x[TINY_INPUT_1_ELEMENTS], y[TINY_LOGITS_ELEMENTS];
    if (fread(x, sizeof x, 1, stdin) != 1 || tiny_run(arena, x, y) != TINY_OK)
        return 1;
    return fwrite(y, sizeof y, 1, stdout) != 1;
}
"""

STATUS = """\
#include "tiny.h"

int main(void)
{
    static TINY_ALIGNED unsigned char arena[TINY_ARENA_BYTES + 1];
    float x[TINY_INPUT_1_ELEMENTS] = {0}, y[TINY_LOGITS_ELEMENTS];
    if (tiny_run(0, x, y) != TINY_ERROR_NULL || tiny_run(arena, 0, y) != TINY_ERROR_NULL)
        return 1;
    if (tiny_run(arena, x, 0) != TINY_ERROR_NULL || tiny_run(arena + 1, x, y) != TINY_ERROR_ALIGNMENT)
        return 2;
    return tiny_run(arena, x, y) != TINY_OK;
}
"""

TWO = """\
#include <stdio.h>
#include "tiny.h"
#include "other.h"

int main(void)
{
    static TINY_ALIGNED unsigned char arena[TINY_ARENA_BYTES];
    static OTHER_ALIGNED unsigned char another[OTHER_ARENA_BYTES];
    float x[TINY_INPUT_1_ELEMENTS], y[2][TINY_LOGITS_ELEMENTS];
    if (fread(x, sizeof x, 1, stdin) != 1)
        return 1;
    if (tiny_run(arena, x, y[0]) != TINY_OK || other_run(another, x, y[1]) != OTHER_OK)
        return 2;
    return fwrite(y, sizeof y, 1, stdout) != 1;
}
"""

PROFILE = """\
#include <stdio.h>
#include "tiny.h"

void tiny_on_layer(int layer, int after)
{
    printf("%d%d ", layer, after);
}

int main(void)
{
    static TINY_ALIGNED unsigned char arena[TINY_ARENA_BYTES];
    float x[TINY_INPUT_1_ELEMENTS] = {0}, y[TINY_LOGITS_ELEMENTS];
    return tiny_run(arena, x, y);
}
"""


def compile_and_run(
    folder: Path,
    source: str,
    *arguments: str | Path,
    stdin: bytes = b"",
    compiler: str = "cc",
    std: str = "-std=c99",
) -> bytes:
    """Compile a program with every warning an error, run it, return what it writes."""
    extension = ".cpp" if compiler == "c++" else ".c"
    (folder / f"main{extension}").write_text(source)
    warnings = [flag for flag in WARNINGS if compiler == "cc" or "prototypes" not in flag]
    command = [compiler, std, *warnings, f"main{extension}", *map(str, arguments), "-lm", "-o", "main"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = subprocess.run([folder / "main"], cwd=folder, input=stdin, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


def rows(zeros: bool) -> np.ndarray:
    x = np.random.default_rng(3).standard_normal((tiny.BATCH, tiny.CHANNELS)).astype(np.float32)
    if zeros:
        x[1, ::7] = 0
    return x


def logits(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.float32).reshape(-1, tiny.CLASSES)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.emit(tmp_path_factory.mktemp("link") / "tiny", emit=("lib", "so", "c"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = tiny.program("other", seed=1)
    return tiny.emit(tmp_path_factory.mktemp("link") / "other", network=network, emit=("lib", "c"))


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("flags", [(), SANITIZERS], ids=["plain", "sanitizers"])
@pytest.mark.parametrize("form", ["libtiny.a", "tiny.c"])
def test_a_program_of_ten_lines(
    library: Path, tmp_path: Path, form: str, flags: tuple[str, ...], zeros: bool
):
    x = rows(zeros)
    written = compile_and_run(tmp_path, MAIN, *flags, f"-I{library}", library / form, stdin=x.tobytes())
    np.testing.assert_array_equal(logits(written), tiny.expected(x))


def test_errors_are_returned(library: Path, tmp_path: Path):
    compile_and_run(tmp_path, STATUS, *SANITIZERS, f"-I{library}", library / "libtiny.a")


@pytest.mark.parametrize("std", ["-std=c++11", "-std=c++20"])
def test_from_cpp(library: Path, tmp_path: Path, std: str):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    x = rows(False)
    arguments = (f"-I{library}", library / "libtiny.a")
    written = compile_and_run(tmp_path, MAIN, *arguments, stdin=x.tobytes(), compiler="c++", std=std)
    np.testing.assert_array_equal(logits(written), tiny.expected(x))


@pytest.mark.parametrize(
    "forms", [("libtiny.a", "libother.a"), ("tiny.c", "other.c"), ("tiny.c", "libother.a")]
)
def test_two_libraries_in_one_program(library: Path, other: Path, tmp_path: Path, forms: tuple[str, str]):
    x = rows(True)
    files = (library / forms[0], other / forms[1])
    written = compile_and_run(tmp_path, TWO, f"-I{library}", f"-I{other}", *files, stdin=x.tobytes())
    np.testing.assert_array_equal(logits(written), np.concatenate([tiny.expected(x, 0), tiny.expected(x, 1)]))


def test_two_portable_files_in_one_translation_unit(library: Path, other: Path, tmp_path: Path):
    """As some build systems of microcontrollers do."""
    x = rows(True)
    assert "bnncc_any_zero" in (library / "tiny.c").read_text()
    source = f'#include "{library}/tiny.c"\n#include "{other}/other.c"\n{TWO}'
    written = compile_and_run(tmp_path, source, f"-I{library}", f"-I{other}", stdin=x.tobytes())
    np.testing.assert_array_equal(logits(written), np.concatenate([tiny.expected(x, 0), tiny.expected(x, 1)]))


def test_the_example_in_the_header_compiles(library: Path, tmp_path: Path):
    lines = (library / "tiny.h").read_text().splitlines()
    start = lines.index(' *     #include "tiny.h"')
    end = lines.index(" *     }", start)
    example = "\n".join(line.removeprefix(" *").removeprefix("     ") for line in lines[start : end + 1])
    compile_and_run(tmp_path, example + "\n", f"-I{library}", library / "libtiny.a")


def test_the_profiling_hook(tmp_path: Path):
    directory = tiny.emit(tmp_path / "out", emit=("lib",), profile=True)
    flags = ("-DBNNCC_PROFILE", f"-I{directory}")
    assert compile_and_run(tmp_path, PROFILE, *flags, directory / "libtiny.a") == b"00 01 10 11 "


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network, with layers whose activations may be exact zeros and ones that work in place."""
    folder = tmp_path_factory.mktemp("trained")
    path = load_case(TRAINED).write_model(folder)
    bnncc.compile(path, output=folder / "tiny", name="tiny", emit=("lib", "so", "c"))
    return folder / "tiny"


@pytest.mark.parametrize("flags", [("-O2",), SANITIZERS], ids=["plain", "sanitizers"])
@pytest.mark.parametrize("form", ["libtiny.a", "tiny.c"])
def test_a_trained_network(trained: Path, tmp_path: Path, form: str, flags: tuple[str, ...]):
    case = load_case(TRAINED).first(1)
    x, y = next(iter(case.inputs.values())), next(iter(case.outputs.values()))
    names = {"INPUT_1": "x", "LOGITS": "y"}
    macros = re.findall(r"#define TINY_(\w+)_ELEMENTS", (trained / "tiny.h").read_text())
    source = MAIN
    for name, macro in zip(names, macros, strict=True):
        source = source.replace(f"TINY_{name}_ELEMENTS", f"TINY_{macro}_ELEMENTS")
    written = compile_and_run(tmp_path, source, *flags, f"-I{trained}", trained / form, stdin=x.tobytes())
    got = np.frombuffer(written, np.float32).reshape(y.shape)
    assert case.differences({next(iter(case.outputs)): got}) == []


def test_a_trained_network_gives_the_same_bytes_again(trained: Path, tmp_path: Path):
    path = load_case(TRAINED).write_model(tmp_path)
    bnncc.compile(path, output=tmp_path / "again", name="tiny", emit=("lib", "so", "c"))
    first, second = (
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        for folder in (trained, tmp_path / "again")
    )
    assert first == second


def test_a_trained_network_beside_another_in_one_translation_unit(trained: Path, tmp_path: Path):
    """What its kernels share with those of other networks stands there once."""
    text = (trained / "tiny.c").read_text()
    renamed = text.replace("tiny", "twin").replace("TINY", "TWIN")
    (tmp_path / "twin.h").write_text(
        (trained / "tiny.h").read_text().replace("tiny", "twin").replace("TINY", "TWIN")
    )
    source = f"{text}\n{renamed}\nint main(void) {{ return 0; }}\n"
    compile_and_run(tmp_path, source, f"-I{trained}", "-I.")


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_the_symbols_of_a_trained_network(trained: Path, tmp_path: Path):
    portable = [*CC, "-std=c99", "-O3", "-c", trained / "tiny.c", "-o", tmp_path / "tiny.o"]
    subprocess.run(portable, check=True)
    assert symbols("-u", tmp_path / "tiny.o") <= RUNTIME
    assert symbols("-g", "--defined-only", tmp_path / "tiny.o") == {"tiny_run"}
    defined = symbols("-g", "--defined-only", trained / "libtiny.a")
    assert all(name.startswith("tiny_") for name in defined)
    assert symbols("-u", trained / "libtiny.a") - defined <= RUNTIME
    assert symbols("-D", "--defined-only", trained / "libtiny.so") == {"tiny_run", "tiny_layer", "tiny_watch"}


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_every_symbol_carries_the_librarys_name(library: Path):
    names = symbols("-g", "--defined-only", library / "libtiny.a")
    assert "tiny_run" in names
    assert all(name.startswith("tiny_") for name in names)
    assert symbols("-D", "--defined-only", library / "libtiny.so") == {"tiny_run", "tiny_layer", "tiny_watch"}


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_the_library_needs_nothing(library: Path):
    """But what the compiler itself may call."""
    undefined = symbols("-u", library / "libtiny.a") - symbols("-g", "--defined-only", library / "libtiny.a")
    assert undefined <= RUNTIME


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_weights_lie_in_the_section_that_was_asked_for(tmp_path: Path):
    for section, options in {".rodata.tiny_weights": {}, ".flash2": {"weights_section": ".flash2"}}.items():
        directory = tiny.emit(tmp_path / section, emit=("lib",), **options)
        command = ["objdump", "-h", directory / "libtiny.a"]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        headers = [line.split() for line in listing.splitlines()]
        assert any(len(words) == 7 and words[1] == section and words[6] == "2**6" for words in headers)


def symbols(*arguments: str | Path) -> set[str]:
    done = subprocess.run(["nm", *arguments], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines() if line and not line.endswith(":")}


SELFTEST = """\
#include <stdio.h>
#include "digits.h"

int main(void)
{
    static DIGITS_ALIGNED unsigned char arena[DIGITS_ARENA_BYTES];
    printf("%d", digits_selftest(arena));
    return 0;
}
"""


def test_the_self_test_passes_and_finds_a_wrong_value(tmp_path: Path):
    model = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    folder = tmp_path / "digits"
    bnncc.compile(model, name="digits", output=folder, emit=("lib", "selftest"))
    parts = ("digits_selftest.c", "libdigits.a")
    assert compile_and_run(folder, SELFTEST, *parts) == b"0"
    source = (folder / "digits_selftest.c").read_text()
    start = source.index("golden_logits[10] = {") + len("golden_logits[10] = {")
    first = source[start:].split(",")[0]
    (folder / "digits_selftest.c").write_text(source.replace(first, "\n    123.0f", 1))
    assert compile_and_run(folder, SELFTEST, *parts) == b"1"


FUSING = {
    "cc": ("cc", "-march=haswell"),
    "ziglang": (sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-mcpu=haswell"),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="looks for instructions of x86-64")
@pytest.mark.parametrize("compiler", FUSING)
def test_no_compiler_fuses_products_with_sums(tmp_path: Path, compiler: str):
    """Whatever options a user's own build has: a leak times a membrane plus a current rounds twice."""
    case = load_case("digits_snn_lif_direct_T10_legacy")
    bnncc.compile(case.write_model(tmp_path), target="c", name="net", emit=("c",), output=tmp_path / "out")
    source = tmp_path / "out" / "net.c"
    assert _fused(source, compiler) == 0
    pragmas = re.compile(r"#pragma (STDC FP_CONTRACT|GCC optimize).*\n")
    source.write_text(pragmas.sub("", source.read_text()))
    assert _fused(source, compiler) > 0


def _fused(source: Path, compiler: str) -> int:
    """Multiply-adds that a compiler makes of C text, with GNU's defaults."""
    code = source.with_suffix(".o")
    command = [*FUSING[compiler], "-std=gnu11", "-O2", "-w", "-c", str(source), "-o", str(code)]
    subprocess.run(command, check=True)
    text = subprocess.run(["objdump", "-d", str(code)], check=True, capture_output=True, text=True).stdout
    return len(re.findall(r"\bvfn?m(?:add|sub)", text))
