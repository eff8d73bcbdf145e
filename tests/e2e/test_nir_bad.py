# SPDX-License-Identifier: Apache-2.0
"""NIR files that are wrong: each ends in a diagnostic that names the node, with exit code 2, and nothing
is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from bnncc.diagnostics import LONGEST_LIST, did_you_mean
from tests.e2e.commands import Shell
from tests.nir_files import affine, chain, conv2d, cuba_lif, full, lif, port, write

RNG = np.random.default_rng(5)
Maker = Callable[[Path], Path]


def refused(bnncc: Shell, path: Path, *options: str) -> str:
    """What `compile` says; it must be the user's fault, and leave no file."""
    output = path.parent / "library"
    answer = bnncc("compile", path, "-o", output, *options)
    assert answer.code == 2, answer.err
    assert not output.exists() and answer.out == ""
    assert "Traceback" not in answer.err and "internal error" not in answer.err
    return answer.err


def with_node(node: nir.NIRNode, shape: list[int] | None = None, result: list[int] | None = None) -> Maker:
    """A file with one node between input and output."""
    return lambda folder: chain(folder, shape or [4], node, result=result)


def edited(change: Callable[[h5py.File], object]) -> Maker:
    """A good file, then changed."""

    def make(folder: Path) -> Path:
        path = chain(folder, [4], affine(RNG, 4, 4), lif([4]))
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def replaced(node: str, key: str, value: object) -> Maker:
    """A good file with another value in one place."""

    def change(file: h5py.File) -> None:
        del file[f"node/nodes/{node}/{key}"]
        file[f"node/nodes/{node}/{key}"] = value

    return edited(change)


def graph(edges: list[tuple[str, str]], **nodes: nir.NIRNode) -> Maker:
    """A file with these nodes besides input and output."""
    ports = {"input": port(nir.Input, [4]), "output": port(nir.Output, [4])}
    return lambda folder: write(folder, ports | nodes, edges)


def delay_of_everything(folder: Path) -> Path:
    """One number for 64 Mi values; the package `nir` does not write numbers of no dimension."""
    path = chain(folder, [64, 1024, 1024], nir.Delay(full([1], 0.1)))
    with h5py.File(path, "r+") as file:
        del file["node/nodes/n0/delay"]
        file["node/nodes/n0/delay"] = np.float32(0.1)
    return path


def huge(file: h5py.File) -> None:
    """A weight that says it has 2**40 values, and takes no room in the file."""
    del file["node/nodes/n0/weight"]
    file.create_dataset("node/nodes/n0/weight", (1 << 20, 1 << 20), np.float32, chunks=(1024, 1024))


def bomb(file: h5py.File) -> None:
    """An array that unpacks to more than the limit."""
    del file["node/nodes/n0/bias"]
    shape = (1 << 28, 2)
    file.create_dataset("node/nodes/n0/bias", shape, np.float32, compression="gzip", chunks=(1 << 16, 2))


def external_link(file: h5py.File) -> None:
    del file["node/nodes/n0"]
    file["node/nodes/n0"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_data(file: h5py.File) -> None:
    del file["node/nodes/n0/bias"]
    file.create_dataset("node/nodes/n0/bias", (4,), np.float32, external=[("/etc/passwd", 0, 16)])


def loop_of_links(file: h5py.File) -> None:
    file["node/nodes/n2"] = file["node"]


def soft_link(file: h5py.File) -> None:
    del file["node/nodes/n0"]
    file["node/nodes/n0"] = h5py.SoftLink("/node/nodes/n1")


def weight_as_group(file: h5py.File) -> None:
    del file["node/nodes/n0/weight"]
    file.create_group("node/nodes/n0/weight")


def edges_of_numbers(file: h5py.File) -> None:
    del file["node/edges"]
    file["node/edges"] = np.ones((2, 2))


def node_alone(file: h5py.File) -> None:
    del file["node/type"]
    file["node/type"] = "LIF"


def long_type(file: h5py.File) -> None:
    """A text that says it is longer than the limit."""
    del file["node/nodes/n1/type"]
    file.create_dataset("node/nodes/n1/type", (1,), "S2000000000", chunks=(1,))


def long_edges(file: h5py.File) -> None:
    del file["node/edges"]
    file.create_dataset("node/edges", (64, 2), "S10000000", chunks=(1, 1))


def wide_circle(file: h5py.File) -> None:
    """Graphs in circles, by many ways."""
    for i in range(40):
        file[f"node/nodes/again{i}"] = file["node"]


def without(name: str) -> Maker:
    return edited(lambda file: file.__delitem__(f"node/{name}"))


FULL = full([4], 1.0)
LOOP = [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")]

BAD: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "tau is 0": (with_node(lif([4], tau=0.0)), ("model.nir:n0: LIF", "tau must be positive")),
    "tau is negative": (with_node(cuba_lif([4], tau_syn=-1e-3)), ("n0: CubaLIF", "tau_syn must be positive")),
    "tau is NaN": (with_node(lif([4], tau=np.nan)), ("n0: LIF", "tau holds NaN", "4 of 4")),
    "threshold is infinite": (with_node(nir.IF(FULL, FULL * np.inf)), ("n0: IF", "v_threshold", "infinite")),
    "weight is NaN": (with_node(nir.Linear(np.full((4, 4), np.nan))), ("n0: Linear", "weight holds NaN")),
    "weight beyond float32": (with_node(nir.Linear(np.full((4, 4), 1e300))), ("n0: Linear", "infinite")),
    "resistance beyond float32": (with_node(nir.I(np.full(4, 1e300))), ("n0: I", "r holds NaN or infinite")),
    "a gain beyond float32": (
        with_node(nir.LI(np.full(4, 0.6e-3), np.full(4, 3e38), np.zeros(4))),
        ("n0: LI", "beyond float32"),
    ),
    "dt far too long": (with_node(lif([4], tau=1e-5)), ("n0: LIF", "more than twice", "--dt")),
    "parameters of 3 for 4 neurons": (
        with_node(lif([3])),
        ("n0: LIF", "tau is of shape [3]", "input is [4]"),
    ),
    "parameters of other shapes": (
        replaced("n1", "r", np.ones(3, np.float32)),
        ("n1: LIF", "shapes that do not fit", "r [3]", "tau [4]"),
    ),
    "weight of other inputs": (
        with_node(affine(RNG, 4, 5)),
        ("n0: Affine", "takes 5 values", "input is [4]"),
    ),
    "an image into an affine": (
        with_node(affine(RNG, 4, 8), [2, 2, 2], [4]),
        ("n0: Affine", "takes 8 values", "Flatten"),
    ),
    "bias of another length": (
        replaced("n0", "bias", np.ones(3, np.float32)),
        ("n0: Affine", "bias is of shape [3]", "[4]"),
    ),
    "weight of rank 1": (replaced("n0", "weight", FULL), ("n0: Affine", "weight is of shape [4]")),
    "weight is text": (replaced("n0", "weight", "none"), ("n0: Affine", "the text 'none'")),
    "weight is complex": (replaced("n0", "weight", np.ones((4, 4), complex)), ("n0", "complex")),
    "weight is missing": (without("nodes/n0/weight"), ("n0: Affine", "'weight' is missing")),
    "weight is a group": (edited(weight_as_group), ("n0", "'weight' must be an array")),
    "another parameter": (
        edited(lambda file: file.create_dataset("node/nodes/n1/spin", data=1.0)),
        ("n1: LIF", "no parameter 'spin'"),
    ),
    "output of another shape": (with_node(lif([4]), result=[5]), ("output: Output", "[5]", "[4]")),
    "unknown node": (
        replaced("n1", "type", "Lif"),
        ("n1", "'Lif' is unknown", "did you mean 'LIF'", "Conv2d"),
    ),
    "no type": (without("nodes/n1/type"), ("n1", "no 'type'")),
    "channels": (
        with_node(conv2d(RNG, 4, 3, (6, 6)), [2, 6, 6], [4, 6, 6]),
        ("n0: Conv2d", "3 channels", "[2, 6, 6]"),
    ),
    "a convolution of a vector": (with_node(conv2d(RNG, 4, 4, (6, 6))), ("n0: Conv2d", "[channels, height")),
    "another image size": (
        with_node(conv2d(RNG, 2, 2, (6, 6)), [2, 8, 8], [2, 8, 8]),
        ("n0: Conv2d", "input_shape is [6, 6]", "[2, 8, 8]"),
    ),
    "an image that is too small": (
        with_node(conv2d(RNG, 2, 2, (3, 3), 5, padding=0), [2, 3, 3], [2, 1, 1]),
        ("n0: Conv2d", "holds no values"),
    ),
    "groups": (
        with_node(nir.Conv2d((4, 4), np.ones((3, 1, 3, 3)), 1, 1, 1, 2, np.ones(3)), [2, 4, 4], [3, 4, 4]),
        ("n0: Conv2d", "3 outputs", "2 groups"),
    ),
    "stride 0": (
        with_node(nir.SumPool2d(np.array([2, 2]), np.array([0, 2]), np.array([0, 0])), [1, 4, 4], [1, 2, 2]),
        ("n0: SumPool2d", "stride is [0, 2]"),
    ),
    "half a stride": (
        with_node(
            nir.SumPool2d(np.array([2, 2]), np.array([1.5, 2]), np.array([0, 0])), [1, 4, 4], [1, 2, 2]
        ),
        ("n0: SumPool2d", "stride", "not integers"),
    ),
    "padding as large as the kernel": (
        with_node(nir.AvgPool2d(*(np.array([2, 2]) for _ in "ksp")), [1, 4, 4], [1, 4, 4]),
        ("n0: AvgPool2d", "not smaller than its kernel"),
    ),
    "same with a stride": (
        with_node(conv2d(RNG, 2, 2, (4, 4), stride=2, padding="same"), [2, 4, 4], [2, 4, 4]),
        ("n0: Conv2d", "'same' with a stride"),
    ),
    "dimensions of a flatten": (
        with_node(nir.Flatten({"input": np.array([2, 2])}, 1, 0), [2, 2], [4]),
        ("n0: Flatten", "1 to 0 of 2"),
    ),
    "five dimensions": (with_node(lif([1]), [2, 2, 2, 2, 2]), ("input: Input", "without time or batch")),
    "no elements": (with_node(lif([1]), [0]), ("input: Input", "holds no values")),
    "a giant input": (with_node(lif([1]), [1 << 20, 1 << 20]), ("input: Input", "must be wrong")),
    "a negative size": (with_node(lif([1]), [-4]), ("input: Input", "[-4]")),
    "delay of half a step": (
        with_node(nir.Delay(full([4], 1.5e-3))),
        ("n0: Delay", "1.5 steps", "no whole number"),
    ),
    "delay back in time": (with_node(nir.Delay(full([4], -1e-3))), ("n0: Delay", "before its input")),
    "delay of a million steps": (
        with_node(nir.Delay(full([4], 1e3))),
        ("n0: Delay", "1000000 steps", "at most"),
    ),
    "a delay of everything": (
        delay_of_everything,
        ("n0: Delay", "100 steps, of 67108864 values each", "at most"),
    ),
    "no Input": (
        lambda folder: write(folder, {"n": lif([4]), "output": port(nir.Output, [4])}, [("n", "output")]),
        ("no Input node",),
    ),
    "no Output": (
        lambda folder: write(folder, {"input": port(nir.Input, [4]), "n": lif([4])}, [("input", "n")]),
        ("no Output node",),
    ),
    "no nodes": (lambda folder: write(folder, {}, []), ("no Input node", "no Output node")),
    "an edge to nowhere": (
        graph([("input", "output"), ("input", "nirvana")]),
        ("model.nir:nirvana", "from 'input' to 'nirvana'", "there is no node"),
    ),
    "an edge from nowhere": (graph([("inptu", "output")]), ("model.nir:inptu", "did you mean 'input'")),
    "an edge twice": (graph([("input", "output"), ("input", "output")]), ("output", "there twice", "Scale")),
    "an edge into an input": (
        graph([("input", "a"), ("a", "input"), ("a", "output")], a=lif([4])),
        ("input: an edge leads into this Input",),
    ),
    "an edge out of an output": (
        graph([("input", "output"), ("output", "a"), ("a", "output")], a=lif([4])),
        ("output: an edge comes out of this Output",),
    ),
    "nothing leads to a node": (
        graph([("input", "output"), ("a", "output")], a=lif([4])),
        ("a: LIF", "no edge leads into"),
    ),
    "nothing leads to the output": (graph([]), ("output: Output", "no edge leads into")),
    "a cycle without a state": (
        graph(LOOP, a=nir.Scale(FULL), b=affine(RNG, 4, 4)),
        ("a: Scale", "cycle without a state", "a, b", "Delay"),
    ),
    "a cycle through a delay of nothing": (
        graph(LOOP, a=nir.Scale(FULL), b=nir.Delay(full([4], 0.0))),
        ("cycle without a state",),
    ),
    "a sum of two shapes": (
        graph([("input", "a"), ("input", "output"), ("a", "output")], a=affine(RNG, 3, 4)),
        ("output: Output", "'a' gives [3]"),
    ),
    "an inner graph without an input": (
        graph(
            [("input", "g"), ("g", "output")],
            g=nir.NIRGraph(
                {"n": lif([4]), "output": port(nir.Output, [4])}, [("n", "output")], type_check=False
            ),
        ),
        ("model.nir:g", "0 Input nodes"),
    ),
    "a bad node in an inner graph": (
        graph(
            [("input", "g"), ("g", "output")],
            g=nir.NIRGraph(
                {"input": port(nir.Input, [4]), "n": lif([4], tau=0.0), "output": port(nir.Output, [4])},
                [("input", "n"), ("n", "output")],
                type_check=False,
            ),
        ),
        ("model.nir:g.n: LIF", "tau must be positive"),
    ),
    "two nodes of one name": (
        graph(
            [("input", "g"), ("g", "g.n"), ("g.n", "output")],
            **{
                "g": nir.NIRGraph(
                    {"input": port(nir.Input, [4]), "n": lif([4]), "output": port(nir.Output, [4])},
                    [("input", "n"), ("n", "output")],
                    type_check=False,
                ),
                "g.n": lif([4]),
            },
        ),
        ("model.nir:g.n", "two nodes are called 'g.n'"),
    ),
    "a giant weight": (edited(huge), ("n0", "'weight'", "1048576")),
    "an array that unpacks to gigabytes": (edited(bomb), ("n0", "'bias'", "1024 MiB")),
    "a link to another file": (edited(external_link), ("n0", "link to somewhere else")),
    "data in another file": (edited(external_data), ("n0", "in another file")),
    "graphs in a circle": (edited(loop_of_links), ("lie inside each other",)),
    "graphs in circles": (edited(wide_circle), ("more than 10000 nodes",)),
    "a type of gigabytes": (edited(long_type), ("model.nir:n1: with 'type'", "1024 MiB")),
    "edges of gigabytes": (edited(long_edges), ("with 'edges'", "1024 MiB")),
    "a soft link": (edited(soft_link), ("n0", "link to somewhere else")),
    "no edges": (without("edges"), ("no 'edges'",)),
    "edges of numbers": (edited(edges_of_numbers), ("no pairs of names",)),
    "no graph": (without("nodes"), ("no 'nodes'",)),
    "another HDF5 file": (edited(lambda file: file.__delitem__("node")), ("holds no NIR graph",)),
    "a node alone": (edited(node_alone), ("expected a node of type NIRGraph, found LIF",)),
}
"""What is wrong: a maker of the file, and what the diagnostic must hold."""


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file(what: str, tmp_path: Path, bnncc: Shell):
    make, expected = BAD[what]
    error = refused(bnncc, make(tmp_path), "--dt", "1e-3")
    for text in expected:
        assert text in error, error


@pytest.mark.parametrize("what", ["weight is complex", "weight is a group", "a soft link", "no type"])
def test_edges_of_a_node_that_could_not_be_read_are_no_mistakes(what: str, tmp_path: Path, bnncc: Shell):
    error = refused(bnncc, BAD[what][0](tmp_path), "--dt", "1e-3")
    assert "problems" not in error and "an edge" not in error, error


def test_edges_to_a_graph_that_could_not_be_read_are_no_mistakes(tmp_path: Path, bnncc: Shell):
    ports = {"input": port(nir.Input, [4]), "output": port(nir.Output, [4])}
    inner = nir.NIRGraph(ports | {"n": lif([4])}, [("input", "n"), ("n", "output")], type_check=False)
    path = graph([("input", "g"), ("g", "output")], g=inner)(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["node/nodes/g/nodes/input/type"]
    error = refused(bnncc, path, "--dt", "1e-3")
    assert "model.nir:g.input: it has no 'type'" in error
    assert "problems" not in error and "an edge" not in error, error


def test_of_many_bad_edges_the_first_are_told(tmp_path: Path, bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    """What is spelled much the same is looked for among all names, which is for few of them only."""
    asked = []

    def count(name: str, known: object) -> str:
        asked.append(name)
        return did_you_mean(name, known)  # type: ignore[arg-type]

    monkeypatch.setattr("bnncc.frontend.nir.graph.did_you_mean", count)
    error = refused(bnncc, graph([(f"input{i}", "output") for i in range(40)])(tmp_path), "--dt", "1e-3")
    assert "did you mean 'input'" in error and "40 problems" in error
    assert len(asked) == LONGEST_LIST


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (nir.Delay(full([4], 1e-3)), "n0: Delay: its delay is inf steps"),
        (lif([4]), "n0: LIF: its tau is 0.002, but a step of 1e+300 is more than 1e+30 times that"),
    ],
)
def test_steps_of_absurd_lengths(node: nir.NIRNode, expected: str, tmp_path: Path, bnncc: Shell):
    dt = "1e-320" if isinstance(node, nir.Delay) else "1e300"
    error = refused(bnncc, chain(tmp_path, [4], node), "--dt", dt, "--integrator", "exp")
    assert expected in error and "Warning" not in error, error


def test_the_step_has_no_default(tmp_path: Path, bnncc: Shell):
    error = refused(bnncc, chain(tmp_path, [4], lif([4])))
    assert "--dt" in error and "how long a step is" in error
    for text in ("snntorch 0.0001", "norse 0.001", "spikingjelly 0.0001", "sinabs 1", "rockpool 0.001"):
        assert text in error, error


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--dt", "0"), "no positive number"),
        (("--dt=-1e-4",), "no positive number"),
        (("--dt", "nan"), "no positive number"),
        (("--dt", "inf"), "no positive number"),
        (("--dt", "fast"), "'fast' is no number"),
        (("--dt", "1e-3", "--reset", "soft"), "invalid choice: 'soft'"),
        (("--dt", "1e-3", "--preset", "brian"), "invalid choice: 'brian'"),
        (("--dt", "1e-3", "--v-min", "low"), "'low' is no number"),
        (("--dt", "1e-3", "--v-min", "nan"), "no number"),
        (("--dt", "1e-3", "--dim", "n=2"), "its shapes are fixed"),
    ],
)
def test_options_that_make_no_sense(options, expected: str, tmp_path: Path, bnncc: Shell):
    assert expected in refused(bnncc, chain(tmp_path, [4], lif([4])), *options)


@pytest.mark.parametrize("options", [("--reset", "multi"), ("--v-min", "threshold")])
def test_thresholds_that_an_option_cannot_take(options, tmp_path: Path, bnncc: Shell):
    path = chain(tmp_path, [4], nir.IF(FULL, full([4], -1.0)))
    error = refused(bnncc, path, "--dt", "1e-3", *options)
    assert "n0: IF" in error and options[0] in error


def test_several_mistakes_are_told_at_once(tmp_path: Path, bnncc: Shell):
    nodes = {
        "input": port(nir.Input, [4]),
        "a": lif([4], tau=0.0),
        "b": nir.Delay(full([4], -1.0)),
        "output": port(nir.Output, [4]),
    }
    path = write(tmp_path, nodes, [("input", "a"), ("a", "b"), ("b", "output"), ("b", "c")])
    error = refused(bnncc, path)
    for text in ("--dt", "model.nir:a: LIF", "model.nir:b: Delay", "model.nir:c", "4 problems"):
        assert text in error, error


def test_shapes_that_do_not_fit_in_two_places(tmp_path: Path, bnncc: Shell):
    path = chain(tmp_path, [4], affine(RNG, 3, 4), lif([4]), affine(RNG, 2, 3), result=[5])
    error = refused(bnncc, path, "--dt", "1e-3")
    assert "n1: LIF" in error


@pytest.mark.parametrize("cut", [0, 1, 7, 100, 1000, -1])
def test_a_file_that_was_cut_short(cut: int, tmp_path: Path, bnncc: Shell):
    path = chain(tmp_path, [4], affine(RNG, 4, 4), lif([4]))
    path.write_bytes(path.read_bytes()[:cut])
    error = refused(bnncc, path, "--dt", "1e-3")
    assert "model.nir" in error


def test_files_that_are_no_nir(tmp_path: Path, bnncc: Shell):
    (tmp_path / "text.nir").write_text("NIR")
    assert "no HDF5 file" in refused(bnncc, tmp_path / "text.nir", "--dt", "1e-3")
    assert "no such file" in refused(bnncc, tmp_path / "nothing.nir", "--dt", "1e-3")
    (tmp_path / "folder.nir").mkdir()
    assert "directory" in refused(bnncc, tmp_path / "folder.nir", "--dt", "1e-3")


def test_hdf5_is_known_by_its_first_bytes(tmp_path: Path, bnncc: Shell):
    path = chain(tmp_path, [4], lif([4])).rename(tmp_path / "network.model")
    assert "how long a step is" in refused(bnncc, path)


def test_an_onnx_model_takes_no_time_options(tmp_path: Path, bnncc: Shell):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    assert "is no NIR file" in refused(bnncc, path, "--dt", "1e-3")
