# SPDX-License-Identifier: Apache-2.0
"""Running a compiled network on a processor that this machine is not, by its emulator (QEMU).

The library is linked with a small program (`runtime/bsp/runner.c`) that carries out requests: write memory,
run, read memory. On an emulated board without an operating system the requests come through semihosting.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution import boards
from bnncc.execution.boards import Execution
from bnncc.targets import Target

STOP, WRITE, READ, RUN, LAYER, WATCH = range(6)
"""Operations of runner.c."""


class Emulator:
    """The library in `directory` on the emulated processor `target`; `manifest` as plain data."""

    def __init__(self, directory: Path, manifest: Mapping[str, Any], target: Target):
        self.directory, self.manifest, self.target = directory, manifest, target

    def call(self, layer: int | None, arrays: Sequence[np.ndarray]) -> int:
        """Run the network, or one layer of it, on the arena, the inputs and the outputs, which change as
        memory does there.

        Returns the library's status. Raises BnnccError where there is no emulator or the program fails."""
        requests = [
            _request(WRITE, slot, array.nbytes) + array.tobytes() for slot, array in enumerate(arrays)
        ]
        requests.append(_request(RUN, 0) if layer is None else _request(LAYER, layer))
        kept = [(slot, array) for slot, array in enumerate(arrays) if array.flags.writeable]
        requests += [_request(READ, slot, array.nbytes) for slot, array in kept]
        answer = self._execute(b"".join(requests), 4 + sum(array.nbytes for _, array in kept)).answer
        at = 4
        for _, array in kept:
            array[...] = np.frombuffer(answer, array.dtype, array.size, at).reshape(array.shape)
            at += array.nbytes
        return struct.unpack_from("<I", answer)[0]

    def run(self, batches: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """The outputs for each batch of inputs, all in one process."""
        ports = self.manifest["outputs"]
        shapes = [(tuple(port["shape"]), np.dtype(port["dtype"])) for port in ports]
        sizes = [int(np.prod(shape)) * dtype.itemsize for shape, dtype in shapes]
        first_output = 1 + len(self.manifest["inputs"])
        requests = []
        for inputs in batches:
            requests += [_request(WRITE, 1 + i, x.nbytes) + x.tobytes() for i, x in enumerate(inputs)]
            requests.append(_request(RUN, 0))
            requests += [_request(READ, first_output + i, size) for i, size in enumerate(sizes)]
        answer = self._execute(b"".join(requests), len(batches) * (4 + sum(sizes))).answer
        results, at = [], 0
        for _ in batches:
            (status,) = struct.unpack_from("<I", answer, at)
            if status:
                raise BnnccError(
                    self.manifest["name"], f"the network returned status {status}", exit_code=ExitCode.FAILURE
                )
            at += 4
            outputs = []
            for (shape, dtype), size in zip(shapes, sizes, strict=True):
                outputs.append(np.frombuffer(answer[at : at + size], dtype).reshape(shape).copy())
                at += size
            results.append(outputs)
        return results

    def run_sequences(
        self, parts: Sequence[tuple[Sequence[np.ndarray], np.ndarray]]
    ) -> list[list[np.ndarray]]:
        """Outputs [T, ...] for each pair of inputs [T, ...] and the state memory to begin with, all in one
        process."""
        ports = self.manifest["outputs"]
        first_output = 2 + len(self.manifest["inputs"])
        requests, steps = [], 0
        for inputs, state in parts:
            requests.append(_request(WRITE, 1, state.nbytes) + state.tobytes())
            for arrays in zip(*inputs, strict=True):
                requests += [_request(WRITE, 2 + i, x.nbytes) + x.tobytes() for i, x in enumerate(arrays)]
                requests.append(_request(RUN, 0))
                requests += [_request(READ, first_output + i, _bytes(port)) for i, port in enumerate(ports)]
                steps += 1
        row = 4 + sum(map(_bytes, ports))
        answer = self._execute(b"".join(requests), steps * row).answer
        rows = np.frombuffer(answer, np.uint8).reshape(steps, row)
        for status in rows[:, :4].copy().view("<u4").reshape(-1):
            if status:
                message = f"the network returned status {status}"
                raise BnnccError(self.manifest["name"], message, exit_code=ExitCode.FAILURE)
        results, at = [], 0
        for inputs, _ in parts:
            results.append(_columns(rows[at : at + len(inputs[0])], ports))
            at += len(inputs[0])
        return results

    def watch(
        self,
        done: Callable[[int, int], None],
        arena: np.ndarray,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        state: np.ndarray | None,
    ) -> None:
        """Run the network once, and call `done(step, trip)` for every layer of spiking neurons after it ran,
        its spikes then in the memories given, which change as those of the network did."""
        host = [arena, *([] if state is None else [state]), *inputs, *outputs]
        first = len(host) - len(inputs) - len(outputs)
        given = [*([(1, state)] if state is not None else []), *enumerate(inputs, first)]
        wanted = [*([(1, state)] if state is not None else []), *enumerate(outputs, first + len(inputs))]
        requests = [_request(WRITE, which, array.nbytes) + array.tobytes() for which, array in given]
        requests += [_request(WATCH, 0), *(_request(READ, which, array.nbytes) for which, array in wanted)]
        parts = regions(self.manifest)
        expected = 4 + sum(array.nbytes for _, array in wanted)
        expected += sum((8 + part.bytes) * self._trips(part.step, inputs) for part in parts)
        answer = self._execute(b"".join(requests), expected).answer
        at = 0
        for _ in range(sum(self._trips(part.step, inputs) for part in parts)):
            number, trip = struct.unpack_from("<II", answer, at)
            part, at = parts[number], at + 8
            memory = host[part.memory].reshape(-1).view(np.uint8)
            memory[part.offset : part.offset + part.bytes] = np.frombuffer(
                answer[at : at + part.bytes], np.uint8
            )
            at += part.bytes
            if part.is_last:
                done(part.step, trip)
        (status,) = struct.unpack_from("<I", answer, at)
        if status:
            raise BnnccError(
                self.manifest["name"], f"the network returned status {status}", exit_code=ExitCode.FAILURE
            )
        at += 4
        for _, array in wanted:
            bytes_ = np.frombuffer(answer[at : at + array.nbytes], np.uint8)
            array.reshape(-1).view(np.uint8)[...] = bytes_
            at += array.nbytes

    def _trips(self, step: int, inputs: Sequence[np.ndarray]) -> int:
        """How often a step runs on these inputs."""
        trips = 1
        for loop in self.manifest.get("loops", ()):
            if loop["first"] <= step <= loop["last"]:
                count = loop["count"]
                number = next(
                    (i for i, p in enumerate(self.manifest["inputs"]) if p["buffer"] == count), None
                )
                trips *= loop["trips"] if number is None else int(inputs[number].reshape(-1)[0])
        return trips

    def count(self, inputs: Sequence[np.ndarray], layers: bool) -> tuple[int, list[int]]:
        """Instructions of one run of the network on one batch of inputs, and of each layer if asked for.

        A score of instructions around each call are counted too."""
        first = 2 if "states" in self.manifest else 1
        requests = [_request(WRITE, first + i, x.nbytes) + x.tobytes() for i, x in enumerate(inputs)]
        indices = range(len(self.manifest["steps"]) if layers else 0)
        requests += [_request(RUN, 0), *(_request(LAYER, index) for index in indices)]
        calls = 1 + len(indices)
        counting = ("-plugin", f"file={self._counter}")
        done = self._execute(b"".join(requests), 4 * calls, counting)
        counts = done.counts
        if any(done.answer) or len(counts) != calls:
            message = f"the emulator counted {len(counts)} calls of {calls}"
            hint = "QEMU 4.2 to 8.2 can count"
            raise BnnccError(f"target {self.target.name}", message, hint, ExitCode.FAILURE)
        return counts[0], counts[1:]

    # Inside.

    @cached_property
    def _counter(self) -> Path:
        """The plugin that counts instructions, built at first use."""
        return boards.link_counter(self.image.parent)

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        """Where the program lies, gone with this object."""
        return tempfile.TemporaryDirectory(prefix="bnncc-")

    @cached_property
    def image(self) -> Path:
        """The program, linked at first use."""
        library = self.directory / f"lib{self.manifest['name']}_layers.a"
        if not library.is_file():
            raise BnnccError(
                str(self.directory),
                f"the artifact has no {library.name} to run",
                "compile it with `so` among --emit",
            )
        folder = Path(self._folder.name)
        shutil.copy(library, folder)
        shutil.copy(self.directory / f"{self.manifest['name']}.h", folder)
        (folder / "ports.h").write_text(ports_header(self.manifest), encoding="utf-8")
        return boards.link(self.target, folder, "runner.c", library.name)

    def _execute(self, requests: bytes, expected: int, options: Sequence[str] = ()) -> Execution:
        """Run the program, which must answer `expected` bytes."""
        boards.command(self.target)
        done = boards.execute(self.target, self.image, requests + _request(STOP, 0), options)
        if done.problem or len(done.answer) != expected:
            problem = done.problem or f"{len(done.answer)} bytes came back, {expected} were expected"
            raise BnnccError(
                f"target {self.target.name}",
                f"the emulated program failed: {problem}",
                self._hint(done.said),
                ExitCode.FAILURE,
            )
        return done

    def _hint(self, said: str) -> str:
        """What may help, after what the emulator said."""
        if "unable to find CPU model" in said or ("Property" in said and "not found" in said):
            emulator = boards.command(self.target)[0]
            version = boards.run((emulator, "--version"), Path.cwd(), b"").answer.decode(errors="replace")
            found = version.partition("\n")[0] or emulator
            return f"{found} does not know the processor that the target names; a newer one may"
        return "is the network larger than the board's memory?" if self.target.is_bare else ""


@dataclass(frozen=True)
class Region:
    """Where a step leaves spikes: bytes of one of the runner's memories. is_last: of its step's regions."""

    step: int
    memory: int
    offset: int
    bytes: int
    is_last: bool


def regions(manifest: Mapping[str, Any]) -> list[Region]:
    """What is looked at after each step: whole buffers; of states all, since some of them move."""
    found, first_output = [], len(manifest["inputs"]) + (2 if "states" in manifest else 1)
    for step, facts in enumerate(manifest["steps"]):
        spiking = facts.get("spikes", ())
        for number, spikes in enumerate(spiking):
            buffer = manifest["buffers"][spikes["buffer"]]
            while buffer["place"] == "part":
                buffer = manifest["buffers"][buffer["base"]]
            memory, offset, size = {
                "arena": (0, buffer.get("offset", 0), buffer["bytes"]),
                "state": (1, 0, manifest.get("state", {}).get("bytes", 0)),
                "output": (first_output + buffer.get("index", 0), 0, buffer["bytes"]),
            }[buffer["place"]]
            found.append(Region(step, memory, offset, size, number == len(spiking) - 1))
    return found


def ports_header(manifest: Mapping[str, Any]) -> str:
    """What runner.c needs to know about a library: its memories, and how it is called."""
    name = manifest["name"]
    ports = [*manifest["inputs"], *manifest["outputs"]]
    arena = manifest["arena"]["bytes"]
    lines = [
        "#include <stddef.h>",
        f'#include "{name}.h"',
        f"static {name.upper()}_ALIGNED unsigned char arena[{max(arena, 1)}];",
    ]
    arguments, pointers = ["arena"], ["void *"]
    if "states" in manifest:
        lines.append(f"static {name.upper()}_ALIGNED unsigned char state[{manifest['state']['bytes']}];")
        arguments.append("state")
        pointers.append("void *")
    for index, port in enumerate(ports):
        count = max(int(np.prod(port["shape"])), 1)
        lines.append(f"static {name.upper()}_ALIGNED {port['c_type']} port_{index}[{count}];")
        arguments.append(f"port_{index}")
    types = ", ".join(
        [*pointers, *(f"{'const ' if p in manifest['inputs'] else ''}{p['c_type']} *" for p in ports)]
    )
    passed, call = ", ".join(arguments), "step" if "states" in manifest else "run"
    memories = ", ".join(f"{{{argument}, sizeof {argument}}}" for argument in arguments)
    lines += [
        f"int {name}_layer(int, {types});",
        f"#define MEMORIES {len(arguments)}",
        "struct memory {",
        "    void *start;",
        "    uint32_t bytes;",
        "};",
        f"static const struct memory memories[MEMORIES] = {{{memories}}};",
        f"static int run_network(void) {{ return {name}_{call}({passed}); }}",
        f"static int run_layer(int index) {{ return {name}_layer(index, {passed}); }}",
    ]
    looked_at = regions(manifest)
    lines.append(f"#define REGIONS {len(looked_at)}")
    if looked_at:
        rows = ", ".join(f"{{{r.step}, {r.memory}, {r.offset}, {r.bytes}}}" for r in looked_at)
        lines += [
            "struct region {",
            "    int step;",
            "    uint32_t memory, offset, bytes;",
            "};",
            f"static const struct region regions[REGIONS] = {{{rows}}};",
            f"int {name}_watch(void (*)(int, size_t), {types});",
            "static int run_watched(void (*done)(int, size_t))",
            f"{{ return {name}_watch(done, {passed}); }}",
        ]
    return "\n".join(lines) + "\n"


def _request(operation: int, which: int, size: int = 0) -> bytes:
    return struct.pack("<III", operation, which, size)


def _bytes(port: Mapping[str, Any]) -> int:
    """Of an input or output."""
    return int(np.prod(port["shape"])) * np.dtype(port["dtype"]).itemsize


def _columns(rows: np.ndarray, ports: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    """What answers of status and outputs say of each output, stacked."""
    arrays, at = [], 4
    for port in ports:
        column = np.ascontiguousarray(rows[:, at : at + _bytes(port)])
        arrays.append(column.view(port["dtype"]).reshape(len(rows), *port["shape"]).copy())
        at += _bytes(port)
    return arrays
