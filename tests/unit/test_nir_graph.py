# SPDX-License-Identifier: Apache-2.0
"""NIR graphs with cycles, delays and graphs inside graphs, against NumPy written out here."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest
from xdsl.dialects.builtin import f32

from bnncc import reference
from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.network import decisions_of, main_function
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import element_of, spike
from bnncc.frontend.nir.discretization import TimeOptions
from bnncc.frontend.nir.evaluate import NirEvaluator
from bnncc.frontend.nir.graph import Graph, _Sorter, read_graph
from bnncc.frontend.nir.importer import load_nir
from bnncc.passes.pipeline import run_pipeline
from bnncc.passes.recognize_spikes import Rates
from tests.nir_files import Edges, affine, chain, dyadic, full, lif, port, spikes, vector, write
from tests.unit.test_nir import DT, STEPS, F, compare, one, rng

__all__ = ["rng"]


def neuron(size: int) -> nir.IF:
    """Integrates its input as it is, and fires above 1."""
    return nir.IF(r=full([size], 1 / DT), v_threshold=full([size], 1.0))


def fire(v: np.ndarray, drive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and membrane after a step of `neuron`."""
    v = v + drive
    return (v > 1).astype(F), np.where(v > 1, F(0), v)


def graph_of(path: Path) -> Graph:
    problems: list[BnnccError] = []
    graph = read_graph(path, problems)
    assert graph is not None and not problems, problems
    return graph


def recurrent(
    folder: Path, rng: np.random.Generator, edges: Edges, names: dict[str, str] | None = None
) -> Path:
    """input -> fc -> lif -> output with lif -> rec -> lif, the edges in any order, nodes perhaps renamed."""
    nodes = {
        "input": port(nir.Input, [3]),
        "fc": affine(rng, 4, 3),
        "lif": neuron(4),
        "rec": affine(rng, 4, 4),
        "output": port(nir.Output, [4]),
    }
    names = names or {}
    return write(
        folder,
        {names.get(name, name): node for name, node in nodes.items()},
        [(names.get(a, a), names.get(b, b)) for a, b in edges],
    )


RECURRENT = [("input", "fc"), ("fc", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 0, 4, 2, 1]])
@pytest.mark.parametrize("names", [{}, {"rec": "a", "lif": "z"}, {"rec": "zz", "lif": "aa", "fc": "zzz"}])
def test_recurrent_spikes_come_one_step_late_with_the_bias_at_once(order, names, tmp_path: Path, rng):
    edges = [RECURRENT[i] for i in order]
    path = recurrent(tmp_path, rng, edges, names)
    lif_name, rec_name = names.get("lif", "lif"), names.get("rec", "rec")
    assert graph_of(path).late == {(lif_name, rec_name)}
    x = spikes(rng, STEPS, [3], 0.6)
    got = one(path, x)
    nodes = graph_of(path).nodes
    fc, rec = nodes[names.get("fc", "fc")].arrays, nodes[rec_name].arrays
    s = v = np.zeros(4, F)
    for t in range(STEPS):
        drive = fc["weight"] @ x[t, 0] + fc["bias"] + (rec["weight"] @ s + rec["bias"])
        s, v = fire(v, drive)
        np.testing.assert_array_equal(got[t], s)


def test_the_report_says_which_edge_is_late(tmp_path: Path, rng: np.random.Generator):
    path = recurrent(tmp_path, rng, RECURRENT)
    facts = decisions_of(main_function(load_nir(path, TimeOptions(dt=DT))))
    assert facts["edge 'lif' to 'rec'"] == "one step late"


@pytest.mark.parametrize(
    ("options", "form"), [({}, "events"), ({"reset": "subtract"}, "events"), ({"reset": "multi"}, "numbers")]
)
def test_recurrent_weights_are_summed_over_spikes(options, form: str, tmp_path: Path, rng):
    """The state between is f32; near misses: several spikes a step, and what is fed as an input."""
    path = recurrent(tmp_path, rng, RECURRENT)
    module = load_nir(path, TimeOptions(dt=DT, **options))
    run_pipeline(module, rates=Rates(form="events"))
    found = {location_text(op): element_of(op.input) for op in module.walk() if isinstance(op, ops.Dense)}
    assert found == {"model.nir:fc": f32, "model.nir:rec": spike if form == "events" else f32}
    one(path, spikes(rng, STEPS, [3], 0.6), **options)


def test_a_neuron_may_hear_itself(tmp_path: Path, rng: np.random.Generator):
    nodes = {"input": port(nir.Input, [2]), "lif": neuron(2), "output": port(nir.Output, [2])}
    path = write(tmp_path, nodes, [("lif", "lif"), ("input", "lif"), ("lif", "output")])
    x = dyadic(rng, 1, (STEPS, 1, 2))
    got = one(path, x)
    s = v = np.zeros(2, F)
    for t in range(STEPS):
        s, v = fire(v, s + x[t, 0])
        np.testing.assert_array_equal(got[t], s)


def test_a_node_that_feeds_forward_too_is_not_delayed(tmp_path: Path, rng: np.random.Generator):
    """a -> fc -> b and fc -> a: only the way back to `a` is late, not the way to `b`."""
    nodes = {
        "input": port(nir.Input, [3]),
        "a": neuron(3),
        "fc": affine(rng, 3, 3, 2.0),
        "b": neuron(3),
        "output": port(nir.Output, [3]),
    }
    edges = [("input", "a"), ("a", "fc"), ("fc", "b"), ("fc", "a"), ("b", "output")]
    path = write(tmp_path, nodes, edges)
    graph = graph_of(path)
    assert graph.late == {("fc", "a")}
    x = dyadic(rng, 1, (STEPS, 1, 3)) + F(0.5)
    got = one(path, x)
    weight, bias = graph.nodes["fc"].arrays["weight"], graph.nodes["fc"].arrays["bias"]
    va = vb = late = np.zeros(3, F)
    for t in range(STEPS):
        sa, va = fire(va, x[t, 0] + late)
        late = weight @ sa + bias
        sb, vb = fire(vb, late)
        np.testing.assert_array_equal(got[t], sb)


def test_feedback_over_two_layers_leaves_the_way_forward_alone(tmp_path: Path, rng: np.random.Generator):
    nodes = {
        "input": port(nir.Input, [3]),
        "fc1": affine(rng, 3, 3, 2.0),
        "lif1": neuron(3),
        "fc2": affine(rng, 3, 3, 2.0),
        "lif2": neuron(3),
        "back": affine(rng, 3, 3),
        "output": port(nir.Output, [3]),
    }
    edges = [("lif2", "back"), ("back", "lif1"), ("lif2", "output"), ("fc2", "lif2"), ("lif1", "fc2")]
    edges += [("fc1", "lif1"), ("input", "fc1")]
    path = write(tmp_path, nodes, edges)
    graph = graph_of(path)
    assert graph.late == {("lif2", "back")}
    x = spikes(rng, STEPS, [3], 0.6)
    got = one(path, x)
    apply = lambda name, value: graph.nodes[name].arrays["weight"] @ value + graph.nodes[name].arrays["bias"]  # noqa: E731
    v1 = v2 = s2 = np.zeros(3, F)
    for t in range(STEPS):
        s1, v1 = fire(v1, apply("back", s2) + apply("fc1", x[t, 0]))
        s2, v2 = fire(v2, apply("fc2", s1))
        np.testing.assert_array_equal(got[t], s2)


def test_loops_that_share_nodes_are_cut_until_none_is_left(tmp_path: Path, rng: np.random.Generator):
    nodes = {
        "input": port(nir.Input, [2]),
        **{name: neuron(2) for name in "abc"},
        "output": port(nir.Output, [2]),
    }
    edges = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "b"), ("b", "b"), ("c", "output")]
    path = write(tmp_path, nodes, edges)
    assert graph_of(path).late == {("c", "a"), ("c", "b"), ("b", "b")}
    one(path, dyadic(rng, 1, (STEPS, 1, 2)) + F(0.5))


def test_loops_by_the_hundred_are_cut_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each neuron hears itself: what is looked at for one loop are its own nodes, not the whole graph."""
    looked_at = []
    original = _Sorter.cuts

    def cuts(self: _Sorter, cycle: set[str]):
        looked_at.append(len(cycle))
        return original(self, cycle)

    monkeypatch.setattr(_Sorter, "cuts", cuts)
    names = [f"n{i}" for i in range(300)]
    nodes = {"input": port(nir.Input, [1]), **dict.fromkeys(names, neuron(1))}
    nodes["output"] = port(nir.Output, [1])
    edges = [*pairwise(["input", *names, "output"]), *zip(names, names, strict=True)]
    graph = graph_of(write(tmp_path, nodes, edges))
    assert graph.late == set(zip(names, names, strict=True))
    assert list(graph.nodes) == ["input", *names, "output"]
    assert looked_at == [1] * len(names)


def test_every_cycle_without_a_state_is_told(tmp_path: Path):
    names = ["a", "b", "c", "d"]
    nodes = {"input": port(nir.Input, [1]), **dict.fromkeys(names, nir.Scale(full([1], 1.0)))}
    nodes["output"] = port(nir.Output, [1])
    edges = [*pairwise(["input", *names, "output"]), ("b", "a"), ("d", "c")]
    problems: list[BnnccError] = []
    assert read_graph(write(tmp_path, nodes, edges), problems) is None
    assert [problem.location for problem in problems] == ["model.nir:a", "model.nir:c"]
    assert "a, b" in problems[0].message and "c, d" in problems[1].message


@pytest.mark.parametrize("delays", [[0, 1, 3], [2, 2, 2], [0, 0, 0], [1, 1, 4]])
def test_a_delay_is_a_shift_register(delays: list[int], tmp_path: Path, rng: np.random.Generator):
    x = dyadic(rng, 1, (STEPS, 1, 3))
    path = chain(tmp_path, [3], nir.Delay(vector(*delays) * F(DT)))
    got = one(path, x)
    for i, steps in enumerate(delays):
        np.testing.assert_array_equal(
            got[:, i], np.concatenate([np.zeros(steps, F), x[: STEPS - steps, 0, i]])
        )


def test_delays_of_an_image_per_pixel(tmp_path: Path, rng: np.random.Generator):
    steps = rng.integers(0, 4, (2, 3, 4))
    x = dyadic(rng, 1, (STEPS, 1, 2, 3, 4))
    got = one(chain(tmp_path, [2, 3, 4], nir.Delay(steps * DT)), x)
    for index, count in np.ndenumerate(steps):
        expected = np.concatenate([np.zeros(count, F), x[(slice(STEPS - count), 0, *index)]])
        np.testing.assert_array_equal(got[(slice(None), *index)], expected)


def test_a_loop_through_a_delay_is_late_by_the_delay_alone(tmp_path: Path, rng: np.random.Generator):
    """Also where no neuron lies on it: y(t) = x(t) + y(t - 2) / 2."""
    nodes = {
        "input": port(nir.Input, [1]),
        "sum": nir.Scale(full([1], 1.0)),
        "delay": nir.Delay(full([1], 2 * DT)),
        "half": nir.Scale(full([1], 0.5)),
        "output": port(nir.Output, [1]),
    }
    edges = [("half", "sum"), ("delay", "half"), ("sum", "delay"), ("input", "sum"), ("sum", "output")]
    path = write(tmp_path, nodes, edges)
    assert not graph_of(path).late
    x = dyadic(rng, 1, (8, 1, 1))
    got = one(path, x).reshape(-1)
    y = [F(0), F(0)]
    for t in range(8):
        y.append(x[t, 0, 0] + F(0.5) * y[-2])
    np.testing.assert_array_equal(got, y[2:])


def inner_graph(rng: np.random.Generator) -> nir.NIRGraph:
    """What snnTorch's RSynaptic becomes: a graph with a recurrent neuron."""
    nodes = {
        "input": port(nir.Input, [4]),
        "lif": neuron(4),
        "w_rec": affine(rng, 4, 4),
        "output": port(nir.Output, [4]),
    }
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def test_a_graph_inside_a_graph_is_the_same_as_flat(tmp_path: Path, rng: np.random.Generator):
    inner, fc = inner_graph(rng), affine(rng, 4, 3)
    outer = {"input": port(nir.Input, [3]), "fc": fc, "block": inner, "output": port(nir.Output, [4])}
    edges = [("input", "fc"), ("fc", "block"), ("block", "output")]
    nested = write(tmp_path, outer, edges, "nested.nir")
    flat_nodes = {"input": outer["input"], "fc": fc, "lif": inner.nodes["lif"]}
    flat_nodes |= {"rec": inner.nodes["w_rec"], "output": outer["output"]}
    flat = write(tmp_path, flat_nodes, RECURRENT, "flat.nir")
    graph = graph_of(nested)
    assert graph.late == {("block.lif", "block.w_rec")}
    assert graph.nodes["block.lif"].location == "nested.nir:block.lif"
    x = spikes(rng, STEPS, [3], 0.6)
    np.testing.assert_array_equal(one(nested, x), one(flat, x))


def test_graphs_three_deep_and_a_loop_around_one(tmp_path: Path, rng: np.random.Generator):
    middle = nir.NIRGraph(
        {"input": port(nir.Input, [4]), "core": inner_graph(rng), "output": port(nir.Output, [4])},
        [("input", "core"), ("core", "output")],
        type_check=False,
    )
    nodes = {
        "input": port(nir.Input, [4]),
        "m": middle,
        "back": affine(rng, 4, 4),
        "output": port(nir.Output, [4]),
    }
    edges = [("input", "m"), ("m", "back"), ("back", "m"), ("m", "output")]
    path = write(tmp_path, nodes, edges)
    late = graph_of(path).late
    assert ("m.core.lif", "m.core.w_rec") in late and len(late) == 2, late
    one(path, dyadic(rng, 1, (STEPS, 1, 4)))


def test_what_no_output_depends_on_is_left_out(tmp_path: Path, rng: np.random.Generator):
    nodes = {
        "input": port(nir.Input, [2]),
        "unused": port(nir.Input, [5]),
        "lif": neuron(2),
        "dead": lif([2]),
        "output": port(nir.Output, [2]),
    }
    path = write(tmp_path, nodes, [("input", "lif"), ("lif", "dead"), ("lif", "output")])
    assert "dead" not in graph_of(path).nodes
    x = {"input": dyadic(rng, 1, (STEPS, 1, 2)), "unused": np.zeros((STEPS, 1, 5), F)}
    compare(path, x)


def test_a_part_that_no_input_reaches_runs_by_itself(tmp_path: Path):
    """A neuron that a bias drives through its own loop."""
    nodes = {
        "input": port(nir.Input, [1]),
        "lif": neuron(1),
        "rec": nir.Affine(full([1, 1], 0.0), full([1], 0.4)),
        "output": port(nir.Output, [1]),
    }
    path = write(tmp_path, nodes, [("lif", "rec"), ("rec", "lif"), ("lif", "output"), ("input", "output")])
    got = one(path, np.zeros((6, 1, 1), F))
    assert got.reshape(-1).tolist() == [0, 0, 1, 0, 0, 1]


def test_a_node_may_be_called_as_a_state_would_be(tmp_path: Path):
    """Each keeps a name of its own, by which `verify` knows its values."""
    nodes = {
        "input": port(nir.Input, [1]),
        "lif": neuron(1),
        "lif.v": nir.Scale(full([1], 3.0)),
        "output": port(nir.Output, [1]),
    }
    path = write(tmp_path, nodes, list(pairwise(nodes)))
    x = np.full((4, 1, 1), 0.75, F)
    values = NirEvaluator(path, TimeOptions(dt=DT)).run({"input": x})
    assert values["lif"].reshape(-1).tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(values["lif.v"], 3 * values["lif"])
    np.testing.assert_array_equal(one(path, x)[:, None], values["lif.v"])


def test_states_may_be_fed(tmp_path: Path):
    """One step from a membrane just below the threshold."""
    path = chain(tmp_path, [1], neuron(1))
    module = load_nir(path, TimeOptions(dt=DT))
    fed = {"input": np.full((1, 1), 0.25, F), "n0.v": np.full((1, 1), 0.875, F)}
    assert reference.evaluate(module, fed)["output"].item() == 1
    assert reference.evaluate(module, fed | {"n0.v": np.zeros((1, 1), F)})["output"].item() == 0
