# SPDX-License-Identifier: Apache-2.0
"""Real exported networks and what the framework that made them answered.

`tests/cases` holds them compressed, one folder each: `model.onnx.xz` or `model.nir.xz`, `arrays.npz`
(`input_0`, `output_0` and so on, where known `labels` and `robust_mask`) and `meta.json`. A folder named by
the environment variable BNNCC_CASES may hold further ones, there also as plain `model.onnx`, `input_0.npy`
and so on.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent / "cases"
ELSEWHERE = "BNNCC_CASES"


@dataclass(frozen=True)
class Case:
    """One recorded network.

    file: "model.onnx" or "model.nir". model: its bytes.
    inputs, outputs: by name, the samples stacked on axis 0; sequences of NIR files [T, samples, ...].
    extras: `labels` (one class per sample) and `robust_mask` (which samples count) of a classifier.
    """

    name: str
    file: str
    model: bytes
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    extras: Mapping[str, np.ndarray]
    meta: Mapping[str, Any]

    def write_model(self, folder: Path) -> Path:
        """Put the model into the folder; its path."""
        path = folder / self.file
        path.write_bytes(self.model)
        return path

    def first(self, samples: int) -> Case:
        """The same with only the first samples, wherever these are counted."""
        ports = [*self.meta["inputs"], *self.meta["outputs"]]
        axes = {port["name"]: port.get("batch_axis", 0) for port in ports}

        def some(name: str, array: np.ndarray) -> np.ndarray:
            axis = axes.get(name, 0)
            return array if axis is None else array.take(range(min(samples, array.shape[axis])), axis)

        inputs, outputs, extras = (
            {name: some(name, array) for name, array in arrays.items()}
            for arrays in (self.inputs, self.outputs, self.extras)
        )
        return Case(self.name, self.file, self.model, inputs, outputs, extras, self.meta)

    def limit(self, expected: np.ndarray) -> float:
        """How far a value may be from `expected` (one whole output): the tolerance of `meta.json`."""
        tolerance = self.meta["tolerance"]
        largest = float(np.max(np.abs(expected)))
        return float(tolerance.get("atol", 0.0)) + float(tolerance["rtol"]) * largest

    def differences(self, outputs: Mapping[str, np.ndarray]) -> list[str]:
        """What is wrong with the outputs, one line each; empty where all is within the tolerance."""
        found = (
            []
            if set(outputs) == set(self.outputs)
            else [f"outputs {list(outputs)}, expected {list(self.outputs)}"]
        )
        for name in self.outputs.keys() & outputs.keys():
            found += self._differences_of(name, outputs[name])
        return found

    def _differences_of(self, name: str, got: np.ndarray) -> list[str]:
        expected = self.outputs[name]
        if got.shape != expected.shape or got.dtype != expected.dtype:
            return [f"{name}: {got.dtype} {got.shape}, expected {expected.dtype} {expected.shape}"]
        if not np.isfinite(got).all():
            return [f"{name}: not finite"]
        limit = self.limit(expected)
        distance = np.abs(got.astype(np.float64) - expected)
        if "robust_mask" in self.extras:
            distance = distance[self.extras["robust_mask"].astype(bool)]
        worst = float(distance.max(initial=0.0))
        return [] if worst <= limit else [f"{name}: off by {worst:g}, allowed {limit:g}"]


def case_names(*patterns: str) -> list[str]:
    """The names of the cases at hand that match one of the shell patterns, sorted."""
    folders = [path for root in case_roots() for path in root.iterdir() if (path / "meta.json").is_file()]
    names = {path.name for path in folders if any(fnmatch(path.name, pattern) for pattern in patterns)}
    return sorted(names)


def case_roots() -> list[Path]:
    """The folders that hold cases: ours, then the one in BNNCC_CASES."""
    elsewhere = os.environ.get(ELSEWHERE)
    return [HERE, *([Path(elsewhere)] if elsewhere else [])]


@lru_cache(maxsize=4)
def load_case(name: str) -> Case:
    """The case of this name; KeyError where no folder has it."""
    for root in case_roots():
        if (root / name / "meta.json").is_file():
            return read_case(root / name)
    raise KeyError(f"no case {name} in {', '.join(map(str, case_roots()))}")


def read_case(folder: Path) -> Case:
    """Read one case folder, compact or plain."""
    meta = json.loads((folder / "meta.json").read_text())
    arrays = read_arrays(folder)
    inputs = {entry["name"]: arrays.pop(f"input_{i}") for i, entry in enumerate(meta["inputs"])}
    outputs = {entry["name"]: arrays.pop(f"output_{i}") for i, entry in enumerate(meta["outputs"])}
    return Case(folder.name, model_file(folder), read_model(folder), inputs, outputs, arrays, meta)


def model_file(folder: Path) -> str:
    """The name of the model's file: model.onnx or model.nir."""
    is_nir = any((folder / name).exists() for name in ("model.nir", "model.nir.xz"))
    return "model.nir" if is_nir else "model.onnx"


def read_model(folder: Path) -> bytes:
    """The bytes of the model's file."""
    plain = folder / model_file(folder)
    packed = plain.with_name(f"{plain.name}.xz")
    return lzma.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of a case by the stem of their file."""
    packed = folder / "arrays.npz"
    if not packed.exists():
        return {path.stem: np.load(path, allow_pickle=False) for path in folder.glob("*.npy")}
    with np.load(packed, allow_pickle=False) as archive:
        return dict(archive)
