# SPDX-License-Identifier: Apache-2.0
"""What a user may choose of a compilation; `bnncc.cli` fills it in from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from bnncc.diagnostics import BnnccError, did_you_mean
from bnncc.frontend.camera import CameraInput
from bnncc.frontend.nir.discretization import TimeOptions
from bnncc.passes.pipeline import Rounded
from bnncc.plan.budget import Budgets, Goal

Road = Literal["tvm", "mlir"]
"""Which compiler makes the kernels."""


INPUTS = ("input_type", "input_layout", "normalize")
"""Options of `bnncc.compile`, spelled as on the command line, that are fields of `Options.camera`."""

BUDGETS = ("ram", "flash")
"""Those of `Options.budgets`."""

KINDS = (
    ("ram", Integral, "a number of bytes"),
    ("flash", Integral, "a number of bytes"),
    ("threads", Integral, "a number"),
    ("dims", Mapping, "sizes by name"),
    ("states", Mapping, "names of outputs by those of inputs"),
)
"""What arguments from Python must be, whose type the command line sees to."""


@dataclass(frozen=True)
class Options:
    """What a user may choose. Raises BnnccError for a word that there is not.

    target: a name or a TOML file. name: the library's C name (default: from the file). dims: symbolic
    dimensions. emit: which files. print_ir_after: pass names or "all", after which the module
    is printed to stderr; print_ir_whole: with its large constants.
    camera: inputs as a camera gives them. assume_sign_zero: +1 or -1 drops the exact handling of sign(0) = 0.
    cc: the C compiler command. package: a build system (codegen.PACKAGES) to write a folder for.
    optimize: what kernels are chosen and compiled for (default: where no operating system and no instruction
    that counts bits is, the fastest that keep the budget of flash, or a balance; else speed).
    dt, reset, integrator, current, v_min, preset: of a NIR file, see `TimeOptions`.
    profile: call `<name>_on_layer` before and after every layer. budgets: bytes of RAM and flash that the
    network may take. states: output name by input name of the states that a graph of one time step carries to
    the next.
    backend: who makes the kernels: TVM, or mlir-opt and LLVM from what `--emit linalg` writes.
    threads: how many share the layers of a run, at most (1: none but the caller's).
    tuning_db: a database of `bnncc tune`, whose findings kernels follow.
    calibrate: a .npz of samples, or arrays by input name, on which spikes are counted (`bnncc.calibrate`).
    quantize_weights: "int8" for real weights that spikes meet. membrane: "int16" or "int32" for neurons
    ("float", the default, keeps the file's arithmetic). quantize_real: "int8" for layers of real numbers, by
    the ranges of the samples. What these change is told on the samples.
    """

    target: str = "native"
    name: str | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    emit: tuple[str, ...] = ("lib", "so")
    print_ir_after: tuple[str, ...] = ()
    print_ir_whole: bool = False
    camera: CameraInput = CameraInput()
    assume_sign_zero: int | None = None
    cc: str | None = None
    optimize: Goal = None
    package: str | None = None
    budgets: Budgets = Budgets()
    profile: bool = False
    threads: int = 1
    calibrate: str | Path | Mapping[str, Any] | None = None
    tuning_db: str | Path | None = None
    quantize_weights: str | None = None
    quantize_real: str | None = None
    membrane: str | None = None
    dt: float | None = None
    reset: str | None = None
    integrator: str | None = None
    current: str | None = None
    v_min: float | str | None = None
    preset: str | None = None
    backend: Road = "tvm"
    states: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises BnnccError for a word that there is not."""
        for option, value, known in (
            ("--optimize", self.optimize, (None, "size", "speed")),
            ("--assume-sign-zero", self.assume_sign_zero, (None, 1, -1)),
            ("--backend", self.backend, ("tvm", "mlir")),
            ("--input-type", self.camera.type, (None, "u8", "spikes", "events")),
            ("--input-layout", self.camera.layout, (None, "nhwc", "nchw")),
        ):
            _check_word(option, value, known)

    @staticmethod
    def of(given: Mapping[str, Any]) -> Options:
        """The options of keyword arguments as `bnncc.compile` takes them. Raises BnnccError."""
        known = {*INPUTS, *BUDGETS, *(each.name for each in fields(Options))}
        for name in given:
            if name not in known:
                hint = f"{did_you_mean(name, known)}the options: {', '.join(sorted(known))}"
                raise BnnccError(name, "there is no such option", hint)
        for name, kind, what in KINDS:
            if given.get(name) is not None and not isinstance(given[name], kind):
                raise BnnccError(name, f"expected {what}, got {given[name]!r}")
        mine = {name: value for name, value in given.items() if name not in (*INPUTS, *BUDGETS)}
        if any(name in given for name in INPUTS):
            mean, std = _normalization(given.get("normalize"))
            mine["camera"] = CameraInput(given.get("input_type"), given.get("input_layout"), mean, std)
        if any(name in given for name in BUDGETS):
            mine["budgets"] = Budgets(given.get("ram"), given.get("flash"))
        if "emit" in mine:
            emit = mine["emit"]
            mine["emit"] = tuple(emit.split(",") if isinstance(emit, str) else emit)
        return Options(**mine)

    @property
    def time(self) -> TimeOptions:
        """What says how a NIR file's equations become steps."""
        return TimeOptions(self.dt, self.reset, self.integrator, self.current, self.v_min, self.preset)

    @property
    def rounded(self) -> Rounded:
        """What becomes integers. Raises BnnccError for a kind that there is not."""
        for option, value, known in (
            ("--quantize-weights", self.quantize_weights, (None, "int8")),
            ("--quantize-real", self.quantize_real, (None, "int8")),
            ("--membrane", self.membrane, (None, "float", "int16", "int32")),
        ):
            _check_word(option, value, known)
        membrane = None if self.membrane == "float" else self.membrane
        return Rounded(self.quantize_weights, membrane, self.quantize_real)

    def chosen(self) -> dict[str, Any]:
        """What the user chose beyond the defaults, for the header and the manifest: nothing that depends on
        the machine."""
        facts: dict[str, Any] = {f"dim {name}": size for name, size in sorted(self.dims.items())}
        if self.camera:
            facts |= self.camera.chosen()
        if self.assume_sign_zero is not None:
            facts["assume-sign-zero"] = f"{self.assume_sign_zero:+d}"
        if self.preset is not None:
            facts["preset"] = self.preset
        if self.backend != "tvm":
            facts["backend"] = self.backend
        if self.threads != 1:
            facts["threads"] = self.threads
        facts |= {"quantize-weights": self.quantize_weights} if self.rounded.weights else {}
        facts |= {"quantize-real": self.quantize_real} if self.rounded.real else {}
        facts |= {"membrane": self.membrane} if self.rounded.membranes else {}
        facts |= {f"state {before}": after for before, after in self.states.items()}
        return facts


def _check_word(option: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        words = ", ".join(str(word) for word in known if word is not None)
        raise BnnccError(option, f"there is no '{value}'", f"it is one of {words}")


def _normalization(given: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A mean and a deviation, or a tuple of each. Raises BnnccError."""
    try:
        mean, std = given or ((), ())
        return _numbers(mean), _numbers(std)
    except (TypeError, ValueError):
        raise BnnccError("normalize", f"expected a mean and a deviation, got {given!r}") from None


def _numbers(given: Any) -> tuple[float, ...]:
    """One number, or several."""
    return tuple(float(number) for number in given) if isinstance(given, Iterable) else (float(given),)
