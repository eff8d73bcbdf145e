# SPDX-License-Identifier: Apache-2.0
"""What was measured, in a file: TVM's workloads and tuning records, with what a person wants to know beside
them.

    {"format": 1, "layers": [{"key": {...}, "workload": [...], "trials": [
        {"device": "...", "unit": "s", "parameters": {...}, "problem": "", "record": [...]}]}]}

`workload` and `record` are those of TVM's MetaSchedule (`Workload.as_json`, `TuningRecord.as_json`): a
record's trace samples each tile parameter, its run time is in seconds (cycles at a serial port,
instructions under an emulator), 1e10
of a candidate that failed. The workload stands for the layer by its key (`bnncc.kernels.space.layer_key`), so
that the same layer of another model finds the record.

A file is read as plain JSON: it may be anybody's, and TVM's parsers, given what TVM did not write, may end
the process.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.meta_schedule.database import TuningRecord, Workload

from bnncc.diagnostics import BnnccError
from bnncc.kernels.kernel import TileParameters
from bnncc.tuning.units import EXACT, UNITS, Unit

FORMAT = 1
FAILED = 1e10
"""The run time of a candidate that failed, as MetaSchedule writes it."""

NOISE = 0.02
"""A time must be better than the default's by this share to be believed; instructions are exact."""

UNWRITABLE = "--db names a file that you may write, in a folder that you may write to"

Key = Mapping[str, object]


def margin_of(unit: Unit) -> float:
    """By what share a score in a unit must differ to be believed."""
    return 0.0 if unit in EXACT else NOISE


@dataclass(frozen=True)
class Trial:
    """What one candidate did on a device. score: in that unit, None where it failed; one that has a problem
    nevertheless was fast by itself, and is not used."""

    device: str
    unit: Unit
    parameters: TileParameters
    score: float | None
    problem: str = ""


class Database:
    """Trials of layers, the default's first in each layer and device; kept in memory until `save`."""

    def __init__(self, path: Path):
        """What the file holds; nothing, if there is none. Raises BnnccError where it is damaged."""
        self.path = path
        self._layers: dict[str, tuple[Key, list[Trial]]] = {}
        self._stamp = _stamp(path)
        if self._stamp is None:
            return
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']}, {FORMAT} was expected")
            for layer in data["layers"]:
                if not isinstance(layer["key"], dict):
                    raise ValueError("a layer's key is no object")
                trials = [_read_trial(trial) for trial in layer["trials"]]
                self._layers[_text(layer["key"])] = (layer["key"], trials)
        except OSError as error:
            raise BnnccError(str(path), f"cannot be read: {error.strerror}") from error
        except Exception as error:
            # Whatever is missing, of another type or too deep: it is the file.
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            message = f"is no tuning database: {why}"
            raise BnnccError(str(path), message, "give another file, or remove this one") from error

    def check_writable(self) -> None:
        """Raise BnnccError where `save` would fail, before hours are spent."""
        try:
            if self.path.exists() and not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with tempfile.TemporaryFile(dir=self.path.resolve().parent):
                pass
        except OSError as error:
            raise self._unwritable(error) from error

    def trials(self, key: Key, device: str | None = None) -> list[Trial]:
        """What was measured of a layer, on one device or all."""
        _, trials = self._layers.get(_text(key), (key, []))
        return [trial for trial in trials if device in (None, trial.device)]

    def layers(self) -> list[tuple[Key, list[Trial]]]:
        """All of it, layer by layer."""
        return [(key, [*trials]) for key, trials in self._layers.values()]

    @property
    def size(self) -> int:
        """How many trials there are."""
        return sum(len(trials) for _, trials in self._layers.values())

    def add(self, key: Key, trials: Iterable[Trial]) -> None:
        """Remember trials; the first of a device is that of the default."""
        self._layers.setdefault(_text(key), (key, []))[1].extend(trials)

    def best(self, key: Key, device: str | None = None) -> TileParameters | None:
        """The parameters to compile a layer with: the fastest on a device, if clearly faster than the default
        there. Where there are several devices, those that measured time go first, and of these the last one,
        unless `device` says which. None: the default."""
        trials = self.trials(key, device)
        for unit in UNITS:
            for name in reversed(dict.fromkeys(trial.device for trial in trials if trial.unit == unit)):
                default, *others = (trial for trial in trials if trial.device == name)
                fastest = min(others, key=_score, default=default)
                margin = margin_of(unit)
                is_better = _score(fastest) < _score(default) * (1 - margin)
                return fastest.parameters if is_better else None
        return None

    def replace(self, key: Key, trial: Trial) -> None:
        """Put a better measurement of the same candidate into the place of the one before."""
        trials = self._layers[_text(key)][1]
        at = next(
            i
            for i, old in enumerate(trials)
            if (old.device, old.parameters) == (trial.device, trial.parameters)
        )
        trials[at] = trial

    def reject(self, key: Key, device: str, why: str) -> None:
        """Use none of those that were faster than the default on a device; their times are kept."""
        default, *others = self.trials(key, device)
        for trial in others:
            if _score(trial) < _score(default):
                self.replace(key, replace(trial, problem=why))

    def save(self) -> None:
        """Write the file, whole or not at all, with what others have put there meanwhile. Raises
        BnnccError."""
        folder = self.path.resolve().parent
        try:
            with _alone_in(folder):
                if _stamp(self.path) != self._stamp:
                    self._take_over(Database(self.path))
                layers = [_layer(key, trials) for key, trials in self._layers.values()]
                text = json.dumps({"format": FORMAT, "layers": layers}, indent=1) + "\n"
                self._write(text, folder)
                self._stamp = _stamp(self.path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self, text: str, folder: Path) -> None:
        mode = stat.S_IMODE(self.path.stat().st_mode) if self.path.exists() else 0o644
        prefix = f".{self.path.name}."
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, prefix=prefix, delete=False
        ) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, mode)
                # Where the path is a link, what it leads to is replaced.
                os.replace(file.name, self.path.resolve())
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _take_over(self, other: Database) -> None:
        """What another run measured: of each layer those devices that this one has not."""
        for key, trials in other.layers():
            mine = {trial.device for trial in self.trials(key)}
            if new := [trial for trial in trials if trial.device not in mine]:
                self.add(key, new)

    def _unwritable(self, error: OSError) -> BnnccError:
        return BnnccError(str(self.path), f"cannot be written: {error.strerror}", UNWRITABLE)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with every `save`; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time saves in a folder, where the system has such locks; they go with the process."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            # A network's file system may have no locks.
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _score(trial: Trial) -> float:
    return float("inf") if trial.score is None or trial.problem else trial.score


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True)


def _layer(key: Key, trials: Iterable[Trial]) -> dict[str, Any]:
    workload = _workload(key)
    return {
        "key": key,
        "workload": _plain(workload.as_json()),
        "trials": [
            {
                "device": trial.device,
                "unit": trial.unit,
                "parameters": dict(trial.parameters),
                "problem": trial.problem,
                "record": _plain(_record(trial, workload).as_json()),
            }
            for trial in trials
        ],
    }


def _workload(key: Key) -> Workload:
    """A module that is the layer's by its attribute: kernels take raw pointers, which MetaSchedule does
    not."""
    function = tirx.PrimFunc([], tirx.Evaluate(tirx.const(0))).with_attr(
        {"global_symbol": "main", "bnncc.layer": _text(key)}
    )
    return Workload(tvm.IRModule({"main": function}))


def _record(trial: Trial, workload: Workload) -> TuningRecord:
    schedule = Schedule(workload.mod)
    for name in sorted(trial.parameters):
        schedule.sample_categorical([int(trial.parameters[name])], [1.0], decision=0)
    score = FAILED if trial.score is None else trial.score
    assert schedule.trace is not None
    return TuningRecord(schedule.trace, workload, [score])


def _read_trial(data: Mapping[str, Any]) -> Trial:
    (instructions, _), seconds, *_ = data["record"]
    score = float(seconds[0]) if seconds else FAILED
    values = [sampled[0] for _, _, (sampled, _), _ in instructions]
    parameters = dict(zip(sorted(data["parameters"]), values, strict=True))
    if parameters != data["parameters"]:
        raise ValueError("a record samples other parameters than stand beside it")
    device, unit, problem = data["device"], data["unit"], data["problem"]
    if not isinstance(device, str) or not isinstance(problem, str) or unit not in UNITS:
        raise ValueError("a trial's device, unit or problem is none")
    if not all(type(value) is int for value in values):
        raise ValueError("a parameter is no integer")
    return Trial(device, unit, parameters, score if 0 <= score < FAILED else None, problem)


def _plain(value: Any) -> Any:
    """TVM's containers as Python's."""
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if hasattr(value, "value"):
        return value.value
    if hasattr(value, "__iter__"):
        return [_plain(item) for item in value]
    return str(value)
