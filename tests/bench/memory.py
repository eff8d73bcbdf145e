# SPDX-License-Identifier: Apache-2.0
"""What a network takes of a process's memory: `python -m tests.bench.memory` prints a table.

A small C program opens the shared library, runs it twice in an arena of its own, and tells by how much its
resident memory has grown: weights, arena, code, and what the loader keeps. Beside it the weights, the arena,
and the bound below which no plan of the arena gets.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bnncc import driver
from bnncc.artifact import Artifact
from bnncc.driver import Options
from bnncc.report.table import table
from tests.bench.architectures import architectures, exported

PROGRAM = """\
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static long resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        return 0;
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static void *memory(size_t bytes)
{
    return mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(void)
{
    void *library;
    int (*run)(void *, const float *, float *);
    float *image = memory(INPUT_BYTES), *scores = memory(OUTPUT_BYTES);
    void *arena = memory(ARENA_BYTES);
    long before;
    int i;
    for (i = 0; i < INPUT_BYTES / 4; ++i)
        image[i] = (float)(i * 7919 % 101) / 50.0f - 1.0f;
    memset(scores, 0, OUTPUT_BYTES);
    resident(); /* What stdio needs is there now. */
    before = resident();
    library = dlopen(LIBRARY, RTLD_NOW);
    if (!library)
        return 2;
    *(void **)&run = dlsym(library, RUN);
    for (i = 0; i < 2; ++i)
        if (run(arena, image, scores) != 0)
            return 3;
    printf("%ld\\n", resident() - before);
    return 0;
}
"""


@dataclass(frozen=True)
class Memory:
    """Bytes. resident: by how much the process has grown, inputs and outputs not counted."""

    weights: int
    arena: int
    arena_bound: int
    resident: int

    @property
    def share(self) -> float:
        """Of resident memory to weights and arena."""
        return self.resident / (self.weights + self.arena)


def measured(artifact: Artifact) -> Memory:
    """Of a network with one input and one output, both float32."""
    manifest = artifact.manifest
    sizes = {key: 4 * _elements(manifest[key][0]["shape"]) for key in ("inputs", "outputs")}
    facts = {
        "INPUT_BYTES": sizes["inputs"],
        "OUTPUT_BYTES": sizes["outputs"],
        "ARENA_BYTES": manifest["arena"]["bytes"],
        "LIBRARY": f'"{artifact.directory / f"lib{artifact.name}.so"}"',
        "RUN": f'"{artifact.name}_run"',
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "memory.c").write_text(PROGRAM)
        defines = [f"-D{key}={value}" for key, value in facts.items()]
        command = ["cc", "-O1", *defines, "memory.c", "-o", "memory", "-ldl"]
        subprocess.run(command, cwd=folder, check=True)
        done = subprocess.run([folder / "memory"], check=True, capture_output=True, text=True)
    arena = manifest["arena"]
    return Memory(manifest["weights_bytes"], arena["bytes"], arena["lower_bound_bytes"], int(done.stdout))


def _elements(shape: list[int]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def row(name: str) -> list[str]:
    """One line of the table, in KiB."""
    with tempfile.TemporaryDirectory() as folder:
        memory = measured(driver.compile_model(exported(name), Path(folder) / "out", Options()))
    sizes = (memory.weights, memory.arena, memory.arena_bound, memory.resident)
    return [name, *(f"{size / 1024:,.0f}" for size in sizes), f"{memory.share:.3f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=sorted(architectures()))
    rows = [row(name) for name in parser.parse_args().networks]
    header = ("KiB", "weights", "arena", "its bound", "resident", "of weights and arena")
    print(table(header, rows, right=range(1, len(header))))


if __name__ == "__main__":
    main()
