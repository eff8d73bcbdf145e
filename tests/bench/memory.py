# SPDX-License-Identifier: Apache-2.0
"""What a network takes of a process's memory: `python -m tests.bench.memory` prints a table.

A small C program opens the shared library, runs it twice in an arena of its own, and tells by how much its
resident memory has grown: weights, arena, code, stack, all in whole pages. Not counted is what the loader
needs of its own: the program has opened another library before, and has some heap, into which the loader
writes about a kilobyte for each library. Beside it the weights, the arena, and the bound below which no plan
of the arena gets.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bnncc import driver
from bnncc.driver import Options
from bnncc.execution.artifact import Artifact
from tests.bench.architectures import architectures, exported
from tests.bench.output import add_markdown, show

PROGRAM = """\
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* By walking all pages: the counters of statm are off by up to 64. */
static long resident(void)
{
    long kib = 0;
    char line[256];
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib * 1024;
}

enum { HEAP_BYTES = 16384 };

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
    dlopen("libm.so.6", RTLD_NOW);
    free(memset(malloc(HEAP_BYTES), 1, HEAP_BYTES));
    resident(); /* What stdio and the loader need is there now. */
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
    """Bytes. weights: as they are stored, with thresholds, scales and biases. resident: by how much the
    process has grown, inputs and outputs not counted."""

    weights: int
    arena: int
    arena_bound: int
    code: int
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
        command = ["cc", "-O0", *defines, "memory.c", "-o", "memory", "-ldl"]
        subprocess.run(command, cwd=folder, check=True)
        done = subprocess.run([folder / "memory"], check=True, capture_output=True, text=True)
    arena = manifest["arena"]
    planned = (arena["bytes"], arena["lower_bound_bytes"])
    return Memory(manifest["weights_bytes"], *planned, manifest["code_bytes"], int(done.stdout))


def _elements(shape: list[int]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def row(name: str, target: str) -> list[str]:
    """One line of the table, in KiB."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(target=target)
        memory = measured(driver.compile_model(exported(name), Path(folder) / "out", options))
    sizes = (memory.weights, memory.arena, memory.arena_bound, memory.code, memory.resident)
    return [name, *(f"{size / 1024:,.0f}" for size in sizes), f"{memory.share:.3f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=sorted(architectures()))
    parser.add_argument("--target", default="native")
    add_markdown(parser)
    chosen = parser.parse_args()
    header = ("KiB", "weights", "arena", "its bound", "code", "resident", "of weights and arena")
    show(header, [row(name, chosen.target) for name in chosen.networks], chosen.markdown)


if __name__ == "__main__":
    main()
