# SPDX-License-Identifier: Apache-2.0
"""Arrays: in files (.npy and .npz as the user gives them, .npz as results), random ones, and summaries.

What is read is not trusted: no pickles, and every fault ends in one BnnccError.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnncc.data.spike_words import random_words
from bnncc.diagnostics import BnnccError

CLASSES = 1000
"""A last dimension up to this long counts as scores of classes: its argmax is shown."""

SAMPLES = 8
"""Of how many samples the argmax is shown."""


MAGIC = (b"\x93NUMPY", b"PK")
"""How a .npy and a .npz begin. NumPy takes what begins in another way for a pickle."""


def read_inputs(arguments: Sequence[str], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The inputs of a network from `--input` arguments.

    An argument is NAME=FILE.npy, FILE.npz (its keys are input names), or, where the network has one input,
    FILE.npy. names: the network's inputs. Raises BnnccError for a fault in any of them.
    """
    inputs: dict[str, np.ndarray] = {}
    for argument in arguments:
        for name, array in _read_argument(argument, names).items():
            if name in inputs:
                raise BnnccError("--input", f"the input '{name}' is given twice")
            inputs[name] = array
    return inputs


def _read_argument(argument: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    name, equals, file = argument.partition("=")
    if not equals or Path(argument).exists():
        name, file = "", argument
    arrays = read_arrays(Path(file))
    if name and "" in arrays:
        return {name: arrays[""]}
    if name:
        hint = "give it without NAME=: the arrays in a .npz bear the inputs' names"
        raise BnnccError(f"--input {argument}", f"{file} is an archive of several arrays", hint)
    if "" not in arrays:
        return arrays
    if len(names) != 1:
        raise BnnccError(
            f"--input {argument}", f"the network has {len(names)} inputs", "say which: NAME=FILE.npy"
        )
    return {names[0]: arrays[""]}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz by name; that of a .npy under the name ""."""
    if not path.is_file():
        raise BnnccError(str(path), "no such file")
    try:
        with path.open("rb") as file:
            if not file.read(len(MAGIC[0])).startswith(MAGIC):
                raise ValueError("it begins like neither")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, MemoryError) as why:
        hint = "write it with numpy.save or numpy.savez, without Python objects"
        raise BnnccError(str(path), f"cannot be read as .npy or .npz: {_one_line(why)}", hint) from None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz with these names, whole or not at all; the same arrays give the same bytes."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
        unfinished.replace(path)
    except OSError as why:
        unfinished.unlink(missing_ok=True)
        raise BnnccError(str(path), f"cannot be written: {why.strerror}", "check the directory") from None


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        unfinished.replace(path)
    except OSError as why:
        unfinished.unlink(missing_ok=True)
        raise BnnccError(str(path), f"cannot be written: {why.strerror}", "check the directory") from None


MANY_STEPS = 8
"""Steps of a loop that is asked to run any number of times."""


def random_array(
    rng: np.random.Generator, shape: Sequence[int], dtype: str | np.dtype, most: int | None = None
) -> np.ndarray:
    """Something to feed a network: normal reals, integers over their range but at most -128 to 255.

    most: of an input that says how often a loop runs, at most so often (0: any number)."""
    dtype = np.dtype(dtype)
    if most is not None:
        return np.asarray(rng.integers(1, most or MANY_STEPS, shape, dtype=dtype.type, endpoint=True))
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -128), min(limits.max, 255)
    return np.asarray(rng.integers(low, high, shape, dtype=dtype.type, endpoint=True))


def random_input(rng: np.random.Generator, port: Mapping[str, Any]) -> np.ndarray:
    """The same for an input of the manifest; of packed spikes an eighth is set."""
    if "spikes" in port:
        return random_words(rng, tuple(port["shape"]), port["spikes"]["channels"])
    return random_array(rng, port["shape"], port["dtype"], port.get("most"))


def summarise(name: str, array: np.ndarray) -> dict[str, Any]:
    """What a person wants to know of one result, ready for JSON."""
    row: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size:
        numbers = array.astype(np.float64)
        with np.errstate(all="ignore"):
            mean = float(numbers.mean())
        row |= {"min": float(numbers.min()), "mean": mean, "max": float(numbers.max())}
    if array.size and array.ndim == 2 and 1 < array.shape[-1] <= CLASSES:
        row["argmax"] = np.argmax(array, axis=-1).tolist()
    return row


def render_summary(row: Mapping[str, Any]) -> str:
    """One line of text for what `summarise` gives."""
    text = f"{row['name']}: {row['dtype']} {row['shape']}"
    if "min" in row:
        text += f"  min {row['min']:.6g}  mean {row['mean']:.6g}  max {row['max']:.6g}"
    if "argmax" in row:
        more = ", ..." if len(row["argmax"]) > SAMPLES else ""
        text += f"  argmax {', '.join(map(str, row['argmax'][:SAMPLES]))}{more}"
    return text


def to_json(value: Any) -> str:
    """JSON for a script: indented; what JSON has no number for (NaN, infinity) becomes null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """The value in dicts, lists, strings and finite numbers."""
    match value:
        case Mapping():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case np.generic() | np.ndarray():
            return _plain(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case _:
            return str(value)


def _one_line(why: Exception) -> str:
    return " ".join(str(why).split()) or type(why).__name__
