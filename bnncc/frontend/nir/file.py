# SPDX-License-Identifier: Apache-2.0
"""Reading an HDF5 file that nobody vouches for, down to nodes with arrays and edges with names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnncc.diagnostics import BnnccError

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".nir", ".h5", ".hdf5")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""The first bytes of an HDF5 file."""

LARGEST_FILE_BYTES = 1 << 30
"""All arrays of a file together must not take more than this when they are unpacked."""

DEEPEST = 16
"""Graphs inside graphs."""

MOST_NODES = 10_000
"""And edges of a graph."""

ROWS = 64
"""Edges read at a time."""

WRITE_AGAIN = "the file is no valid NIR graph: export it again"

Value = np.ndarray | str


@dataclass(frozen=True)
class FileNode:
    """A node as it stands in the file. type: "LIF" and so on. values: its parameters by name."""

    type: str
    values: Mapping[str, Value]


@dataclass(frozen=True)
class FileGraph:
    """A graph as it stands in the file: nodes and inner graphs by name, edges from name to name.

    left_out: names of nodes that could not be read."""

    nodes: Mapping[str, FileNode | FileGraph]
    edges: tuple[tuple[str, str], ...]
    left_out: frozenset[str] = frozenset()


def is_nir(path: Path) -> bool:
    """Whether a file is taken for NIR: by its suffix, or because it is HDF5."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except (OSError, ValueError):
        return False


def read_file(path: Path, problems: list[BnnccError]) -> FileGraph:
    """The graph in the file. What is wrong with single nodes goes to `problems`, and they are left out.

    Raises BnnccError for a file that is none, or not NIR."""
    _check_path(path)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = _root(path, file)
            return _Reader(path.name, problems).graph(root, "", 0)
    except BnnccError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, EOFError) as error:
        why = " ".join(str(error).split())
        raise BnnccError(
            path.name,
            f"this is no HDF5 file, or it was cut short or damaged: {why}",
            "give a .nir file, complete",
        ) from error


def _check_path(path: Path) -> None:
    try:
        if path.is_dir():
            raise BnnccError(str(path), "this is a directory", "give the .nir file inside it")
        if not path.exists():
            raise BnnccError(str(path), "no such file", "check the path of the model")
        if not path.is_file():
            raise BnnccError(str(path), "this is no ordinary file", "give a .nir file")
        if not path.stat().st_size:
            raise BnnccError(path.name, "the file is empty", "export the model again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise BnnccError(str(path), f"the file cannot be read: {error}") from None


def _root(path: Path, file: h5py.File) -> h5py.Group:
    import h5py

    if "node" in file and isinstance(file.get("node", getlink=True), h5py.HardLink):
        root = file["node"]
        if isinstance(root, h5py.Group):
            return root
    raise BnnccError(
        path.name,
        "this HDF5 file holds no NIR graph: it has no group 'node'",
        "write it with nir.write(path, graph)",
    )


@dataclass
class _Reader:
    """Walks the groups of one file. bytes, count: arrays and nodes read so far."""

    file: str
    problems: list[BnnccError]
    bytes: int = field(default=0, init=False)
    count: int = field(default=0, init=False)

    def graph(self, group: h5py.Group, name: str, depth: int) -> FileGraph:
        """A group of type NIRGraph; `name` is "" for the outermost."""
        location = f"{self.file}:{name}" if name else self.file
        if depth > DEEPEST:
            raise BnnccError(location, f"more than {DEEPEST} graphs lie inside each other", WRITE_AGAIN)
        kind = self.type_of(group, location)
        if kind != "NIRGraph":
            raise BnnccError(location, f"expected a node of type NIRGraph, found {kind}", WRITE_AGAIN)
        nodes: dict[str, FileNode | FileGraph | None] = {}
        for key, inner in self.members(self.member(group, "nodes", location), location):
            self.count += 1
            if self.count > MOST_NODES:  # nothing is read any more, here or around it
                raise BnnccError(self.file, f"the graph has more than {MOST_NODES} nodes", WRITE_AGAIN)
            nodes[key] = None
            with noting(self.problems):
                nodes[key] = self.node(inner, f"{name}.{key}" if name else key, depth)
        read = {key: node for key, node in nodes.items() if node is not None}
        return FileGraph(read, self.edges(group, location), frozenset(nodes.keys() - read.keys()))

    def node(self, group: object, name: str, depth: int) -> FileNode | FileGraph:
        """A group under `nodes`."""
        import h5py

        location = f"{self.file}:{name}"
        if not isinstance(group, h5py.Group):
            raise BnnccError(location, "a node must be a group, this is an array", WRITE_AGAIN)
        kind = self.type_of(group, location)
        if kind == "NIRGraph":
            return self.graph(group, name, depth + 1)
        values = {
            key: self.value(member, location, key)
            for key, member in self.members(group, location)
            if key not in ("type", "metadata")
        }
        return FileNode(kind, values)

    def type_of(self, group: h5py.Group, location: str) -> str:
        """What a group says it is."""
        found = self.value(self.member(group, "type", location), location, "type")
        if not isinstance(found, str):
            raise BnnccError(location, "the type of the node is no text", WRITE_AGAIN)
        return found

    def member(self, group: h5py.Group, key: str, location: str) -> object:
        """One member of a group by name."""
        for name, member in self.members(group, location):
            if name == key:
                return member
        raise BnnccError(location, f"it has no '{key}'", WRITE_AGAIN)

    def members(self, group: object, location: str) -> Iterator[tuple[str, object]]:
        """Name and group or array, of those that lie in the file itself."""
        import h5py

        if not isinstance(group, h5py.Group):
            raise BnnccError(location, "expected a group, found an array", WRITE_AGAIN)
        for key in group:
            if not isinstance(key, str) or not key.isprintable():
                raise BnnccError(location, f"the name {key!a} is no printable text", WRITE_AGAIN)
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                message = f"'{key}' is a link to somewhere else, which is not followed"
                raise BnnccError(location, message, "store the values in the file itself")
            yield key, group[key]

    def value(self, member: object, location: str, key: str) -> Value:
        """An array or a text, small enough."""
        import h5py

        if not isinstance(member, h5py.Dataset):
            raise BnnccError(location, f"'{key}' must be an array, this is a group", WRITE_AGAIN)
        if member.external or member.is_virtual:
            message = f"'{key}' lies in another file, which is not read"
            raise BnnccError(location, message, "store the values in the file itself")
        if member.shape is None:
            raise BnnccError(location, f"'{key}' is empty", WRITE_AGAIN)
        self.check_size(member, location, key)
        if h5py.check_string_dtype(member.dtype) is not None and member.shape in ((), (1,)):
            return _text(np.asarray(member[()]).reshape(-1)[0], location)
        if member.dtype.kind not in "biuf":
            raise BnnccError(location, f"'{key}' must be numbers, these are {member.dtype}", WRITE_AGAIN)
        try:
            return np.asarray(member[()])
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            why = " ".join(str(error).split())
            raise BnnccError(location, f"'{key}' cannot be read: {why}", "the file is damaged") from error

    def check_size(self, member: h5py.Dataset, location: str, key: str) -> None:
        """What all arrays take stays within LARGEST_FILE_BYTES, before this one is unpacked."""
        count = math.prod(int(size) for size in member.shape)
        size = count * member.dtype.itemsize
        if self.bytes + size > LARGEST_FILE_BYTES:
            raise BnnccError(
                location,
                f"with '{key}', {list(member.shape)} of {member.dtype}, the arrays of the file take more "
                f"than {LARGEST_FILE_BYTES >> 20} MiB",
                "a shape must be wrong",
            )
        self.bytes += size

    def edges(self, group: h5py.Group, location: str) -> tuple[tuple[str, str], ...]:
        """Pairs of names."""
        import h5py

        member = self.member(group, "edges", location)
        if not isinstance(member, h5py.Dataset):
            raise BnnccError(location, "'edges' must be an array, this is a group", WRITE_AGAIN)
        if not member.size:
            return ()
        if member.ndim != 2 or member.shape[1] != 2 or h5py.check_string_dtype(member.dtype) is None:
            raise BnnccError(location, "its edges are no pairs of names", WRITE_AGAIN)
        if len(member) > MOST_NODES:
            raise BnnccError(location, f"it has more than {MOST_NODES} edges", WRITE_AGAIN)
        self.check_size(member, location, "edges")
        # A few at a time: in a damaged file each may be as long as the file.
        blocks = (member[start : start + ROWS] for start in range(0, len(member), ROWS))
        return tuple((_text(a, location), _text(b, location)) for block in blocks for a, b in block)


def _text(value: object, location: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str) or not value.isprintable():
        raise BnnccError(location, f"{value!a} is no printable text", WRITE_AGAIN)
    return value


@contextmanager
def noting(problems: list[BnnccError]) -> Iterator[None]:
    """Keep a problem for later, and go on without what it is about."""
    try:
        yield
    except BnnccError as problem:
        problems.append(problem)
