# SPDX-License-Identifier: Apache-2.0
"""NIR files that are wrong on purpose: good ones with bytes or parts changed at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from tests.cases import HERE, case_names, read_model
from tests.fuzzing.workers import Verdict, judge_file
from tests.nir_files import affine, conv2d, cuba_lif, full, lif, port, vector, write

NUMBERS = (0, 1, -1, 2, 3, 1e-3, -1e-3, 1e300, -1e300, np.nan, np.inf, 1 << 31, 1 << 62, 0.5)
SHAPES = ((), (0,), (1,), (3,), (4,), (1, 1), (4, 4), (2, 3, 4), (1, 1, 1, 1, 1), (1 << 12,))
TEXTS = (
    "",
    "LIF",
    "IF",
    "Conv2d",
    "Affine",
    "NIRGraph",
    "Input",
    "Output",
    "Delay",
    "same",
    "nonsense",
    "a\nb",
    "名",
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {"dt": 1e-3},
    {"dt": 1e-4},
    {"dt": 1e-6},
    {"preset": "sinabs"},
    {"preset": "rockpool"},
    {"dt": 1.0, "reset": "subtract", "integrator": "exp", "v_min": -1.0},
)


def judge_nir(number: int, folder: Path) -> Verdict:
    """Draw the NIR file of this number and compile it."""
    mutator = NirMutator(number)
    path = folder / "model.nir"
    path.unlink(missing_ok=True)
    mutator.write(path)
    return judge_file(number, path, **mutator.pick(OPTIONS))


@cache
def bases(folder: Path) -> tuple[bytes, ...]:
    """Good files: recorded ones, a recurrent one with delays, an inner graph."""
    recorded = [read_model(HERE / name) for name in case_names("nir_*") if (HERE / name).is_dir()]
    rng = np.random.default_rng(4)
    inner = nir.NIRGraph(
        {"input": port(nir.Input, [4]), "lif": cuba_lif([4]), "output": port(nir.Output, [4])},
        [("input", "lif"), ("lif", "output")],
        type_check=False,
    )
    nodes = {
        "input": port(nir.Input, [2, 4, 4]),
        "conv": conv2d(rng, 2, 2, (4, 4)),
        "pool": nir.SumPool2d(*(np.array([size, size]) for size in (2, 2, 0))),
        "flat": nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1),
        "fc": affine(rng, 4, 8),
        "lif": lif([4]),
        "rec": affine(rng, 4, 4),
        "delay": nir.Delay(vector(0, 1e-3, 2e-3, 3e-3)),
        "scale": nir.Scale(full([4], 2.0)),
        "block": inner,
        "output": port(nir.Output, [4]),
    }
    path = ["input", "conv", "pool", "flat", "fc", "lif", "delay", "scale", "block", "output"]
    edges = [*pairwise(path), ("lif", "rec"), ("rec", "lif")]
    made = write(folder, nodes, edges, "base.nir").read_bytes()
    return (*recorded, made, made)


class NirMutator:
    """Draws one file by its number."""

    def __init__(self, number: int):
        self.rng = np.random.default_rng((number, 2))

    def pick(self, options: Sequence) -> Any:
        """One of them."""
        return options[int(self.rng.integers(len(options)))]

    def write(self, path: Path) -> None:
        """The file; one in ten is left as it is."""
        path.write_bytes(self.pick(bases(path.parent)))
        kind = self.rng.random()
        if kind < 0.1:
            return
        if kind < 0.4:
            self.damage(path)
            return
        with h5py.File(path, "r+") as file:
            for _ in range(int(self.rng.integers(1, 4))):
                self.pick(CHANGES)(self, file)

    def damage(self, path: Path) -> None:
        """Other bytes, or fewer."""
        data = bytearray(path.read_bytes())
        for _ in range(int(self.rng.integers(1, 20))):
            data[int(self.rng.integers(len(data)))] = int(self.rng.integers(256))
        if self.rng.random() < 0.3:
            del data[int(self.rng.integers(len(data))) :]
        path.write_bytes(bytes(data))

    def members(self, file: h5py.File) -> list[str]:
        """The paths of all arrays and groups below the graph."""
        found: list[str] = []
        file["node"].visit(lambda name: found.append(f"node/{name}"))  # type: ignore[union-attr]
        return found

    def replace(self, file: h5py.File, name: str, value: object) -> None:
        """Another value in one place."""
        if name in file:
            del file[name]
        file[name] = value

    def remove(self, file: h5py.File) -> None:
        """Without an array or a group."""
        del file[self.pick(self.members(file))]

    def renumber(self, file: h5py.File) -> None:
        """Other numbers in an array."""
        name = self.array(file)
        if name not in file:  # no arrays are left
            return
        array = np.asarray(file[name][()]).astype(np.float64)  # type: ignore[index]
        array.reshape(-1)[: int(self.rng.integers(1, array.size + 1))] = self.pick(NUMBERS)
        self.replace(file, name, array)

    def reshape(self, file: h5py.File) -> None:
        """Another shape."""
        values = np.full(self.pick(SHAPES), self.pick(NUMBERS))
        self.replace(file, self.array(file), values)

    def retype(self, file: h5py.File) -> None:
        """A text for a number, or another type of node."""
        names = [name for name in self.members(file) if isinstance(file[name], h5py.Dataset)]
        types = [name for name in names if name.endswith("/type")]
        wanted = types if types and self.rng.random() < 0.5 else names or ["node/x"]
        self.replace(file, self.pick(wanted), self.pick(TEXTS))

    def rewire(self, file: h5py.File) -> None:
        """Edges more, fewer, or elsewhere."""
        if "node/edges" not in file or "node/nodes" not in file:
            return
        edges = [tuple(edge) for edge in np.asarray(file["node/edges"][()]).tolist()]  # type: ignore[index]
        names = [name.encode() for name in file["node/nodes"]] + [b"nowhere"]  # type: ignore[union-attr]
        for _ in range(int(self.rng.integers(1, 4))):
            if edges and self.rng.random() < 0.5:
                edges.pop(int(self.rng.integers(len(edges))))
            else:
                edges.append((self.pick(names), self.pick(names)))
        self.replace(file, "node/edges", edges)

    def copy(self, file: h5py.File) -> None:
        """A group or array in another place."""
        source, target = self.pick(self.members(file)), self.pick(self.members(file))
        if not target.startswith(source):
            file.copy(file[source], file, f"{target.rpartition('/')[0]}/copy{self.rng.integers(1000)}")

    def link(self, file: h5py.File) -> None:
        """A link where something lay."""
        name = self.pick(self.members(file))
        del file[name]
        file[name] = self.pick(
            (h5py.SoftLink("/node"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("x", "/y"))
        )

    def array(self, file: h5py.File) -> str:
        """The path of an array of numbers."""
        names = [name for name in self.members(file) if self.is_numbers(file.get(name))]
        return self.pick(names) if names else "node/numbers"

    def is_numbers(self, member: object) -> bool:
        """Whether something is an array of numbers, not empty."""
        return isinstance(member, h5py.Dataset) and member.dtype.kind in "iuf" and bool(member.size)


CHANGES: tuple[Callable[[NirMutator, h5py.File], None], ...] = (
    NirMutator.remove,
    NirMutator.renumber,
    NirMutator.renumber,
    NirMutator.reshape,
    NirMutator.retype,
    NirMutator.rewire,
    NirMutator.rewire,
    NirMutator.copy,
    NirMutator.link,
)
