# SPDX-License-Identifier: Apache-2.0
"""A compiled network on disk, and running it in this process.

Needs only NumPy and the artifact's own files: neither the compiler's front end nor its back end.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnncc import targets
from bnncc.data.spike_words import binned
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution.inputs import Arrays, batches, checked, count_samples
from bnncc.execution.memory import initial_state, new_arena, new_state
from bnncc.execution.streams import Stream
from bnncc.plan.c_values import C_TYPES

if TYPE_CHECKING:
    from bnncc.execution.emulator import Emulator

MANIFEST = "manifest.json"
GENERATOR = "bnncc"
FORMAT = 1
"""Of the manifest; a reader refuses any other."""

STATUS = {
    1: "a pointer is NULL",
    2: "the arena is not aligned (or the state)",
    3: "there is no such layer",
    4: "an input asks for a number of steps that is out of range",
    5: "packed spikes have bits beyond their channels",
    6: "an event lies outside the input, or before the one in front of it",
    7: "the number of threads is out of range",
}

STEPS_OUT_OF_RANGE = 4
"""From this status on, only the user's numbers can bring it about."""

_KEYS: Mapping[str, type] = {
    "name": str,
    "target": dict,
    "inputs": list,
    "outputs": list,
    "arena": dict,
    "steps": list,
    "files": dict,
}

_opened: dict[str, str] = {}
"""SHA-256 by path of the libraries that this process has open: the loader would give the old one again
for a path that was compiled anew."""
_opened_lock = threading.Lock()


def load(directory: str | PathLike[str]) -> Artifact:
    """Open an artifact. Raises BnnccError where the directory holds none, or a damaged one."""
    return Artifact(directory)


class Artifact:
    """What `bnncc compile` wrote into `directory`; `manifest` is its manifest.json as plain data.

    `run` may be called from several threads at a time. Of a network with states (`is_stateful`) it takes
    sequences; `step` and `reset` go through one step by step, `stream` gives further ones."""

    directory: Path
    manifest: dict[str, Any]

    def __init__(self, directory: str | PathLike[str]):
        self.directory = Path(directory)
        self.manifest = _read_manifest(self.directory)
        self._library: ctypes.CDLL | None = None
        self._lock = threading.Lock()
        self._arenas = threading.local()
        self._stream: Stream | None = None

    def __repr__(self) -> str:
        return f"Artifact({self.name!r}, {str(self.directory)!r}, target={self.manifest['target']['name']!r})"

    @property
    def name(self) -> str:
        """The library's name."""
        return self.manifest["name"]

    @property
    def input_names(self) -> tuple[str, ...]:
        """As the ONNX graph spells them, in its order."""
        return tuple(port["name"] for port in self.manifest["inputs"])

    @property
    def output_names(self) -> tuple[str, ...]:
        """As the ONNX graph spells them, in its order."""
        return tuple(port["name"] for port in self.manifest["outputs"])

    @property
    def batch(self) -> int | None:
        """Samples of one call of the library; None where axis 0 does not count samples."""
        return self.manifest.get("batch")

    @property
    def is_stateful(self) -> bool:
        """Whether the network keeps states from step to step."""
        return "states" in self.manifest

    @property
    def threads(self) -> int:
        """Threads that share the layers of a run, its caller's among them, at most."""
        return self.manifest.get("threads", 1)

    def set_threads(self, count: int) -> None:
        """Let runs use so many threads from now on, 1 to `threads`; answers do not depend on it. The library
        is one for all that have opened it in this process. Raises BnnccError."""
        if not 1 <= count <= self.threads:
            raise BnnccError(
                "--threads",
                f"{self.name} is compiled for {self.threads} thread{'s' * (self.threads > 1)}, not {count}",
                f"compile it with --threads {count}" if count > 1 else "",
            )
        if self.threads > 1 and self.emulator is None:
            self._check_status(self._function("threads")(count))

    def report(self) -> dict[str, Any]:
        """report.json as plain data. Raises BnnccError where it is missing or damaged."""
        path = self.directory / "report.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BnnccError(str(path), f"cannot be read: {error}", "compile the model again") from error

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Outputs by ONNX name for inputs by ONNX name.

        Axis 0 of all inputs may hold more samples (or fewer) than the compiled batch: the library is called
        as often as needed, and the outputs are as long as the inputs. Outputs of a loop that runs as often as
        an input says have so many elements along axis 0. Raises BnnccError where a name, shape or type is
        wrong, or the artifact cannot run here.

        A network with states takes sequences [T, N, ...] of N independent samples and gives such: every
        sample begins with states of zero, or with those given by their input names [N, ...]. Outputs are
        those of all steps, new states among them."""
        if self.is_stateful:
            return self._run_sequences(inputs)
        given = checked(self.manifest, inputs, steps=False, samples=True)
        parts = list(batches(self.manifest, given, steps=False))
        emulator = self.emulator
        chunks = emulator.run(parts) if emulator else [self._run_once(part) for part in parts]
        outputs = self.joined(chunks, 0, count_samples(self.manifest, given, steps=False))
        return outputs | self._shortened(outputs, given)

    def _run_sequences(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Outputs [T, N, ...] for inputs [T, N, ...] of a network with states."""
        given = checked(self.manifest, inputs, steps=True, samples=True)
        parts = [
            (arrays, initial_state(self.manifest, given, number * (self.batch or 1)))
            for number, arrays in enumerate(batches(self.manifest, given, steps=True))
        ]
        emulator = self.emulator
        chunks = emulator.run_sequences(parts) if emulator else [self.run_sequence(*part) for part in parts]
        return self.joined(chunks, 1, count_samples(self.manifest, given, steps=True))

    def joined(
        self, chunks: Sequence[Sequence[np.ndarray]], axis: int, samples: int | None
    ) -> dict[str, np.ndarray]:
        """The outputs of all batches, whose samples are on an axis: as many as were given."""
        if len(chunks) == 1 and samples in (None, self.batch):
            return dict(zip(self.output_names, chunks[0], strict=True))
        keep = (slice(None),) * axis + (slice(samples),)
        return {
            name: np.concatenate([chunk[index] for chunk in chunks], axis=axis)[keep]
            for index, name in enumerate(self.output_names)
        }

    def _shortened(self, outputs: Arrays, inputs: Arrays) -> dict[str, np.ndarray]:
        """Those outputs that an input says the length of, without the zeros at their end."""
        counts = {port["name"]: port["count"] for port in self.manifest["outputs"] if "count" in port}
        return {name: outputs[name][: int(inputs[count].item())] for name, count in counts.items()}

    def run_events(
        self, events: np.ndarray, step_length: int, steps: int | None = None, start: int | None = None
    ) -> dict[str, np.ndarray]:
        """Outputs [T, ...] for the events of a camera, of a network compiled with --input-type events, from
        states of zero: see `bnncc.data.spike_words.binned`. Raises BnnccError."""
        return self.run(self.events_input(events, step_length, steps, start))

    def events_input(
        self, events: np.ndarray, step_length: int, steps: int | None = None, start: int | None = None
    ) -> dict[str, np.ndarray]:
        """What `run` takes for such events."""
        ports = self.manifest["inputs"]
        if len(ports) != 1 or "spikes" not in ports[0]:
            raise BnnccError(self.name, "the network takes no events", "compile it with --input-type events")
        return {ports[0]["name"]: binned(ports[0], events, step_length, steps, start)}

    def step(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One step of a network with states: see `Stream.step`. Raises BnnccError for a network without."""
        return self._first_stream().step(inputs)

    def reset(self) -> None:
        """Begin a new sequence: the next `step` finds all states zero."""
        self._first_stream().reset()

    def stream(self) -> Stream:
        """A further sequence, independent of all others. Raises BnnccError for a network without states."""
        if not self.is_stateful:
            hint = "`run` runs it; --state BEFORE=AFTER makes a graph of one time step stateful"
            raise BnnccError(self.name, "the network keeps no state: it has no steps", hint)
        return Stream(self.manifest, partial(self.bind, self.arena()))

    def _first_stream(self) -> Stream:
        if self._stream is None:
            self._stream = self.stream()
        return self._stream

    # Raw access, for tools that verify and time layers.

    def arena(self) -> np.ndarray:
        """New memory for the network: uint8 [arena bytes], aligned, all zeros."""
        return new_arena(self.manifest)

    def state_memory(self) -> np.ndarray:
        """New memory for the states, all of them zero: uint8 [state bytes], aligned."""
        return new_state(self.manifest)

    def bind(
        self,
        arena: np.ndarray,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        state: np.ndarray | None = None,
    ) -> Callable[[], None]:
        """A function without arguments that runs the network (one step of it, where it has states) on these
        arrays, each C-contiguous and of its port's dtype and shape; it does nothing else, so it can be
        timed."""
        suffix = "step" if self.is_stateful else "run"
        return self._bound(suffix, None, arena, inputs, outputs, state)

    def bind_layer(
        self,
        index: int,
        arena: np.ndarray,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        state: np.ndarray | None = None,
    ) -> Callable[[], None]:
        """The same for step `index` of the manifest alone, on what the arena and the state hold."""
        if not 0 <= index < len(self.manifest["steps"]):
            raise IndexError(f"{self.name} has {len(self.manifest['steps'])} steps, there is no step {index}")
        return self._bound("layer", index, arena, inputs, outputs, state)

    def run_layer(
        self,
        index: int,
        arena: np.ndarray,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        state: np.ndarray | None = None,
    ) -> None:
        """Run step `index` once."""
        self.bind_layer(index, arena, inputs, outputs, state)()

    def bind_watched(
        self,
        done: Callable[[int, int], None],
        arena: np.ndarray,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        state: np.ndarray | None = None,
    ) -> Callable[[], None]:
        """As `bind`, slower: `done(step of the manifest, trip of the loop around it)` is called after each
        step, to look at what it left in the arrays; under an emulator after those of spiking neurons only,
        whose spikes alone are there to be looked at."""
        if (emulator := self.emulator) is not None:
            return lambda: emulator.watch(done, arena, inputs, outputs, state)
        callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_size_t)(done)
        arrays = (arena, *(() if state is None else (state,)), *inputs, *outputs)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        function = self._function("watch")

        def call(_alive: object = (callback, arrays)) -> None:
            self._check_status(function(callback, *pointers))

        return call

    def run_sequence(self, inputs: Sequence[np.ndarray], state: np.ndarray) -> list[np.ndarray]:
        """Outputs [T, ...] for inputs [T, ...] of one batch, C-contiguous; `state` changes."""
        steps = len(inputs[0])
        outputs = [np.empty((steps, *port["shape"]), port["dtype"]) for port in self.manifest["outputs"]]
        arena = self.arena()
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (arena, state, *inputs, *outputs)]
        status = self._function("run")(*pointers[:2], ctypes.c_size_t(steps), *pointers[2:])
        self._check_status(status)
        return outputs

    # Inside.

    def _run_once(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = [np.empty(port["shape"], port["dtype"]) for port in self.manifest["outputs"]]
        if not hasattr(self._arenas, "arena"):
            self._arenas.arena = self.arena()
        self.bind(self._arenas.arena, arrays, outputs)()
        return outputs

    def _bound(
        self,
        suffix: str,
        layer: int | None,
        arena: np.ndarray,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        state: np.ndarray | None,
    ) -> Callable[[], None]:
        for port, array in zip(
            (*self.manifest["inputs"], *self.manifest["outputs"]), (*inputs, *outputs), strict=True
        ):
            right = (
                array.flags.c_contiguous
                and array.dtype == port["dtype"]
                and list(array.shape) == port["shape"]
            )
            assert right, (port, array.dtype, array.shape)
        assert arena.nbytes >= self.manifest["arena"]["bytes"]
        assert (state is not None) == self.is_stateful
        arrays = (arena, *(() if state is None else (state,)), *inputs, *outputs)
        execute = self._here(suffix, layer, arrays) if self.emulator is None else self._there(layer, arrays)

        def call(_alive: tuple[np.ndarray, ...] = arrays) -> None:
            self._check_status(execute())

        return call

    def _check_status(self, status: int) -> None:
        if status:
            code = ExitCode.USER if status >= STEPS_OUT_OF_RANGE else ExitCode.FAILURE
            raise BnnccError(self.name, STATUS.get(status, f"status {status}"), exit_code=code)

    def _here(self, suffix: str, layer: int | None, arrays: Sequence[np.ndarray]) -> Callable[[], int]:
        """A call of the shared library in this process."""
        function = self._function(suffix)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in arrays)
        arguments = (*(() if layer is None else (layer,)), *pointers)
        return lambda: function(*arguments)

    def _there(self, layer: int | None, arrays: Sequence[np.ndarray]) -> Callable[[], int]:
        """A call of the library on the emulated processor."""
        emulator = self.emulator
        assert emulator is not None
        return lambda: emulator.call(layer, arrays)

    @cached_property
    def target(self) -> targets.Target:
        """What it was compiled for."""
        facts = dict(self.manifest["target"])
        return targets.from_facts(facts.pop("name"), facts, str(self.directory / MANIFEST))

    @cached_property
    def emulator(self) -> Emulator | None:
        """What runs it where this machine cannot; None where it can."""
        if self.target.runs_here() or not self.target.is_foreign:
            return None
        from bnncc.execution.emulator import Emulator

        return Emulator(self.directory, self.manifest, self.target)

    def _function(self, suffix: str) -> Callable[..., int]:
        with self._lock:
            if self._library is None:
                self._library = self._open()
        function = getattr(self._library, f"{self.name}_{suffix}")
        function.restype = ctypes.c_int
        return function

    def _open(self) -> ctypes.CDLL:
        if not self.target.runs_here():
            raise BnnccError(
                str(self.directory),
                f"compiled for {self.target.name}, which this machine cannot run",
                "compile it with --target native, or run it on a machine of that kind",
            )
        file = f"lib{self.name}.so"
        listed = self.manifest["files"].get(file)
        if listed is None:
            raise BnnccError(
                str(self.directory), f"the artifact has no {file} to run", "compile it with `so` among --emit"
            )
        path = self.directory / file
        if not path.is_file():
            raise BnnccError(str(path), "the shared library is missing", "compile the model again")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != listed["sha256"]:
            message = "the shared library is not the one that manifest.json describes"
            raise BnnccError(str(path), message, "compile the model again")
        return _open_library(path.resolve(), digest)


def _open_library(path: Path, digest: str) -> ctypes.CDLL:
    """Load a shared library, from a copy where an older one of that path is loaded already."""
    with _opened_lock:
        known = _opened.setdefault(str(path), digest)
    try:
        if known == digest:
            return ctypes.CDLL(str(path))
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            return ctypes.CDLL(str(shutil.copy(path, folder)))
    except OSError as error:
        raise BnnccError(
            str(path), f"the shared library cannot be loaded: {error}", exit_code=ExitCode.FAILURE
        ) from error


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    again = "compile the model again"
    if not directory.is_dir():
        raise BnnccError(str(directory), "there is no such directory", "name what `bnncc compile -o` wrote")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = "name a directory that `bnncc compile` wrote"
        raise BnnccError(str(directory), f"the directory holds no {MANIFEST}", hint) from error
    except OSError as error:
        raise BnnccError(str(path), f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BnnccError(str(path), f"not valid JSON: {error}", again) from error
    if not isinstance(manifest, dict) or manifest.get("generator") != GENERATOR:
        raise BnnccError(str(path), "not the manifest of a bnncc artifact")
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise BnnccError(str(path), f"has format {found!r}, this bnncc reads format {FORMAT}", again)
    for key, kind in _KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise BnnccError(str(path), f"the key '{key}' is missing or of a wrong type", again)
    for port in (*manifest["inputs"], *manifest["outputs"]):
        if not _is_port(port):
            raise BnnccError(str(path), "an input or output lacks its name, type or shape", again)
    return manifest


def _is_port(port: object) -> bool:
    """Whether something is what `codegen.manifest` writes of a port, as far as it is used here."""
    if not isinstance(port, dict) or not all(isinstance(port.get(key), str) for key in ("name", "c_name")):
        return False
    shape = port.get("shape")
    is_shape = isinstance(shape, list) and all(type(extent) is int and extent >= 0 for extent in shape)
    return is_shape and port.get("dtype") in C_TYPES
